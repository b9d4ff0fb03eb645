from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.errors import RecordUnavailable
from churn_radar.research.brief import AttributesSource
from churn_radar.simulator.people import PEOPLE, Person
from churn_radar.store.customers import remember
from churn_radar.store.signals import Move, advance
from churn_radar.store.tables import Status
from churn_radar.triage.account import Rules
from churn_radar.triage.customer import CustomerRef, Profile
from churn_radar.triage.decision import Decision
from churn_radar.triage.decision import triage as decide
from churn_radar.work import triage as triage_module
from churn_radar.work.enrich import SERVES
from churn_radar.work.tasks import Again, Done, Step, Task
from churn_radar.work.triage import TriageStep
from churn_radar.work.triaged import Triaged
from churn_radar.work.troubles import PROBE_DELAYS
from tests.support.work import Workshop, known_by, payload, workshop

pytestmark = pytest.mark.usefixtures("everywhere")

JANE = "cust_1001"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path, retry_delays_seconds=(60, 300)) as made:
        yield made


async def triaged(shop: Workshop, seq: int) -> Triaged:
    return Triaged.model_validate((await shop.signal(seq)).triage)


async def researching(connection: AsyncConnection, seq: int, shop: Workshop) -> bool:
    """As when its turn has come."""
    return await advance(connection, seq, expected=(Status.WAITING,), to=Status.RESEARCHING, now=shop.clock())


# -- live


async def test_a_customer_worth_it_waits_for_research_with_what_triage_found(shop: Workshop) -> None:
    seq = await shop.arrive(payload(JANE))

    assert await shop.triage(seq) == Done()

    signal = await shop.signal(seq)
    found = await triaged(shop, seq)
    assert (signal.status, signal.reason, signal.attempts, signal.due_at) == (Status.WAITING, None, 0, None)
    assert signal.priority == 850_00
    assert found.persona == "High-MRR Fintech (Pro plan)"
    assert found.attributes_source is AttributesSource.LIVE
    assert found.attributes_seen_at == shop.clock()
    assert found.account is not None
    assert (found.account.plan, found.account.tenure_days) == ("pro", 342)
    assert shop.enqueued == [Task(Step.RESEARCH, seq, 850_00)]


async def test_triage_of_a_signal_that_was_triaged_changes_nothing_and_asks_nobody(shop: Workshop) -> None:
    seq = await shop.arrive(payload(JANE))
    await shop.triage(seq)
    before = await shop.signal(seq)

    assert await shop.triage(seq) == Done()

    assert await shop.signal(seq) == before
    assert shop.customerio.ids_asked == [JANE]
    assert len(shop.enqueued) == 1


async def test_a_row_that_does_not_exist_is_over_at_once(shop: Workshop) -> None:
    assert await shop.triage(12345) == Done()


@pytest.mark.parametrize(("customer_id", "plan"), [("cust_1007", "free"), ("cust_1004", "starter")])
async def test_a_plan_that_is_not_researched_is_skipped_with_the_reason(
    shop: Workshop, customer_id: str, plan: str
) -> None:
    seq = await shop.arrive(payload(customer_id))

    assert await shop.triage(seq) == Done()

    signal = await shop.signal(seq)
    assert signal.status is Status.SKIPPED
    assert signal.reason == f'plan "{plan}" is not researched (business, enterprise, pro are)'
    assert (await triaged(shop, seq)).persona is None
    assert shop.enqueued == []


async def test_a_customer_known_by_mail_only_is_found(shop: Workshop) -> None:
    seq = await shop.arrive(known_by(email="Ops+EU@trailhead.example"))

    await shop.triage(seq)

    assert (await shop.signal(seq)).status is Status.WAITING


# -- the App API does not answer


async def test_with_the_app_api_down_the_last_attributes_are_used_and_it_is_said_since_when(shop: Workshop) -> None:
    await shop.briefed(payload(JANE))
    seen_at = shop.clock()
    shop.clock.forward(timedelta(days=3))
    shop.customerio_faults.add("status:503", None)
    seq = await shop.arrive(payload(JANE, "bounced"))

    assert await shop.triage(seq) == Done()

    found = await triaged(shop, seq)
    assert (await shop.signal(seq)).status is Status.WAITING
    assert found.attributes_source is AttributesSource.CACHED
    assert found.attributes_seen_at == seen_at
    assert found.persona == "High-MRR Fintech (Pro plan)"


async def test_cached_attributes_are_not_taken_for_fresh_ones(shop: Workshop) -> None:
    await shop.briefed(payload(JANE))
    seen_at = shop.clock()
    shop.customerio_faults.add("status:503", 2)
    for _ in range(2):
        shop.clock.forward(timedelta(days=3))
        seq = await shop.arrive(payload(JANE))
        await shop.triage(seq)
        await shop.research(seq)

    assert (await triaged(shop, seq)).attributes_seen_at == seen_at


@pytest.mark.parametrize("fault", ["status:500", "status:503", "status:429", "html", "empty", "garbage"])
async def test_with_the_app_api_down_and_nothing_remembered_the_signal_waits_its_turn(
    shop: Workshop, fault: str
) -> None:
    shop.customerio_faults.add(fault)
    seq = await shop.arrive(payload(JANE))

    outcome = await shop.triage(seq)

    signal = await shop.signal(seq)
    assert isinstance(outcome, Again)
    assert signal.status is Status.RECEIVED
    assert signal.attempts == 1
    assert signal.due_at == shop.clock() + outcome.delay
    assert timedelta(seconds=54) <= outcome.delay <= timedelta(seconds=66)
    assert signal.reason is not None
    assert signal.reason.startswith("customerio")


async def test_a_hanging_app_api_costs_a_timeout_and_an_attempt(tmp_path: Path) -> None:
    async with workshop(tmp_path, timeout_seconds=0.05) as shop:
        shop.customerio_faults.add("hang")
        seq = await shop.arrive(payload(JANE))

        assert isinstance(await shop.triage(seq), Again)

        assert (await shop.signal(seq)).attempts == 1


async def test_an_attempt_before_the_due_time_is_not_made(shop: Workshop) -> None:
    """A replay leaves a second job behind; it must not climb the ladder twice as fast."""
    shop.customerio_faults.add("status:503", None)
    seq = await shop.arrive(payload(JANE))
    first = await shop.triage(seq)
    assert isinstance(first, Again)
    before = await shop.signal(seq)
    shop.clock.forward(timedelta(seconds=10))

    assert await shop.triage(seq) == Again(first.delay - timedelta(seconds=10), in_record=True)

    assert await shop.signal(seq) == before
    assert shop.customerio.statuses[503] == 1


async def test_after_the_ladder_the_signal_is_dead_and_says_why(shop: Workshop) -> None:
    shop.customerio_faults.add("status:503", None)
    seq = await shop.arrive(payload(JANE))
    for expected in (1, 2):
        outcome = await shop.triage(seq)
        assert isinstance(outcome, Again)
        assert (await shop.signal(seq)).attempts == expected
        shop.clock.forward(outcome.delay)

    assert await shop.triage(seq) == Done()

    signal = await shop.signal(seq)
    assert signal.status is Status.DEAD
    assert signal.attempts == 3
    assert signal.due_at is None
    assert signal.reason is not None
    assert signal.reason.startswith("gave up after 3 attempts: customerio (503)")
    assert await shop.story(seq) == ["received", "received", "received", "dead"]


async def test_when_the_app_api_is_back_the_signal_goes_on_where_it_stood(shop: Workshop) -> None:
    shop.customerio_faults.add("status:503")
    seq = await shop.arrive(payload(JANE))
    outcome = await shop.triage(seq)
    assert isinstance(outcome, Again)
    shop.clock.forward(outcome.delay)

    await shop.triage(seq)

    signal = await shop.signal(seq)
    assert (signal.status, signal.attempts, signal.due_at, signal.reason) == (Status.WAITING, 0, None, None)


async def test_a_request_that_will_never_work_is_dead_at_once(shop: Workshop) -> None:
    shop.customerio_faults.add("status:403")
    seq = await shop.arrive(payload(JANE))

    assert await shop.triage(seq) == Done()

    signal = await shop.signal(seq)
    assert (signal.status, signal.attempts) == (Status.DEAD, 1)
    assert signal.reason is not None
    assert signal.reason.startswith("customerio (403)")


async def test_no_reason_names_the_customer(shop: Workshop) -> None:
    shop.customerio_faults.add("status:403")
    seq = await shop.arrive(known_by(email="jane@acme.co", id=JANE))

    await shop.triage(seq)

    reason = (await shop.signal(seq)).reason or ""
    assert "jane" not in reason
    assert JANE not in reason


# -- nobody knows the customer


async def test_a_customer_nobody_knows_is_looked_up_once_more_and_then_skipped(shop: Workshop) -> None:
    seq = await shop.arrive(payload("cust_9999"))

    assert await shop.triage(seq) == Again(shop.triage.unknown_retry, in_record=True)
    signal = await shop.signal(seq)
    assert (signal.status, signal.attempts) == (Status.RECEIVED, 1)
    assert signal.due_at == shop.clock() + shop.triage.unknown_retry
    shop.clock.forward(shop.triage.unknown_retry)
    assert await shop.triage(seq) == Done()

    signal = await shop.signal(seq)
    assert signal.status is Status.SKIPPED
    assert signal.reason is not None
    assert "deleted?" in signal.reason
    assert signal.due_at is None
    assert shop.customerio.ids_asked == ["cust_9999", "cust_9999"]
    assert (await triaged(shop, seq)).attributes_source is AttributesSource.NONE


async def test_a_customer_who_was_just_being_created_is_found_at_the_second_look(shop: Workshop) -> None:
    shop.customerio_faults.add("status:404")
    seq = await shop.arrive(payload(JANE))

    assert isinstance(await shop.triage(seq), Again)
    shop.clock.forward(shop.triage.unknown_retry)
    await shop.triage(seq)

    assert (await shop.signal(seq)).status is Status.WAITING


async def test_without_a_second_look_an_unknown_customer_is_skipped_at_once(tmp_path: Path) -> None:
    async with workshop(tmp_path, unknown_customer_retry_seconds=0) as shop:
        seq = await shop.arrive(payload("cust_9999"))

        assert await shop.triage(seq) == Done()

        assert (await shop.signal(seq)).status is Status.SKIPPED


async def test_a_deleted_customer_who_was_seen_before_is_researched_by_what_was_seen(shop: Workshop) -> None:
    await shop.briefed(payload(JANE))
    shop.clock.forward(timedelta(days=3))
    shop.customerio_faults.add("status:404", 2)
    seq = await shop.arrive(payload(JANE))

    outcome = await shop.triage(seq)

    assert isinstance(outcome, Again)
    assert (await shop.signal(seq)).status is Status.RECEIVED
    shop.clock.forward(outcome.delay)
    assert await shop.triage(seq) == Done()
    assert (await shop.signal(seq)).status is Status.WAITING
    assert (await triaged(shop, seq)).attributes_source is AttributesSource.CACHED


# -- what only the operator can mend


async def test_a_wrong_key_costs_no_attempt_and_is_told_to_the_operator(tmp_path: Path) -> None:
    async with workshop(tmp_path, app_key="wrong") as shop:
        seq = await shop.arrive(payload(JANE))

        outcome = await shop.triage(seq)

        signal = await shop.signal(seq)
        assert isinstance(outcome, Again)
        assert outcome.delay == PROBE_DELAYS[0]
        assert (signal.status, signal.attempts) == (Status.RECEIVED, 0)
        assert signal.reason is not None
        assert "CIO_APP_KEY" in signal.reason
        assert list(shop.floor.troubles.current) == ["customerio"]
        assert "401" in shop.floor.troubles.current["customerio"]


async def test_a_wrong_key_is_not_papered_over_with_old_attributes(shop: Workshop) -> None:
    await shop.briefed(payload(JANE))
    shop.clock.forward(timedelta(days=3))
    shop.customerio_faults.add("status:401")
    seq = await shop.arrive(payload(JANE))

    assert isinstance(await shop.triage(seq), Again)

    assert (await shop.signal(seq)).status is Status.RECEIVED


async def test_no_signal_dies_of_a_wrong_key_however_long_it_lasts(shop: Workshop) -> None:
    shop.customerio_faults.add("status:401", None)
    seq = await shop.arrive(payload(JANE))
    for _ in range(20):
        outcome = await shop.triage(seq)
        assert isinstance(outcome, Again)
        shop.clock.forward(outcome.delay)

    assert ((await shop.signal(seq)).status, (await shop.signal(seq)).attempts) == (Status.RECEIVED, 0)


async def test_while_the_key_is_wrong_one_call_an_interval_probes_and_the_rest_wait(shop: Workshop) -> None:
    shop.customerio_faults.add("status:401", None)
    seqs = [await shop.arrive(payload(f"cust_{number}")) for number in range(1001, 1021)]

    for _ in range(3):
        outcomes = [await shop.triage(seq) for seq in seqs]
        assert all(isinstance(outcome, Again) for outcome in outcomes)
        shop.clock.forward(PROBE_DELAYS[2] * 1.2)

    assert shop.customerio.statuses[401] == 3
    for seq in seqs:
        signal = await shop.signal(seq)
        assert (signal.status, signal.attempts) == (Status.RECEIVED, 0)
        assert signal.reason is not None
        assert "401" in signal.reason
        assert len(await shop.story(seq)) <= 5


async def test_the_trouble_ends_by_itself_with_the_first_call_that_goes_through(shop: Workshop) -> None:
    shop.customerio_faults.add("status:401")
    first, second = await shop.arrive(payload(JANE)), await shop.arrive(payload("cust_1002"))
    for seq in (first, second):
        assert isinstance(await shop.triage(seq), Again)
    shop.clock.forward(PROBE_DELAYS[2] * 1.2)

    await shop.triage(first)
    assert shop.floor.troubles.current == {}
    await shop.triage(second)

    assert [(await shop.signal(seq)).status for seq in (first, second)] == [Status.WAITING, Status.WAITING]


async def test_a_customer_nobody_knows_proves_the_key_too(shop: Workshop) -> None:
    shop.customerio_faults.add("status:401")
    seq = await shop.arrive(payload("cust_9999"))
    await shop.triage(seq)
    shop.clock.forward(PROBE_DELAYS[2] * 1.2)

    await shop.triage(seq)

    assert shop.floor.troubles.current == {}


async def test_an_outage_proves_nothing_about_the_key(shop: Workshop) -> None:
    await shop.briefed(payload(JANE))
    shop.clock.forward(timedelta(days=3))
    shop.customerio_faults.add("status:401")
    shop.customerio_faults.add("status:503")
    seq = await shop.arrive(payload(JANE))
    await shop.triage(seq)
    shop.clock.forward(PROBE_DELAYS[2] * 1.2)

    await shop.triage(seq)

    assert (await shop.signal(seq)).status is Status.WAITING
    assert list(shop.floor.troubles.current) == ["customerio"]


async def test_trouble_with_mavera_holds_no_look_up_back(shop: Workshop) -> None:
    shop.floor.troubles.report("mavera", "credits are spent", shop.clock())
    seq = await shop.arrive(payload(JANE))

    assert await shop.triage(seq) == Done()


async def test_when_the_next_probe_comes_is_told_also_of_those_whose_reason_is_an_old_one(shop: Workshop) -> None:
    shop.customerio_faults.add("status:401", None)
    first, second = await shop.arrive(payload(JANE)), await shop.arrive(payload("cust_1002"))
    for _ in range(4):
        for seq in (first, second):
            await shop.triage(seq)
            due_at = (await shop.signal(seq)).due_at
            assert due_at is not None
            assert due_at > shop.clock()
        shop.clock.forward(PROBE_DELAYS[2] * 1.2)


async def test_a_customer_from_the_cache_does_not_take_the_probe(tmp_path: Path) -> None:
    async with workshop(tmp_path, look_up_cache_minutes=600) as shop:
        await shop.triage(await shop.arrive(payload(JANE)))
        shop.customerio_faults.add("status:401")
        waits = await shop.arrive(payload("cust_1002"))
        await shop.triage(waits)
        shop.clock.forward(PROBE_DELAYS[0])
        cached = await shop.arrive(payload(JANE, "bounced"))

        assert await shop.triage(cached) == Done()
        assert (await shop.signal(cached)).status is Status.JOINED
        assert list(shop.floor.troubles.current) == ["customerio"]

        assert await shop.triage(waits) == Done()
        assert shop.floor.troubles.current == {}


async def test_a_customer_from_the_cache_is_triaged_while_the_key_is_wrong(tmp_path: Path) -> None:
    async with workshop(tmp_path, look_up_cache_minutes=600) as shop:
        await shop.triage(await shop.arrive(payload(JANE)))
        shop.floor.troubles.report("customerio", "the key is wrong", shop.clock(), 401)
        seqs = [await shop.arrive(payload(customer, "bounced")) for customer in ("cust_1002", JANE, "cust_1002")]

        outcomes = await shop.triage.together(seqs)

        assert [type(outcome) for outcome in outcomes] == [Again, Done, Again]
        assert [(await shop.signal(seq)).status for seq in seqs] == ["received", "joined", "received"]


# -- joining


async def test_a_second_signal_joins_one_that_waits_for_research(shop: Workshop) -> None:
    first, second = await shop.arrive(payload(JANE)), await shop.arrive(payload(JANE, "bounced"))
    await shop.triage(first)

    assert await shop.triage(second) == Done()

    signal = await shop.signal(second)
    assert (signal.status, signal.joined_to, signal.brief_seq) == (Status.JOINED, first, None)
    assert signal.reason is not None
    assert (await shop.signal(first)).public_id in signal.reason
    assert shop.enqueued == [Task(Step.RESEARCH, first, 850_00)]


async def test_a_signal_joins_one_that_is_being_researched(shop: Workshop) -> None:
    first, second = await shop.arrive(payload(JANE)), await shop.arrive(payload(JANE, "bounced"))
    await shop.triage(first)
    await shop.record.write(lambda connection: researching(connection, first, shop))

    await shop.triage(second)

    assert ((await shop.signal(second)).status, (await shop.signal(second)).joined_to) == (Status.JOINED, first)


async def test_a_signal_within_the_cool_down_shares_the_brief_that_is_there(shop: Workshop) -> None:
    first = await shop.briefed(payload(JANE))
    shop.clock.forward(timedelta(hours=23, minutes=59))
    second = await shop.arrive(payload(JANE, "bounced"))

    await shop.triage(second)

    signal = await shop.signal(second)
    assert signal.status is Status.JOINED
    assert signal.brief_seq == (await shop.signal(first)).brief_seq
    [brief] = await shop.briefs()
    assert brief.event_ids == [(await shop.signal(seq)).public_id for seq in (first, second)]


async def test_a_signal_after_the_cool_down_gets_a_brief_of_its_own(shop: Workshop) -> None:
    await shop.briefed(payload(JANE))
    shop.clock.forward(timedelta(hours=24))
    second = await shop.arrive(payload(JANE, "bounced"))

    await shop.triage(second)

    assert (await shop.signal(second)).status is Status.WAITING


async def test_a_leader_that_still_waits_is_joined_however_long_it_has_waited(shop: Workshop) -> None:
    """For the budget, or in a long line: its prompt is not written yet, and will name them all."""
    first = await shop.arrive(payload(JANE))
    await shop.triage(first)
    for day in range(1, 6):
        shop.clock.forward(timedelta(hours=25))
        later = await shop.arrive(payload(JANE, "bounced"))
        await shop.triage(later)
        assert ((await shop.signal(later)).status, (await shop.signal(later)).joined_to) == (Status.JOINED, first), day

    await shop.research(first)

    [brief] = await shop.briefs()
    assert len(brief.event_ids) == 6


async def test_a_leader_of_long_ago_that_is_being_researched_is_not_joined(shop: Workshop) -> None:
    first = await shop.arrive(payload(JANE))
    await shop.triage(first)
    await shop.record.write(lambda connection: researching(connection, first, shop))
    shop.clock.forward(timedelta(hours=25))
    second = await shop.arrive(payload(JANE, "bounced"))

    await shop.triage(second)

    assert (await shop.signal(second)).status is Status.WAITING


async def test_without_a_cool_down_every_signal_is_researched(tmp_path: Path) -> None:
    async with workshop(tmp_path, cool_down_hours=0) as shop:
        for _ in range(2):
            await shop.briefed(payload(JANE))

        assert len(await shop.briefs()) == 2


async def test_a_forced_signal_joins_nobody(shop: Workshop) -> None:
    await shop.briefed(payload(JANE))
    waiting = await shop.arrive(payload(JANE), force="one")
    await shop.triage(waiting)
    forced = await shop.arrive(payload(JANE), force="two")

    await shop.triage(forced)

    assert [(await shop.signal(seq)).status for seq in (waiting, forced)] == [Status.WAITING, Status.WAITING]


async def test_a_skipped_signal_leads_nobody(shop: Workshop) -> None:
    first, second = await shop.arrive(payload("cust_1007")), await shop.arrive(payload("cust_1007", "bounced"))
    for seq in (first, second):
        await shop.triage(seq)

    assert [(await shop.signal(seq)).status for seq in (first, second)] == [Status.SKIPPED, Status.SKIPPED]


async def test_a_dead_signal_leads_nobody(shop: Workshop) -> None:
    first = await shop.arrive(payload(JANE))
    await shop.triage(first)
    shop.mavera_faults.add("status:400")
    await shop.research(first)
    assert (await shop.signal(first)).status is Status.DEAD
    second = await shop.arrive(payload(JANE, "bounced"))

    await shop.triage(second)

    assert (await shop.signal(second)).status is Status.WAITING


async def test_two_customers_never_share_a_brief(shop: Workshop) -> None:
    first, second = await shop.arrive(payload(JANE)), await shop.arrive(payload("cust_1002"))
    for seq in (first, second):
        await shop.triage(seq)

    assert [(await shop.signal(seq)).status for seq in (first, second)] == [Status.WAITING, Status.WAITING]


@pytest.mark.parametrize(
    "event",
    [
        {"id": JANE},
        {"email": "jane@acme.co"},
        {"email": "JANE@Acme.co"},
        {"cio_id": "03000001"},
        {"cio_id": "03000001", "email": "old-address@acme.co"},
    ],
)
async def test_a_customer_known_by_id_mail_and_cio_id_is_one_customer(shop: Workshop, event: dict[str, Any]) -> None:
    first = await shop.arrive(payload(JANE))
    await shop.triage(first)
    second = await shop.arrive(known_by(**event))

    await shop.triage(second)

    signal = await shop.signal(second)
    assert (signal.status, signal.joined_to) == (Status.JOINED, first)
    assert signal.customer_seq == (await shop.signal(first)).customer_seq


# -- what nobody thought of


async def test_a_fault_of_ours_climbs_the_ladder_and_ends_as_a_dead_letter_not_in_silence(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: CustomerRef) -> Profile | None:
        raise ZeroDivisionError("jane@acme.co")

    monkeypatch.setattr(shop.triage.customerio, "look_up", broken)
    seq = await shop.arrive(payload(JANE))
    for _ in range(2):
        outcome = await shop.triage(seq)
        assert isinstance(outcome, Again)
        assert (await shop.signal(seq)).reason == "unexpected ZeroDivisionError"
        shop.clock.forward(outcome.delay)

    assert await shop.triage(seq) == Done()

    assert (await shop.signal(seq)).status is Status.DEAD
    assert (await shop.signal(seq)).reason == "gave up after 3 attempts: unexpected ZeroDivisionError"


async def test_a_number_longer_than_any_column_wedges_no_signal(tmp_path: Path) -> None:
    odd = Person("cust_1", None, None, {"plan_type": "pro", "seats": 10**30})  # type: ignore[dict-item]
    async with workshop(tmp_path, people=[odd]) as shop:
        seq = await shop.arrive(payload("cust_1"))

        await shop.triage(seq)

        assert (await shop.signal(seq)).status is Status.WAITING


async def test_while_the_record_cannot_commit_what_was_found_out_waits_and_is_not_asked_again(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refusals = shop.record.write, [RecordUnavailable("disk full"), RecordUnavailable("disk full")]

    async def sometimes(work: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return await real(work)

    seq = await shop.arrive(payload(JANE))
    monkeypatch.setattr(shop.record, "write", sometimes)

    assert await shop.triage(seq) == Done()

    assert (await shop.signal(seq)).status is Status.WAITING
    assert shop.customerio.ids_asked == [JANE]
    assert shop.slept == [5, 5]


# -- many at once


async def test_a_batch_is_triaged_with_one_look_up_of_each_customer_and_one_brief_for_each(shop: Workshop) -> None:
    seqs = [await shop.arrive(payload(customer)) for customer in (JANE, "cust_1002", JANE, "cust_1007", "nobody")]

    outcomes = await shop.triage.together(seqs)

    statuses = [(await shop.signal(seq)).status for seq in seqs]
    assert statuses == ["waiting", "waiting", "joined", "skipped", "received"]
    assert (await shop.signal(seqs[2])).joined_to == seqs[0]
    assert [isinstance(outcome, Again) for outcome in outcomes] == [False, False, False, False, True]
    assert sorted(set(shop.customerio.ids_asked)) == ["cust_1001", "cust_1002", "cust_1007", "nobody"]
    assert shop.customerio.ids_asked.count(JANE) == 1
    assert [task.seq for task in shop.enqueued] == seqs[:2]
    assert await shop.story(seqs[2]) == ["received", "joined"]


async def test_a_batch_done_twice_is_done_once(shop: Workshop) -> None:
    seqs = [await shop.arrive(payload(customer)) for customer in (JANE, "cust_1002")]
    await asyncio.gather(shop.triage.together(seqs), shop.triage.together(seqs))
    assert [await shop.story(seq) for seq in seqs] == [["received", "waiting"]] * 2
    assert len(shop.enqueued) == 2


async def test_one_whose_rules_fail_does_not_take_its_neighbours_down(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    seqs = [await shop.arrive(payload(customer)) for customer in (JANE, "cust_1002")]
    real = decide

    def fails_for_jane(attributes: Mapping[str, object], rules: Rules) -> Decision:
        if attributes.get("industry") == "Fintech" or attributes.get("mrr") in (850, "850"):
            raise ZeroDivisionError
        return real(attributes, rules)

    monkeypatch.setattr(triage_module, "triage", fails_for_jane)
    outcomes = await shop.triage.together(seqs)
    assert [type(outcome) for outcome in outcomes] == [Again, Done]
    assert (await shop.signal(seqs[1])).status is Status.WAITING
    assert (await shop.signal(seqs[0])).reason == "unexpected ZeroDivisionError"


async def test_one_that_cannot_be_written_does_not_take_its_neighbours_down(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    seqs = [await shop.arrive(payload(customer)) for customer in (JANE, "cust_1002", "cust_1003")]
    real = TriageStep._move

    def fails_for_one(step: TriageStep, case: Any, *told: Any) -> Move:
        if case.signal.seq == seqs[1]:
            raise ZeroDivisionError
        return real(step, case, *told)

    monkeypatch.setattr(TriageStep, "_move", fails_for_one)
    outcomes = await shop.triage.together(seqs)
    assert [type(outcome) for outcome in outcomes] == [Done, Again, Done]
    assert [(await shop.signal(seq)).status for seq in seqs] == ["waiting", "received", "waiting"]


async def test_customers_seen_under_several_names_in_one_batch_become_one(shop: Workshop) -> None:
    jane = next(person for person in PEOPLE if person.id == JANE)
    seqs = [
        await shop.arrive(known_by(id=JANE)),
        await shop.arrive(known_by(email=str(jane.email))),
        await shop.arrive(known_by(cio_id=str(jane.cio_id))),
    ]
    await shop.triage.together(seqs)
    signals = [await shop.signal(seq) for seq in seqs]
    assert len({signal.customer_seq for signal in signals}) == 1
    assert [signal.status for signal in signals] == ["waiting", "joined", "joined"]


# -- attributes seen a moment ago


async def test_attributes_seen_within_the_cache_s_minutes_are_not_looked_up_again(tmp_path: Path) -> None:
    async with workshop(tmp_path, look_up_cache_minutes=10, cool_down_hours=0) as shop:
        await shop.triage(await shop.arrive(payload(JANE)))
        seen_at = shop.clock()
        shop.clock.forward(timedelta(minutes=9))
        seq = await shop.arrive(payload(JANE))
        await shop.triage(seq)
        assert shop.customerio.ids_asked == [JANE]
        found = await triaged(shop, seq)
        assert (found.attributes_source, found.attributes_seen_at) == (AttributesSource.CACHED, seen_at)
        assert (await shop.signal(seq)).status is Status.WAITING

        shop.clock.forward(timedelta(minutes=2))
        seq = await shop.arrive(payload(JANE))
        await shop.triage(seq)
        assert shop.customerio.ids_asked == [JANE, JANE]
        assert (await triaged(shop, seq)).attributes_source is AttributesSource.LIVE


async def test_a_look_up_made_since_an_event_came_in_serves_that_event_too(shop: Workshop) -> None:
    first, later = await shop.arrive(payload(JANE)), await shop.arrive(payload(JANE, "bounced"))
    shop.clock.forward(timedelta(seconds=2))
    await shop.triage(first)
    seen_at = shop.clock()
    shop.clock.forward(timedelta(seconds=2))
    await shop.triage(later)
    assert shop.customerio.ids_asked == [JANE]
    found = await triaged(shop, later)
    assert (found.attributes_source, found.attributes_seen_at) == (AttributesSource.LIVE, seen_at)
    assert (await shop.signal(later)).status is Status.JOINED


async def test_an_event_that_came_in_after_the_look_up_is_looked_up_itself(shop: Workshop) -> None:
    await shop.triage(await shop.arrive(payload(JANE)))
    shop.clock.forward(timedelta(seconds=2))
    await shop.triage(await shop.arrive(payload(JANE, "bounced")))
    assert shop.customerio.ids_asked == [JANE, JANE]


async def test_an_event_that_came_in_while_a_look_up_was_under_way_is_looked_up_itself(shop: Workshop) -> None:
    later: list[int] = []

    class Slow:
        async def look_up(self, ref: CustomerRef) -> Profile | None:
            found = await shop.triage.customerio.look_up(ref)
            shop.clock.forward(timedelta(seconds=30))
            later.append(await shop.arrive(payload(JANE, "bounced")))
            shop.clock.forward(timedelta(seconds=30))
            return found

    first, asked_at = await shop.arrive(payload(JANE)), shop.clock()
    await replace(shop.triage, customerio=Slow())(first)
    assert (await triaged(shop, first)).attributes_seen_at == asked_at
    await shop.triage(later[0])
    assert shop.customerio.ids_asked == [JANE, JANE]


@pytest.mark.parametrize("names", [{"email": "jane@acme.co"}, {"id": JANE}])
async def test_a_look_up_serves_later_ones_neither_for_long_nor_by_an_address_alone(
    shop: Workshop, names: dict[str, str]
) -> None:
    first, later = await shop.arrive(payload(JANE)), await shop.arrive(known_by(**names))
    shop.clock.forward(timedelta(seconds=2))
    await shop.triage(first)
    if "id" in names:
        shop.clock.forward(SERVES)
    await shop.triage(later)
    assert len(shop.customerio.ids_asked) == 2


@pytest.mark.parametrize(
    ("names", "seen"),
    [
        ({"id": JANE, "email": "jane@acme.co"}, CustomerRef(cio_id="somebody", email="jane@acme.co")),
        ({"id": JANE, "cio_id": "03000001"}, CustomerRef(JANE, "somebody")),
        ({"id": JANE, "cio_id": "03000001"}, CustomerRef("somebody", "03000001")),
    ],
)
async def test_a_look_up_serves_nobody_who_goes_by_another_lasting_name(
    shop: Workshop, names: dict[str, str], seen: CustomerRef
) -> None:
    seq = await shop.arrive(known_by(**names))
    shop.clock.forward(timedelta(seconds=2))
    somebody = Profile(seen, {"plan_type": "free"})
    await shop.record.write(partial(remember, profile=somebody, now=shop.clock()))
    await shop.triage(seq)
    assert shop.customerio.ids_asked


@pytest.mark.parametrize("minutes", [0, 10])
async def test_a_look_up_of_before_the_clock_jumped_back_serves_nobody(tmp_path: Path, minutes: int) -> None:
    async with workshop(tmp_path, look_up_cache_minutes=minutes) as shop:
        await shop.triage(await shop.arrive(payload(JANE)))
        shop.clock.forward(-timedelta(hours=1))
        await shop.triage(await shop.arrive(payload(JANE, "bounced")))
        assert shop.customerio.ids_asked == [JANE, JANE]


async def test_who_replays_a_signal_has_its_customer_looked_up_anew(shop: Workshop) -> None:
    seq = await shop.arrive(payload("cust_1007"))
    shop.clock.forward(timedelta(seconds=2))
    await shop.triage(seq)
    await shop.replay(seq)
    await shop.triage(seq)
    assert shop.customerio.ids_asked == ["cust_1007", "cust_1007"]


async def test_a_customer_from_the_cache_is_not_taken_for_one_who_is_gone(tmp_path: Path) -> None:
    async with workshop(tmp_path, look_up_cache_minutes=10, unknown_customer_retry_seconds=60) as shop:
        await shop.triage(await shop.arrive(payload(JANE)))
        seq = await shop.arrive(payload(JANE, "bounced"))
        assert await shop.triage(seq) == Done()
        assert (await shop.signal(seq)).status is Status.JOINED


async def test_a_cached_customer_whose_row_a_neighbour_turns_out_to_own_goes_along(shop: Workshop) -> None:
    """The workspace names people by mail no more; what was seen under the address alone is all there is."""
    for seen in (CustomerRef(email="jane@acme.co"), CustomerRef(JANE, "zz")):
        await shop.record.write(partial(remember, profile=Profile(seen, {"plan_type": "pro"}), now=shop.clock()))

    class Mixed:
        async def look_up(self, ref: CustomerRef) -> Profile | None:
            return (
                Profile(CustomerRef(JANE, "zz", "jane@acme.co"), {"plan_type": "pro", "mrr": 900}) if ref.id else None
            )

    step = replace(shop.triage, customerio=Mixed(), unknown_retry=timedelta())
    seqs = [await shop.arrive(payload(JANE)), await shop.arrive(known_by(email="jane@acme.co"))]

    assert await step.together(seqs) == [Done(), Done()]

    signals = [await shop.signal(seq) for seq in seqs]
    assert [signal.status for signal in signals] == ["waiting", "joined"]
    assert signals[0].customer_seq == signals[1].customer_seq


# -- replayed by force meanwhile


async def test_a_signal_that_is_forced_during_its_look_up_is_forced(shop: Workshop) -> None:
    await shop.briefed(payload(JANE))
    seq = await shop.arrive(payload(JANE, "bounced"))
    real = shop.triage.customerio

    class Meanwhile:
        async def look_up(self, ref: CustomerRef) -> Profile | None:
            await shop.replay(seq, force=True)
            return await real.look_up(ref)

    await replace(shop.triage, customerio=Meanwhile())(seq)

    assert ((await shop.signal(seq)).status, (await shop.signal(seq)).forced) == (Status.WAITING, True)


# -- a stronger signal after a weaker one


async def test_a_complaint_after_a_bounce_is_researched_anew_where_that_is_set(tmp_path: Path) -> None:
    async with workshop(tmp_path, research_stronger_signals=True) as shop:
        await shop.briefed(payload(JANE, "bounced"))
        seq = await shop.briefed(payload(JANE, "spammed"))
        assert {brief.event_type for brief in await shop.briefs()} == {"bounced", "complained"}
        weaker = await shop.arrive(payload(JANE, "unsubscribed"))
        await shop.triage(weaker)
        assert (await shop.signal(weaker)).status is Status.JOINED
        assert (await shop.signal(weaker)).brief_seq == (await shop.signal(seq)).brief_seq


async def test_a_complaint_that_comes_while_the_bounce_is_being_researched_is_researched_too(tmp_path: Path) -> None:
    async with workshop(tmp_path, research_stronger_signals=True) as shop:
        first, second = await shop.arrive(payload(JANE, "bounced")), await shop.arrive(payload(JANE, "spammed"))
        await shop.triage(first)
        await shop.record.write(lambda connection: researching(connection, first, shop))
        await shop.triage(second)
        assert (await shop.signal(second)).status is Status.WAITING


async def test_a_complaint_that_the_prompt_names_already_is_not_researched_once_more(tmp_path: Path) -> None:
    async with workshop(tmp_path, research_stronger_signals=True) as shop:
        seqs = [await shop.arrive(payload(JANE, metric)) for metric in ("bounced", "spammed")]
        await shop.triage.together(seqs)
        await shop.record.write(lambda connection: researching(connection, seqs[0], shop))
        another = await shop.arrive(payload(JANE, "spammed"))
        await shop.triage(another)
        assert (await shop.signal(another)).joined_to == seqs[0]


async def test_what_joined_after_the_prompt_was_written_is_not_named_by_it(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        first, second = await shop.arrive(payload(JANE, "bounced")), await shop.arrive(payload(JANE, "spammed"))
        await shop.triage(first)
        await shop.record.write(lambda connection: researching(connection, first, shop))
        await shop.triage(second)
        assert (await shop.signal(second)).status is Status.JOINED
        third = await shop.arrive(payload(JANE, "spammed"))
        await replace(shop.triage, stronger_anew=True)(third)
        assert (await shop.signal(third)).status is Status.WAITING
