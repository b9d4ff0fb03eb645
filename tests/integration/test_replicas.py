"""Two replicas and one record on Postgres: what happens when both do the same thing at the same instant."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.errors import RecordUnavailable
from churn_radar.intake.events import to_quarantine
from churn_radar.research.budget import Charge, CreditsFor, month_of
from churn_radar.store import transactions
from churn_radar.store.arrivals import Verdict, arrival_values
from churn_radar.store.credits import Entry, close_entry, open_entry, spent_in
from churn_radar.store.customers import customers_named, hold_customers, recall, remember, remember_all
from churn_radar.store.dialect import driver_connection
from churn_radar.store.held import let_go, putting_off
from churn_radar.store.jobs import NAMES, jobs_of_new
from churn_radar.store.record import Record, open_record
from churn_radar.store.signals import CustomerNames, Signal, advance, any_signal, find_signal, load_signal
from churn_radar.store.tables import Status, metadata, signals
from churn_radar.triage.customer import CustomerRef, Profile
from churn_radar.work.claim import Claim
from churn_radar.work.due import signals_put_off
from churn_radar.work.engine_postgres import PostgresEngine
from churn_radar.work.joining import JoinRule
from churn_radar.work.replay import replay
from churn_radar.work.tasks import Step, Task
from churn_radar.work.troubles import Troubles
from tests.support.cutting import way_to
from tests.support.door import NOW, arrival, as_body
from tests.support.jobs_database import connected
from tests.support.postgres import Scratch
from tests.support.work import Workshop, payload, until, workshop


@asynccontextmanager
async def replicas(url: str, count: int = 2, **told: Any) -> AsyncIterator[list[Record]]:
    """Several open records on one database."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_record(url, **told)) for _ in range(count)]


@asynccontextmanager
async def workshops(folder: Path, count: int = 2, **told: Any) -> AsyncIterator[list[Workshop]]:
    """Several workshops on one record; each has upstreams of its own."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(workshop(folder, **told)) for _ in range(count)]


async def test_one_event_is_one_event_whichever_replica_it_comes_to_and_in_whichever_order(postgres: Scratch) -> None:
    keys = [f"k{number}" for number in range(300)]
    dice = random.Random(5)
    before = postgres.on_server("SELECT deadlocks FROM pg_stat_database WHERE datname = $1", postgres.name)
    async with replicas(postgres.url, 3) as three:
        sent = [(record, dice.sample(keys, len(keys))) for record in three for _ in range(2)]
        outcomes = await asyncio.gather(*(record.accept(arrival(key)) for record, order in sent for key in order))
    verdicts = [outcome.verdict for outcome in outcomes]
    assert verdicts.count(Verdict.ACCEPTED) == 300
    assert verdicts.count(Verdict.DUPLICATE) == 1500
    # Told by each connection as it ends.
    assert postgres.on_server("SELECT deadlocks FROM pg_stat_database WHERE datname = $1", postgres.name) == before
    assert postgres.run("SELECT count(*) FROM signals") == 300


async def test_rows_are_numbered_in_the_order_of_their_arrival(postgres: Scratch) -> None:
    async with replicas(postgres.url, 1) as [record]:
        outcomes = await asyncio.gather(*(record.accept(arrival(key)) for key in "zmaybec"))
    numbers = [outcome.seq for outcome in outcomes]
    assert numbers == sorted(number for number in numbers if number is not None)


async def test_new_signals_and_their_jobs_are_stored_together(postgres: Scratch) -> None:
    jobs = f"SELECT convert_from(payload, 'UTF8'), dedupe_key FROM {NAMES.queue_table} ORDER BY id"  # noqa: S608
    async with replicas(postgres.url, 1, jobs_of_new=jobs_of_new("triage", most=3)) as [record]:
        body = to_quarantine(b"{", "no JSON", received_at=NOW, event_id=None)
        stored = await asyncio.gather(*(record.accept(each) for each in (*map(arrival, "abcd"), body, arrival("a"))))
        numbers = [each.seq for each in stored[:4]]
        assert sorted(postgres.rows(jobs)) == [
            (",".join(map(str, numbers[:3])), None),
            (str(numbers[3]), f"triage:{numbers[3]}"),
        ]
        # Neither what is there already nor what waits for a person makes a job.
        await asyncio.gather(*(record.accept(each) for each in (arrival("a"), body)))
        assert len(postgres.rows(jobs)) == 2
        postgres.run(f"ALTER TABLE {NAMES.queue_table} ADD CONSTRAINT none_more CHECK (id < 0) NOT VALID")
        try:
            with pytest.raises(RecordUnavailable):
                await record.accept(arrival("e"))
        finally:
            postgres.run(f"ALTER TABLE {NAMES.queue_table} DROP CONSTRAINT none_more")
        assert postgres.run("SELECT count(*) FROM signals WHERE event_key = 'e'") == 0


async def test_the_door_makes_the_same_job_as_the_engine(postgres: Scratch) -> None:
    job = f"SELECT to_jsonb(job) FROM {NAMES.queue_table} AS job"  # noqa: S608
    as_of = {"id", "created", "updated", "heartbeat", "execute_after"}
    async with replicas(postgres.url, 1, jobs_of_new=jobs_of_new("triage", most=50)) as [record]:
        stored = await record.accept(arrival("a"))
    [by_door] = postgres.rows(job)
    postgres.run(f"DELETE FROM {NAMES.queue_table}")  # noqa: S608
    assert stored.seq is not None
    async with connected(postgres.url) as driver:
        await PostgresEngine(driver).enqueue([Task(Step.TRIAGE, stored.seq)])
    [by_engine] = postgres.rows(job)
    door, engine = (
        {name: value for name, value in json.loads(each).items() if name not in as_of}
        for (each,) in (by_door, by_engine)
    )
    assert door == engine


async def test_a_driver_connection_is_inside_the_transaction_even_before_its_first_statement(postgres: Scratch) -> None:
    async def work(connection: AsyncConnection) -> None:
        raw = await driver_connection(connection)
        await raw.execute("INSERT INTO customers (attributes, seen_at) VALUES ('{}', 1)")
        raise ZeroDivisionError

    async with replicas(postgres.url, 1) as [record]:
        with pytest.raises(ZeroDivisionError):
            await record.write(work)
    assert postgres.run("SELECT count(*) FROM customers") == 0


@pytest.mark.parametrize("known", [False, True], ids=["never seen", "seen before"])
async def test_two_replicas_that_meet_a_customer_at_the_same_instant_know_one_customer(
    postgres: Scratch, known: bool
) -> None:
    refs = [CustomerRef(f"id{n}", f"cio{n}", f"{n}@x.io") for n in range(40)]
    async with replicas(postgres.url, 3) as three:
        if known:
            await three[0].write(lambda c: remember_all(c, [Profile(CustomerRef(ref.id), {}) for ref in refs], NOW))

        async def meet(record: Record, order: list[CustomerRef]) -> None:
            async def work(connection: AsyncConnection) -> None:
                await hold_customers(connection, order)
                await remember_all(connection, [Profile(ref, {"a": "b"}) for ref in order], NOW)

            await record.write(work)

        dice = random.Random(2)
        await asyncio.gather(*(meet(record, dice.sample(refs, 20)) for record in three for _ in range(6)))
    named = postgres.rows("SELECT customer_id FROM customers")
    assert len(named) == len(set(named))


async def test_two_signals_of_one_customer_triaged_by_two_replicas_at_once_make_one_brief(
    postgres: Scratch, tmp_path: Path
) -> None:
    async with workshops(tmp_path, 3) as shops:
        for number in range(8):
            await _forget_everything(shops[0])
            seqs = [await shop.arrive(payload("cust_1001")) for shop in shops for _ in range(2)]
            batches = [seqs[number % 6 :: 3], seqs[(number + 1) % 6 :: 3], seqs[(number + 2) % 6 :: 3], seqs[::2]]
            await asyncio.gather(
                *(shop.triage.together(batch) for shop, batch in zip(shops * 2, batches, strict=False))
            )
            await asyncio.gather(*(shop.triage.together(seqs) for shop in shops))
            statuses = sorted([(await shops[0].signal(seq)).status for seq in seqs])
            assert statuses == ["joined"] * 5 + ["waiting"], number
            [leader] = [seq for seq in seqs if (await shops[0].signal(seq)).status == "waiting"]
            await asyncio.gather(*(shop.research(leader) for shop in shops))
            assert len(await shops[0].briefs()) == 1
            assert {(await shops[0].signal(seq)).brief_seq for seq in seqs} != {None}
            assert len({(await shops[0].signal(seq)).brief_seq for seq in seqs}) == 1


async def test_dead_letters_of_one_customer_replayed_by_two_replicas_at_once_make_one_brief(
    postgres: Scratch, tmp_path: Path
) -> None:
    rule = JoinRule(timedelta(hours=24))

    async def die(shop: Workshop) -> Signal:
        seq = await shop.arrive(payload("cust_1001"))
        await shop.triage(seq)
        to_dead = partial(advance, seq=seq, expected=(Status.WAITING,), to=Status.DEAD, now=NOW)
        assert await shop.record.write(to_dead)
        return await shop.signal(seq)

    async with workshops(tmp_path) as shops:
        for _ in range(8):
            await _forget_everything(shops[0])
            dead = [await die(shop) for shop in shops]
            await asyncio.gather(
                *(
                    shop.record.write(partial(replay, signal=signal, alert_events=[], rule=rule, now=NOW))
                    for shop, signal in zip(shops, dead, strict=True)
                )
            )
            assert sorted([(await shops[0].signal(signal.seq)).status for signal in dead]) == ["joined", "waiting"]


async def _forget_everything(shop: Workshop) -> None:
    async def work(connection: AsyncConnection) -> None:
        for table in reversed(metadata.sorted_tables):
            await connection.execute(delete(table))

    await shop.record.write(work)


async def test_a_signal_that_joins_while_the_brief_is_being_kept_gets_it(postgres: Scratch, tmp_path: Path) -> None:
    async with workshops(tmp_path) as [one, other]:
        leader = await one.arrive(payload("cust_1001"))
        late = await one.arrive(payload("cust_1001", "bounced"))
        await one.triage(leader)
        joining, go_on = asyncio.Event(), asyncio.Event()
        customer = (await one.signal(leader)).customer_seq

        async def join(connection: AsyncConnection) -> None:
            await hold_customers(connection, [], [customer or 0])
            standing = await load_signal(connection, leader)
            assert standing is not None
            assert standing.status is Status.WAITING
            joining.set()
            await go_on.wait()
            await advance(
                connection,
                late,
                expected=(Status.RECEIVED,),
                to=Status.JOINED,
                now=NOW,
                customer_seq=customer,
                joined_to=leader,
            )

        joined = asyncio.ensure_future(other.record.write(join))
        await joining.wait()
        researched = asyncio.ensure_future(one.research(leader))
        await asyncio.sleep(0.1)
        # It waits for whoever decides about the customer, so that the prompt names the late one too.
        status = (await one.signal(leader)).status
        go_on.set()
        await asyncio.gather(joined, researched)
        assert status is Status.WAITING
        [brief] = await one.briefs()
        assert len(brief.event_ids) == 2
        assert (await one.signal(late)).brief_seq == (await one.signal(leader)).brief_seq


async def test_a_customer_whose_row_goes_into_another_one_while_mave_thinks_gets_the_brief(
    everywhere: str, tmp_path: Path
) -> None:
    async with workshop(tmp_path) as shop:
        seq = await shop.arrive(payload("cust_1001"))
        await shop.triage(seq)
        claim = await shop.record.write(lambda c: shop.research._claim(c, seq))
        assert claim is not None
        ref = claim.case.customer.profile.ref
        into = await _make_another_row_of(shop, ref)
        assert into != claim.case.customer.seq
        await shop.research._research(claim)
        [brief] = await shop.briefs()
        assert (await shop.signal(seq)).status is Status.BRIEFED
        async with shop.record.read() as connection:
            assert await customers_named(connection, brief.customer_id) == (into,)


async def _make_another_row_of(shop: Workshop, ref: CustomerRef) -> int:
    """A look-up shows that a customer is one whom the record knows by another row."""

    async def work(connection: AsyncConnection) -> int:
        # The row that stays is found first, by the lasting name.
        await connection.execute(text("UPDATE customers SET cio_id = NULL"))
        await remember(connection, Profile(CustomerRef(None, "c-elsewhere"), {}), NOW)
        return await remember(connection, Profile(CustomerRef(ref.id, "c-elsewhere", ref.email), {}), NOW)

    return await shop.record.write(work)


async def test_a_signal_is_researched_by_one_replica(postgres: Scratch, tmp_path: Path) -> None:
    async with workshops(tmp_path, 3) as shops:
        seqs = [await shops[0].arrive(payload(f"cust_100{number}")) for number in (1, 2, 3)]
        await shops[0].triage.together(seqs)
        waiting = [seq for seq in seqs if (await shops[0].signal(seq)).status is Status.WAITING]
        await asyncio.gather(*(shop.research(seq) for shop in shops for seq in waiting))
        assert len(await shops[0].briefs()) == len(waiting)
        assert waiting
        assert sum(len(shop.mavera.messages) for shop in shops) == len(waiting)


async def test_two_replicas_never_go_on_in_one_thread_at_once(postgres: Scratch, tmp_path: Path) -> None:
    async with workshops(tmp_path, 2, reuse_research_days=7, cool_down_hours=0) as [one, other]:
        await one.briefed(payload("cust_1001"))
        first, second = [await one.arrive(payload(customer)) for customer in ("cust_1001", "cust_1001")]
        await one.triage.together([first, second])
        claimed, go_on = asyncio.Event(), asyncio.Event()

        async def slowly(connection: AsyncConnection) -> Claim | None:
            # Of another customer, for all that the locks know: only the thread is in common.
            await connection.execute(text("SET LOCAL lock_timeout = 0"))
            opening = await one.research._opening(connection, case, one.clock())
            reused = opening.brief_id if opening else None
            await open_entry(connection, first, now=one.clock(), reused_brief_id=reused)
            claimed.set()
            await go_on.wait()
            return None if opening is None else claim

        claim = await one.record.write(lambda c: one.research._claim(c, first))
        assert claim is not None
        assert claim.opening is not None
        case = claim.case
        await one.record.write(lambda c: close_entry(c, claim.entry, []))
        taking = asyncio.ensure_future(one.record.write(slowly))
        await claimed.wait()
        competing = asyncio.ensure_future(other.record.write(lambda c: other.research._claim(c, second)))
        await asyncio.sleep(0.1)
        go_on.set()
        assert await taking is not None
        late = await competing
        assert late is not None
        assert late.opening is None


async def test_a_brief_that_comes_after_somebody_else_s_is_not_kept_but_paid_for(
    everywhere: str, tmp_path: Path
) -> None:
    async with workshop(tmp_path) as shop:
        seq = await shop.arrive(payload("cust_1001"))
        await shop.triage(seq)
        slow = await shop.record.write(lambda c: shop.research._claim(c, seq))
        assert slow is not None
        # Taken for dead: its signal is put back in the line, and researched by somebody else.
        await shop.record.write(
            lambda c: advance(c, seq, expected=(Status.RESEARCHING,), to=Status.WAITING, now=shop.clock())
        )
        await shop.research(seq)
        async with shop.record.read() as connection:
            once = await spent_in(connection, month_of(shop.clock()), now=shop.clock())
        await shop.research._research(slow)
        assert len(await shop.briefs()) == 1
        async with shop.record.read() as connection:
            twice = await spent_in(connection, month_of(shop.clock()), now=shop.clock())
        assert twice.credits == 2 * once.credits > 0
        assert twice.under_way == 0


async def test_an_entry_of_the_ledger_is_closed_once(everywhere: str, tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        seq = await shop.arrive(payload("cust_1001"))
        entry: Entry = await shop.record.write(lambda c: open_entry(c, seq, now=NOW))
        for _ in range(2):
            await shop.record.write(lambda c: close_entry(c, entry, [Charge(7, CreditsFor.LOST)]))
        async with shop.record.read() as connection:
            assert (await spent_in(connection, month_of(NOW), now=NOW)).credits == 7


async def test_what_is_just_being_put_off_is_found_by_the_sweep_that_follows(postgres: Scratch) -> None:
    reason = "waits for the operator: key"
    async with replicas(postgres.url) as [one, other]:
        accepted = await one.accept(arrival("a"))
        putting, go_on = asyncio.Event(), asyncio.Event()

        async def put_off(connection: AsyncConnection) -> None:
            await putting_off(connection)
            putting.set()
            await go_on.wait()
            await connection.execute(update(signals).values(reason=reason, due_at=NOW + timedelta(hours=1)))

        put = asyncio.ensure_future(one.write(put_off))
        await putting.wait()
        sweeping = asyncio.ensure_future(
            other.write(
                lambda c: let_go(c, Status.RECEIVED, reason_prefix="waits for", after=None, limit=10, now=NOW),
            )
        )
        await asyncio.sleep(0.1)
        early = sweeping.done()
        go_on.set()
        await put
        assert not early
        assert await sweeping == ([(accepted.seq, 0)], None)


async def test_what_is_due_is_let_go_by_one_replica(postgres: Scratch) -> None:
    async with replicas(postgres.url, 3) as three:
        await asyncio.gather(*(three[0].accept(arrival(f"k{number}")) for number in range(90)))
        await three[0].write(lambda c: c.execute(update(signals).values(due_at=NOW)))
        let = signals_put_off(Status.RECEIVED, Step.TRIAGE, "customerio", Troubles()).let_go
        pages = await asyncio.gather(
            *(record.write(partial(let, now=NOW, limit=20)) for record in three for _ in range(3))
        )
        pages.append(await three[0].write(partial(let, now=NOW, limit=90)))
    gone = [task.seq for page in pages for task in page]
    assert len(gone) == len(set(gone)) == 90


async def test_two_replicas_that_read_a_body_again_at_once_make_one_signal_of_it(
    postgres: Scratch, tmp_path: Path
) -> None:
    body = as_body(payload("cust_1001"))
    async with workshops(tmp_path) as shops:
        for shop in shops:
            # The same event came twice, in bodies that differ: both are read again, one is a duplicate.
            await shop.record.accept(to_quarantine(body + b" ", "older release", received_at=NOW, event_id=None))
            await shop.record.accept(to_quarantine(body + b"\n", "older release", received_at=NOW, event_id=None))
        both = [await shops[0].signal(seq) for (seq,) in postgres.rows("SELECT seq FROM signals ORDER BY seq")]
        assert len(both) == 2
        await asyncio.gather(
            *(
                shop.record.write(
                    lambda c, signal=signal: replay(c, signal, alert_events=["unsubscribed"], rule=JoinRule(), now=NOW)  # type: ignore[misc]
                )
                for shop in shops
                for signal in both
            )
        )
    assert sorted(postgres.rows("SELECT status FROM signals")) == [("received",), ("skipped",)]


async def test_work_that_meets_other_work_in_a_circle_is_done_all_the_same(postgres: Scratch) -> None:
    async with replicas(postgres.url) as both:
        first, second = [(await both[0].accept(arrival(key))).seq for key in "ab"]
        met = asyncio.Barrier(2)
        tries: list[int] = []

        async def crossing(connection: AsyncConnection, mine: int, theirs: int) -> None:
            tries.append(mine)
            once_more = update(signals).values(attempts=signals.c.attempts + 1)
            await connection.execute(once_more.where(signals.c.seq == mine))
            if len(tries) <= 2:
                await met.wait()
            await connection.execute(once_more.where(signals.c.seq == theirs))

        assert first is not None
        assert second is not None
        await asyncio.gather(
            both[0].write(lambda c: crossing(c, first, second)), both[1].write(lambda c: crossing(c, second, first))
        )
        # Who had to give way may meet the other once more, where that one is slow to go on.
        assert len(tries) >= 3
    assert postgres.rows("SELECT attempts FROM signals") == [(2,), (2,)]


async def test_work_that_fails_is_told_so_and_leaves_nothing(postgres: Scratch) -> None:
    async def work(connection: AsyncConnection) -> None:
        await connection.execute(insert(signals), [arrival_values(arrival("a"))])
        await connection.execute(insert(signals), [arrival_values(arrival("a"))])

    async with replicas(postgres.url, 1) as [record]:
        with pytest.raises(IntegrityError):
            await record.write(work)
        await record.check()
    assert postgres.run("SELECT count(*) FROM signals") == 0


async def test_connections_that_are_dropped_under_load_cost_no_event_and_repeat_no_work(postgres: Scratch) -> None:
    finished = 0
    async with replicas(postgres.url) as both:

        async def carry(number: int) -> None:
            nonlocal finished
            record, mine = both[number % 2], signals.c.event_key == f"k{number}"

            async def count(connection: AsyncConnection) -> None:
                await connection.execute(update(signals).where(mine).values(attempts=signals.c.attempts + 1))

            await _until_available(lambda: record.accept(arrival(f"k{number}")))
            await _until_available(lambda: record.write(count))
            await _until_available(lambda: _read(record))
            finished += 1

        async def drop() -> int:
            ended = 0
            while finished < 100:
                ended += await asyncio.to_thread(postgres.end_connections)
                await asyncio.sleep(0.05)
            return ended

        dropping = asyncio.create_task(drop())
        for start in range(0, 100, 25):
            await asyncio.gather(*(carry(number) for number in range(start, start + 25)))
        assert await dropping > 5
    assert postgres.run("SELECT count(*) FROM signals") == 100
    # What was told to be unavailable was not kept, and what was repeated by itself was not kept before.
    assert postgres.rows("SELECT DISTINCT attempts FROM signals") == [(1,)]


async def _until_available(ask: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await ask()
        except RecordUnavailable:
            await asyncio.sleep(0.01)
        else:
            return


@pytest.mark.parametrize("kept", [True, False], ids=["it was kept", "it was not"])
async def test_work_whose_commit_nobody_heard_of_is_done_once(postgres: Scratch, kept: bool) -> None:
    async with way_to(postgres.url) as way, replicas(way.url, 1) as [record]:
        await record.accept(arrival("a"))
        runs = 0

        async def work(connection: AsyncConnection) -> str:
            nonlocal runs
            runs += 1
            await connection.execute(update(signals).values(attempts=signals.c.attempts + 1))
            if runs == 1:
                # The answer to the commit is lost on the way; or already that to the last question before it.
                way.cut_answers_to = b"COMMIT" if kept else b"pg_current_xact_id_if_assigned"
            return "done"

        assert await record.write(work) == "done"
        assert way.cuts == 1
        assert runs == (1 if kept else 2)
    assert postgres.rows("SELECT attempts FROM signals") == [(1,)]


async def test_an_event_whose_commit_nobody_heard_of_is_kept_once(postgres: Scratch) -> None:
    async with way_to(postgres.url) as way, replicas(way.url, 1) as [record]:
        await record.accept(arrival("before"))
        way.cut_answers_to = b"customer-a"
        assert (await record.accept(arrival("a"))).verdict in (Verdict.ACCEPTED, Verdict.DUPLICATE)
        assert way.cuts == 1
    assert postgres.run("SELECT count(*) FROM signals WHERE event_key = 'a'") == 1


async def test_a_database_that_is_stopped_is_unavailable_and_then_available_again(
    postgres: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "FIRST_PAUSE_SECONDS", 0.001)
    async with way_to(postgres.url) as way, replicas(way.url, 1) as [record]:
        await record.accept(arrival("a"))
        await way.close()
        began = asyncio.get_running_loop().time()
        failed = await asyncio.gather(
            record.accept(arrival("b")), record.check(), _read(record), return_exceptions=True
        )
        # Customer.io gives up after four seconds.
        assert asyncio.get_running_loop().time() - began < 3.9
        assert [type(each) for each in failed] == [RecordUnavailable] * 3
        assert all("127.0.0.1" not in str(each) and "postgres" not in str(each) for each in failed)
        await way.open()
        await record.check()
        await _read(record)
        assert (await record.accept(arrival("b"))).verdict is Verdict.ACCEPTED
    assert postgres.run("SELECT count(*) FROM signals") == 2


async def _read(record: Record) -> None:
    async with record.read() as connection:
        await connection.execute(text("SELECT 1"))


async def test_rows_that_wait_too_long_are_refused_while_the_database_hangs(postgres: Scratch) -> None:
    async with replicas(postgres.url, 1, commit_timeout_seconds=0.2) as [record]:
        await record.accept(arrival("a"))
        locking, go_on = asyncio.Event(), asyncio.Event()

        async def lock(connection: AsyncConnection) -> None:
            await connection.execute(text("LOCK TABLE signals"))
            locking.set()
            await go_on.wait()

        holding = asyncio.ensure_future(record.write(lock))
        await locking.wait()
        with pytest.raises(RecordUnavailable, match="took too long"):
            await record.accept(arrival("b"))
        go_on.set()
        await holding

        async def kept() -> bool:
            return bool(postgres.run("SELECT count(*) FROM signals") == 2)

        # It was on its way, so it is kept after all; the sender's retry finds it.
        await until(kept, "the row that waited")
        assert (await record.accept(arrival("b"))).verdict is Verdict.DUPLICATE


async def test_what_is_acknowledged_is_on_disk_whatever_the_database_is_set_to(postgres: Scratch) -> None:
    postgres.run(f"ALTER DATABASE {postgres.name} SET synchronous_commit TO off")
    try:
        async with replicas(postgres.url, 1) as [record]:
            level = await record.write(lambda c: _value(c, "SHOW synchronous_commit"))
            assert level == "on"
    finally:
        postgres.run(f"ALTER DATABASE {postgres.name} RESET synchronous_commit")


async def _value(connection: AsyncConnection, statement: str) -> Any:
    return (await connection.execute(text(statement))).scalar_one()


async def test_checking_commits_and_changes_nothing(postgres: Scratch) -> None:
    async with replicas(postgres.url, 1) as [record]:
        before = postgres.run("SELECT pg_current_wal_insert_lsn()")
        await record.check()
        assert postgres.run("SELECT pg_current_wal_insert_lsn() > $1::pg_lsn", before)
        assert sum(postgres.run(f"SELECT count(*) FROM {name}") for name in ("signals", "customers")) == 0  # noqa: S608


async def test_a_database_that_only_reads_is_unavailable(postgres: Scratch) -> None:
    postgres.run(f"ALTER DATABASE {postgres.name} SET default_transaction_read_only TO on")
    try:
        async with replicas(postgres.url, 1) as [record]:
            for attempt in (record.accept(arrival("a")), record.check()):
                with pytest.raises(RecordUnavailable, match=r"25006|only reads"):
                    await attempt
    finally:
        postgres.on_server(f"ALTER DATABASE {postgres.name} RESET ALL")


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
async def test_whoever_asks_for_a_name_that_no_database_holds_is_told_of_nobody(
    everywhere: str, tmp_path: Path, name: str
) -> None:
    async with workshop(tmp_path) as shop, shop.record.read() as connection:
        assert await find_signal(connection, name) is None
        assert await customers_named(connection, name) == ()
        assert not await any_signal(connection, CustomerNames(name, ()))


async def test_recalling_goes_on_after_two_rows_became_one(postgres: Scratch) -> None:
    async with replicas(postgres.url) as [one, other]:
        await one.write(lambda c: remember(c, Profile(CustomerRef("42"), {}), NOW))
        await other.write(lambda c: remember(c, Profile(CustomerRef(None, None, "jo@x.io"), {}), NOW))
        seq = await one.write(lambda c: remember(c, Profile(CustomerRef("42", None, "jo@x.io"), {}), NOW))
        async with other.read() as connection:
            found = await recall(connection, CustomerRef(None, None, "jo@x.io"))
        assert found is not None
        assert found.seq == seq
