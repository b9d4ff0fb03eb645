"""Who shares whose brief: several signals of one customer within the cool-down make one. Pure.

A signal joins the one that waits for research or is being researched, else the brief that is done. As long as the
research has not started, its prompt names the events of all who have joined, however long it has waited for its turn
or for the budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import timedelta

from churn_radar.store.joined import Leader
from churn_radar.store.signals import Signal
from churn_radar.store.tables import Status
from churn_radar.triage.kinds import strength


@dataclass(frozen=True, slots=True)
class JoinRule:
    """How long the signals of a customer share a brief; zero: never.

    With `stronger_anew` nobody joins a brief whose prompt is written and names only weaker events.
    """

    cool_down: timedelta = timedelta()
    stronger_anew: bool = False


@dataclass(frozen=True, slots=True)
class RecentBrief:
    """A brief from within the cool-down, and the kinds of event that share it."""

    seq: int
    kinds: Set[str]


@dataclass(frozen=True, slots=True)
class Joined:
    """What a signal shares: the brief of another signal, or one that is there already."""

    reason: str
    joined_to: int | None = None
    brief_seq: int | None = None


class Joining:
    """What there is to join for the customers of one batch, at most one brief for each; those who wait first count too.

    `leaders` are under way, oldest first; `briefs` are by customer; `told` are the kinds of event that the prompts of
    those being researched name beside their own.
    """

    def __init__(
        self,
        rule: JoinRule,
        *,
        leaders: Sequence[Leader] = (),
        briefs: Mapping[int, RecentBrief] | None = None,
        told: Mapping[int, Set[str]] | None = None,
    ) -> None:
        self._rule = rule
        self._briefs = briefs or {}
        self._told = told or {}
        self._leaders: dict[int, list[Leader]] = {}
        for leader in leaders:
            self._leaders.setdefault(leader.customer_seq, []).append(leader)

    def for_signal(self, signal: Signal, customer_seq: int) -> Joined | None:
        """What a signal joins; None when it is to be researched itself, and others may join it from now on."""
        if self._rule.cool_down and not signal.forced and (joined := self._to_join(signal, customer_seq)):
            return joined
        leader = Leader(signal.seq, customer_seq, signal.public_id, signal.kind, Status.WAITING, signal.received_at)
        self._leaders.setdefault(customer_seq, []).append(leader)
        return None

    def _to_join(self, signal: Signal, customer_seq: int) -> Joined | None:
        for leader in self._leaders.get(customer_seq, ()):
            if leader.status is Status.WAITING or self._may_still_join(leader, signal):
                return Joined(under_way(leader.public_id), joined_to=leader.seq)
        brief = self._briefs.get(customer_seq)
        if brief is not None and not self._says_more(signal, brief.kinds):
            return Joined("shares the customer's brief from within the cool-down", brief_seq=brief.seq)
        return None

    def _may_still_join(self, leader: Leader, signal: Signal) -> bool:
        """Whether a signal may share what is being researched, by a prompt that does not name it."""
        too_old = leader.received_at <= signal.received_at - self._rule.cool_down
        return not too_old and not self._says_more(signal, {leader.kind or ""} | self._told.get(leader.seq, set()))

    def _says_more(self, signal: Signal, kinds: Set[str]) -> bool:
        return self._rule.stronger_anew and strength(signal.kind or "") > max(map(strength, kinds), default=0)


def under_way(leader: str) -> str:
    """What a joined signal tells of itself while the brief of its leader is still to come."""
    return f"shares the brief of {leader}, which is under way"


def done(leader: str) -> str:
    """The same once that brief is there."""
    return f"shares the brief of {leader}"


def given_up(leader: str) -> str:
    """The same when its leader has become a dead letter."""
    return f"shares the fate of {leader}, which is a dead letter; replaying that one briefs both"
