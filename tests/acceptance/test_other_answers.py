"""Upstreams that answer less than the stand-ins do: the least that the contracts allow is enough."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from churn_radar.simulator.server import running
from tests.acceptance.test_main_job import event
from tests.support.place import Place
from tests.support.service import ServiceProcess, service_settings, serving

pytestmark = pytest.mark.acceptance

BRIEF = "## Why they churn\nBecause.\n\n## Retention tactics\nTalk to them."


@contextlib.asynccontextmanager
async def service_between(
    place: Place, folder: Path, customer: dict[str, Any], answer: dict[str, Any]
) -> AsyncIterator[ServiceProcess]:
    """The service with an App API that has only the single look-up, and a Mavera that says one thing."""

    async def look_up(request: Request) -> Response:
        return JSONResponse({"customer": customer})

    async def chat(request: Request) -> Response:
        return JSONResponse(answer)

    app_api = Starlette(routes=[Route("/v1/customers/{id:path}/attributes", look_up)])
    mavera = Starlette(routes=[Route("/api/v1/mave/chat", chat, methods=["POST"])])
    async with (
        running(app_api) as app_api_url,
        running(mavera) as mavera_url,
    ):
        settings = service_settings(folder, customerio=app_api_url, mavera=mavera_url, **place.variables(folder))
        async with serving(folder, settings) as service:
            yield service


async def test_a_brief_is_found_by_the_events_id_also_where_the_answer_does_not_repeat_it(
    tmp_path: Path, place: Place
) -> None:
    older_shape = {"email": "flat1@acme.example", "plan_type": "pro", "mrr": 850}
    async with service_between(place, tmp_path, older_shape, {"content": BRIEF}) as service:
        await service.post(event("01E1", "unsubscribed", "flat1"))
        await service.until("01E1", "briefed")
        async with service.client() as http:
            for name in ("flat1", "flat1@acme.example"):
                [brief] = (await http.get(f"/briefs/{name}")).json()["items"]
                assert (brief["customer_id"], brief["email"]) == ("flat1", "flat1@acme.example")
        assert (brief["sources"], brief["confidence"], brief["credits_used"]) == ([], None, 0)


async def test_a_merged_customers_brief_is_found_under_the_old_id_and_the_new(tmp_path: Path, place: Place) -> None:
    merged = {"id": "43", "attributes": {"plan_type": "pro", "mrr": "850"}}
    async with service_between(place, tmp_path, merged, {"content": BRIEF}) as service:
        await service.post(event("01E1", "unsubscribed", "42"))
        await service.until("01E1", "briefed")
        async with service.client() as http:
            for name in ("42", "43"):
                [brief] = (await http.get(f"/briefs/{name}")).json()["items"]
                assert brief["customer_id"] == "43"


async def test_the_alert_shows_the_events_mail_address_where_the_app_api_tells_none(
    tmp_path: Path, place: Place
) -> None:
    nameless = {"id": "nomail1", "attributes": {"plan_type": "pro", "mrr": "850"}}
    payload = event("01E1", "unsubscribed", "nomail1", identifiers={"id": "nomail1", "email": "ev2@mail.example"})
    async with service_between(place, tmp_path, nameless, {"content": BRIEF}) as service:
        await service.post(payload)
        await service.until("01E1", "briefed")
        assert await service.terminate() == 0
        assert "CHURN ALERT: unsubscribed | ev2@mail.example | High-MRR General (Pro plan)" in service.output


async def test_an_app_api_without_the_bulk_look_up_serves_many_events_at_once(tmp_path: Path, place: Place) -> None:
    customer = {"attributes": {"plan_type": "pro", "mrr": "850"}}
    async with service_between(place, tmp_path, customer, {"content": BRIEF}) as service:
        for number in range(12):
            await service.post(event(f"01E{number}", "unsubscribed", f"c{number}"))
        for number in range(12):
            await service.until(f"01E{number}", "briefed")


async def test_a_question_without_a_thread_costs_two_calls_and_what_comes_is_taken(
    tmp_path: Path, place: Place
) -> None:
    customer = {"id": "c1", "attributes": {"plan_type": "pro", "mrr": "850"}}
    async with service_between(place, tmp_path, customer, {"content": "Which region is this customer in?"}) as service:
        await service.post(event("01E1", "unsubscribed", "c1"))
        await service.until("01E1", "briefed")
        async with service.client() as http:
            [brief] = (await http.get("/briefs/c1")).json()["items"]
        assert brief["clarified"] is True
        assert not any(brief["sections"].values())
