"""What `GET /readyz` tells: the rates in force, what waits for the operator, what the month has cost.

Anyone may ask. Whoever brings no API key is told which service is in trouble and whether the budget is spent, but
neither figures of the business nor words that came from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, Self

from pydantic import BaseModel, Field

from churn_radar.research import budget
from churn_radar.upstream import RateInForce
from churn_radar.work.balance import Shown
from churn_radar.work.remedy import link
from churn_radar.work.troubles import Trouble

# Those that are the operator's to mend; `churn_radar.upstream.refusal` says which.
_PLAINLY = {401: "the key is refused", 402: "credits or budget are spent"}


def plainly(trouble: Trouble) -> str:
    """A trouble in our own words only."""
    if trouble.status is None:
        return f"{trouble.service} waits for the operator"
    means = _PLAINLY.get(trouble.status)
    return f"{trouble.service} answered {trouble.status}" + (f": {means}" if means else "")


def in_a_word(shown: Shown) -> Literal["within budget", "over budget"]:
    """How the month stands, without its figures."""
    return "over budget" if shown.standing is budget.Standing.SPENT else "within budget"


class Rate(BaseModel):
    """How fast one upstream service is called right now, and why."""

    limit: int = Field(description="Calls in any window, by the settings.")
    window_seconds: float = Field(description="The window that both limits are counted in, in seconds.")
    in_force: int = Field(
        description="Calls in any window that are kept to: `limit`, or less where the service says, or shows by "
        "answering 429, that it allows less."
    )
    told_limit: int | None = Field(None, description="X-RateLimit-Limit, as it came last; null: never.")
    told_remaining: int | None = Field(None, description="X-RateLimit-Remaining, as it came last.")
    told_reset_at: datetime | None = Field(None, description="X-RateLimit-Reset, as it came last.")
    told_at: datetime | None = Field(None, description="When these headers came.")
    held_until: datetime | None = Field(
        None,
        description="No call goes out before this: nothing is left by the headers, or Retry-After or a 429 asked for "
        "it. Null: calls go out.",
    )
    in_flight: int = Field(description="Calls under way.")
    concurrency: int = Field(description="Most calls that may be under way at once.")
    too_many: int = Field(description="Answers with 429 since the start, those that a retry made good included.")

    @classmethod
    def of(cls, rate: RateInForce, *, now: datetime) -> Self:
        """As it is shown at `now`."""
        told = rate.told
        return cls(
            limit=rate.limit,
            window_seconds=rate.window_seconds,
            in_force=rate.in_force,
            told_limit=told.limit if told else None,
            told_remaining=told.remaining if told else None,
            told_reset_at=told.reset_at if told else None,
            told_at=rate.told_at,
            held_until=now + timedelta(seconds=rate.held_seconds) if rate.held_seconds > 0 else None,
            in_flight=rate.in_flight,
            concurrency=rate.concurrency,
            too_many=rate.too_many,
        )


class TroubleState(BaseModel):
    """What only the operator can mend, and when it is found out whether it is mended."""

    message: str = Field(description="As under `troubles`.")
    status: int | None = Field(None, description="What it answered: 401 (the key) or 402 (credits or budget).")
    since: datetime = Field(description="When it began.")
    next_probe_at: datetime = Field(
        description="When one call finds out whether it is mended; a replay makes that call at once."
    )
    probes: int = Field(description="How many such calls have found nothing mended.")
    help: str = Field(description="Where to read what to do about it.")

    @classmethod
    def of(cls, trouble: Trouble, *, help_url: str, with_words: bool) -> Self:
        """As it is shown: with the service's own words, or without."""
        return cls(
            message=trouble.message if with_words else plainly(trouble),
            status=trouble.status,
            since=trouble.since,
            next_probe_at=trouble.next_probe_at,
            probes=trouble.probes,
            help=link(help_url, trouble.service, trouble.status),
        )


class Credits(BaseModel):
    """What research has cost this month, and what it may cost."""

    month: str = Field(description="The calendar month in UTC, as 2026-11.")
    spent: int = Field(description="Mavera credits spent, estimates included.")
    estimated: int = Field(description="How many of them are an estimate, for calls without a readable answer.")
    under_way: int = Field(description="An estimate of what the calls under way will cost; not yet in `spent`.")
    limit: int | None = Field(None, description="CHURN_RADAR_MONTHLY_CREDITS; null: none.")
    warning: str | None = Field(None, description="From 80 % of the limit on: how it stands, and who waits.")

    @classmethod
    def of(cls, shown: Shown, *, over_budget_mrr: Decimal) -> Self:
        """As the ledger shows it."""
        spent, limit = shown.spent, shown.limit
        warning = None
        if shown.standing is budget.Standing.NEARLY_SPENT:
            warning = f"{spent.credits:,} of {limit:,} credits of {shown.month.name} are spent"
        elif shown.standing is budget.Standing.SPENT:
            warning = (
                f"all {limit:,} credits of {shown.month.name} are spent; accounts with an MRR under {over_budget_mrr:,}"
                f" wait until {shown.month.first_day_after} (UTC)"
            )
        return cls(
            month=f"{shown.month.start:%Y-%m}",
            spent=spent.credits,
            estimated=spent.estimated,
            under_way=spent.under_way,
            limit=limit,
            warning=warning,
        )


class BufferState(BaseModel):
    """The buffer in front of the record."""

    waiting: int | None = Field(
        None, description="Events that it holds; approximate with SQS. Null: it does not answer."
    )
    problem: str | None = Field(
        None, description="Why it takes no events now; they go straight into the record meanwhile. Null: it takes them."
    )
    drained: bool | None = Field(
        None,
        description="Whether this process brings its events into the record; null: that is left to other processes.",
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """What was found out about a process. Each text is a problem in words; None where there is none.

    `worker` is about a worker that will do nothing more by itself, `buffer` is None without a buffer.
    """

    record: str | None
    worker: str | None
    buffer: BufferState | None

    @property
    def reason(self) -> str | None:
        """Why events cannot be accepted, or why the process should be started again; None when it is ready.

        With a buffer a record that is away is no reason: it would take every door out of rotation, and events are
        taken all the same.
        """
        if self.buffer is not None and self.buffer.drained is False:
            return "the buffer is no longer emptied by this process; restart the service"
        if self.record is None or (self.buffer is not None and self.buffer.problem is None):
            return self.worker
        return self.record

    @property
    def status(self) -> Literal["ready", "unavailable"]:
        """The same in a word."""
        return "ready" if self.reason is None else "unavailable"


class Ready(BaseModel):
    """Whether events can be accepted, and what else an operator should know."""

    status: str = Field(description="ready or unavailable.")
    reason: str | None = Field(None, description="Why events cannot be accepted.")
    record: str | None = Field(
        None, description="With a buffer: why the record takes nothing now. Events wait in the buffer meanwhile."
    )
    buffer: BufferState | None = Field(
        None, description="The buffer in front of the record; null when there is none (CHURN_RADAR_BUFFER_URL)."
    )
    troubles: dict[str, str] = Field(
        default_factory=dict,
        description="What only the operator can mend, by service; work waits meanwhile. With an API key in what the "
        "service said.",
    )
    troubles_detail: dict[str, TroubleState] = Field(
        default_factory=dict, description="The same with since when, and when it is looked at again."
    )
    backlog: dict[str, int] = Field(default_factory=dict, description="Jobs that wait or run, by step.")
    rates: dict[str, Rate] = Field(
        default_factory=dict, description="How fast each upstream service is called right now, and why."
    )
    budget: Literal["within budget", "over budget"] | None = Field(
        None,
        description="Whether research waits for credits that CHURN_RADAR_MONTHLY_CREDITS allows; null while the record "
        "cannot be read.",
    )
    credits: Credits | None = Field(
        None,
        description="What research has cost this month. Null without an API key, and while the record cannot be read.",
    )


NOT_NOW = {
    "model": Ready,
    "description": "Not now, and why.",
    "content": {
        "application/json": {
            "example": {
                "status": "unavailable",
                "reason": "the record cannot commit: disk I/O error",
                "troubles": {"mavera": "mavera answered 402: credits or budget are spent"},
                "backlog": {"triage": 3, "research": 1, "deliver": 0},
                "rates": {
                    "mavera": {
                        "limit": 120,
                        "window_seconds": 60,
                        "in_force": 60,
                        "told_limit": 60,
                        "told_remaining": 0,
                        "told_reset_at": "2026-03-02T09:00:21Z",
                        "told_at": "2026-03-02T09:00:04Z",
                        "held_until": "2026-03-02T09:00:21Z",
                        "in_flight": 4,
                        "concurrency": 10,
                        "too_many": 0,
                    }
                },
            }
        }
    },
}
