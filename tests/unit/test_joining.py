from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from churn_radar.store.joined import Leader
from churn_radar.store.signals import Signal
from churn_radar.store.tables import Status
from churn_radar.triage.customer import CustomerRef
from churn_radar.work.joining import Joining, JoinRule, RecentBrief
from tests.support.signals import a_signal

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
JANE = 7
RULE, ANEW = JoinRule(DAY), JoinRule(DAY, stronger_anew=True)


def signal(seq: int, kind: str = "unsubscribed", *, at: datetime = NOON, forced: bool = False) -> Signal:
    customer = CustomerRef(id="42")
    return a_signal(seq, kind=kind, metric=kind, customer=customer, received_at=at, forced=forced, updated_at=at)


def leader(seq: int, kind: str = "bounced", status: Status = Status.WAITING, *, at: datetime = NOON) -> Leader:
    return Leader(seq, JANE, f"sig_{seq}", kind, status, at)


def test_the_first_of_a_batch_waits_and_the_others_of_its_customer_join_it() -> None:
    joining = Joining(RULE)
    assert joining.for_signal(signal(1), JANE) is None
    second, third = joining.for_signal(signal(2), JANE), joining.for_signal(signal(3, "bounced"), JANE)
    assert second is not None
    assert third is not None
    assert (second.joined_to, third.joined_to, second.brief_seq) == (1, 1, None)
    assert second.reason == "shares the brief of sig_1, which is under way"
    assert joining.for_signal(signal(4), JANE + 1) is None


def test_what_is_under_way_comes_before_a_brief_that_is_done() -> None:
    joining = Joining(RULE, leaders=[leader(1)], briefs={JANE: RecentBrief(5, {"bounced"})})
    joined = joining.for_signal(signal(2), JANE)
    assert joined is not None
    assert (joined.joined_to, joined.brief_seq) == (1, None)


def test_a_brief_from_within_the_cool_down_is_shared() -> None:
    joined = Joining(RULE, briefs={JANE: RecentBrief(5, {"bounced"})}).for_signal(signal(2), JANE)
    assert joined is not None
    assert (joined.joined_to, joined.brief_seq) == (None, 5)


def test_a_leader_that_came_a_cool_down_ago_and_is_being_researched_is_not_joined() -> None:
    joining = Joining(RULE, leaders=[leader(1, status=Status.RESEARCHING, at=NOON - DAY)])
    assert joining.for_signal(signal(2), JANE) is None


def test_a_leader_that_still_waits_is_joined_however_long_it_has_waited() -> None:
    joined = Joining(RULE, leaders=[leader(1, at=NOON - 30 * DAY)]).for_signal(signal(2), JANE)
    assert joined is not None
    assert joined.joined_to == 1


def test_a_forced_signal_joins_nobody_and_may_be_joined() -> None:
    joining = Joining(RULE, leaders=[leader(1, status=Status.RESEARCHING, at=NOON - DAY)])
    assert joining.for_signal(signal(2, forced=True), JANE) is None
    joined = joining.for_signal(signal(3), JANE)
    assert joined is not None
    assert joined.joined_to == 2


def test_without_a_cool_down_nobody_joins() -> None:
    joining = Joining(JoinRule())
    assert [joining.for_signal(signal(seq), JANE) for seq in (1, 2)] == [None, None]


def test_a_stronger_signal_joins_what_still_waits_since_the_prompt_will_name_it() -> None:
    joined = Joining(ANEW, leaders=[leader(1)]).for_signal(signal(2, "complained"), JANE)
    assert joined is not None
    assert joined.joined_to == 1


def test_a_stronger_signal_is_researched_anew_once_the_prompt_of_the_weaker_is_written() -> None:
    under_way = Joining(ANEW, leaders=[leader(1, status=Status.RESEARCHING)])
    done = Joining(ANEW, briefs={JANE: RecentBrief(5, {"bounced", "unsubscribed"})})
    assert under_way.for_signal(signal(2, "complained"), JANE) is None
    assert done.for_signal(signal(2, "complained"), JANE) is None


def test_what_a_prompt_names_beside_its_own_event_counts_too() -> None:
    joining = Joining(ANEW, leaders=[leader(1, status=Status.RESEARCHING)], told={1: {"complained"}})
    assert joining.for_signal(signal(2, "complained"), JANE) is not None


def test_a_signal_no_stronger_than_the_strongest_of_a_brief_shares_it() -> None:
    for kind in ("bounced", "unsubscribed", "complained", "failed"):
        joining = Joining(ANEW, briefs={JANE: RecentBrief(5, {"bounced", "complained"})})
        assert joining.for_signal(signal(2, kind), JANE) is not None


def test_nothing_is_researched_anew_unless_it_was_asked_for() -> None:
    joining = Joining(RULE, leaders=[leader(1, status=Status.RESEARCHING)])
    assert joining.for_signal(replace(signal(2), kind="complained"), JANE) is not None
