"""Signals that the door never saw are fed in, once, and those that it saw are not."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from churn_radar.app import create_app, running_service
from churn_radar.backfilling import backfill
from churn_radar.reaching import Api
from churn_radar.simulator.customerio import CustomerioSimulation, create_customerio
from churn_radar.simulator.faults import Faults
from churn_radar.simulator.server import running
from churn_radar.work.forget import forget
from churn_radar.work.forgotten import Forgotten
from tests.support.work import KEY, settings_for

NOW = int(time.time())
DAY = 86400


def message(number: int, metric: str, ago: float, customer: str = "cust_1001", **more: Any) -> dict[str, Any]:
    """A mail that this happened to so many seconds ago."""
    return {
        "id": f"dg{number}",
        "type": "email",
        "created": NOW - int(ago) - 2 * DAY,
        "customer_id": customer,
        "customer_identifiers": {"id": customer, "email": f"{customer}@team.example", "cio_id": None},
        "metrics": {"sent": NOW - int(ago) - 2 * DAY, metric: NOW - int(ago)},
        **more,
    }


MESSAGES = [
    message(1, "bounced", 3600),
    message(2, "bounced", 2 * DAY, "cust_1002"),
    message(3, "bounced", 8 * DAY, "cust_1003"),
    message(4, "spammed", 60, "cust_1003"),
    message(5, "unsubscribed", 60, "cust_1005"),
    message(6, "opened", 60, "cust_1006"),
    message(7, "bounced", 60, "", customer_identifiers={}),
]


@asynccontextmanager
async def api_of(folder: Path, faults: Faults | None = None, **told: Any) -> AsyncIterator[tuple[Any, Api]]:
    """A service whose workspace has these messages, and its API."""
    customerio = create_customerio(
        CustomerioSimulation(messages=MESSAGES, faults=faults or Faults(), latency_seconds=(0, 0))
    )
    async with running(customerio) as url:
        settings = settings_for(folder, cio_app_url=f"{url}/v1", sinks=("console",), **told)
        async with running_service(settings, with_worker=False, sinks=()) as service:
            transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
            headers = {"X-API-Key": KEY}
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as http:
                yield service, Api(http, None)


def since(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat()


async def feed(api: Api, *, days: float = 7, dry_run: bool = False) -> dict[str, Counter[str]]:
    kinds = ("bounced", "complained", "unsubscribed")
    return await backfill(api, kinds, since=since(days), dry_run=dry_run, progress=lambda metric, counts: None)


async def test_what_the_door_never_saw_is_fed_in_once(tmp_path: Path, everywhere: str) -> None:
    async with api_of(tmp_path) as (_, api):
        rehearsed = await feed(api, dry_run=True)
        assert (await api.get("/signals"))["items"] == []
        done = await feed(api)
        assert rehearsed == done
        assert {metric: counts["fed_in"] for metric, counts in done.items()} == {
            "bounced": 2,
            "spammed": 1,
            "unsubscribed": 1,
        }
        assert done["bounced"]["not_understood"] == 1
        assert len((await api.get("/signals"))["items"]) == 4
        again = await feed(api)
        assert {metric: (counts["fed_in"], counts["known"]) for metric, counts in again.items()} == {
            "bounced": (0, 2),
            "spammed": (0, 1),
            "unsubscribed": (0, 1),
        }
        assert len((await api.get("/signals"))["items"]) == 4


async def test_whoever_was_forgotten_is_not_fed_in_whichever_replica_forgot_them(
    tmp_path: Path, everywhere: str
) -> None:
    async with api_of(tmp_path) as (service, api):
        await forget(service.record, Forgotten(service.record), "cust_1001", now=datetime.now(UTC))

        rehearsed = await feed(api, dry_run=True)
        done = await feed(api)

        assert rehearsed == done
        assert (done["bounced"]["fed_in"], done["bounced"]["kept_out"]) == (1, 1)
        assert {item["customer_id"] for item in (await api.get("/signals"))["items"]} == {
            "cust_1002",
            "cust_1003",
            "cust_1005",
        }


async def test_what_the_door_saw_is_known_by_its_message_or_by_its_time(tmp_path: Path, everywhere: str) -> None:
    bounce = {
        "event_id": "01SEEN1",
        "metric": "bounced",
        "object_type": "email",
        "timestamp": NOW - 5 * DAY,
        "data": {"customer_id": "cust_1001", "delivery_id": "dg1"},
    }
    leaves = {
        "event_id": "01SEEN2",
        "metric": "unsubscribed",
        "object_type": "customer",
        "timestamp": NOW - 1200,
        "data": {"customer_id": None, "email_address": "CUST_1005@team.example"},
    }
    async with api_of(tmp_path) as (_, api):
        for event in (bounce, leaves):
            assert (await api.post("/events", event))["status"] == "accepted"
        done = await feed(api)
        assert {metric: (counts["fed_in"], counts["known"]) for metric, counts in done.items()} == {
            "bounced": (1, 1),
            "spammed": (1, 0),
            "unsubscribed": (0, 1),
        }


async def test_pages_are_gone_through_to_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("churn_radar.customerio.workspace.MOST_MESSAGES", 1)
    async with api_of(tmp_path) as (_, api):
        assert (await feed(api))["bounced"]["fed_in"] == 2


async def test_when_the_app_api_refuses_nothing_is_fed_in_and_the_reason_is_told(tmp_path: Path) -> None:
    faults = Faults()
    faults.add("status:401")
    async with api_of(tmp_path, faults) as (_, api):
        with pytest.raises(Exception, match="CIO_APP_KEY"):
            await feed(api)
        assert (await api.get("/signals"))["items"] == []


async def test_a_time_too_long_ago_and_an_unknown_metric_are_refused(tmp_path: Path) -> None:
    async with api_of(tmp_path) as (_, api):
        with pytest.raises(Exception, match="150 days ago"):
            await feed(api, days=200)
        with pytest.raises(Exception, match="metric: one of bounced, spammed, unsubscribed"):
            await api.post("/signals/backfill", {"metric": "opened", "since": since(1)})


async def test_what_the_record_may_have_removed_already_is_not_asked_for(tmp_path: Path) -> None:
    async with api_of(tmp_path, retention_days=30) as (_, api):
        with pytest.raises(Exception, match="the last 30 days"):
            await feed(api, days=31)
        await feed(api, days=29)
