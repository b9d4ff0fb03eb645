from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from churn_radar.intake.events import to_quarantine
from churn_radar.simulator.people import PEOPLE, Person
from churn_radar.store.tables import DeliveryStatus, Status, customers, quarantined_bodies, signal_history, signals
from churn_radar.work.replay import Replayed, replay, replay_all
from churn_radar.work.tasks import Again, Done, Step, Task
from tests.support.work import ListSink, Workshop, payload, workshop

pytestmark = pytest.mark.usefixtures("everywhere")

JANE = "cust_1001"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(
        tmp_path, sinks=[ListSink("good"), ListSink("bad")], retry_delays_seconds=(3600,), people=list(PEOPLE)
    ) as made:
        yield made


async def quarantined(shop: Workshop, body: Any, reason: str = "a reason of the door") -> int:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await shop.accept(to_quarantine(raw, reason, received_at=shop.clock(), event_id=None))


async def everything(shop: Workshop) -> tuple[object, ...]:
    """The whole of the signals and their stories, to compare."""
    async with shop.record.read() as connection:
        rows = (await connection.execute(select(signals).order_by(signals.c.seq))).all()
        story = (await connection.execute(select(func.count()).select_from(signal_history))).scalar_one()
    return (*rows, story)


async def bodies(shop: Workshop) -> int:
    """How many quarantined bodies the record keeps."""
    async with shop.record.read() as connection:
        return int((await connection.execute(select(func.count()).select_from(quarantined_bodies))).scalar_one())


async def twice(shop: Workshop, seq: int, *, force: bool = False) -> Replayed:
    """Replay twice, and see that the second one leaves the record as the first one made it."""
    first = await shop.replay(seq, force=force)
    before = await everything(shop)
    second = await shop.replay(seq, force=force)
    assert await everything(shop) == before
    assert second.status is first.status
    return first


async def failed_triage(shop: Workshop) -> int:
    shop.customerio_faults.add("status:503")
    seq = await shop.arrive(payload(JANE))
    assert isinstance(await shop.triage(seq), Again)
    return seq


async def failed_research(shop: Workshop, fault: str = "status:503") -> int:
    seq = await shop.arrive(payload(JANE))
    await shop.triage(seq)
    shop.mavera_faults.add(fault)
    await shop.research(seq)
    return seq


# -- received, waiting


async def test_a_received_signal_is_attempted_now_instead_of_when_due(shop: Workshop) -> None:
    seq = await failed_triage(shop)

    replayed = await twice(shop, seq)

    assert (replayed.status, replayed.tasks) == (Status.RECEIVED, (Task(Step.TRIAGE, seq),))
    await shop.run(replayed.tasks)
    assert (await shop.signal(seq)).status is Status.WAITING


async def test_a_waiting_signal_is_attempted_now_instead_of_when_due(shop: Workshop) -> None:
    seq = await failed_research(shop)

    replayed = await twice(shop, seq)

    assert (replayed.status, replayed.tasks) == (Status.WAITING, (Task(Step.RESEARCH, seq, 850_00),))
    await shop.run(replayed.tasks)
    assert (await shop.signal(seq)).status is Status.BRIEFED


async def test_a_replay_does_not_reset_the_ladder_of_what_is_still_on_it(shop: Workshop) -> None:
    seq = await failed_research(shop)
    await shop.replay(seq)
    shop.mavera_faults.add("status:503")

    assert await shop.research(seq) == Done()

    assert (await shop.signal(seq)).status is Status.DEAD


async def test_many_replays_make_one_attempt_not_many(shop: Workshop) -> None:
    """Each replay leaves a job behind; one is for now, the others find that the next attempt is not due."""
    seq = await failed_triage(shop)
    tasks = [task for _ in range(5) for task in (await shop.replay(seq)).tasks]
    shop.customerio_faults.add("status:403", None)

    await shop.run(tasks)

    assert shop.customerio.statuses[403] == 1


async def test_a_signal_that_is_not_late_is_left_as_it_is(shop: Workshop) -> None:
    seq = await shop.arrive(payload(JANE))
    before = await everything(shop)

    replayed = await shop.replay(seq)

    assert replayed.tasks == (Task(Step.TRIAGE, seq),)
    assert await everything(shop) == before


async def test_a_forced_replay_before_triage_sets_the_cool_down_aside(shop: Workshop) -> None:
    await shop.briefed(payload(JANE))
    seq = await shop.arrive(payload(JANE))

    await shop.run((await twice(shop, seq, force=True)).tasks)

    assert (await shop.signal(seq)).status is Status.WAITING


# -- researching


async def test_a_signal_that_is_being_researched_is_under_way_already(shop: Workshop) -> None:
    seq = await shop.arrive(payload(JANE))
    await shop.triage(seq)
    await shop.record.write(
        lambda c: c.execute(update(signals).where(signals.c.seq == seq).values(status=Status.RESEARCHING))
    )

    replayed = await twice(shop, seq, force=True)

    assert (replayed.status, replayed.tasks) == (Status.RESEARCHING, ())


# -- dead


async def test_a_signal_dead_in_research_goes_on_with_research_and_is_not_looked_up_again(shop: Workshop) -> None:
    seq = await failed_research(shop, "status:400")
    assert (await shop.signal(seq)).status is Status.DEAD
    looked_up = len(shop.customerio.ids_asked)

    replayed = await twice(shop, seq)

    assert (replayed.status, replayed.tasks) == (Status.WAITING, (Task(Step.RESEARCH, seq, 850_00),))
    assert (await shop.signal(seq)).attempts == 0
    await shop.run(replayed.tasks)
    assert (await shop.signal(seq)).status is Status.BRIEFED
    assert len(shop.customerio.ids_asked) == looked_up


async def test_a_signal_dead_in_triage_is_triaged_again(shop: Workshop) -> None:
    shop.customerio_faults.add("status:403")
    seq = await shop.arrive(payload(JANE))
    await shop.triage(seq)
    assert (await shop.signal(seq)).status is Status.DEAD

    replayed = await twice(shop, seq)

    assert (replayed.status, replayed.tasks) == (Status.RECEIVED, (Task(Step.TRIAGE, seq),))
    assert (await shop.signal(seq)).attempts == 0
    await shop.run(replayed.tasks)
    assert (await shop.signal(seq)).status is Status.WAITING


async def test_a_replayed_dead_letter_has_the_whole_ladder_again(shop: Workshop) -> None:
    seq = await failed_research(shop, "status:400")
    await shop.replay(seq)
    shop.mavera_faults.add("status:503")

    assert isinstance(await shop.research(seq), Again)


# -- dead, and its customer has got a brief meanwhile, or is about to


async def dead_in_research(shop: Workshop, *metrics: str) -> list[int]:
    """Dead letters of one customer, each of which died before the next one came."""
    shop.mavera_faults.add("status:400", len(metrics))
    seqs = [await shop.arrive(payload(JANE, metrics[0]))]
    for metric in metrics[1:]:
        await shop.triage(seqs[-1])
        await shop.research(seqs[-1])
        seqs.append(await shop.arrive(payload(JANE, metric)))
    await shop.triage(seqs[-1])
    await shop.research(seqs[-1])
    assert [(await shop.signal(seq)).status for seq in seqs] == [Status.DEAD] * len(seqs)
    return seqs


async def test_dead_letters_of_one_customer_become_one_brief_that_names_them_all(shop: Workshop) -> None:
    seqs = await dead_in_research(shop, "bounced", "unsubscribed", "spammed")

    replayed = [await twice(shop, seq) for seq in seqs]

    assert [each.status for each in replayed] == [Status.WAITING, Status.JOINED, Status.JOINED]
    assert "joins its customer's research" in replayed[1].effect
    await shop.run([task for each in replayed for task in each.tasks])
    [brief] = await shop.briefs()
    assert brief.event_ids == [(await shop.signal(seq)).public_id for seq in seqs]
    assert "EVENT: bounced, unsubscribed, complained" in shop.mavera.messages[-1].splitlines()


async def test_within_one_transaction_the_later_ones_know_of_the_earlier(shop: Workshop) -> None:
    seqs = await dead_in_research(shop, "bounced", "unsubscribed", "spammed")
    chosen = [await shop.signal(seq) for seq in seqs]
    told: dict[str, Any] = {"alert_events": (), "rule": shop.join_rule, "now": shop.clock()}

    rehearsed = await replay_all(shop.record, chosen, dry_run=True, **told)
    done = await replay_all(shop.record, chosen, **told)

    assert [each.status for each in done] == [Status.WAITING, Status.JOINED, Status.JOINED]
    assert [(each.status, each.effect) for each in rehearsed] == [(each.status, each.effect) for each in done]


@pytest.mark.parametrize(("hours", "status"), [(23, Status.JOINED), (24, Status.WAITING)])
async def test_a_dead_letter_shares_a_brief_that_its_customer_has_got_within_the_cool_down(
    shop: Workshop, hours: int, status: Status
) -> None:
    [seq] = await dead_in_research(shop, "bounced")
    briefed = await shop.briefed(payload(JANE, "unsubscribed"))
    shop.clock.forward(timedelta(hours=hours))

    replayed = await twice(shop, seq)

    signal = await shop.signal(seq)
    assert (replayed.status, signal.status) == (status, status)
    assert (signal.failed_service, signal.failed_status) == (None, None)
    if status is Status.JOINED:
        assert signal.brief_seq == (await shop.signal(briefed)).brief_seq
        assert "within the cool-down" in replayed.effect
        assert replayed.tasks == ()


async def test_force_researches_a_dead_letter_anew_also_when_it_dies_once_more(shop: Workshop) -> None:
    [seq] = await dead_in_research(shop, "bounced")
    await shop.briefed(payload(JANE))
    shop.mavera_faults.add("status:400")
    await shop.run((await twice(shop, seq, force=True)).tasks)
    assert (await shop.signal(seq)).status is Status.DEAD

    await shop.run((await twice(shop, seq)).tasks)

    assert (await shop.signal(seq)).status is Status.BRIEFED
    assert len(await shop.briefs()) == 2


async def test_those_that_had_joined_a_dead_letter_share_what_it_joins(shop: Workshop) -> None:
    leader, joined = await shop.arrive(payload(JANE)), await shop.arrive(payload(JANE, "bounced"))
    await shop.triage.together([leader, joined])
    shop.mavera_faults.add("status:400")
    await shop.research(leader)
    later = await shop.arrive(payload(JANE, "spammed"))
    await shop.triage(later)

    assert (await shop.replay(joined)).status is Status.JOINED

    for seq in (leader, joined):
        assert ((await shop.signal(seq)).status, (await shop.signal(seq)).joined_to) == (Status.JOINED, later)
    assert await shop.story(joined) == ["received", "joined", "joined"]
    await shop.research(later)
    [brief] = await shop.briefs()
    assert len(brief.event_ids) == 3
    assert "EVENT: complained, unsubscribed, bounced" in shop.mavera.messages[-1].splitlines()


async def test_a_dead_letter_that_says_more_is_researched_where_that_is_set(tmp_path: Path) -> None:
    async with workshop(tmp_path, research_stronger_signals=True) as shop:
        seqs = await dead_in_research(shop, "bounced", "spammed")
        await shop.briefed(payload(JANE, "unsubscribed"))

        assert [(await shop.replay(seq)).status for seq in seqs] == [Status.JOINED, Status.WAITING]


async def test_what_the_joined_tell_of_their_leader_is_what_has_become_of_it(shop: Workshop) -> None:
    leader, joined = await shop.arrive(payload(JANE)), await shop.arrive(payload(JANE, "bounced"))
    await shop.triage.together([leader, joined])
    name = (await shop.signal(leader)).public_id
    told = [(await shop.signal(joined)).reason]
    shop.mavera_faults.add("status:400")
    for act in (shop.research, shop.replay, shop.research):
        await act(leader)
        told.append((await shop.signal(joined)).reason)

    assert told == [
        f"shares the brief of {name}, which is under way",
        f"shares the fate of {name}, which is a dead letter; replaying that one briefs both",
        f"shares the brief of {name}, which is under way",
        f"shares the brief of {name}",
    ]


# -- skipped


async def test_a_skipped_signal_is_triaged_by_todays_attributes(tmp_path: Path) -> None:
    free = Person("cust_1", None, None, {"plan_type": "free"})
    people = {"cust_1": free}
    async with workshop(tmp_path, people=[free]) as shop:
        seq = await shop.arrive(payload("cust_1"))
        await shop.triage(seq)
        assert (await shop.signal(seq)).status is Status.SKIPPED
        people["cust_1"].attributes["plan_type"] = "pro"  # type: ignore[index]

        replayed = await twice(shop, seq)

        assert (replayed.status, replayed.tasks) == (Status.RECEIVED, (Task(Step.TRIAGE, seq),))
        await shop.run(replayed.tasks)
        assert (await shop.signal(seq)).status is Status.WAITING


@pytest.mark.parametrize("force", [False, True])
async def test_force_sets_the_cool_down_aside_for_a_skipped_signal_too(tmp_path: Path, force: bool) -> None:
    person = Person("cust_1", None, None, {"plan_type": "free"})
    async with workshop(tmp_path, people=[person]) as shop:
        skipped = await shop.arrive(payload("cust_1"))
        await shop.triage(skipped)
        person.attributes["plan_type"] = "pro"  # type: ignore[index]
        await shop.briefed(payload("cust_1"))

        await shop.run((await shop.replay(skipped, force=force)).tasks)

        assert (await shop.signal(skipped)).status is (Status.WAITING if force else Status.JOINED)


# -- quarantined


async def test_a_quarantined_body_that_this_release_understands_becomes_a_signal_like_any_other(
    shop: Workshop,
) -> None:
    event = payload(JANE, "bounced")
    seq = await quarantined(shop, event)
    before = await shop.signal(seq)

    replayed = await twice(shop, seq)

    assert (replayed.status, replayed.tasks) == (Status.RECEIVED, (Task(Step.TRIAGE, seq),))
    signal = await shop.signal(seq)
    assert (signal.kind, signal.event_id, signal.customer.id) == ("bounced", event["event_id"], JANE)
    assert (signal.signal_id, signal.received_at) == (before.signal_id, before.received_at)
    await shop.run(replayed.tasks)
    await shop.research(seq)
    assert (await shop.signal(seq)).status is Status.BRIEFED
    assert (await shop.briefs())[0].event_type == "bounced"


async def test_its_event_is_then_known_for_good(shop: Workshop) -> None:
    event = payload(JANE)
    seq = await quarantined(shop, event)
    await shop.replay(seq)

    assert await shop.arrive(event) == seq


@pytest.mark.parametrize("body", [b"not json", b"[]", b"", b"\xff\xfe", b'{"metric": "unsubscribed"}', b"[" * 100_000])
async def test_what_is_still_not_understood_stays_with_todays_reason(shop: Workshop, body: bytes) -> None:
    seq = await quarantined(shop, body, "an older reason")

    replayed = await twice(shop, seq)

    signal = await shop.signal(seq)
    assert (replayed.status, replayed.tasks, signal.status) == (Status.QUARANTINED, (), Status.QUARANTINED)
    assert signal.reason is not None
    assert signal.reason != "an older reason"
    assert signal.reason in replayed.effect


async def test_what_turns_out_to_be_no_churn_signal_is_skipped_with_the_reason(shop: Workshop) -> None:
    seq = await quarantined(shop, payload(JANE, "opened"))

    replayed = await twice(shop, seq)

    signal = await shop.signal(seq)
    assert (replayed.status, replayed.tasks) == (Status.SKIPPED, ())
    assert (signal.status, signal.reason) == (Status.SKIPPED, "read again: not a churn signal")
    assert await bodies(shop) == 0


async def test_what_turns_out_to_be_a_duplicate_is_skipped_with_the_reason(shop: Workshop) -> None:
    event = payload(JANE)
    await shop.arrive(event)
    seq = await quarantined(shop, event)

    replayed = await twice(shop, seq)

    assert (replayed.status, replayed.tasks) == (Status.SKIPPED, ())
    assert "duplicate" in ((await shop.signal(seq)).reason or "")
    assert await bodies(shop) == 0


async def test_a_body_that_is_no_longer_kept_is_told_so(shop: Workshop) -> None:
    seq = await quarantined(shop, b"x")
    await shop.record.write(lambda c: c.execute(quarantined_bodies.delete()))

    replayed = await twice(shop, seq)

    assert "no longer kept" in replayed.effect


async def test_a_body_that_trips_this_release_is_told_so_and_trips_nothing_else(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    seq = await quarantined(shop, payload(JANE))

    def broken(_: bytes) -> dict[str, Any]:
        raise ZeroDivisionError("jane@acme.co")

    monkeypatch.setattr("churn_radar.work.reading.decode", broken)

    replayed = await shop.replay(seq)

    assert replayed.status is Status.QUARANTINED
    assert (await shop.signal(seq)).reason == "reading it failed: ZeroDivisionError"


# -- briefed, joined


async def test_sinks_that_gave_up_on_a_brief_are_tried_again_and_only_those(shop: Workshop) -> None:
    bad, good = shop.sinks[1], shop.sinks[0]
    assert isinstance(bad, ListSink)
    assert isinstance(good, ListSink)
    bad.errors += [RuntimeError("down")] * 2
    seq = await shop.briefed(payload(JANE))
    owed = await shop.deliveries()
    for name in ("good", "bad", "bad"):
        await shop.deliver(owed[name].seq)
        shop.clock.forward(timedelta(days=1))
    assert (await shop.deliveries())["bad"].status is DeliveryStatus.DEAD

    replayed = await shop.replay(seq)

    assert replayed.tasks == (Task(Step.DELIVER, owed["bad"].seq),)
    assert "1 failed deliver" in replayed.effect
    assert (await shop.replay(seq)).tasks == ()
    await shop.run(replayed.tasks)
    assert (len(good.briefs), len(bad.briefs)) == (1, 1)
    assert (await shop.signal(seq)).status is Status.BRIEFED


async def test_a_briefed_signal_without_dead_deliveries_is_done(shop: Workshop) -> None:
    seq = await shop.briefed(payload(JANE))

    replayed = await twice(shop, seq)

    assert (replayed.status, replayed.tasks) == (Status.BRIEFED, ())


async def test_a_briefed_signal_is_researched_anew_by_force(shop: Workshop) -> None:
    seq = await shop.briefed(payload(JANE))

    replayed = await twice(shop, seq, force=True)

    assert (replayed.status, replayed.tasks) == (Status.WAITING, (Task(Step.RESEARCH, seq, 850_00),))
    await shop.run(replayed.tasks)
    assert (await shop.signal(seq)).status is Status.BRIEFED
    assert len(await shop.briefs()) == 2


async def test_a_joined_signal_gets_a_brief_of_its_own_by_force(shop: Workshop) -> None:
    await shop.briefed(payload(JANE))
    seq = await shop.arrive(payload(JANE, "bounced"))
    await shop.triage(seq)
    assert (await shop.signal(seq)).status is Status.JOINED

    replayed = await twice(shop, seq, force=True)
    await shop.run(replayed.tasks)
    await shop.research(seq)

    assert (await shop.signal(seq)).status is Status.BRIEFED
    newest, oldest = await shop.briefs()
    assert newest.event_ids == [(await shop.signal(seq)).public_id]
    assert len(oldest.event_ids) == 1


async def test_a_joined_signals_dead_deliveries_are_those_of_the_brief_it_shares(shop: Workshop) -> None:
    bad = shop.sinks[1]
    assert isinstance(bad, ListSink)
    bad.errors += [RuntimeError("down")] * 2
    await shop.briefed(payload(JANE))
    joined = await shop.arrive(payload(JANE, "bounced"))
    await shop.triage(joined)
    owed = await shop.deliveries()
    for _ in range(2):
        await shop.deliver(owed["bad"].seq)
        shop.clock.forward(timedelta(days=1))

    replayed = await shop.replay(joined)

    assert (replayed.status, replayed.tasks) == (Status.JOINED, (Task(Step.DELIVER, owed["bad"].seq),))


async def test_a_joined_signal_whose_leader_died_brings_its_leader_back(shop: Workshop) -> None:
    leader, joined = await shop.arrive(payload(JANE)), await shop.arrive(payload(JANE, "bounced"))
    await shop.triage(leader)
    await shop.triage(joined)
    shop.mavera_faults.add("status:400")
    await shop.research(leader)
    assert (await shop.signal(leader)).status is Status.DEAD

    replayed = await twice(shop, joined)

    assert (replayed.status, replayed.tasks) == (Status.JOINED, (Task(Step.RESEARCH, leader, 850_00),))
    await shop.run(replayed.tasks)
    assert (await shop.signal(joined)).brief_seq == 1
    [brief] = await shop.briefs()
    assert len(brief.event_ids) == 2


# -- both at once


async def test_a_replay_acts_on_what_stands_in_the_record_not_on_what_the_caller_saw(shop: Workshop) -> None:
    """Two people press the button: the second one's page is older than the first one's replay."""
    seq = await shop.briefed(payload(JANE))
    seen = await shop.signal(seq)
    await shop.replay(seq, force=True)
    await shop.research(seq)
    before = await everything(shop)

    dead = replace(seen, status=Status.DEAD)
    replayed = await shop.record.write(
        lambda connection: replay(
            connection, dead, alert_events=shop.settings.alert_events, rule=shop.join_rule, now=shop.clock()
        )
    )

    assert (replayed.status, replayed.tasks) == (Status.BRIEFED, ())
    assert await everything(shop) == before


async def test_the_story_tells_of_every_replay(shop: Workshop) -> None:
    seq = await failed_research(shop, "status:400")
    shop.clock.forward(timedelta(hours=1))
    await shop.replay(seq)

    assert await shop.story(seq) == ["received", "waiting", "researching", "dead", "waiting"]
    assert (await shop.signal(seq)).reason == "replayed"


async def test_no_replay_touches_another_customers_signal(shop: Workshop) -> None:
    seq, other = await failed_research(shop, "status:400"), await shop.briefed(payload("cust_1002"))
    before = await shop.signal(other)

    await shop.replay(seq, force=True)

    assert await shop.signal(other) == before
    async with shop.record.read() as connection:
        assert (await connection.execute(select(func.count()).select_from(customers))).scalar_one() == 2
