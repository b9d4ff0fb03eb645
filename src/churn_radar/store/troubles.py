"""The table of the troubles that all replicas share; a row while an upstream refuses to work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from churn_radar.store.postgres_driver import PatientDriver

CHANNEL = "churn_radar_troubles"

# Only the replica whose call was the probe makes the interval longer.
_REPORT = """
INSERT INTO upstream_troubles AS standing (service, message, status, since, next_probe_at)
VALUES ($1, $2, $3, clock_timestamp(), clock_timestamp() + $4::interval)
ON CONFLICT (service) DO UPDATE SET
    message = EXCLUDED.message,
    status = EXCLUDED.status,
    probes = standing.probes + CASE WHEN $6 AND standing.prober = $5 THEN 1 ELSE 0 END,
    next_probe_at = CASE WHEN $6 AND standing.prober = $5 THEN EXCLUDED.next_probe_at ELSE standing.next_probe_at END,
    prober = CASE WHEN $6 AND standing.prober = $5 THEN NULL ELSE standing.prober END
"""
_CLEAR = "DELETE FROM upstream_troubles WHERE service = $1"
# The next probe has its time already, should this one never tell what came of it.
_CLAIM = """
UPDATE upstream_troubles SET prober = $2,
    next_probe_at = clock_timestamp() + ($3::interval[])[LEAST(probes + 2, cardinality($3::interval[]))]
WHERE service = $1 AND next_probe_at <= clock_timestamp() RETURNING probes
"""
_WAIT = (
    "SELECT GREATEST(next_probe_at - clock_timestamp(), interval '0') AS wait FROM upstream_troubles WHERE service = $1"
)
_PROBE_NOW = """
UPDATE upstream_troubles SET next_probe_at = clock_timestamp(), probes = 0, asked_at = clock_timestamp()
WHERE service = $1 AND (asked_at IS NULL OR asked_at < clock_timestamp() - $2::interval) RETURNING service
"""
_READ = "SELECT service, message, status, since, next_probe_at, probes, prober = $1 AS ours FROM upstream_troubles"


@dataclass(frozen=True, slots=True)
class Found:
    """A trouble that stands. `is_ours` when this replica makes its probe."""

    service: str
    message: str
    status: int | None
    since: datetime
    next_probe_at: datetime
    probes: int
    is_ours: bool


class TroublesTable:
    """The table, as one replica reads and writes it. Waits while Postgres is away."""

    def __init__(self, driver: PatientDriver, holder: UUID) -> None:
        self._driver = driver
        self._holder = holder

    async def report(self, service: str, message: str, status: int | None, delay: timedelta, *, probed: bool) -> None:
        """A service refuses. `delay` is until the next probe; it counts for the first report, and for a probe's."""
        await self._driver.execute(_REPORT, service, message, status, delay, self._holder, probed)
        await self._tell()

    async def clear(self, service: str) -> None:
        """It works again."""
        await self._driver.execute(_CLEAR, service)
        await self._tell()

    async def claim(self, service: str, delays: Sequence[timedelta]) -> int | None:
        """Take the probe that is due: how many have failed before, or None when none is due."""
        rows = await self._driver.fetch(_CLAIM, service, self._holder, list(delays))
        return int(str(rows[0]["probes"])) if rows else None

    async def wait(self, service: str) -> timedelta | None:
        """How long until the next probe; None when the trouble has ended."""
        rows: list[dict[str, Any]] = await self._driver.fetch(_WAIT, service)
        return rows[0]["wait"] if rows else None

    async def probe_now(self, service: str, at_most_every: timedelta) -> bool:
        """The next probe is due at once, and the intervals begin anew; False when that was asked for a moment ago."""
        asked = await self._driver.fetch(_PROBE_NOW, service, at_most_every)
        await self._tell()
        return bool(asked)

    async def read(self) -> list[Found]:
        """What stands."""
        rows: list[dict[str, Any]] = await self._driver.fetch(_READ, self._holder)
        return [
            Found(
                row["service"],
                row["message"],
                row["status"],
                row["since"],
                row["next_probe_at"],
                row["probes"],
                bool(row["ours"]),
            )
            for row in rows
        ]

    async def on_change(self, tell: Callable[[], None]) -> None:
        """Call `tell` when any replica has changed the table, or may have while nothing was heard."""
        self._driver.on_connected.append(tell)
        await self._driver.add_listener(CHANNEL, lambda _: tell())

    async def _tell(self) -> None:
        await self._driver.notify(CHANNEL, "")
