"""The figures of the outcomes as they are shown: by persona, by kind of event, by offer, and all in all. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from churn_radar.outcome.counting import Sums
from churn_radar.outcome.rules import Outcome
from churn_radar.research.prompt import LEAST_DECIDED, MOST_EXPERIENCE, Experience


@dataclass(frozen=True, slots=True)
class Counts:
    """The briefs of one persona, kind or offer, in one currency, by what became of the customer."""

    value: str
    currency: str
    by_outcome: dict[Outcome | None, Sums]

    @property
    def total(self) -> Sums:
        """All of them."""
        return sum(self.by_outcome.values(), Sums())

    def of(self, outcome: Outcome | None) -> Sums:
        """Those of one outcome; None: nobody has said yet."""
        return self.by_outcome.get(outcome, Sums())

    @property
    def decided(self) -> int:
        """How many were saved or lost: what a share of the saved is a share of."""
        return self.of(Outcome.SAVED).briefs + self.of(Outcome.LOST).briefs

    @property
    def saved_share(self) -> float | None:
        """Saved among the saved and the lost; None before the first."""
        return self.of(Outcome.SAVED).briefs / self.decided if self.decided else None

    @property
    def mean_hours_to_contact(self) -> float | None:
        """From the signal until somebody spoke to the customer, on average; None when nobody did."""
        total = self.total
        return total.contact_seconds / total.contacts / 3600 if total.contacts else None


def gather(rows: Iterable[tuple[str, str, Outcome | None, Sums]]) -> list[Counts]:
    """Rows of (value, currency, outcome, sums) as one entry for each value and currency, most MRR first."""
    found: dict[tuple[str, str], dict[Outcome | None, Sums]] = {}
    for value, currency, outcome, sums in rows:
        by_outcome = found.setdefault((value, currency), {})
        by_outcome[outcome] = by_outcome.get(outcome, Sums()) + sums
    counts = [Counts(value, currency, by_outcome) for (value, currency), by_outcome in found.items()]
    return sorted(counts, key=lambda each: (-each.total.mrr_hundredths, each.value, each.currency))


def all_in_all(counts: Iterable[Counts]) -> list[Counts]:
    """The same without telling values apart, one entry for each currency."""
    return gather(("", each.currency, outcome, sums) for each in counts for outcome, sums in each.by_outcome.items())


def experience(by_offer: Iterable[Counts]) -> list[Experience]:
    """What may be told to Mave of a persona's outcomes by offer: nothing below LEAST_DECIDED known ends in all."""
    counts = [each for each in by_offer if each.value and each.decided]
    if sum(each.decided for each in counts) < LEAST_DECIDED:
        return []
    told: dict[str, Experience] = {}
    for each in counts:
        saved, decided = each.of(Outcome.SAVED).briefs, each.decided
        before = told.get(each.value, Experience(each.value, 0, 0))
        told[each.value] = Experience(each.value, before.saved + saved, before.decided + decided)
    return sorted(told.values(), key=lambda one: (-one.decided, one.offer))[:MOST_EXPERIENCE]
