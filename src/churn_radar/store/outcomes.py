"""What people did about a brief: its outcome, who looks after it, until when it is put aside. The story is kept.

Each change holds the brief's row until its transaction ends, so that two people who act at once do so in turn, and the
sums always hold a brief exactly once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import RowMapping, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.outcome.rules import TELLS_OF_CONTACT, Outcome, is_open
from churn_radar.store.at_risk import put_back, take_off
from churn_radar.store.dialect import is_storable
from churn_radar.store.outcome_sums import counted, recount
from churn_radar.store.tables import brief_history, briefs, reminders


class What(StrEnum):
    """What a line of a brief's story tells of."""

    OUTCOME = "outcome"
    OWNER = "owner"
    SNOOZED = "snoozed"
    REMINDED = "reminded"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a brief's story; `value` is the outcome, the owner or the moment, None where it was taken back."""

    at: datetime
    who: str
    what: What
    value: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Handling:
    """Where a brief stands with the people who look after it."""

    seq: int
    brief_id: str
    customer_seq: int
    outcome: Outcome | None
    outcome_at: datetime | None
    owner: str | None
    snoozed_until: datetime | None
    reminded_at: datetime | None
    first_contact_at: datetime | None
    persona: str
    kind: str
    signal_received_at: datetime
    created_at: datetime

    @property
    def is_open(self) -> bool:
        """Whether it still waits for its end."""
        return is_open(self.outcome)


class LinkUsed(Exception):
    """A link from chat or mail that has done its work already."""


def _handling(row: RowMapping) -> Handling:
    return Handling(
        seq=row["seq"],
        brief_id=row["brief_id"],
        customer_seq=row["customer_seq"],
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        outcome_at=row["outcome_at"],
        owner=row["owner"],
        snoozed_until=row["snoozed_until"],
        reminded_at=row["reminded_at"],
        first_contact_at=row["first_contact_at"],
        persona=row["persona_type"],
        kind=row["event_type"],
        signal_received_at=row["signal_received_at"],
        created_at=row["created_at"],
    )


async def find_handling(connection: AsyncConnection, brief_id: str) -> Handling | None:
    """How the brief of a public id is handled; None when there is no such brief."""
    row = await _row(connection, brief_id)
    return _handling(row) if row else None


async def story_of(connection: AsyncConnection, brief_seq: int) -> list[Line]:
    """What was done about a brief, oldest first."""
    rows = await connection.execute(
        select(
            brief_history.c.at,
            brief_history.c.who,
            brief_history.c.what,
            brief_history.c.value,
            brief_history.c.note,
        )
        .where(brief_history.c.brief_seq == brief_seq)
        .order_by(brief_history.c.seq)
    )
    return [Line(at, who, What(what), value, note) for at, who, what, value, note in rows]


async def set_outcome(
    connection: AsyncConnection,
    brief_id: str,
    outcome: Outcome | None,
    *,
    who: str,
    now: datetime,
    note: str | None = None,
    link: str | None = None,
) -> Handling | None:
    """Say what became of a customer; None takes it back. Returns where the brief stands then, None for an unknown id.

    Saying the same again, without a note, changes nothing; said by a link it is told in the story. An end ends the
    snooze as well. `link` is the digest of a link that this came by: raises LinkUsed when it has been used for
    something that no longer holds.
    """
    row = await _row(connection, brief_id, to_change=True)
    if row is None:
        return None
    same = row["outcome"] == outcome
    if link is not None and await _is_used(connection, link):
        if same:
            return _handling(row)
        raise LinkUsed
    if same and note is None:
        if link is not None:
            # Used all the same: it must not undo later what is said after it.
            await _tell(connection, row["seq"], What.OUTCOME, outcome, who=who, now=now, link=link)
        return _handling(row)
    values: dict[str, Any] = {"outcome": outcome, "outcome_at": now if outcome else None, "reminded_at": None}
    if outcome in TELLS_OF_CONTACT and row["first_contact_at"] is None:
        values["first_contact_at"] = now
    if not is_open(outcome):
        values["snoozed_until"] = None
        await connection.execute(delete(reminders).where(reminders.c.brief_seq == row["seq"]))
    changed = await _change(connection, row["seq"], values)
    await _tell(connection, row["seq"], What.OUTCOME, outcome, who=who, now=now, note=note, link=link)
    await recount(connection, row["seq"], counted(row) if row["counted_at"] else None, counted(changed), now)
    await (put_back(connection, row["seq"]) if is_open(outcome) else take_off(connection, [row["seq"]]))
    return _handling(changed)


async def assign(
    connection: AsyncConnection, brief_id: str, owner: str | None, *, who: str, now: datetime
) -> Handling | None:
    """Give a brief to somebody to look after, or to nobody. Returns where it stands then, None for an unknown id."""
    row = await _row(connection, brief_id, to_change=True)
    if row is None or row["owner"] == owner:
        return _handling(row) if row else None
    changed = await _change(connection, row["seq"], {"owner": owner, "reminded_at": None})
    await _tell(connection, row["seq"], What.OWNER, owner, who=who, now=now)
    return _handling(changed)


async def snooze(
    connection: AsyncConnection,
    brief_id: str,
    until: datetime | None,
    *,
    who: str,
    now: datetime,
    note: str | None = None,
) -> Handling | None:
    """Put a brief aside until a moment, at which a reminder is due; None fetches it back.

    Returns where it stands then, None for an unknown id.
    """
    row = await _row(connection, brief_id, to_change=True)
    if row is None or (row["snoozed_until"] == until and note is None):
        return _handling(row) if row else None
    await connection.execute(delete(reminders).where(reminders.c.brief_seq == row["seq"]))
    if until is not None:
        await connection.execute(insert(reminders).values(brief_seq=row["seq"], due_at=until, attempts=0, told=[]))
    changed = await _change(connection, row["seq"], {"snoozed_until": until, "reminded_at": None})
    value = until.isoformat() if until else None
    await _tell(connection, row["seq"], What.SNOOZED, value, who=who, now=now, note=note)
    return _handling(changed)


async def come_back(connection: AsyncConnection, brief_seq: int, *, now: datetime) -> None:
    """Let a brief that was put aside come back, and tell so in its story."""
    held = select(briefs.c.snoozed_until).where(briefs.c.seq == brief_seq).with_for_update()
    until = (await connection.execute(held)).scalar()
    if until is None:
        return
    await connection.execute(
        update(briefs).where(briefs.c.seq == brief_seq).values(snoozed_until=None, reminded_at=now)
    )
    await _tell(connection, brief_seq, What.REMINDED, until.isoformat(), who="churn_radar", now=now)


async def _row(connection: AsyncConnection, brief_id: str, *, to_change: bool = False) -> RowMapping | None:
    if not is_storable(brief_id):
        return None
    statement = select(briefs).where(briefs.c.brief_id == brief_id)
    if to_change:
        statement = statement.with_for_update(key_share=True)
    return (await connection.execute(statement)).mappings().first()


async def _is_used(connection: AsyncConnection, link: str) -> bool:
    used = select(brief_history.c.seq).where(brief_history.c.link == link)
    return (await connection.execute(used)).first() is not None


async def _change(connection: AsyncConnection, seq: int, values: dict[str, Any]) -> RowMapping:
    await connection.execute(update(briefs).where(briefs.c.seq == seq).values(**values))
    return (await connection.execute(select(briefs).where(briefs.c.seq == seq))).mappings().one()


async def _tell(
    connection: AsyncConnection,
    brief_seq: int,
    what: What,
    value: str | None,
    *,
    who: str,
    now: datetime,
    note: str | None = None,
    link: str | None = None,
) -> None:
    await connection.execute(
        insert(brief_history).values(brief_seq=brief_seq, at=now, who=who, what=what, value=value, note=note, link=link)
    )
