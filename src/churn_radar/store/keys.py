"""Keys that the record itself keeps, so that every process that shares it signs with the same one."""

from __future__ import annotations

import secrets

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.dialect import insert_if_new
from churn_radar.store.record import Record
from churn_radar.store.tables import kept_keys

KEY_BYTES = 32


async def kept_key(record: Record, name: str) -> bytes:
    """The key of this name, made when it is asked for first; raises RecordUnavailable.

    Whoever comes second, here or in another replica, gets the one that the first has made.
    """
    async with record.read() as connection:
        found = await _load(connection, name)
    if found is None:
        found = await record.write(lambda connection: _load_or_make(connection, name))
    return found


async def _load(connection: AsyncConnection, name: str) -> bytes | None:
    value: bytes | None = (
        await connection.execute(select(kept_keys.c.value).where(kept_keys.c.name == name))
    ).scalar_one_or_none()
    return bytes(value) if value is not None else None


async def _load_or_make(connection: AsyncConnection, name: str) -> bytes:
    await connection.execute(
        insert_if_new(kept_keys, connection.dialect).values(name=name, value=secrets.token_bytes(KEY_BYTES))
    )
    found = await _load(connection, name)
    assert found is not None  # noqa: S101  it has just been made, here or by somebody else
    return found
