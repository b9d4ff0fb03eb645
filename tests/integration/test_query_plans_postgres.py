"""Queries that stay fast on Postgres too: none that the service really runs walks through a table of the record.

Overheard from the same life of a service as on SQLite; and so is what goes to Postgres by another way, to which
SQLAlchemy does not listen: the queue, the shared limits, the sweep. Small tables are always walked and sorted, so the
planner is forbidden to: what it does then is what it does with a million rows. A walk that is left shows as a
sequential scan all the same, or as a scan of a whole index, without a condition; that is let pass only where the walk
ends at the limit of a page, or where the index holds nothing but what is asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from churn_radar.store import arrivals_postgres
from churn_radar.store.arrivals import arrival_row
from churn_radar.store.jobs import _BACKLOG, _RELEASE_HELD, NAMES
from churn_radar.store.permits import _LOOK
from churn_radar.store.tables import metadata
from churn_radar.store.unheld import _UNHELD
from tests.integration.test_query_plans import Overheard, live_through_everything
from tests.support.door import arrival
from tests.support.postgres import Scratch

Plan = dict[str, Any]
READS = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b[^;]*;?\s*")
TOUCHES_ROWS = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE)")

# Where there is no other way, the planner walks or sorts nevertheless. A sort is forbidden in a second try only, and a
# bitmap with it: a page that is read in the order of an index needs neither.
NO_WALK = {"enable_seqscan": "off"}
NO_SORT = {**NO_WALK, "enable_sort": "off", "enable_bitmapscan": "off"}

# Partial indexes of exactly the signals and briefs that are asked for, and the one of the quarantine's sizes.
WHOLE = {
    "ix_signals_dead",
    "ix_signals_fresh_waiting",
    "ix_signals_waiting",
    "ix_credits_under_way",
    "ix_briefs_snoozed",
    "ix_briefs_reminded",
    "ix_quarantined_bodies_size",
}

# What grows with the work that waits, and what grows with the record.
GROWING = {*metadata.tables, NAMES.queue_table, "upstream_permits"}
# These count or compare all that waits: for readiness, and once a minute. `_LOOK` sorts the calls of one window.
OF_ALL_THAT_WAITS = (_BACKLOG, _UNHELD, _RELEASE_HELD, _LOOK)
CATALOGUE = re.compile(r"\bpg_(class|enum)\b")


def overhear_the_driver(patch: pytest.MonkeyPatch, heard: dict[str, Overheard]) -> None:
    """Keep each statement that is run without SQLAlchemy, with its first values."""

    def listening(ask: Any) -> Any:
        async def hear(self: asyncpg.Connection, statement: str, *values: Any, **more: Any) -> Any:
            heard.setdefault(statement, Overheard(statement, values))
            return await ask(self, statement, *values, **more)

        return hear

    for name in ("execute", "fetch", "fetchrow", "fetchval"):
        patch.setattr(asyncpg.Connection, name, listening(getattr(asyncpg.Connection, name)))


def nodes(plan: Plan, under: tuple[str, ...] = ()) -> Iterator[tuple[Plan, tuple[str, ...]]]:
    """Every node of a plan, with the types of those above it."""
    yield plan, under
    for child in plan.get("Plans", ()):
        yield from nodes(child, (*under, plan["Node Type"]))


def walks(plan: Plan) -> list[str]:
    """The nodes of a plan that grow with the record and not with the answer."""
    found = []
    for node, under in nodes(plan):
        kind, table = node["Node Type"], node.get("Relation Name")
        if kind == "Seq Scan" and table in GROWING:
            found.append(f"walks through {table}")
        if kind in ("Index Scan", "Index Only Scan", "Bitmap Index Scan") and "Index Cond" not in node:
            page = "Limit" in under and "Filter" not in node and "Sort" not in under
            if not page and node["Index Name"] not in WHOLE:
                found.append(f"walks through {node['Index Name']}")
        if kind == "Sort" and under[-1:] == ("Limit",):
            found.append(f"sorts for a page: {node['Sort Key']}")
    return found


def searched_by(plan: Plan) -> set[str | None]:
    """The tables in which rows are found by an index."""
    return {node.get("Relation Name") for node, _ in nodes(plan) if "Index Cond" in node or "Recheck Cond" in node}


async def explain(connection: asyncpg.Connection, statement: str, values: Any) -> Plan:
    """How Postgres would run a statement."""
    [[plan]] = await connection.fetch(f"EXPLAIN (FORMAT JSON, COSTS OFF) {statement}", *(values or ()))
    told: Plan = json.loads(plan)[0]["Plan"]
    return told


def is_ours(each: Overheard) -> bool:
    """Whether a statement reads or writes what grows, and is none of those that may walk."""
    if not READS.fullmatch(each.text) or CATALOGUE.search(each.text):
        return False
    return each.text not in OF_ALL_THAT_WAITS


def feign_size(postgres: Scratch) -> None:
    """Let the planner take every table for a large one of which nothing else is known."""
    ours = "relkind = 'r' AND relnamespace = current_schema()::regnamespace"
    postgres.run(f"UPDATE pg_class SET relpages = 1, reltuples = 1e6 WHERE {ours}")  # noqa: S608
    postgres.run(f"DELETE FROM pg_statistic WHERE starelid IN (SELECT oid FROM pg_class WHERE {ours})")  # noqa: S608


async def test_no_query_of_the_service_walks_through_a_table_or_sorts_what_it_takes_a_page_of(
    postgres: Scratch, tmp_path: Path
) -> None:
    beside: dict[str, Overheard] = {}
    with pytest.MonkeyPatch.context() as patch:
        overhear_the_driver(patch, beside)
        heard = await live_through_everything(tmp_path)
    asked = [
        *(each for each in heard.values() if TOUCHES_ROWS.match(each.text) and "pg_" not in each.text),
        *filter(is_ours, beside.values()),
    ]
    no_walk = await asyncpg.connect(postgres.url, server_settings=NO_WALK)
    no_sort = await asyncpg.connect(postgres.url, server_settings=NO_SORT)
    searched: set[str | None] = set()

    async def walking(statements: Iterable[Overheard]) -> dict[str, list[str]]:
        found = {}
        for each in statements:
            plan = await explain(no_walk, each.text, each.parameters)
            if wrong := walks(plan) and walks(await explain(no_sort, each.text, each.parameters)):
                found[each.text] = wrong
            searched.update(searched_by(plan))
        return found

    try:
        # Of a table that autovacuum has found to be small it walks through all, and rightly so; of a large one it joins
        # with half of it by a walk. Whatever has no index to go by walks in either case.
        small = await walking(asked)
        feign_size(postgres)
        found = await walking(each for each in asked if each.text in small)
        row = tuple([value] for value in arrival_row(arrival("a")))
        assert walks(await explain(no_walk, arrivals_postgres._INSERT, row)) == []
    finally:
        await no_walk.close()
        await no_sort.close()
    assert found == {}
    assert searched >= GROWING - {"signal_history", "quarantined_bodies"}


@pytest.mark.parametrize(
    ("statement", "values", "told"),
    [
        ("SELECT * FROM signals WHERE reason = $1", ["x"], ["walks through signals"]),
        ("SELECT count(*) FROM customers", [], ["walks through"]),
        ("SELECT * FROM signals ORDER BY updated_at LIMIT 3", [], ["walks through signals", "sorts for a page"]),
    ],
)
async def test_a_plan_that_grows_with_the_record_is_found_out(
    postgres: Scratch, statement: str, values: list[Any], told: list[str]
) -> None:
    connection = await asyncpg.connect(postgres.url, server_settings=NO_SORT)
    try:
        found = walks(await explain(connection, statement, values))
    finally:
        await connection.close()
    assert len(found) == len(told)
    assert all(any(line.startswith(start) for line in found) for start in told)
