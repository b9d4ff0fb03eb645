"""Several processes on one Postgres database, as a team runs them that has outgrown one machine."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from churn_radar.intake.samples import SAMPLES
from churn_radar.simulator.customerio import CustomerioSimulation
from churn_radar.simulator.mavera import MaveraSimulation
from churn_radar.simulator.people import Person
from tests.acceptance.conftest import Upstreams, stand_ins
from tests.acceptance.test_main_job import event
from tests.support.place import Place
from tests.support.postgres import scratch
from tests.support.service import ServiceProcess, eventually, run_command, service_settings, serving

pytestmark = pytest.mark.acceptance

EVENTS = 200
CONCURRENCY = 4
PEOPLE = tuple(
    Person(f"c{n}", f"f{n:07}", f"c{n}@team.example", {"plan_type": "pro", "mrr": str(100 + n), "industry": "media"})
    for n in range(60)
)


@pytest.fixture
async def upstreams(place: Place) -> AsyncIterator[Upstreams]:
    """Both stand-ins, with a workspace of sixty whom research is worth, and a Mave that takes its time."""
    customerio = CustomerioSimulation(requests_per_second=1000, latency_seconds=(0, 0.005), people=PEOPLE)
    mavera = MaveraSimulation(requests_per_minute=6000, concurrency=CONCURRENCY, latency_seconds=(0.1, 0.4))
    async with stand_ins(place, customerio, mavera) as made:
        yield made


class WorkerProcess(ServiceProcess):
    """One `churn-radar worker`, which listens to nobody."""

    def is_up(self, log: str) -> str | None:
        """Whether it has said that it runs."""
        return "service.started" if "service.started" in log else None


async def test_no_process_starts_on_a_database_before_it_is_migrated(tmp_path: Path) -> None:
    with scratch(migrated=False) as empty:
        settings = service_settings(
            tmp_path,
            customerio="http://127.0.0.1:9",
            mavera="http://127.0.0.1:9",
            CHURN_RADAR_DATABASE_URL=empty.url,
        )
        for command in (("serve", "--no-worker"), ("worker",)):
            code, _, err = await run_command(*command, cwd=tmp_path, env=settings)
            assert code == 1
            assert "run `churn-radar migrate`" in err
        for due in (1, 0):
            assert (await run_command("migrate", "--check", cwd=tmp_path, env=settings))[0] == due
            assert (await run_command("migrate", cwd=tmp_path, env=settings))[0] == 0


@pytest.mark.only_on("postgres", "postgres+redis", "postgres+sqs", why="a file belongs to one process")
async def test_two_doors_and_two_workers_make_one_brief_a_customer_though_one_is_killed(
    tmp_path: Path, upstreams: Upstreams
) -> None:
    database = upstreams.place.database
    assert database is not None

    def settings(name: str) -> dict[str, str]:
        (tmp_path / name).mkdir()
        return upstreams.settings(
            tmp_path / name,
            CHURN_RADAR_SINKS=f"jsonl:{tmp_path / 'briefs.jsonl'}",
            CHURN_RADAR_MAVERA_CONCURRENCY=str(CONCURRENCY),
        )

    first = settings("door-1")
    chance = random.Random(5)
    kinds = [kind for kind in SAMPLES if kind in ("unsubscribed", "bounced", "spammed")]
    letters = [event(f"01R{n:03}", chance.choice(kinds), PEOPLE[n % len(PEOPLE)].id or "") for n in range(EVENTS)]
    chance.shuffle(letters)
    async with AsyncExitStack() as stack:
        doors = [
            await stack.enter_async_context(serving(tmp_path / "door-1", first, "serve", "--no-worker")),
            await stack.enter_async_context(serving(tmp_path / "door-2", settings("door-2"), "serve", "--no-worker")),
        ]
        workers = []
        for name in ("worker-1", "worker-2"):
            worker = WorkerProcess(tmp_path / name, settings(name), ("worker",))
            stack.push_async_callback(worker.close)
            await worker.start()
            workers.append(worker)

        async def send(number: int, letter: dict[str, Any]) -> None:
            # Every fifth is sent to both, as a sender does that has heard no answer.
            answers = [await doors[number % 2].post(letter)]
            if number % 5 == 0:
                answers.append(await doors[1 - number % 2].post(letter))
            assert [answer.json()["status"] for answer in answers] == ["accepted", upstreams.place.repeated][
                : len(answers)
            ]

        for start in range(0, EVENTS, 20):
            await asyncio.gather(*(send(n, letters[n]) for n in range(start, start + 20)))

        async def briefed(at_least: int) -> bool:
            return int(database.run("SELECT count(*) FROM briefs")) >= at_least

        await eventually(lambda: briefed(5), "the first briefs")
        await workers[0].kill()

        async def all_have_ended() -> dict[str, int] | None:
            counts = dict(database.rows("SELECT status, count(*) FROM signals GROUP BY status"))
            ended = counts.keys() <= {"briefed", "joined"} and sum(counts.values()) == EVENTS
            return counts if ended and not owed() else None

        def owed() -> int:
            return int(database.run("SELECT count(*) FROM deliveries WHERE status = 'pending'"))

        await eventually(all_have_ended, "every event to have its outcome", patience=180, every=0.3)
        async with doors[0].client() as http:
            assert (await http.get("/readyz")).json()["status"] == "ready"
        assert await workers[1].terminate() == 0
        assert [await door.terminate() for door in doors] == [0, 0]

    told = database.rows(
        "SELECT c.customer_id, count(*) FROM briefs b JOIN customers c ON c.seq = b.customer_seq GROUP BY 1"
    )
    assert dict(told) == {person.id: 1 for person in PEOPLE}
    assert database.rows("SELECT status, attempts, count(*) FROM deliveries GROUP BY 1, 2") == [("delivered", 1, 60)]
    assert database.run("SELECT count(*) FROM signals WHERE brief_seq IS NULL") == 0
    # The killed one may have handed a brief over without saying so: at least once, under the same id.
    delivered = Counter(brief["id"] for brief in ServiceProcess(tmp_path, {}).delivered())
    assert delivered.keys() == {brief_id for (brief_id,) in database.rows("SELECT brief_id FROM briefs")}
    assert max(delivered.values()) <= 2
    assert sum(delivered.values()) <= 60 + CONCURRENCY
    # Only what was under way when it died is asked for again.
    assert len(upstreams.asked) <= 60 + CONCURRENCY
