"""The words of the work: steps, tasks, and what becomes of an attempt. Every engine speaks them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Step(StrEnum):
    """The steps of the work, each a queue of its own."""

    TRIAGE = "triage"
    RESEARCH = "research"
    DELIVER = "deliver"


@dataclass(frozen=True, slots=True)
class Task:
    """One step to be done for one row of the record."""

    step: Step
    seq: int
    priority: int = 0
    delay: timedelta | None = None


def delay_until(due_at: datetime | None, now: datetime) -> timedelta | None:
    """The delay of a task that is due then; None when it is due already."""
    return None if due_at is None or due_at <= now else due_at - now


@dataclass(frozen=True, slots=True)
class Done:
    """The step is over, whatever came of it; the record says what."""


@dataclass(frozen=True, slots=True)
class Again:
    """The step is to be tried again after a while.

    With `in_record` the record says when: the engine is done with it, and whoever reads the record brings it back.
    """

    delay: timedelta
    in_record: bool = False


Outcome = Done | Again
Handler = Callable[[int], Awaitable[Outcome]]
BatchHandler = Callable[[Sequence[int]], Awaitable[Sequence[Outcome]]]
