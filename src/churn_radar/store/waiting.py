"""Who waits for a commit, and what they are told when there is none.

Those who wait are told first, and the log after that: it may be the log that fails.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy.exc import OperationalError

from churn_radar.errors import RecordUnavailable
from churn_radar.store.thread import Work

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Row:
    """A row for the batched insert, and who waits for its fate."""

    value: Any
    done: asyncio.Future[Any]
    since: float


@dataclass(slots=True, eq=False)
class Unit:
    """A piece of work for a savepoint, and who waits for its result."""

    work: Work[Any]
    done: asyncio.Future[Any]


def fail(waiting: Sequence[Row | Unit], error: Exception, kind: type[RecordUnavailable] = RecordUnavailable) -> None:
    """Tell everybody who waits that nothing was committed, and why; `kind` is for what is no fault of the database."""
    cause = _cause(error)
    if isinstance(error, RecordUnavailable | OperationalError):
        kind = RecordUnavailable
    refuse(waiting, f"the record cannot commit: {cause}", kind)
    log.error("record.commit_failed", cause=cause, waiting=len(waiting))


def give_up(waiting: Sequence[Row | Unit]) -> None:
    """A fault of ours around a commit: who was not told yet is refused, and the next batch gets its turn."""
    refuse(waiting, "the record cannot commit: something unexpected happened")
    with contextlib.suppress(Exception):
        log.exception("record.turn_failed", waiting=len(waiting))


def refuse(waiting: Sequence[Row | Unit], message: str, kind: type[RecordUnavailable] = RecordUnavailable) -> None:
    """Raise RecordUnavailable, or a kind of it, with this message in everybody who was not told yet."""
    for each in waiting:
        if not each.done.done():
            each.done.set_exception(kind(message))


def _cause(error: BaseException) -> str:
    """The database's own short words (`disk I/O error`, `database is locked`), else only the kind of error.

    A driver's text can quote values.
    """
    if isinstance(error, RecordUnavailable):
        return str(error).removeprefix("the record cannot commit: ")
    original = getattr(error, "orig", None)
    return str(original) if isinstance(error, OperationalError) else type(original or error).__name__
