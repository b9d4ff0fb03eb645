"""The table behind the shared limits: who calls an upstream now, and who did within its window.

A permit is given under a lock on the service's row, by Postgres' clock: replicas need not agree on the time, and no
two of them count the same free place. It is a lease: a replica that dies leaves a call that counts as under way until
the lease has expired, and one that lives renews it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from churn_radar.store.postgres_driver import PatientDriver

_SEED = "INSERT INTO upstream_limits (service) VALUES ($1) ON CONFLICT DO NOTHING"
_LOCK = """
SELECT held_until, CASE WHEN kept_until > clock_timestamp() AND kept_by <> $2 THEN kept_to END AS kept_to
FROM upstream_limits WHERE service = $1 FOR UPDATE
"""
# Once locked, and not before: a statement sees what was committed when it began.
_LOOK = """
WITH clock AS (SELECT clock_timestamp() AS now, $2 * interval '1 s' AS length),
arrivals AS (
    SELECT CASE WHEN $4::float8 IS NULL THEN granted_at
           ELSE COALESCE(ended_at, LEAST(granted_at + $4 * interval '1 s', clock.now)) END AS at
    FROM upstream_permits, clock
    WHERE service = $1 AND granted_at > clock.now - length - COALESCE($4, 0) * interval '1 s'
       OR service = $1 AND $4 IS NOT NULL AND ended_at > clock.now - length
)
SELECT
    (SELECT count(*) FROM arrivals, clock WHERE at > clock.now - length) AS taken,
    (SELECT EXTRACT(epoch FROM at + length - clock.now) FROM arrivals, clock ORDER BY at DESC OFFSET $3 - 1 LIMIT 1)
        AS free_in,
    (SELECT EXTRACT(epoch FROM $5::timestamptz - clock.now) FROM clock) AS held_for,
    -- While Postgres was away nobody could renew: what was under way when it went has as long again.
    (SELECT count(*) FROM upstream_permits, clock WHERE service = $1 AND ended_at IS NULL
        AND GREATEST(expires_at, pg_postmaster_start_time() + $6 * interval '1 s') > clock.now) AS under_way
"""
_GIVE = """
INSERT INTO upstream_permits (service, holder, granted_at, expires_at)
SELECT $1, $2, now, now + $3 * interval '1 s' FROM clock_timestamp() AS now RETURNING id
"""
_KEEP = """
UPDATE upstream_limits SET kept_to = $3, kept_by = $2, kept_until = clock_timestamp() + $4 * interval '1 s'
WHERE service = $1 AND (kept_by = $2 OR kept_to IS NULL OR kept_until < clock_timestamp() OR kept_to >= $3)
"""
_KEEP_NO_MORE = "UPDATE upstream_limits SET kept_to = NULL, kept_until = NULL WHERE service = $1 AND kept_by = $2"
_HOLD = """
UPDATE upstream_limits SET held_until = GREATEST(held_until, clock_timestamp() + $2 * interval '1 s') WHERE service = $1
"""
_STAMP = "UPDATE upstream_permits SET granted_at = clock_timestamp() WHERE id = $1"
_END = "UPDATE upstream_permits SET ended_at = clock_timestamp() WHERE id = ANY($1::bigint[]) AND ended_at IS NULL"
_RENEW = """
UPDATE upstream_permits SET expires_at = clock_timestamp() + $2 * interval '1 s'
WHERE id = ANY($1::bigint[]) AND ended_at IS NULL
"""
_FORGET = """
DELETE FROM upstream_permits WHERE service = $1 AND granted_at < clock_timestamp() - $2 * interval '1 s'
AND (ended_at < clock_timestamp() - $2 * interval '1 s' OR expires_at < clock_timestamp() - $2 * interval '1 s')
"""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a service allows: `calls` in any `window_seconds`, and `concurrency` at once (None: any number).

    In a short window it counts when calls arrived, and all that is known of that is: before their answers, and at most
    `way_seconds` after they left. In a long one that is None: they count from when they left.
    """

    calls: int
    window_seconds: float
    concurrency: int | None
    way_seconds: float | None
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class Granted:
    """A call may go out. `taken` is how many have gone out in the window, this one included."""

    id: int
    taken: int


@dataclass(frozen=True, slots=True)
class NotYet:
    """No call may go out; one may in `seconds`, for all that is known. `full`: when one of those under way ends."""

    seconds: float
    full: bool = False


class Permits:
    """The permits of one service, as one replica asks for them."""

    def __init__(self, driver: PatientDriver, service: str, holder: UUID) -> None:
        self._driver = driver
        self._service = service
        self._holder = holder
        self._seeded = False

    async def take(self, terms: Terms) -> Granted | NotYet:
        """One permit, or how long to wait. Raises what the driver does, and nothing is taken then for long."""
        async with self._driver.transaction() as connection:
            if not self._seeded:
                await connection.execute(_SEED, self._service)
            limits = await connection.fetchrow(_LOCK, self._service, self._holder)
            assert limits is not None  # noqa: S101  it was seeded
            calls = min(terms.calls, limits["kept_to"] or terms.calls)
            found = await connection.fetchrow(
                _LOOK,
                self._service,
                terms.window_seconds,
                calls,
                terms.way_seconds,
                limits["held_until"],
                terms.lease_seconds,
            )
            answer = _decide(found, calls, terms.concurrency)
            if isinstance(answer, Granted):
                number = await connection.fetchval(_GIVE, self._service, self._holder, terms.lease_seconds)
                answer = Granted(int(number), answer.taken + 1)
        self._seeded = True
        return answer

    async def stamp(self, number: int) -> None:
        """The call of a permit goes out only now."""
        await self._driver.execute(_STAMP, number)

    async def end(self, numbers: Collection[int]) -> None:
        """Calls are over."""
        await self._driver.execute(_END, list(numbers))

    async def renew(self, numbers: Collection[int], lease_seconds: float) -> None:
        """Calls are still under way."""
        await self._driver.execute(_RENEW, list(numbers), lease_seconds)

    async def hold(self, seconds: float) -> None:
        """Let nobody call for so long."""
        await self._driver.execute(_SEED, self._service)
        await self._driver.execute(_HOLD, self._service, seconds)

    async def keep_to(self, calls: int | None, seconds: float) -> None:
        """Tell everybody of a lower limit, for so long; None when this replica has nothing to tell any more."""
        await self._driver.execute(_SEED, self._service)
        if calls is None:
            await self._driver.execute(_KEEP_NO_MORE, self._service, self._holder)
        else:
            await self._driver.execute(_KEEP, self._service, self._holder, calls, seconds)

    async def forget(self, seconds: float) -> None:
        """Delete permits that have counted for nothing for so long."""
        await self._driver.execute(_FORGET, self._service, seconds)


def _decide(found: Any, calls: int, concurrency: int | None) -> Granted | NotYet:
    """Whether one more call fits, from what `_LOOK` found."""
    if (held := float(found["held_for"] or 0)) > 0:
        return NotYet(held)
    if concurrency is not None and found["under_way"] >= concurrency:
        return NotYet(0, full=True)
    if (free_in := float(found["free_in"] or 0)) > 0:
        return NotYet(free_in)
    return Granted(0, int(found["taken"]))
