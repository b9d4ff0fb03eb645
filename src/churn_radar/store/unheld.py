"""Unfinished work of the record that no job stands for.

A job is written with what gives rise to it, or right after: a crash in between, a copied record or a restored backup
leaves work that only the record knows of.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from churn_radar.store.jobs import NAMES
from churn_radar.store.postgres_driver import PatientDriver
from churn_radar.store.tables import EPOCH, to_micros

PAGE = 5000
# "sweep" as a number: one replica at a time looks.
_SWEEP_LOCK = 0x7377656570

_UNHELD = f"""
WITH held AS MATERIALIZED (
    SELECT entrypoint, number::bigint AS seq
    FROM {NAMES.queue_table}, unnest(string_to_array(encode(payload, 'escape'), ',')) AS number
),
unfinished AS (
    SELECT CASE status WHEN 'received' THEN 'triage' ELSE 'research' END AS step, seq, priority, due_at,
        status = 'researching' AS begun
    FROM signals WHERE status IN ('received', 'waiting', 'researching') AND updated_at < $1
    UNION ALL
    SELECT 'deliver', seq, 0, due_at, false FROM deliveries WHERE status = 'pending' AND updated_at < $1
)
SELECT step, seq, priority, due_at, begun FROM unfinished
WHERE NOT EXISTS (SELECT FROM held WHERE held.entrypoint = step AND held.seq = unfinished.seq)
ORDER BY priority DESC, seq LIMIT $2
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Unheld:
    """One row of the record to be worked on. `begun`: its research was under way when its job was lost."""

    step: str
    seq: int
    priority: int
    due_at: datetime | None
    begun: bool


async def unheld_work(driver: PatientDriver, *, before: datetime, limit: int = PAGE) -> list[Unheld] | None:
    """What nobody has touched since `before` and no job stands for; None when another replica is looking.

    The dearest first. Raises what the driver does.
    """
    async with driver.transaction() as connection:
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _SWEEP_LOCK):
            return None
        return [_read(row) for row in await connection.fetch(_UNHELD, to_micros(before), limit)]


def _read(row: asyncpg.Record) -> Unheld:
    due_at = None if row["due_at"] is None else EPOCH + timedelta(microseconds=row["due_at"])
    return Unheld(row["step"], row["seq"], row["priority"], due_at, row["begun"])
