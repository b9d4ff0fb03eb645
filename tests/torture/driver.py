"""The driver: one service under load, killed at chosen bad moments, restarted, and at last left to finish.

The letters, and the moments and waits of the kills, come from the seed; which call a kill hits depends on the
machine as well, as it would in life.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import IO, Any

import httpx

from churn_radar.intake.door import PATH
from churn_radar.simulator.customerio import CustomerioSimulation, create_customerio
from churn_radar.simulator.mavera import CHAT, MaveraSimulation, MaveraState, create_mavera
from churn_radar.simulator.server import running
from tests.support import nursery
from tests.support.service import assert_nothing_personal, clean_environment, service_settings
from tests.torture.letters import Letter, Said, crowd, write_letters
from tests.torture.reading import FileReading, Reading
from tests.torture.verifier import Evidence, unfinished, verify

SENDERS = 12
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
class Victim:
    """`churn-radar serve` on a port that stays the same, as the address of a webhook does."""

    folder: Path
    settings: Mapping[str, str]
    url: str
    log: IO[bytes]
    process: nursery.Process | None = None
    boot_seconds: float = 1.0

    async def spawn(self) -> None:
        """Start, without waiting for anything."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        self.process = await nursery.start(
            ["serve"],
            folder=self.folder,
            env=clean_environment(**self.settings),
            stdout=nowhere,
            stderr=self.log.fileno(),
        )
        os.close(nowhere)

    async def up(self, http: httpx.AsyncClient) -> None:
        """Wait until it answers; raises AssertionError when it has ended instead."""
        began = time.monotonic()
        while True:
            self.still_runs()
            with suppress(httpx.TransportError):
                if (await http.get(f"{self.url}/healthz")).status_code == 200:
                    self.boot_seconds = time.monotonic() - began
                    return
            await asyncio.sleep(0.03)

    def still_runs(self) -> None:
        """Raises AssertionError when it has ended by itself."""
        code = self.process.returncode if self.process else None
        assert code is None, f"the service ended by itself, with {code}; see {self.folder / 'log.jsonl'}"

    async def end(self, *, kill: bool) -> int:
        """SIGKILL or SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.kill() if kill else self.process.terminate()
        return await asyncio.wait_for(self.process.wait(), 40)


@dataclass
class Run:
    """One crash test under way."""

    plan: Plan
    victim: Victim
    mavera: MaveraState
    sink: Path
    record: Reading
    http: httpx.AsyncClient
    tell: Callable[[str], None]
    dice: random.Random
    letters: list[Letter] = field(default_factory=list)
    again: list[Letter] = field(default_factory=list)
    outbox: asyncio.Queue[Letter] = field(default_factory=asyncio.Queue)
    acks: int = 0
    refusals: Counter[str] = field(default_factory=Counter)

    async def play(self, stream: Iterable[Letter]) -> None:
        """Send and kill as planned, then let everything drain, and stop. Raises AssertionError on the unexpected."""
        coming = iter(stream)
        senders = [asyncio.create_task(self._send()) for _ in range(SENDERS)]
        try:
            for number, moment in enumerate(self._moments(), 1):
                await self.victim.spawn()
                fresh = list(islice(coming, self.plan.letters_per_round))
                self.letters += fresh
                self._post_soon(fresh)
                hit = await self._wait_for(moment)
                in_flight = self.mavera.in_flight[CHAT]
                await self.victim.end(kill=True)
                self.tell(
                    f"kill {number:>2} {moment}{'' if hit else ' (waited in vain)'}: "
                    f"{self.acks} acknowledged, {in_flight} research calls under way"
                )
            await self.victim.spawn()
            await self.victim.up(self.http)
            self._post_soon(())
            await _first_of(senders, self.outbox.join())
            self.tell(f"draining: {unfinished(self.record)} left")
            while unfinished(self.record):
                self.victim.still_runs()
                await asyncio.sleep(0.2)
            code = await self.victim.end(kill=False)
            assert code == 0, f"SIGTERM ended the service with {code}"
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)

    def _post_soon(self, fresh: Sequence[Letter]) -> None:
        """Give the senders fresh letters, and those that are to be repeated."""
        again, self.again = self.again, []
        for letter in (*fresh, *again):
            self.outbox.put_nowait(letter)

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
        await self.victim.up(self.http)
        acks, calls, size = self.acks, self.mavera.calls[CHAT], _size(self.sink)
        match moment:
            case Moment.AFTER_AN_ACK:
                return await self._until(lambda: self.acks > acks + int(share * 30))
            case Moment.IN_A_BURST:
                hit = await self._until(lambda: self.acks > acks)
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

    async def _send(self) -> None:
        """Post letters, each until it is acknowledged; some once more later, as by a sender who missed the answer."""
        while True:
            letter = await self.outbox.get()
            wanted = len(letter.said) + 1
            while len(letter.said) < wanted:
                if await self._post(letter):
                    self.acks += 1
                else:
                    await asyncio.sleep(0.05)
            if wanted == 1 and self.dice.random() < 0.1:
                self.again.append(letter)
            self.outbox.task_done()

    async def _post(self, letter: Letter) -> bool:
        try:
            answer = await self.http.post(f"{self.victim.url}{PATH}", content=letter.body, headers=letter.headers)
        except httpx.TransportError as error:
            self.refusals[type(error).__name__] += 1
            return False
        if answer.status_code == 503:
            self.refusals["503"] += 1
            return False
        assert answer.status_code == 200, f"the door answered {answer.status_code}: {answer.text}"
        told = answer.json()
        letter.said.append(Said(told["status"], told["event_id"]))
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
        stack.enter_context(_quiet_simulators())
        settings = service_settings(
            folder,
            customerio=await stack.enter_async_context(running(customerio)),
            mavera=await stack.enter_async_context(running(mavera)),
            CHURN_RADAR_PORT=str(_free_port()),
            CHURN_RADAR_MAVERA_CONCURRENCY=str(CONCURRENCY),
            CHURN_RADAR_RETRY_DELAYS_SECONDS="0.5,1,2,4,8,16",
            CHURN_RADAR_LOG_LEVEL="info",
        )
        log = stack.enter_context((folder / "log.jsonl").open("ab"))
        victim = Victim(folder, settings, f"http://127.0.0.1:{settings['CHURN_RADAR_PORT']}", log)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=10, trust_env=False))
        run = Run(plan, victim, mavera.state.simulation, sink, record, http, tell, dice)
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
    complaints += verify(Evidence(run.letters, record, sink, calls, plan.kills, CONCURRENCY))
    log_text = (folder / "log.jsonl").read_text()
    try:
        assert_nothing_personal(log_text)
    except AssertionError as error:
        complaints.append(str(error))
    tell(f"{len(run.letters)} events, {run.acks} acknowledgements, refused or cut off: {dict(run.refusals)}")
    tell(f"{calls} research calls; {_troubles(log_text)}")
    return complaints


@contextmanager
def _quiet_simulators() -> Iterator[None]:
    """No traces of callers that were killed in the middle of a request: that is what this is about."""
    logger = logging.getLogger("uvicorn.error")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


async def _first_of(senders: list[asyncio.Task[None]], done: Awaitable[None]) -> None:
    """Wait until everything is sent; a sender that failed ends the wait with its error."""
    waiting = asyncio.ensure_future(done)
    try:
        finished, _ = await asyncio.wait({waiting, *senders}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    for task in finished:
        task.result()


def _troubles(log: str) -> str:
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


def _free_port() -> int:
    """A port below those that the system gives to clients: one of ours must not take it while the service is down."""
    for port in random.sample(range(20_000, 32_000), 50):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port between 20000 and 32000")
