"""Whether two tellings are of the same event. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

# Of an event that names no message, only that it was at about the same time tells that it is the same.
ABOUT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Known:
    """An event of a customer that the record has: its kind, the message that it is about, and when it happened."""

    kind: str
    delivery_id: str | None
    at: datetime


def is_known(kind: str, delivery_id: str, at: datetime, known: Iterable[Known]) -> bool:
    """Whether an event about a message is among those that the record has of its customer.

    It is, when the same message came with the same kind, whatever the event was called; or the same kind at about the
    same time without a message: a customer's unsubscribe, which comes beside that of the mail.
    """
    return any(
        each.kind == kind
        and (each.delivery_id == delivery_id or (each.delivery_id is None and abs(each.at - at) <= ABOUT))
        for each in known
    )
