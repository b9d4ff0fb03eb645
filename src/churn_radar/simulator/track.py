"""A stand-in for Customer.io's Track API: attributes and events of people, and the region.

Follows the public reference (https://docs.customer.io/integrations/api/track/): Basic auth of site id and key; a person
is named in the path by id, by mail, or by `cio_` and their cio_id; an event's ULID dedupes it; attributes of somebody
unknown make a new person unless `_update` is true, and a `cio_` name of nobody is dropped. Whom it made by that is at
`created`, for tests to see that it stays empty.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from churn_radar.simulator.control import Counted, Counters, Handler, control_routes
from churn_radar.simulator.faults import Faults, spoilt
from churn_radar.simulator.limits import Clock, Meter, SlidingWindow
from churn_radar.simulator.people import PEOPLE, Person

IDENTIFY = "PUT /customers/{id}"
EVENT = "POST /customers/{id}/events"
REGION = "GET /accounts/region"
OF_MAVE = ("question",)

MOST_EVENT_BYTES, MOST_ATTRIBUTE_BYTES = 32 * 1024, 1000


@dataclass(slots=True)
class TrackSimulation:
    """How the stand-in behaves; `people` are the workspace, and those that a test takes out are deleted."""

    site_id: str = "demo-site-id"
    api_key: str = "demo-track-key"
    requests_per_second: float = 100
    people: tuple[Person, ...] = PEOPLE
    faults: Faults = field(default_factory=Faults)
    clock: Clock = field(default_factory=Clock)


@dataclass(slots=True)
class TrackState(Counters):
    """The counters, and what people got: attributes and events by the name in the path, duplicates left out."""

    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    duplicates: int = 0
    created: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """As JSON values."""
        return {
            **Counters.as_dict(self),
            "attributes": self.attributes,
            "events": self.events,
            "duplicates": self.duplicates,
            "created": self.created,
        }


def create_track(settings: TrackSimulation | None = None) -> Starlette:
    """The ASGI app, with routes under `/api/v1` and `/_simulator`; its counters are at `app.state.simulation`."""
    workspace = _Workspace(settings or TrackSimulation())

    def counted(name: str, handler: Handler) -> Counted:
        return Counted(workspace.state, workspace.settings.clock, name, workspace.guarded(handler))

    app = Starlette(
        routes=[
            Route("/api/v1/accounts/region", counted(REGION, workspace.region), methods=["GET"]),
            Route("/api/v1/customers/{name}/events", counted(EVENT, workspace.event), methods=["POST"]),
            Route("/api/v1/customers/{name}", counted(IDENTIFY, workspace.identify), methods=["PUT"]),
            *control_routes(workspace.settings.faults, workspace.state.as_dict, never=OF_MAVE),
        ]
    )
    app.state.simulation = workspace.state
    return app


class _Workspace:
    def __init__(self, settings: TrackSimulation) -> None:
        self.settings = settings
        self.state = TrackState(arrivals=Meter(1.0))
        self.window = SlidingWindow.per_second(settings.requests_per_second)
        told = f"{settings.site_id}:{settings.api_key}".encode()
        self.authorization = f"Basic {base64.b64encode(told).decode()}"
        self.seen: set[str] = set()

    def guarded(self, handler: Handler) -> Handler:
        """`handler` behind the key check, the rate limit and the faults."""

        async def guard(request: Request) -> Response:
            if request.headers.get("authorization") != self.authorization:
                return refuse(401)
            if not self.window.admit(self.settings.clock.now()):
                return refuse(429)
            fault = self.settings.faults.take(without=OF_MAVE)
            if fault is None:
                return await handler(request)
            return await spoilt(fault, lambda: handler(request), refuse, self.settings.clock)

        return guard

    async def region(self, request: Request) -> Response:
        """`GET /accounts/region`."""
        return JSONResponse({"url": "track.customer.io", "data_center": "us", "environment_id": 1})

    async def identify(self, request: Request) -> Response:
        """`PUT /customers/{id}`."""
        told: dict[str, Any] = await request.json()
        only_update = told.pop("_update", False)
        long = [key for key, value in told.items() if len(str(value).encode()) > MOST_ATTRIBUTE_BYTES]
        if long:
            return refuse(400, f"{long[0]}: too long")
        name = _name(request)
        if not self._knows(name):
            if only_update or name.startswith("cio_"):
                return JSONResponse({})
            self.state.created.append(name)
        self.state.attributes.setdefault(name, {}).update(told)
        return JSONResponse({})

    async def event(self, request: Request) -> Response:
        """`POST /customers/{id}/events`."""
        body = await request.body()
        told: dict[str, Any] = await request.json()
        if len(body) > MOST_EVENT_BYTES or not told.get("name"):
            return refuse(400, "too large, or no name")
        name = _name(request)
        if not self._knows(name):
            if name.startswith("cio_"):
                return JSONResponse({})
            self.state.created.append(name)
        if (ulid := told.get("id")) is not None and ulid in self.seen:
            self.state.duplicates += 1
            return JSONResponse({})
        self.seen.add(str(ulid))
        self.state.events.append({"customer": name, **told})
        return JSONResponse({})

    def _knows(self, name: str) -> bool:
        return any(
            name in (person.id, person.email, f"cio_{person.cio_id}" if person.cio_id else None)
            for person in self.settings.people
        )


def refuse(status: int, detail: str | None = None) -> Response:
    """An error as the Track API words it."""
    return JSONResponse({"meta": {"error": detail or ("unauthorized" if status == 401 else "error")}}, status)


def _name(request: Request) -> str:
    return unquote(str(request.path_params["name"]))
