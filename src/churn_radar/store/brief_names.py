"""What people look a customer's briefs up by: the beginning of an id, a mail address, or the host in one.

Written once, with the brief. In the byte order of every database, so that a beginning is found as a range.
"""

from __future__ import annotations

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.dialect import is_storable
from churn_radar.store.tables import brief_names

# Longer names are found by their beginning; indexes have a limit to what they hold.
NAME_CHARACTERS = 200
# Whoever types so little that more than these begin with it types on.
MOST_NAMED = 500


def names_of(*, customer_id: str, cio_id: str | None, email: str | None) -> set[str]:
    """The names of a brief's customer, in lower case."""
    host = (email or "").rpartition("@")[2]
    return {name.lower()[:NAME_CHARACTERS] for name in (customer_id, cio_id, email, host) if name}


async def name_brief(
    connection: AsyncConnection, brief_seq: int, *, customer_id: str, cio_id: str | None, email: str | None
) -> None:
    """Let a new brief be found by its customer's names."""
    names = names_of(customer_id=customer_id, cio_id=cio_id, email=email)
    await connection.execute(insert(brief_names), [{"name": name, "brief_seq": brief_seq} for name in sorted(names)])


async def briefs_named(connection: AsyncConnection, beginning: str) -> set[int]:
    """The briefs whose customer has a name that begins like this, at most 500."""
    start = beginning.strip().lower()[:NAME_CHARACTERS]
    if not start or not is_storable(start):
        return set()
    end = _after(start)
    statement = select(brief_names.c.brief_seq).where(brief_names.c.name >= start)
    if end is not None:
        statement = statement.where(brief_names.c.name < end)
    rows = await connection.execute(statement.order_by(brief_names.c.name).limit(MOST_NAMED))
    return set(rows.scalars())


def _after(start: str) -> str | None:
    """The first text, by code points, that no longer begins with `start`; None when there is none.

    Code points and their UTF-8 bytes are in the same order; the surrogates between are no text.
    """
    for place in range(len(start) - 1, -1, -1):
        code = ord(start[place]) + 1
        if code <= 0x10FFFF:
            return start[:place] + chr(0xE000 if 0xD800 <= code <= 0xDFFF else code)
    return None
