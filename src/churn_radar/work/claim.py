"""A signal taken for research: what its prompt is made of, and what its attempt has cost. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from churn_radar.errors import UpstreamError
from churn_radar.research.budget import Charge, charges
from churn_radar.research.reuse import Opening
from churn_radar.store.credits import Entry
from churn_radar.store.signals import Signal
from churn_radar.triage.account import Account
from churn_radar.work.private import private_values
from churn_radar.work.triaged import Triaged
from churn_radar.work.written import Case


@dataclass(frozen=True, slots=True)
class Claim:
    """A signal taken for research: nobody else takes it, and the ledger has an open entry for it.

    `line` is the one of the signal's story that tells of it: as long as that is the last, the claim stands.
    """

    case: Case
    line: int
    joined: tuple[Signal, ...]
    entry: Entry
    opening: Opening | None

    @property
    def kinds(self) -> list[str]:
        """The kinds of the events, the signal's own first, each once."""
        return list(dict.fromkeys(s.kind for s in (self.case.signal, *self.joined) if s.kind))

    @property
    def private(self) -> Collection[str]:
        """What must not reach the prompt."""
        return private_values(self.case.customer, (self.case.signal, *self.joined))


def account_of(signal: Signal) -> tuple[Triaged, Account, str]:
    """What triage found out about a waiting signal."""
    triaged = Triaged.model_validate(signal.triage)
    if triaged.account is None or triaged.persona is None:
        raise AssertionError("a waiting signal has been triaged")
    return triaged, triaged.account, triaged.persona


def spent_in_vain(error: Exception) -> Sequence[Charge]:
    """What an attempt without a brief has cost; after a fault of ours nobody knows whether Mave was asked."""
    if isinstance(error, UpstreamError):
        return charges(brief=None, lost=error.credits_lost, unanswered=error.unanswered)
    return charges(brief=None, lost=0, unanswered=1)
