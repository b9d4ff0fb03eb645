"""Whose research comes first: the dearest account, and of the equally dear the one that came first.

A signal that waits moves up: each hour of waiting weighs as much as some MRR. Since all waiting signals age at
the same rate, who is ahead of whom never changes while both wait, so the place in the line is one number that is
worked out once, at triage, and holds across restarts and retries.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

# Where the count of hours begins. Any fixed moment would do; a recent one keeps the numbers small.
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
# What fits into the priority of every engine (a 32-bit integer), with decades of aging to spare.
HIGHEST = 1_000_000_000


def priority(mrr: Decimal, received_at: datetime, *, aging_mrr_per_hour: float) -> int:
    """The place in the line, in cents of MRR; higher goes first.

    `mrr` is a month's revenue; `received_at` is when the signal came.
    """
    hours = (received_at - EPOCH).total_seconds() / 3600
    return min(int(mrr * 100), HIGHEST) - round(hours * aging_mrr_per_hour * 100)
