"""What both stand-ins share: counters, and the routes under `/_simulator` that show them and switch faults on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from churn_radar.simulator.faults import ALLOWED, Faults
from churn_radar.simulator.limits import Clock, Meter

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(slots=True)
class Counters:
    """What a stand-in has seen. Routes are named `POST /mave/chat`; a call that was never answered has no status."""

    arrivals: Meter
    calls: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    in_flight: Counter[str] = field(default_factory=Counter)
    most_in_flight: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, object]:
        """The counters as JSON values."""
        return {
            "calls": dict(self.calls),
            "statuses": {str(status): times for status, times in sorted(self.statuses.items())},
            "in_flight": dict(self.in_flight),
            "most_in_flight": dict(self.most_in_flight),
            "busiest": {"seconds": self.arrivals.seconds, "calls": self.arrivals.busiest},
        }


class Counted:
    """An ASGI route that is counted from the first byte asked to the last byte answered."""

    def __init__(self, counters: Counters, clock: Clock, name: str, handler: Handler) -> None:
        self.counters = counters
        self.clock = clock
        self.name = name
        self.handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        seen, name = self.counters, self.name

        async def noting(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                seen.statuses[int(str(message["status"]))] += 1
            await send(message)

        seen.arrivals.tick(self.clock.now())
        seen.calls[name] += 1
        seen.in_flight[name] += 1
        seen.most_in_flight[name] = max(seen.most_in_flight[name], seen.in_flight[name])
        try:
            response = await self.handler(Request(scope, receive))
            await response(scope, receive, noting)  # type: ignore[arg-type]
        finally:
            seen.in_flight[name] -= 1


class FaultOrder(BaseModel):
    """Body of `POST /_simulator/faults`; `times` null means until cleared."""

    model_config = ConfigDict(extra="forbid", strict=True)

    fault: str
    times: int | None = 1
    retry_after: int | None = Field(None, ge=0)


def control_routes(
    faults: Faults, state: Callable[[], dict[str, object]], *, never: Collection[str] = ()
) -> list[Route]:
    """`GET /_simulator/state`, `POST` and `DELETE /_simulator/faults`; they need no key and are not counted.

    `never` names the faults that this service cannot have.
    """
    allowed = [name for name in ALLOWED if name not in never]

    async def show(_: Request) -> Response:
        return JSONResponse({**state(), "faults": faults.waiting()})

    async def order(request: Request) -> Response:
        try:
            wanted = FaultOrder.model_validate_json(await request.body())
            if wanted.fault in never:
                return _bad_order(f"{wanted.fault} is not a fault of this service", allowed)
            faults.add(wanted.fault, wanted.times, retry_after_seconds=wanted.retry_after)
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, p['loc'])) or 'body'}: {p['msg']}" for p in error.errors()]
            return _bad_order("; ".join(problems), allowed)
        except ValueError as error:
            return _bad_order(str(error), allowed)
        return JSONResponse({"faults": faults.waiting()})

    async def clear(_: Request) -> Response:
        faults.clear()
        return JSONResponse({"faults": []})

    return [
        Route("/_simulator/state", show, methods=["GET"]),
        Route("/_simulator/faults", order, methods=["POST"]),
        Route("/_simulator/faults", clear, methods=["DELETE"]),
    ]


def _bad_order(problem: str, allowed: list[str]) -> Response:
    return JSONResponse(
        {"error": problem, "allowed": allowed, "example": {"fault": "status:503", "times": 2}},
        status_code=400,
    )
