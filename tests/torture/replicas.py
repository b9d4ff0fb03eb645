"""The crash test of several replicas on one Postgres: two doors with workers and a worker, one of which is killed.

The others go on meanwhile, and the killed one is started again. With `trouble` the servers behind them suffer as well:
connections are cut, Postgres is stopped, and Redis where it is the buffer. The replicas' clocks differ.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from pathlib import Path

import httpx
from redis.asyncio import Redis

from churn_radar.migrating import ENGINE
from churn_radar.simulator.customerio import CustomerioSimulation, CustomerioState, create_customerio
from churn_radar.simulator.mavera import CHAT, MaveraSimulation, MaveraState, create_mavera
from churn_radar.simulator.server import running
from churn_radar.store.schema_postgres import migrate_postgres
from tests.support import nursery
from tests.support.own_postgres import OwnPostgres, own_postgres
from tests.support.postgres import scratch
from tests.support.servers import OwnRedis, own_redis, redis_stream, redis_url
from tests.support.service import assert_nothing_personal, service_settings
from tests.torture.driver import CONCURRENCY, Plan, free_port, quiet_simulators, troubles
from tests.torture.letters import crowd, write_letters
from tests.torture.mailroom import Mailroom
from tests.torture.reading import DatabaseReading, Reading
from tests.torture.verifier import Evidence, unfinished, verify
from tests.torture.victim import Victim

# Name, arguments, and by how many seconds its clock is wrong.
REPLICAS = (("a", ("serve",), 0.0), ("b", ("serve",), 3.0), ("c", ("worker",), -3.0))
# The simulators allow exactly what the settings say, so that one call too many, or too soon, is a 429.
LOOK_UPS_A_SECOND = 20
RESEARCH_A_MINUTE = 600
TAKE_OVER_SECONDS = 5
LONGEST_WAIT = 6.0
STREAM = "churn_radar:events"


class Trouble(StrEnum):
    """What may happen to the servers behind the replicas, besides a kill."""

    NONE = "nothing else"
    CUT = "all connections to Postgres are cut"
    POSTGRES = "Postgres is stopped and started"
    REDIS = "Redis is killed and started"


@dataclass(frozen=True, slots=True)
class ReplicasPlan(Plan):
    """As Plan; with `buffer` there is a Redis in front of the record."""

    buffer: bool = False
    trouble: bool = False


@dataclass
class Servers:
    """What the replicas share; the servers themselves where they are the test's own."""

    database_url: str
    buffer_url: str | None
    stream: str = STREAM
    postgres: OwnPostgres | None = None
    redis: OwnRedis | None = None

    @property
    def settings(self) -> dict[str, str]:
        """By which a replica finds them."""
        buffer = {"CHURN_RADAR_BUFFER_URL": self.buffer_url or "", "CHURN_RADAR_BUFFER_STREAM": self.stream}
        return {"CHURN_RADAR_DATABASE_URL": self.database_url, **(buffer if self.buffer_url else {})}

    async def suffer(self, trouble: Trouble, seconds: float) -> None:
        """Let it happen, and end."""
        match trouble:
            case Trouble.CUT if self.postgres is not None:
                await self.postgres.end_connections()
            case Trouble.POSTGRES if self.postgres is not None:
                await self.postgres.stop()
                await asyncio.sleep(seconds)
                await self.postgres.start()
            case Trouble.REDIS if self.redis is not None:
                await self.redis.kill()
                await asyncio.sleep(seconds)
                await self.redis.start()

    async def buffered(self) -> int:
        """How many events wait in the buffer."""
        if self.buffer_url is None:
            return 0
        async with Redis.from_url(self.buffer_url) as client:
            return int(await client.xlen(self.stream))


@asynccontextmanager
async def servers(plan: ReplicasPlan, folder: Path) -> AsyncIterator[Servers]:
    """A migrated database, and a buffer where the plan has one: own servers where they are going to be stopped."""
    async with AsyncExitStack() as stack:
        if not plan.trouble:
            url = redis_url() if plan.buffer else None
            stream = stack.enter_context(redis_stream(url)) if url else STREAM
            yield Servers(stack.enter_context(scratch()).url, url, stream)
            return
        postgres = await stack.enter_async_context(own_postgres())
        await migrate_postgres(postgres.url, ENGINE)
        redis = await stack.enter_async_context(own_redis(folder)) if plan.buffer else None
        yield Servers(postgres.url, redis.url if redis else None, postgres=postgres, redis=redis)


@dataclass
class Fleet:
    """One crash test of several replicas under way."""

    plan: ReplicasPlan
    replicas: list[Victim]
    servers: Servers
    mail: Mailroom
    mavera: MaveraState
    record: Reading
    sinks: Path
    tell: Callable[[str], None]
    dice: random.Random
    suffered: int = field(default=0)

    async def play(self, stream: Iterable[object]) -> None:
        """Send, kill and trouble as planned, then let everything drain, and stop."""
        coming = iter(stream)
        for replica in self.replicas:
            await replica.spawn()
        for replica in self.replicas:
            await replica.up(self.mail.http)
        moments = self._moments()
        async with self.mail.sending():
            for number in range(1, self.plan.kills + 1):
                self.mail.post_soon(list(islice(coming, self.plan.letters_per_round)))  # type: ignore[arg-type]
                victim, (name, moment) = self.dice.choice(self.replicas), self.dice.choice(moments)
                trouble = self._trouble()
                hit = await self._until(moment(self.dice.random()))
                in_flight = self.mavera.in_flight[CHAT]
                await victim.end(kill=True)
                self.tell(
                    f"kill {number:>2} of {victim.folder.name} {name}{'' if hit else ' (waited in vain)'}, {trouble}: "
                    f"{self.mail.acks} acknowledged, {in_flight} research calls under way"
                )
                await self.servers.suffer(trouble, self.dice.uniform(0.2, 2.0))
                await victim.spawn()
                if self.dice.random() < 0.7:
                    await self._all_up()
            await self._all_up()
            self.mail.post_soon(())
            await self.mail.all_sent()
            self.tell(f"draining: {unfinished(self.record)} left, and {await self.servers.buffered()} in the buffer")
            while unfinished(self.record) or await self.servers.buffered():
                await self._all_up()
                await asyncio.sleep(0.2)
            codes = [await replica.end(kill=False) for replica in self.replicas]
            assert codes == [0] * len(codes), f"SIGTERM ended the replicas with {codes}"

    def _trouble(self) -> Trouble:
        if not self.plan.trouble or self.dice.random() < 0.5:
            return Trouble.NONE
        self.suffered += 1
        return self.dice.choice(
            [t for t in Trouble if t is not Trouble.NONE and (t is not Trouble.REDIS or self.plan.buffer)]
        )

    async def _all_up(self) -> None:
        """Wait until all replicas run. One that was started while Postgres was away has ended: start it again."""
        for replica in self.replicas:
            code = replica.process.returncode if replica.process else None
            if code is not None:
                assert (code, self.suffered > 0) == (1, True), f"{replica.folder.name} ended by itself, with {code}"
                await replica.spawn()
            await replica.up(self.mail.http)

    def _moments(self) -> list[tuple[str, Callable[[float], Callable[[], bool]]]]:
        """When to kill: names, and what to wait for, given a share between 0 and 1."""
        calls, sizes = self.mavera.calls, self._sizes

        def after_acks(share: float) -> Callable[[], bool]:
            wanted = self.mail.acks + 1 + int(share * 30)
            return lambda: self.mail.acks >= wanted

        def in_research(share: float) -> Callable[[], bool]:
            wanted = calls[CHAT] + int(share * CONCURRENCY)
            return lambda: calls[CHAT] >= wanted and self.mavera.in_flight[CHAT] > 0

        def in_delivery(share: float) -> Callable[[], bool]:
            wanted = sizes() + share * 20_000
            return lambda: sizes() > wanted

        return [
            ("right after acknowledgements", after_acks),
            ("during research", in_research),
            ("after a delivery", in_delivery),
            ("during start-up", lambda share: lambda: True),
        ]

    def _sizes(self) -> int:
        return sum(path.stat().st_size for path in self.sinks.parent.glob(f"{self.sinks.stem}*{self.sinks.suffix}"))

    async def _until(self, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + LONGEST_WAIT
        while not condition():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.005)
        return True


async def torture_replicas(
    plan: ReplicasPlan, folder: Path, *, tell: Callable[[str], None] = lambda line: None
) -> list[str]:
    """Run the whole crash test in `folder`; returns everything that is wrong, one line each."""
    dice = random.Random(plan.seed)
    people = crowd(plan.kills * plan.letters_per_round // 3, dice)
    customerio = create_customerio(CustomerioSimulation(requests_per_second=LOOK_UPS_A_SECOND, people=people))
    mavera = create_mavera(
        MaveraSimulation(
            requests_per_minute=RESEARCH_A_MINUTE, concurrency=CONCURRENCY, latency_seconds=plan.research_seconds
        )
    )
    sinks = folder / "briefs.jsonl"
    complaints: list[str] = []
    async with AsyncExitStack() as stack:
        stack.enter_context(quiet_simulators())
        behind = await stack.enter_async_context(servers(plan, folder))
        urls = [await stack.enter_async_context(running(app)) for app in (customerio, mavera)]
        replicas = [
            _replica(stack, folder, name, arguments, wrong_by, sinks, urls, behind.settings)
            for name, arguments, wrong_by in REPLICAS
        ]
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=10, trust_env=False))
        mail = Mailroom(http, [replica.url for replica in replicas if replica.url], random.Random(plan.seed + 1))
        seen: MaveraState = mavera.state.simulation
        record = DatabaseReading(behind.database_url)
        fleet = Fleet(plan, replicas, behind, mail, seen, record, sinks, tell, dice)
        try:
            async with asyncio.timeout(plan.patience_seconds):
                await fleet.play(write_letters(people, random.Random(plan.seed + 2)))
        except TimeoutError:
            complaints.append(f"not done after {plan.patience_seconds:g} s")
        except AssertionError as error:
            complaints.append(str(error))
        finally:
            for replica in replicas:
                if replica.process is not None and replica.process.returncode is None:
                    await replica.end(kill=True)
        evidence = Evidence(
            mail.letters,
            record,
            sinks,
            len(seen.messages),
            plan.kills + fleet.suffered,
            CONCURRENCY,
            repeated="accepted" if plan.buffer else "duplicate",
            clocks_differ_by=max(by for *_, by in REPLICAS) - min(by for *_, by in REPLICAS),
        )
        complaints += verify(evidence)
    complaints += _limits(customerio.state.simulation, seen)
    logs = "".join((replica.folder / "log.jsonl").read_text() for replica in replicas)
    try:
        assert_nothing_personal(logs)
    except AssertionError as error:
        complaints.append(str(error))
    tell(f"{len(mail.letters)} events, {mail.acks} acknowledgements, refused or cut off: {dict(mail.refusals)}")
    tell(
        f"{len(seen.messages)} research calls, {seen.most_in_flight[CHAT]} at once, {seen.arrivals.busiest} a minute at"
        f" most; {customerio.state.simulation.arrivals.busiest} look-ups a second at most; {troubles(logs)}"
    )
    return complaints


def _replica(
    stack: AsyncExitStack,
    folder: Path,
    name: str,
    arguments: tuple[str, ...],
    wrong_by: float,
    sinks: Path,
    urls: list[str],
    shared: Mapping[str, str],
) -> Victim:
    """One of them, not started yet. Each has a sink file of its own: a line that a kill cuts short is nobody else's."""
    own = folder / name
    own.mkdir()
    port = free_port()
    settings = service_settings(
        own,
        customerio=urls[0],
        mavera=urls[1],
        CHURN_RADAR_PORT=str(port),
        CHURN_RADAR_SINKS="jsonl",
        CHURN_RADAR_JSONL_PATH=str(sinks.with_stem(f"{sinks.stem}-{name}")),
        CHURN_RADAR_MAVERA_CONCURRENCY=str(CONCURRENCY),
        CHURN_RADAR_MAVERA_REQUESTS_PER_MINUTE=str(RESEARCH_A_MINUTE),
        CHURN_RADAR_CIO_REQUESTS_PER_SECOND=str(LOOK_UPS_A_SECOND),
        CHURN_RADAR_TAKE_OVER_SECONDS=str(TAKE_OVER_SECONDS),
        CHURN_RADAR_BUFFER_HOLD_SECONDS="10",
        CHURN_RADAR_RETRY_DELAYS_SECONDS="0.5,1,2,4,8,16",
        CHURN_RADAR_LOG_LEVEL="info",
        **shared,
    )
    settings[nursery.WRONG_BY] = str(wrong_by)
    log = stack.enter_context((own / "log.jsonl").open("ab"))
    url = f"http://127.0.0.1:{port}" if arguments == ("serve",) else ""
    return Victim(own, settings, url, log, arguments)


def _limits(customerio: CustomerioState, mavera: MaveraState) -> list[str]:
    """The limits that all replicas keep to together: the simulators refuse whatever is above."""
    return [
        f"{name} had to refuse {state.statuses[429]} calls"
        for name, state in (("the App API", customerio), ("Mavera", mavera))
        if state.statuses[429]
    ]
