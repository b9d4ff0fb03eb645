"""The first run: what is missing, what to do next, and a sample event through the real door."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import httpx
from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.api.audit import note
from churn_radar.api.signals import record_of
from churn_radar.intake.door import PATH
from churn_radar.sending import sample, signed_headers
from churn_radar.settings import Settings
from churn_radar.store.signals import find_signal
from churn_radar.store.tables import signals
from churn_radar.web.base import page
from churn_radar.web.guard import Operator, PageRoute, Reader, Visitor

router = APIRouter(route_class=PageRoute)


@dataclass(frozen=True, slots=True)
class Step:
    """Something that has to be set, whether it is, and where one gets it."""

    name: str
    variable: str
    is_done: bool
    where: str


def steps(settings: Settings) -> list[Step]:
    """What the service needs before the first event can become a brief. Pure."""
    return [
        Step(
            "Customer.io may be asked about customers",
            "CIO_APP_KEY",
            settings.cio_app_key is not None,
            "Account Settings > API Credentials > App API Keys",
        ),
        Step(
            "Mavera may be asked for research",
            "MAVERA_API_KEY",
            settings.mavera_api_key is not None,
            "the API keys of your Mavera account",
        ),
        Step(
            "Webhooks are known to be genuine",
            "CIO_WEBHOOK_SECRET",
            bool(settings.cio_webhook_secret),
            "the signing key on the webhook's page in Customer.io",
        ),
        Step(
            "Nobody but you reads briefs",
            "CHURN_RADAR_API_KEYS",
            bool(settings.api_keys),
            "a long random string of your own: openssl rand -hex 24",
        ),
    ]


async def nothing_came_yet(connection: AsyncConnection) -> bool:
    """Whether this record has never had a signal."""
    return (await connection.execute(select(signals.c.seq).order_by(signals.c.seq.desc()).limit(1))).first() is None


@router.get("/desk/welcome", name="welcome")
async def show_welcome(request: Request, visitor: Reader) -> HTMLResponse:
    """What is missing and what comes next."""
    return await _welcome(request, visitor)


@router.post("/desk/welcome/sample", name="send_sample")
async def send_sample(
    request: Request, visitor: Operator, customer: Annotated[str, Form(max_length=200)] = ""
) -> HTMLResponse:
    """Sign a sample event as Customer.io does and hand it to the door of this very process."""
    service = request.app.state.service
    letter = sample("unsubscribed", customer=customer.strip() or None)
    secrets = service.settings.cio_webhook_secret
    headers = signed_headers(letter.body, secrets[0].get_secret_value() if secrets else None)
    await note(request, visitor.who, "send sample", via="page")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service.door), base_url="http://door") as http:
        answer = await http.post(PATH, content=letter.body, headers=headers)
    return await _welcome(request, visitor, {"status_code": answer.status_code, **answer.json()})


async def _welcome(request: Request, visitor: Visitor, sent: dict[str, Any] | None = None) -> HTMLResponse:
    settings: Settings = request.app.state.service.settings
    async with record_of(request).read() as connection:
        is_first = await nothing_came_yet(connection)
        found = await find_signal(connection, sent["event_id"]) if sent and sent.get("event_id") else None
    base = settings.public_url or f"http://{request.headers.get('host', 'localhost')}{request.scope['root_path']}"
    return page(
        request,
        "welcome.html",
        visitor=visitor,
        steps=steps(settings),
        address=base + PATH,
        is_public=settings.public_url is not None,
        kinds=settings.alert_events,
        is_first=is_first,
        sent=sent,
        found=found.signal_id if found else None,
    )
