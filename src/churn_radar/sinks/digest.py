"""Digests: when each is due, what it tells of, and how it reads. Pure: the moment comes in as a parameter.

A digest is due at a time of day in a time zone, each day or on one day of the week, and tells of what happened since
the one before would have been due. Where a clock skips that time it is due right after the gap; where it comes twice,
the first time. A period has a name (`2026-11-24`, `2026-W48`), by which it is sent once.

Where digests before it did not get through, the next one tells of their periods too (`with_missed`), and says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from churn_radar.counts import counted
from churn_radar.errors import SettingsError
from churn_radar.sinks.config import FILE, problem_lines
from churn_radar.sinks.message import Link, Message
from churn_radar.triage.money import format_money

# Who comes back after longer than that looks at the pages: a digest is of what is news.
LONGEST_GAP = timedelta(days=35)
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class Every(StrEnum):
    """How often."""

    DAY = "day"
    WEEK = "week"


def _zone(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("not a time zone's name (example: Europe/Berlin)") from None


class Plan(BaseModel):
    """One `[[digest]]` table."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    name: str = Field(min_length=1, max_length=60, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")
    sink: str
    every: Every = Every.DAY
    on: str = "monday"
    at: time = time(8, 0)
    time_zone: Annotated[ZoneInfo, BeforeValidator(_zone)] = ZoneInfo("UTC")

    @model_validator(mode="after")
    def _makes_sense(self) -> Plan:
        if self.on not in WEEKDAYS:
            raise ValueError(f"on: has to be one of {', '.join(WEEKDAYS)}")
        if "on" in self.model_fields_set and self.every is Every.DAY:
            raise ValueError('on: is for a digest of the week; write every = "week" as well')
        if self.at.tzinfo is not None:
            raise ValueError("at: a time of day alone; the zone is time_zone")
        return self


@dataclass(frozen=True, slots=True)
class Period:
    """What one digest tells of: from the moment when the one before was due until this one is.

    `has_missed`: from an earlier moment, since those before it did not get through.
    """

    name: str
    since: datetime
    until: datetime
    has_missed: bool = False


def read_plans(tables: Sequence[Mapping[str, Any]], speakers: Collection[str]) -> tuple[Plan, ...]:
    """The digests that are asked for; `speakers` are the chat and mail sinks by name. Raises SettingsError."""
    plans: list[Plan] = []
    problems: list[str] = []
    for number, table in enumerate(tables, start=1):
        where = f"{FILE}: digest number {number}"
        try:
            plan = Plan.model_validate(dict(table))
        except ValidationError as error:
            problems += problem_lines(where, error)
            continue
        if plan.sink not in speakers:
            known = ", ".join(sorted(speakers)) or "no such sinks"
            problems.append(f"{where}: sink: there is no chat or mail sink {plan.sink!r}; there are {known}")
        elif plan.name in {each.name for each in plans}:
            problems.append(f"{where}: name: {plan.name!r} is there twice; give each digest its own")
        plans.append(plan)
    if problems:
        raise SettingsError(problems)
    return tuple(plans)


def due_period(plan: Plan, now: datetime) -> Period:
    """The newest period whose digest is due at `now`."""
    day = now.astimezone(plan.time_zone).date() + timedelta(days=1)
    while _moment(plan, day) > now or not _is_its_day(plan, day):
        day -= timedelta(days=1)
    step = timedelta(days=1 if plan.every is Every.DAY else 7)
    return Period(_name(plan, day), _moment(plan, day - step), _moment(plan, day))


def with_missed(plan: Plan, period: Period, told: Iterable[str]) -> Period:
    """The period, begun where the last one ended that was told, at most `LONGEST_GAP` before its end.

    `told` are the names of periods that were. Names that the plan no longer gives (it was of the day, and is of the
    week now) are passed over.
    """
    ends = [end for name in told if (end := _end(plan, name)) is not None and end < period.until]
    last = max(ends, default=period.since)
    if last >= period.since:
        return period
    return replace(period, since=max(last, period.until - LONGEST_GAP), has_missed=True)


def next_due(plan: Plan, now: datetime) -> datetime:
    """When the next one is due after `now`."""
    day = now.astimezone(plan.time_zone).date() - timedelta(days=1)
    while _moment(plan, day) <= now or not _is_its_day(plan, day):
        day += timedelta(days=1)
    return _moment(plan, day)


def _moment(plan: Plan, day: date) -> datetime:
    return datetime.combine(day, plan.at, tzinfo=plan.time_zone).astimezone(UTC)


def _is_its_day(plan: Plan, day: date) -> bool:
    return plan.every is Every.DAY or day.weekday() == WEEKDAYS.index(plan.on)


def _name(plan: Plan, day: date) -> str:
    return f"{day:%Y-%m-%d}" if plan.every is Every.DAY else f"{day:%G-W%V}"


def first_day(period: str) -> date:
    """The day, or the Monday of the week, that a period is named after: by it the periods of a plan have an order."""
    return date.fromisoformat(period)


def _end(plan: Plan, name: str) -> datetime | None:
    try:
        day = first_day(name)
    except ValueError:
        return None
    if _name(plan, day) != name:
        return None
    return _moment(plan, day + timedelta(days=0 if plan.every is Every.DAY else WEEKDAYS.index(plan.on)))


@dataclass(frozen=True, slots=True)
class Dear:
    """One brief of the period."""

    brief_id: str
    persona: str
    kind: str
    mrr: Decimal


@dataclass(frozen=True, slots=True)
class Figures:
    """What a digest tells, amounts in the account's currency per month.

    Briefs and outcomes are those of the period (`outcomes` by name: how many, and their MRR), the rest is as it stands.
    `came_back` are briefs that were put aside, have come back and were not touched since, `put_aside` those that are
    yet to come.
    """

    briefs: int
    brief_mrr: Decimal
    kinds: Mapping[str, int]
    dearest: Sequence[Dear]
    outcomes: Mapping[str, tuple[int, Decimal]]
    at_risk: int
    at_risk_mrr: Decimal
    waiting: int
    dead: int
    undelivered: int
    came_back: int = 0
    put_aside: int = 0


def digest_message(
    plan: Plan, period: Period, figures: Figures, *, currency: str, at_risk_days: int, links: Sequence[Link] = ()
) -> Message:
    """A digest as a message; its id is the same whenever the same period is told."""

    def money(amount: Decimal) -> str:
        return format_money(amount, currency)

    briefs = counted(figures.briefs, "brief")
    at_risk = f"{counted(figures.at_risk, 'customer')}, last {counted(at_risk_days, 'day')}"
    kinds = ", ".join(f"{count} {kind}" for kind, count in figures.kinds.items())
    outcomes = ", ".join(f"{count} {name} ({money(mrr)})" for name, (count, mrr) in figures.outcomes.items())
    lines = [(f"{money(dear.mrr)} a month", f"{dear.kind}, {dear.persona}") for dear in figures.dearest]
    return Message(
        id=f"digest {plan.name} {period.name}",
        title=f"Churn digest {period.name}: {briefs}, {money(figures.at_risk_mrr)} a month at risk",
        facts=(
            ("At risk", f"{money(figures.at_risk_mrr)} a month, {at_risk}"),
            ("New briefs", f"{figures.briefs}, {money(figures.brief_mrr)} a month" + (f" ({kinds})" if kinds else "")),
            ("Outcomes", outcomes or "none told"),
            ("Reminders", f"waiting for somebody again: {figures.came_back}, put aside: {figures.put_aside}"),
            ("Waiting", counted(figures.waiting, "signal")),
            *([("Covers", _covered(plan, period))] if period.has_missed else []),
        ),
        lines=tuple(lines),
        caution=_caution(figures),
        links=tuple(links),
    )


def _covered(plan: Plan, period: Period) -> str:
    since = period.since.astimezone(plan.time_zone)
    return f"all since {since:%Y-%m-%d %H:%M} ({plan.time_zone}), as the digests in between did not get through"


def _caution(figures: Figures) -> str | None:
    signals, deliveries = counted(figures.dead, "signal"), counted(figures.undelivered, "delivery", "deliveries")
    told = [words for count, words in ((figures.dead, signals), (figures.undelivered, deliveries)) if count]
    return f"Needs a look: {' and '.join(told)} given up." if told else None
