"""A buffer between real processes: its promise is kept while Postgres is stopped, and its connections are cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from churn_radar.intake.samples import SAMPLES
from churn_radar.migrating import ENGINE
from churn_radar.simulator.people import PEOPLE
from churn_radar.store.schema_postgres import migrate_postgres
from tests.acceptance.conftest import Upstreams
from tests.support.own_postgres import own_postgres
from tests.support.servers import redis_stream, redis_url
from tests.support.service import ServiceProcess, eventually

pytestmark = pytest.mark.acceptance

PLANS = ("pro", "enterprise", "business")
WORTH_IT = [person for person in PEOPLE if person.id and person.attributes.get("plan_type") in PLANS][:6]


def letters() -> Iterator[dict[str, Any]]:
    """Churn events without end, each with an id of its own."""
    number = 0
    while True:
        number += 1
        person = WORTH_IT[number % len(WORTH_IT)]
        payload = json.loads(json.dumps(SAMPLES["bounced"].payload))
        payload["data"].update(customer_id=person.id, identifiers={"id": person.id})
        yield {**payload, "event_id": f"01BUFFER{number:06d}"}


async def send(doors: list[ServiceProcess], stream: Iterator[dict[str, Any]], count: int) -> set[str]:
    """So many letters, to each door in turn; all of them must be acknowledged. Returns their ids."""
    sent = [next(stream) for _ in range(count)]
    answers = await asyncio.gather(*(doors[n % len(doors)].post(letter) for n, letter in enumerate(sent)))
    assert [(answer.status_code, answer.json().get("status")) for answer in answers] == [(200, "accepted")] * count
    return {letter["event_id"] for letter in sent}


@pytest.mark.only_on("sqlite", why="it has a Postgres of its own, to stop it")
async def test_doors_go_on_acknowledging_while_postgres_is_stopped_and_everything_arrives_once(
    tmp_path: Path, upstreams: Upstreams
) -> None:
    stream = letters()
    async with own_postgres() as postgres, AsyncExitStack() as stack:
        url = redis_url()
        shared = {
            "CHURN_RADAR_DATABASE_URL": postgres.url,
            "CHURN_RADAR_BUFFER_URL": url,
            "CHURN_RADAR_BUFFER_STREAM": stack.enter_context(redis_stream(url)),
            "CHURN_RADAR_SINKS": f"jsonl:{tmp_path / 'briefs.jsonl'}",
        }
        await migrate_postgres(postgres.url, ENGINE)
        for name in ("whole", "door"):
            (tmp_path / name).mkdir()
        whole = ServiceProcess(tmp_path / "whole", upstreams.settings(tmp_path / "whole", **shared))
        door = ServiceProcess(
            tmp_path / "door", upstreams.settings(tmp_path / "door", **shared), ("serve", "--no-worker")
        )
        doors = [whole, door]
        for service in doors:
            stack.push_async_callback(service.close)
        await whole.start()
        sent = await send([whole], stream, 10)
        await postgres.stop()
        sent |= await send([whole], stream, 20)
        # A door that is started meanwhile opens, too.
        await door.start()
        sent |= await send(doors, stream, 20)
        for service in doors:
            async with service.client() as http:
                told = await http.get("/readyz")
                assert (told.status_code, told.json()["status"]) == (200, "ready"), told.text
                assert "record" in told.json()["record"]
                assert (await http.get("/healthz")).status_code == 200
                assert (await http.get("/briefs")).status_code == 503
                assert "churn_radar_buffer_events" in (await http.get("/metrics")).text
        await postgres.start()
        sent |= await send(doors, stream, 10)
        await postgres.end_connections()
        sent |= await send(doors, stream, 10)

        async def all_there() -> bool:
            found = await postgres.rows("SELECT event_id, status FROM signals")
            return len(found) == len(sent) and {status for _, status in found} <= {"briefed", "joined"}

        await eventually(all_there, "every event to have its outcome", patience=60, every=0.2)
        assert {name for (name,) in await postgres.rows("SELECT event_id FROM signals")} == sent
        briefs = await postgres.rows("SELECT customer_id, count(*) FROM briefs GROUP BY 1")
        assert dict(briefs) == {person.id: 1 for person in WORTH_IT}

        async def as_usual() -> bool:
            async with door.client() as http:
                told = (await http.get("/readyz")).json()
                return told["record"] is None and told["buffer"]["waiting"] == 0

        await eventually(as_usual, "the door to have its record")
        assert await whole.terminate() == 0
        assert await door.terminate() == 0
