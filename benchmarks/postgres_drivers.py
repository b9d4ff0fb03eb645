"""Which driver costs this process least on Postgres: our own hot statements, through SQLAlchemy Core and raw.

    CHURN_RADAR_BENCH_POSTGRES_URL=postgresql://postgres@127.0.0.1/scratch python -m benchmarks.postgres_drivers

Needs asyncpg and `psycopg[binary]`, and a scratch database, in which it makes and drops its tables. Both drivers take
turns, so that what else the machine does falls on both alike; the best of the turns counts. The CPU time is that of
this process alone: it is what the event loop cannot spend on requests.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

from sqlalchemy import Insert, bindparam, insert, make_url, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from churn_radar.store.tables import metadata, signals

URL = os.environ.get("CHURN_RADAR_BENCH_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
DRIVERS = ("asyncpg", "psycopg")
ROWS, LOADED, TURNS, TIMES = 35, 50, 5, 60

Run = Callable[[], Awaitable[Any]]


def _row() -> dict[str, Any]:
    name = uuid4().hex
    return {
        "signal_id": f"sig_{name[:26]}",
        "event_key": f"email:{name}:unsubscribed",
        "event_id": name,
        "kind": "email_unsubscribed",
        "metric": "unsubscribed",
        "object_type": "email",
        "customer_id": name[:12],
        "cio_id": name[:16],
        "email": f"{name[:12]}@example.com",
        "occurred_at": 1_790_000_000_000_000,
        "received_at": 1_790_000_000_000_000,
        "facts": '{"campaign_id":7,"delivery_id":"d-1","subject":"Your plan"}',
        "source": "webhook",
        "forced": False,
        "status": "received",
        "reason": None,
        "updated_at": 1_790_000_000_000_000,
    }


# Stored values, as the record's own path writes them, so that no type of SQLAlchemy's stands between.
_plain = signals.to_metadata(type(metadata)())
for _column in _plain.columns:
    if hasattr(_column.type, "impl") and type(_column.type).__module__.startswith("churn_radar"):
        _column.type = _column.type.impl


def _insert(rows: int) -> Insert:
    numbered: list[dict[str, Any]] = [{name: bindparam(f"{name}_{place}") for name in _row()} for place in range(rows)]
    return (
        postgresql.insert(_plain)
        .values(numbered)
        .on_conflict_do_nothing(index_elements=["event_key"])
        .returning(_plain.c.seq, _plain.c.event_key)
    )


_INSERT = _insert(ROWS)
_LOAD = select(signals).where(signals.c.seq.in_(bindparam("seqs", expanding=True))).order_by(signals.c.seq)
_UPDATE = (
    update(_plain)
    .where(_plain.c.seq == bindparam("at_seq"))
    .values(status=bindparam("to_status"), updated_at=bindparam("to_updated"))
)


async def _core(engine: AsyncEngine, seqs: list[int]) -> dict[str, Run]:
    async def insert_rows() -> None:
        values = {f"{name}_{place}": value for place in range(ROWS) for name, value in _row().items()}
        async with engine.begin() as connection:
            (await connection.execute(_INSERT, values)).all()

    async def load() -> None:
        async with engine.connect() as connection:
            (await connection.execute(_LOAD, {"seqs": seqs})).mappings().all()

    async def many_updates() -> None:
        async with engine.begin() as connection:
            await connection.execute(
                _UPDATE, [{"at_seq": seq, "to_status": "waiting", "to_updated": 1} for seq in seqs]
            )

    return {"insert 35": insert_rows, "load 50": load, "update 50": many_updates}


async def _raw(driver: str, seqs: list[int]) -> dict[str, Run]:
    text = "numeric_dollar" if driver == "asyncpg" else "format"
    dialect = postgresql.dialect(paramstyle=text)  # type: ignore[no-untyped-call]
    inserting = _INSERT.compile(dialect=dialect)
    statement, order = str(inserting), inserting.positiontup or []
    url = make_url(URL).set(drivername="postgresql").render_as_string(hide_password=False)

    def flat() -> list[Any]:
        values = {f"{name}_{place}": value for place in range(ROWS) for name, value in _row().items()}
        return [values[name] for name in order]

    if driver == "asyncpg":
        import asyncpg

        connection = await asyncpg.connect(url)

        async def insert_rows() -> None:
            # One statement is a transaction of its own: one way there and back.
            await connection.fetch(statement, *flat())

        async def load() -> None:
            await connection.fetch("SELECT * FROM signals WHERE seq = ANY($1::bigint[]) ORDER BY seq", seqs)

        async def many_updates() -> None:
            await connection.executemany(
                "UPDATE signals SET status=$1, updated_at=$2 WHERE seq=$3", [("waiting", 1, seq) for seq in seqs]
            )
    else:
        import psycopg

        other = await psycopg.AsyncConnection.connect(url, autocommit=True)

        async def insert_rows() -> None:
            await (await other.execute(statement, flat(), prepare=True)).fetchall()

        async def load() -> None:
            cursor = await other.execute("SELECT * FROM signals WHERE seq = ANY(%s) ORDER BY seq", (seqs,))
            await cursor.fetchall()

        async def many_updates() -> None:
            async with other.transaction(), other.cursor() as cursor:
                await cursor.executemany(
                    "UPDATE signals SET status=%s, updated_at=%s WHERE seq=%s", [("waiting", 1, seq) for seq in seqs]
                )

    return {"insert 35": insert_rows, "load 50": load, "update 50": many_updates}


async def _measure(run: Run) -> tuple[float, float]:
    for _ in range(8):
        await run()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(TIMES):
        await run()
    return (time.perf_counter() - wall) / TIMES * 1000, (time.process_time() - cpu) / TIMES * 1000


async def main() -> None:
    url = make_url(URL)
    engines = {name: create_async_engine(url.set(drivername=f"postgresql+{name}")) for name in DRIVERS}
    first = engines["asyncpg"]
    async with first.begin() as connection:
        await connection.run_sync(metadata.drop_all)
        await connection.run_sync(metadata.create_all)
        made = await connection.execute(insert(_plain).returning(_plain.c.seq), [_row() for _ in range(LOADED)])
        seqs = list(made.scalars())
    runs = {(name, "Core"): await _core(engine, seqs) for name, engine in engines.items()}
    runs |= {(name, "raw"): await _raw(name, seqs) for name in DRIVERS}
    best: dict[tuple[str, str, str], tuple[float, float]] = {}
    for _ in range(TURNS):
        for (driver, way), works in runs.items():
            for what, run in works.items():
                key = (what, way, driver)
                found = await _measure(run)
                best[key] = min(best.get(key, found), found, key=lambda pair: pair[1])
    print("| statement | through | driver | ms | of it CPU of ours, ms |\n| --- | --- | --- | --- | --- |")
    for (what, way, driver), (wall, cpu) in sorted(best.items()):
        print(f"| {what} | {way} | {driver} | {wall:.2f} | {cpu:.2f} |")
    async with first.begin() as connection:
        await connection.run_sync(metadata.drop_all)
    for engine in engines.values():
        await engine.dispose()


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(main())
    else:
        uvloop.run(main())
