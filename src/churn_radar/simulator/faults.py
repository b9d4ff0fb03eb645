"""Faults to switch on: what a service, or the network before it, does wrong on its bad days."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from churn_radar.simulator.limits import Clock
from churn_radar.simulator.server import HANG_UP

NAMES = ("hang", "cut", "html", "empty", "question", "garbage", "slow")
ALLOWED = ("status:400 to status:599", *NAMES)

PROXY_PAGE = """<!doctype html>
<html><head><title>Be right back</title></head>
<body><h1>We will be right back</h1><p>Scheduled maintenance is under way. Please try again shortly.</p></body></html>
"""
DRIP_BYTES = 16
DRIP_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: `status:503`, `hang`, `cut`, ... `retry_after_seconds` goes into the header of a status fault."""

    name: str
    retry_after_seconds: int | None = None

    @property
    def status(self) -> int | None:
        """The HTTP status of a status fault, else None."""
        return int(self.name.removeprefix("status:")) if self.name.startswith("status:") else None


class Faults:
    """The faults that wait for the next calls, in the order in which they were added."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Fault, int | None]] = deque()

    def add(self, name: str, times: int | None = 1, *, retry_after_seconds: int | None = None) -> None:
        """Spoil the next `times` calls, or every call until `clear` when `times` is None.

        `status:NNN` refuses (429 says Retry-After: 1 unless told otherwise); `hang` never answers; `cut` closes
        the connection half way through the body; `html` is a proxy's page with status 200; `empty` has nothing
        in it; `garbage` is broken JSON; `slow` drips the answer out; `question`, at Mave only, asks back once a
        thread. Raises ValueError, saying what is allowed, for anything else.
        """
        if name not in NAMES and not re.fullmatch(r"status:[45]\d\d", name):
            raise ValueError(f"fault must be one of: {', '.join(ALLOWED)}")
        if times is not None and times < 1:
            raise ValueError("times must be at least 1, or null for until cleared")
        if retry_after_seconds is None and name == "status:429":
            retry_after_seconds = 1
        self._waiting.append((Fault(name, retry_after_seconds), times))

    def clear(self) -> None:
        """Forget every fault that still waits."""
        self._waiting.clear()

    def take(self, *, without: Collection[str] = ()) -> Fault | None:
        """The fault for this call, or None; those named in `without` are left waiting for another call."""
        for place, (fault, times) in enumerate(self._waiting):
            if fault.name in without:
                continue
            if times == 1:
                del self._waiting[place]
            elif times is not None:
                self._waiting[place] = (fault, times - 1)
            return fault
        return None

    def waiting(self) -> list[str]:
        """What waits, printable: `status:503 x2`, `hang until cleared`."""
        return [
            f"{fault.name} until cleared" if times is None else f"{fault.name} x{times}"
            for fault, times in self._waiting
        ]


async def spoilt(
    fault: Fault,
    work: Callable[[], Awaitable[Response]],
    refuse: Callable[[int], Response],
    clock: Clock,
) -> Response:
    """The answer that `fault` makes of `work`, which is done only by the faults that spoil a real answer.

    `refuse` words an error of a status as the service would.
    """
    if fault.status is not None:
        refusal = refuse(fault.status)
        if fault.retry_after_seconds is not None:
            refusal.headers["Retry-After"] = str(fault.retry_after_seconds)
        return refusal
    match fault.name:
        case "hang":
            return Hang()
        case "html":
            return HTMLResponse(PROXY_PAGE)
        case "cut":
            return Cut(await work())
        case "garbage":
            good = bytes((await work()).body)
            return Response(good[: len(good) * 2 // 3], media_type="application/json")
        case "slow":
            return Drip(await work(), clock)
        case _:
            return Response(b"", media_type="application/json")


class Hang(Response):
    """Never answers; ends when the caller has left."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


class _Spoilt(Response):
    """A good answer's head and body, to be sent in a bad way."""

    def __init__(self, good: Response) -> None:
        super().__init__(status_code=good.status_code)
        self.raw_headers = good.raw_headers
        self.body = good.body

    async def _send_head(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})


class Cut(_Spoilt):
    """Promises the whole body, sends half of it and closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._send_head(send)
        await send({"type": "http.response.body", "body": self.body[: len(self.body) // 2], "more_body": True})
        if hang_up := scope.get("extensions", {}).get(HANG_UP):
            await hang_up()


class Drip(_Spoilt):
    """Sends the body 16 bytes at a time, four times a second: never silent, and never done in time."""

    def __init__(self, good: Response, clock: Clock) -> None:
        super().__init__(good)
        self.clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._send_head(send)
        for start in range(0, len(self.body), DRIP_BYTES):
            piece = self.body[start : start + DRIP_BYTES]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await self.clock.sleep(DRIP_SECONDS)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
