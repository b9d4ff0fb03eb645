"""What a customer did since their signal that speaks of staying: kept only where there is a brief to show it on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.outcome.rules import CLOSING
from churn_radar.store.dialect import insert_if_new
from churn_radar.store.tables import Status, briefs, hints, signals
from churn_radar.triage.customer import CustomerRef

# Somebody may switch their subscription on and off all day.
MOST_OF_A_CUSTOMER = 20


@dataclass(frozen=True, slots=True)
class Hinted:
    """What happened, and when."""

    kind: str
    at: datetime


async def keep_hint(connection: AsyncConnection, event_key: str, customer_seq: int, hinted: Hinted) -> None:
    """Keep a hint; an event that is here already changes nothing."""
    values = {"event_key": event_key, "customer_seq": customer_seq, "kind": hinted.kind, "at": hinted.at}
    await connection.execute(insert_if_new(hints, connection.dialect).values(**values))


async def hints_since(connection: AsyncConnection, customer_seqs: Collection[int]) -> dict[int, list[Hinted]]:
    """The last hints of some customers, oldest first, by row number."""
    found: dict[int, list[Hinted]] = {seq: [] for seq in customer_seqs}
    rows = await connection.execute(
        select(hints.c.customer_seq, hints.c.kind, hints.c.at)
        .where(hints.c.customer_seq.in_(customer_seqs))
        .order_by(hints.c.customer_seq, hints.c.at)
    )
    for customer_seq, kind, at in rows:
        found[customer_seq].append(Hinted(kind, at))
    return {seq: of_theirs[-MOST_OF_A_CUSTOMER:] for seq, of_theirs in found.items()}


async def await_an_end(connection: AsyncConnection, customer_seqs: Collection[int], *, since: datetime) -> set[int]:
    """Those of some customers who have something to show a hint on.

    That is a newest brief, from `since` or later, of which nobody has said how it ended; or a signal on its way to one.
    """
    newest = (
        select(func.max(briefs.c.seq)).where(briefs.c.customer_seq.in_(customer_seqs)).group_by(briefs.c.customer_seq)
    )
    open_ones = select(briefs.c.customer_seq).where(
        briefs.c.seq.in_(newest),
        briefs.c.created_at >= since,
        or_(briefs.c.outcome.is_(None), briefs.c.outcome.not_in(CLOSING)),
    )
    # As an expression, so that no database goes by the index on the status, and looks at all that waits.
    status = signals.c.status.concat("")
    on_their_way = select(signals.c.customer_seq).where(
        signals.c.customer_seq.in_(customer_seqs), status.in_([Status.WAITING.value, Status.RESEARCHING.value])
    )
    found = set((await connection.execute(open_ones)).scalars())
    return found | {seq for seq in (await connection.execute(on_their_way)).scalars() if seq is not None}


async def is_about_to_be_known(connection: AsyncConnection, ref: CustomerRef, kinds: Collection[str]) -> bool:
    """Whether a signal of somebody who goes by one of these names is still to be triaged.

    `kinds` are those of the hints, which are signals themselves until they have been looked at.
    """
    named = (
        (signals.c.customer_id, ref.id),
        (signals.c.cio_id, ref.cio_id),
        (signals.c.email, ref.email.lower() if ref.email else None),
    )
    status = signals.c.status.concat("")
    for column, name in named:
        if name is not None:
            theirs = select(signals.c.seq).where(
                column == name, status == Status.RECEIVED.value, signals.c.kind.not_in(kinds)
            )
            if (await connection.execute(theirs.limit(1))).first() is not None:
                return True
    return False


async def forget_events(connection: AsyncConnection, seqs: Collection[int]) -> None:
    """Delete the rows of signals that are to leave no trace, such as those that hints came in as."""
    await connection.execute(delete(signals).where(signals.c.seq.in_(seqs)))
