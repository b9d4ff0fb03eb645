"""The driver: one service under load, killed at chosen bad moments, restarted, and at last left to finish.

The letters, and the moments and waits of the kills, come from the seed; which call a kill hits depends on the
machine as well, as it would in life.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

import httpx

from churn_radar.simulator.customerio import CustomerioSimulation, create_customerio
from churn_radar.simulator.mavera import CHAT, MaveraSimulation, MaveraState, create_mavera
from churn_radar.simulator.server import running
from tests.support.service import assert_nothing_personal, service_settings
from tests.torture.letters import Letter, crowd, write_letters
from tests.torture.mailroom import Mailroom
from tests.torture.reading import FileReading, Reading
from tests.torture.verifier import Evidence, unfinished, verify
from tests.torture.victim import Victim

CONCURRENCY = 8
LONGEST_WAIT = 6.0


class Moment(StrEnum):
    """When to kill."""

    AFTER_AN_ACK = "right after an acknowledgement"
    IN_A_BURST = "during a burst"
    IN_RESEARCH = "during research"
    IN_DELIVERY = "after a delivery"
    AT_START = "during start-up"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of it."""

    kills: int
    seed: int
    letters_per_round: int = 60
    research_seconds: tuple[float, float] = (0.05, 0.8)
    patience_seconds: float = 600.0


@dataclass
class Run:
    """One crash test under way."""

    plan: Plan
    victim: Victim
    mavera: MaveraState
    sink: Path
    record: Reading
    mail: Mailroom
    tell: Callable[[str], None]
    dice: random.Random

    async def play(self, stream: Iterable[Letter]) -> None:
        """Send and kill as planned, then let everything drain, and stop. Raises AssertionError on the unexpected."""
        coming = iter(stream)
        async with self.mail.sending():
            for number, moment in enumerate(self._moments(), 1):
                await self.victim.spawn()
                self.mail.post_soon(list(islice(coming, self.plan.letters_per_round)))
                hit = await self._wait_for(moment)
                in_flight = self.mavera.in_flight[CHAT]
                await self.victim.end(kill=True)
                self.tell(
                    f"kill {number:>2} {moment}{'' if hit else ' (waited in vain)'}: "
                    f"{self.mail.acks} acknowledged, {in_flight} research calls under way"
                )
            await self.victim.spawn()
            await self.victim.up(self.mail.http)
            self.mail.post_soon(())
            await self.mail.all_sent()
            self.tell(f"draining: {unfinished(self.record)} left")
            while unfinished(self.record):
                self.victim.still_runs()
                await asyncio.sleep(0.2)
            code = await self.victim.end(kill=False)
            assert code == 0, f"SIGTERM ended the service with {code}"

    def _moments(self) -> list[Moment]:
        moments: list[Moment] = []
        while len(moments) < self.plan.kills:
            moments += self.dice.sample(list(Moment), len(Moment))
        return moments[: self.plan.kills]

    async def _wait_for(self, moment: Moment) -> bool:
        """Wait until the moment has come; False when it never did."""
        share = self.dice.random()
        if moment is Moment.AT_START:
            await asyncio.sleep(share * 1.2 * self.victim.boot_seconds)
            return True
        await self.victim.up(self.mail.http)
        acks, calls, size = self.mail.acks, self.mavera.calls[CHAT], _size(self.sink)
        match moment:
            case Moment.AFTER_AN_ACK:
                return await self._until(lambda: self.mail.acks > acks + int(share * 30))
            case Moment.IN_A_BURST:
                hit = await self._until(lambda: self.mail.acks > acks)
                await asyncio.sleep(share * 0.2)
            case Moment.IN_RESEARCH:
                hit = await self._until(lambda: self.mavera.calls[CHAT] > calls + int(share * 2 * CONCURRENCY))
                hit = await self._until(lambda: self.mavera.in_flight[CHAT] > 0) and hit
            case Moment.IN_DELIVERY:
                # Of a brief that was researched since the start: more research is under way then.
                hit = await self._until(lambda: self.mavera.calls[CHAT] > calls + CONCURRENCY)
                hit = await self._until(lambda: _size(self.sink) > size + share * 50_000) and hit
        return hit

    async def _until(self, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + LONGEST_WAIT
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.victim.still_runs()
            await asyncio.sleep(0.002)
        return True


async def torture(plan: Plan, folder: Path, *, tell: Callable[[str], None] = lambda line: None) -> list[str]:
    """Run the whole crash test in `folder`; returns everything that is wrong, one line each."""
    dice = random.Random(plan.seed)
    people = crowd(plan.kills * plan.letters_per_round // 3, dice)
    mavera = create_mavera(
        # Mavera goes on with what a killed caller asked for, so its own limit of calls at once is left out here.
        MaveraSimulation(requests_per_minute=100_000, concurrency=1000, latency_seconds=plan.research_seconds)
    )
    customerio = create_customerio(CustomerioSimulation(requests_per_second=1000, people=people))
    record, sink = FileReading(folder / "record.db"), folder / "briefs.jsonl"
    async with AsyncExitStack() as stack:
        stack.enter_context(quiet_simulators())
        settings = service_settings(
            folder,
            customerio=await stack.enter_async_context(running(customerio)),
            mavera=await stack.enter_async_context(running(mavera)),
            CHURN_RADAR_PORT=str(free_port()),
            CHURN_RADAR_MAVERA_CONCURRENCY=str(CONCURRENCY),
            CHURN_RADAR_RETRY_DELAYS_SECONDS="0.5,1,2,4,8,16",
            CHURN_RADAR_LOG_LEVEL="info",
        )
        log = stack.enter_context((folder / "log.jsonl").open("ab"))
        victim = Victim(folder, settings, f"http://127.0.0.1:{settings['CHURN_RADAR_PORT']}", log)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=10, trust_env=False))
        # Dice of its own: how often it throws them depends on the machine, and moments and letters must not.
        mail = Mailroom(http, [victim.url], random.Random(plan.seed + 1))
        run = Run(plan, victim, mavera.state.simulation, sink, record, mail, tell, dice)
        complaints: list[str] = []
        try:
            async with asyncio.timeout(plan.patience_seconds):
                await run.play(write_letters(people, dice))
        except TimeoutError:
            complaints.append(f"not done after {plan.patience_seconds:g} s")
        except AssertionError as error:
            complaints.append(str(error))
        finally:
            if victim.process is not None and victim.process.returncode is None:
                await victim.end(kill=True)
    calls = len(run.mavera.messages)
    complaints += verify(Evidence(mail.letters, record, sink, calls, plan.kills, CONCURRENCY))
    log_text = (folder / "log.jsonl").read_text()
    try:
        assert_nothing_personal(log_text)
    except AssertionError as error:
        complaints.append(str(error))
    tell(f"{len(mail.letters)} events, {mail.acks} acknowledgements, refused or cut off: {dict(mail.refusals)}")
    tell(f"{calls} research calls; {troubles(log_text)}")
    return complaints


@contextmanager
def quiet_simulators() -> Iterator[None]:
    """No traces of callers that were killed in the middle of a request: that is what this is about."""
    logger = logging.getLogger("uvicorn.error")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


def troubles(log: str) -> str:
    """The errors that the service logged, counted by event: not wrong in themselves, but worth a look."""
    errors: Counter[str] = Counter()
    for row in log.splitlines():
        with suppress(ValueError):
            line: dict[str, Any] = json.loads(row)
            if line.get("level") in ("error", "critical", "warning"):
                errors[str(line.get("event"))] += 1
    return f"logged as warning or error: {dict(errors)}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def free_port() -> int:
    """A port below those that the system gives to clients: one of ours must not take it while the service is down."""
    for port in random.sample(range(20_000, 32_000), 50):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port between 20000 and 32000")
