"""A stand-in for Mavera's research agent: `POST /mave/chat` and the threads it leaves.

Follows the public reference (https://docs.mavera.io/): a bearer key, a limit on calls in any 60 seconds and
another on calls under way at once, rate headers on every answer, credits that run out, follow-ups in a thread for 30
to 50 per cent less than the same question would cost by itself. It does not stream.
"""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from churn_radar.simulator.control import Counted, Counters, Handler, control_routes
from churn_radar.simulator.faults import Fault, Faults, spoilt
from churn_radar.simulator.limits import Clock, Meter, SlidingWindow
from churn_radar.simulator.refusals import Refused
from churn_radar.simulator.research import Brief, ask_back, write_brief
from churn_radar.simulator.threads import Ask, Thread, read_ask

CHAT = "POST /mave/chat"
LIST_THREADS = "GET /mave/threads"
GET_THREAD = "GET /mave/threads/{id}"
DELETE_THREAD = "DELETE /mave/threads/{id}"

# What only `POST /mave/chat` can get wrong; the thread routes leave these faults to it.
OF_CHAT = ("question", "empty")


@dataclass(slots=True)
class MaveraSimulation:
    """How the stand-in behaves.

    Research takes between the two `latency_seconds`, times `time_scale` (0: at once). `credits` is the balance,
    None for no end of it; it may be overdrawn by the last query, and is then spent.
    """

    api_key: str = "mvra_live_demo"
    revoked_keys: frozenset[str] = frozenset({"mvra_live_revoked"})
    requests_per_minute: int = 60
    concurrency: int = 10
    latency_seconds: tuple[float, float] = (5.0, 90.0)
    time_scale: float = 1.0
    credits: int | None = None
    faults: Faults = field(default_factory=Faults)
    seed: int = 1
    clock: Clock = field(default_factory=Clock)


@dataclass(slots=True)
class MaveraState(Counters):
    """The counters, the credits charged so far, and every message that research was done for, in order.

    `followed_up` is how many of them went on in a thread.
    """

    credits_used: int = 0
    followed_up: int = 0
    messages: list[str] = field(default_factory=list)


def create_mavera(settings: MaveraSimulation | None = None) -> Starlette:
    """The ASGI app, with routes under `/api/v1` and `/_simulator`; its counters are at `app.state.simulation`."""
    mave = _Mave(settings or MaveraSimulation())
    state, clock, base = mave.state, mave.settings.clock, "/api/v1/mave"

    def route(name: str, path: str, handler: Handler) -> Route:
        counted = Counted(state, clock, name, mave.guarded(handler))
        return Route(path, counted, methods=[name.partition(" ")[0]])

    def as_dict() -> dict[str, object]:
        return {
            **state.as_dict(),
            "credits_used": state.credits_used,
            "followed_up": state.followed_up,
            "messages": state.messages,
        }

    app = Starlette(
        routes=[
            route(CHAT, f"{base}/chat", mave.chat),
            route(LIST_THREADS, f"{base}/threads", mave.spoilable(mave.list_threads)),
            route(GET_THREAD, f"{base}/threads/{{thread_id}}", mave.spoilable(mave.get_thread)),
            route(DELETE_THREAD, f"{base}/threads/{{thread_id}}", mave.spoilable(mave.delete_thread)),
            *control_routes(mave.settings.faults, as_dict),
        ],
        exception_handlers={HTTPException: mave.unrouted},
    )
    app.state.simulation = state
    return app


class _Mave:
    def __init__(self, settings: MaveraSimulation) -> None:
        self.settings = settings
        self.state = MaveraState(arrivals=Meter(60.0))
        self.window = SlidingWindow(settings.requests_per_minute, 60.0)
        self.dice = random.Random(settings.seed)
        self.threads: dict[str, Thread] = {}

    def guarded(self, handler: Handler) -> Handler:
        """`handler` behind the key check and the limit on calls a minute; every answer has the rate headers."""

        async def guard(request: Request) -> Response:
            try:
                self._check_key(request.headers.get("authorization"))
                self._check_rate()
                response = await handler(request)
            except Refused as refused:
                response = _as_documented(refused)
            response.headers.update(self._rate_headers())
            return response

        return guard

    def spoilable(self, handler: Handler) -> Handler:
        """`handler` behind the faults that are not of the chat alone."""

        async def spoil(request: Request) -> Response:
            fault = self.settings.faults.take(without=OF_CHAT)
            return await self._spoilt_by(fault, lambda: handler(request))

        return spoil

    async def unrouted(self, _: Request, error: Exception) -> Response:
        """The answer to a path or a method that does not exist."""
        response = _as_documented(Refused(error.status_code if isinstance(error, HTTPException) else 500))
        response.headers.update(self._rate_headers())
        return response

    async def chat(self, request: Request) -> Response:
        """`POST /mave/chat`: a brief, or what the next fault makes of it."""
        if self.state.in_flight[CHAT] > self.settings.concurrency:
            raise Refused(429, message="Too many requests at once.", retry_after_seconds=self._seconds_to_a_place())
        ask = read_ask(await request.body())
        thread = self._open(ask) if ask.thread_id is None else self._find(ask.thread_id)
        fault = self.settings.faults.take(without=("question",) if thread.asked_back else ())
        if fault is not None and fault.name in OF_CHAT:
            return await self._answer(ask, thread, fault.name)
        return await self._spoilt_by(fault, lambda: self._answer(ask, thread))

    async def list_threads(self, _: Request) -> Response:
        """`GET /mave/threads`, newest first; all on one page."""
        newest_first = [thread.summary() for thread in reversed(self.threads.values())]
        return JSONResponse({"object": "list", "data": newest_first, "has_more": False, "next_cursor": None})

    async def get_thread(self, request: Request) -> Response:
        """`GET /mave/threads/{id}`."""
        return JSONResponse(self._find(request.path_params["thread_id"]).details())

    async def delete_thread(self, request: Request) -> Response:
        """`DELETE /mave/threads/{id}`."""
        thread = self._find(request.path_params["thread_id"])
        del self.threads[thread.id]
        return JSONResponse({"id": thread.id, "object": "mave_thread", "deleted": True})

    async def _answer(self, ask: Ask, thread: Thread, manner: str = "brief") -> Response:
        """Do the research, charge it and remember it; a caller who leaves meanwhile is charged all the same."""
        if self.settings.credits is not None and self.state.credits_used >= self.settings.credits:
            raise Refused(402)
        credits_used = self._price(ask, thread, manner)
        self.state.credits_used += credits_used
        self.state.messages.append(ask.message)
        self.state.followed_up += bool(thread.messages)
        self.threads[thread.id] = thread
        thread.asked_back = thread.asked_back or manner == "question"
        await self.settings.clock.sleep(self._latency())
        brief = self._compose(ask, thread, manner)
        said: dict[str, object] = {
            "id": _new_id("mave_msg"),
            "role": "assistant",
            "content": brief.content,
            "created_at": self._now(),
        }
        thread.remember(ask.message, said, brief.sources, brief.personas_used, credits_used)
        return JSONResponse(
            {
                "id": said["id"],
                "object": "mave_message",
                "thread_id": thread.id,
                "role": "assistant",
                "content": brief.content,
                "sources": brief.sources,
                "personas_used": brief.personas_used,
                "validation": brief.validation,
                "usage": {"credits_used": credits_used},
                "created_at": said["created_at"],
            }
        )

    def _compose(self, ask: Ask, thread: Thread, manner: str) -> Brief:
        if manner == "question":
            return ask_back(thread.topic, seed=self.settings.seed)
        if manner == "empty":
            return Brief(content="")
        opening = thread.topic if ask.thread_id is not None else ""
        return write_brief(ask.message, seed=self.settings.seed, opening=opening)

    async def _spoilt_by(self, fault: Fault | None, work: Callable[[], Awaitable[Response]]) -> Response:
        if fault is None:
            return await work()
        return await spoilt(fault, work, lambda status: _as_documented(Refused(status)), self.settings.clock)

    def _check_key(self, authorization: str | None) -> None:
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Refused(401, "missing_api_key", "No API key was sent.")
        if key in self.settings.revoked_keys:
            raise Refused(401, "revoked_api_key", "This API key has been revoked.")
        if key != self.settings.api_key:
            raise Refused(401)

    def _open(self, ask: Ask) -> Thread:
        now = self._now()
        return Thread(_new_id("mave_thread"), ask.message, ask.workspace_id or "ws_default", now, now)

    def _find(self, thread_id: str) -> Thread:
        if thread_id not in self.threads:
            raise Refused(404, message="There is no such thread.", param="thread_id")
        return self.threads[thread_id]

    def _price(self, ask: Ask, thread: Thread, manner: str) -> int:
        """Credits of a query: 30 to 75 for research, 30 to 50 per cent less in a thread, 10 to 15 for triage."""
        dice = random.Random(f"{self.settings.seed}:{ask.message}")
        if manner == "question":
            return dice.randint(10, 15)
        full = dice.randint(30, 75)
        return round(full * dice.uniform(0.5, 0.7)) if thread.messages else full

    def _latency(self) -> float:
        """Seconds of research: most near the low end, a few near the high one, as documented."""
        low, high = self.settings.latency_seconds
        return self.dice.triangular(low, high, low + (high - low) / 8) * self.settings.time_scale

    def _check_rate(self) -> None:
        now = self.settings.clock.now()
        if not self.window.admit(now):
            raise Refused(429, retry_after_seconds=max(1, math.ceil(self.window.frees_at(now) - now)))

    def _seconds_to_a_place(self) -> int:
        return max(1, math.ceil(self.settings.latency_seconds[0] * self.settings.time_scale))

    def _rate_headers(self) -> dict[str, str]:
        now = self.settings.clock.now()
        return {
            "X-RateLimit-Limit": str(self.window.limit),
            "X-RateLimit-Remaining": str(self.window.remaining(now)),
            "X-RateLimit-Reset": str(math.ceil(self.window.frees_at(now))),
        }

    def _now(self) -> str:
        now = datetime.fromtimestamp(self.settings.clock.now(), UTC)
        return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _as_documented(refused: Refused) -> Response:
    response = JSONResponse(refused.as_dict(), refused.status)
    if refused.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(refused.retry_after_seconds)
    return response


def _new_id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:20]}"
