"""Which briefs a sink is for. Pure: a filter says why it does not want a brief, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Facts:
    """What a brief is chosen by. `kind` is that of the signal that started the research."""

    plan: str
    mrr: Decimal
    persona: str
    kind: str


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions of one sink; a brief has to meet all of them, and what is left out is no condition.

    `plans` and `kinds` are lower case. `personas` are patterns as file names have them (`High-MRR *`), whatever their
    case. `mrr_from` is in the account's currency per month and included.
    """

    plans: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    personas: tuple[str, ...] = ()
    mrr_from: Decimal | None = None

    @property
    def is_set(self) -> bool:
        """Whether there is any condition."""
        return self != EVERYTHING

    def why_not(self, facts: Facts) -> str | None:
        """The first condition that a brief does not meet, in words for the record; None when it meets all."""
        if self.plans and facts.plan.lower() not in self.plans:
            return f"filtered out: this sink takes the plans {_list(self.plans)}"
        if self.kinds and facts.kind.lower() not in self.kinds:
            return f"filtered out: this sink takes the kinds {_list(self.kinds)}"
        if self.mrr_from is not None and facts.mrr < self.mrr_from:
            return f"filtered out: this sink takes an MRR from {self.mrr_from:f} on"
        if self.personas and not any(_fits(facts.persona, pattern) for pattern in self.personas):
            return f"filtered out: this sink takes the personas {_list(self.personas)}"
        return None


EVERYTHING = Filter()


def _fits(persona: str, pattern: str) -> bool:
    return fnmatchcase(persona.lower(), pattern.lower())


def _list(values: frozenset[str] | tuple[str, ...]) -> str:
    return ", ".join(sorted(values))
