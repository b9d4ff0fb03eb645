"""A stand-in for Customer.io's App API: the customer look-ups, one at a time and in bulk; webhooks and messages.

Follows the public reference (https://docs.customer.io/integrations/api/app/): a bearer key, ten calls a second
for the whole workspace, every attribute value a string, ids that do not exist left out of a bulk answer.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import unquote_plus

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from churn_radar.simulator.app_errors import refuse
from churn_radar.simulator.control import Counted, Counters, Handler, control_routes
from churn_radar.simulator.faults import Faults, spoilt
from churn_radar.simulator.limits import Clock, Meter, SlidingWindow
from churn_radar.simulator.people import PEOPLE, Person
from churn_radar.simulator.workspace import WorkspaceRoutes

ONE = "GET /customers/{id}/attributes"
MANY = "POST /customers/attributes"

# What only a research agent can do wrong; switched on here, it waits for ever.
OF_MAVE = ("question",)


@dataclass(slots=True)
class CustomerioSimulation:
    """How the stand-in behaves. `people` and `messages` are the workspace; latencies are in seconds, from and to."""

    app_key: str = "demo-app-key"
    requests_per_second: float = 10
    latency_seconds: tuple[float, float] = (0.02, 0.08)
    people: tuple[Person, ...] = PEOPLE
    faults: Faults = field(default_factory=Faults)
    seed: int = 1
    email_is_identifier: bool = True
    phone_is_identifier: bool = False
    clock: Clock = field(default_factory=Clock)
    messages: Sequence[Mapping[str, Any]] = ()


@dataclass(slots=True)
class CustomerioState(Counters):
    """The counters, and every id that was asked for, in order (those of refused calls are not among them)."""

    ids_asked: list[str] = field(default_factory=list)
    workspace: WorkspaceRoutes = field(default_factory=WorkspaceRoutes)


class IdType(StrEnum):
    """The documented values of `id_type`."""

    ID = "id"
    EMAIL = "email"
    PHONE = "phone"
    CIO_ID = "cio_id"


class BulkLookup(BaseModel):
    """Body of `POST /customers/attributes`: 1 to 100 identifiers."""

    model_config = ConfigDict(strict=True)

    ids: list[str] = Field(min_length=1, max_length=100)


def create_customerio(settings: CustomerioSimulation | None = None) -> Starlette:
    """The ASGI app, with routes under `/v1` and `/_simulator`; its counters are at `app.state.simulation`."""
    workspace = _Workspace(settings or CustomerioSimulation())
    faults, clock, state = workspace.settings.faults, workspace.settings.clock, workspace.state

    def counted(name: str, handler: Handler) -> Counted:
        return Counted(state, clock, name, workspace.guarded(handler))

    own, hooks = state.workspace, "/v1/reporting_webhooks"

    def as_dict() -> dict[str, object]:
        return {**state.as_dict(), "ids_asked": state.ids_asked}

    app = Starlette(
        routes=[
            Route("/v1/customers/attributes", counted(MANY, workspace.many), methods=["POST"]),
            Route("/v1/customers/{rest:path}", counted(ONE, workspace.one), methods=["GET"]),
            Route("/v1/messages", counted("GET /messages", own.list_messages), methods=["GET"]),
            Route(hooks, counted("GET /reporting_webhooks", own.list_webhooks), methods=["GET"]),
            Route(hooks, counted("POST /reporting_webhooks", own.create_webhook), methods=["POST"]),
            Route(f"{hooks}/{{id:int}}", counted("PUT /reporting_webhooks/{id}", own.update_webhook), methods=["PUT"]),
            *control_routes(faults, as_dict, never=OF_MAVE),
        ],
        exception_handlers={HTTPException: _as_documented},
    )
    app.state.simulation = state
    return app


class _Workspace:
    def __init__(self, settings: CustomerioSimulation) -> None:
        self.settings = settings
        self.state = CustomerioState(arrivals=Meter(1.0), workspace=WorkspaceRoutes(settings.messages))
        self.window = SlidingWindow.per_second(settings.requests_per_second)
        self.dice = random.Random(settings.seed)
        self.index = _index(settings.people)

    def guarded(self, handler: Handler) -> Handler:
        """`handler` behind the key check, the rate limit, the faults and the time an answer takes."""

        async def guard(request: Request) -> Response:
            if request.headers.get("authorization") != f"Bearer {self.settings.app_key}":
                return refuse(401)
            if not self.window.admit(self.settings.clock.now()):
                return refuse(429)

            async def work() -> Response:
                await self.settings.clock.sleep(self.dice.uniform(*self.settings.latency_seconds))
                return await handler(request)

            fault = self.settings.faults.take(without=OF_MAVE)
            return await work() if fault is None else await spoilt(fault, work, refuse, self.settings.clock)

        return guard

    async def one(self, request: Request) -> Response:
        """`GET /customers/{id}/attributes`."""
        customer_id = _id_in_path(request)
        if customer_id is None:
            return refuse(404)
        id_type = self._id_type(request)
        if isinstance(id_type, Response):
            return id_type
        self.state.ids_asked.append(customer_id)
        person = self.index[id_type].get(_normal(id_type, customer_id))
        if person is None:
            return refuse(404, "no customer with this identifier")
        return JSONResponse(as_documented(person))

    async def many(self, request: Request) -> Response:
        """`POST /customers/attributes`."""
        id_type = self._id_type(request)
        if isinstance(id_type, Response):
            return id_type
        try:
            asked = BulkLookup.model_validate_json(await request.body())
        except ValidationError as error:
            return refuse(400, f"ids: {error.errors()[0]['msg']}")
        self.state.ids_asked.extend(asked.ids)
        found = [self.index[id_type].get(_normal(id_type, each)) for each in asked.ids]
        return JSONResponse({"customers": [as_documented(person) for person in found if person is not None]})

    def _id_type(self, request: Request) -> IdType | Response:
        name = request.query_params.get("id_type", IdType.ID)
        if name not in list(IdType):
            return refuse(400, "id_type must be one of id, email, phone, cio_id")
        id_type = IdType(name)
        usable = {IdType.EMAIL: self.settings.email_is_identifier, IdType.PHONE: self.settings.phone_is_identifier}
        if not usable.get(id_type, True):
            return refuse(400, f"{id_type} is not an identifier in this workspace")
        return id_type


def as_documented(person: Person) -> dict[str, object]:
    """A customer as the reference shows one; the identifiers stand among the attributes too, as strings."""
    identifiers = {"id": person.id, "email": person.email, "cio_id": person.cio_id}
    attributes = {**person.attributes, **{name: value for name, value in identifiers.items() if value}}
    return {
        "customer": {
            "id": person.id,
            "identifiers": identifiers,
            "attributes": attributes,
            "timestamps": dict.fromkeys(attributes, int(person.attributes.get("created_at", "0"))),
            "unsubscribed": person.attributes.get("unsubscribed") == "true",
            "devices": [],
        }
    }


async def _as_documented(_: Request, error: Exception) -> Response:
    return refuse(error.status_code if isinstance(error, HTTPException) else 500)


def _id_in_path(request: Request) -> str | None:
    """The id between `/customers/` and `/attributes`, read from the path as it was sent.

    A slash that was not encoded is not part of an id, and a bare plus is a space: the reference asks for `%2B`.
    """
    raw = bytes(request.scope["raw_path"]).partition(b"?")[0].decode("ascii", "replace")
    match raw.split("/"):
        case ["", "v1", "customers", customer_id, "attributes"] if customer_id:
            return unquote_plus(customer_id)
        case _:
            return None


def _normal(id_type: IdType, value: str) -> str:
    return value.lower() if id_type is IdType.EMAIL else value


def _index(people: Iterable[Person]) -> dict[IdType, dict[str, Person]]:
    index: dict[IdType, dict[str, Person]] = {id_type: {} for id_type in IdType}
    for person in people:
        named = {
            IdType.ID: person.id,
            IdType.CIO_ID: person.cio_id,
            IdType.EMAIL: person.email,
            IdType.PHONE: person.attributes.get("phone"),
        }
        for id_type, value in named.items():
            if value:
                index[id_type][_normal(id_type, value)] = person
    return index
