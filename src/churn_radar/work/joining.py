"""Who shares whose brief: several signals of one customer within the cool-down make one. Pure.

A signal joins the one that waits for research or is being researched, else the brief that is done. As long as the
research has not started, its prompt names the events of all who have joined.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import timedelta

from churn_radar.store.signals import Leader, Signal
from churn_radar.store.tables import Status
from churn_radar.triage.kinds import strength


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

    `leaders` are under way, oldest first; `briefs` are by customer. With `stronger_anew` nobody joins a brief whose
    prompt is written and names only weaker events.
    """

    def __init__(
        self,
        cool_down: timedelta,
        *,
        leaders: Sequence[Leader] = (),
        briefs: Mapping[int, RecentBrief] | None = None,
        stronger_anew: bool = False,
    ) -> None:
        self._cool_down = cool_down
        self._stronger_anew = stronger_anew
        self._briefs = briefs or {}
        self._leaders: dict[int, list[Leader]] = {}
        for leader in leaders:
            self._leaders.setdefault(leader.customer_seq, []).append(leader)

    def for_signal(self, signal: Signal, customer_seq: int) -> Joined | None:
        """What a signal joins; None when it is to be researched itself, and others may join it from now on."""
        if self._cool_down and not signal.forced and (joined := self._to_join(signal, customer_seq)):
            return joined
        leader = Leader(signal.seq, customer_seq, signal.public_id, signal.kind, Status.WAITING, signal.received_at)
        self._leaders.setdefault(customer_seq, []).append(leader)
        return None

    def _to_join(self, signal: Signal, customer_seq: int) -> Joined | None:
        for leader in self._leaders.get(customer_seq, ()):
            too_old = leader.received_at <= signal.received_at - self._cool_down
            too_late = leader.status is Status.RESEARCHING and self._says_more(signal, [leader.kind or ""])
            if not too_old and not too_late:
                return Joined(f"shares the brief of {leader.public_id}, which is under way", joined_to=leader.seq)
        brief = self._briefs.get(customer_seq)
        if brief is not None and not self._says_more(signal, brief.kinds):
            return Joined("shares the customer's brief from within the cool-down", brief_seq=brief.seq)
        return None

    def _says_more(self, signal: Signal, kinds: Collection[str]) -> bool:
        return self._stronger_anew and strength(signal.kind or "") > max(map(strength, kinds), default=0)
