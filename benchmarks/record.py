"""The record as a stranger reads it: its SQLite file, opened read-only; and records filled by the million."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from churn_radar.store.schema import upgrade_record

UNFINISHED = ("received", "waiting", "researching")
# Who is in a filled record, apart from those that a benchmark sends events of.
FILLED = "f"
BRIEF_EVERY = 10

_ACCOUNT = {"plan": "pro", "mrr": "850", "industry": "fintech", "usage": "high", "tenure_days": 342, "notes": []}
_TRIAGE = {
    "account": _ACCOUNT,
    "persona": "High-MRR Fintech (Pro plan)",
    "attributes_source": "live",
    "attributes_seen_at": None,
}
_ATTRIBUTES = {"plan_type": "pro", "mrr": "850", "industry": "fintech", "usage_tier": "high", "tenure_days": "342"}
_SECTIONS = dict.fromkeys(
    ("churn_reasons", "retention_tactics", "winback_emails", "offer", "timing", "reengagement_signals")
)
_NUMBERS = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)"
_CUSTOMERS = f"""
INSERT INTO customers (seq, customer_id, cio_id, email, attributes, seen_at)
{_NUMBERS} SELECT n, '{FILLED}' || n, printf('%08x', n), '{FILLED}' || n || '@bench.example', :attributes, :now
FROM numbers
"""  # noqa: S608  constants of this module
_SIGNALS = f"""
INSERT INTO signals (seq, signal_id, event_key, event_id, kind, metric, object_type, customer_id, cio_id, email,
    customer_seq, occurred_at, received_at, source, forced, status, reason, attempts, priority, triage, updated_at)
{_NUMBERS} SELECT n, 'sig_' || lower(hex(randomblob(16))), printf('01FILL%020d', n), printf('01FILL%020d', n),
    'unsubscribed', 'unsubscribed', 'email', '{FILLED}' || n, NULL, '{FILLED}' || n || '@bench.example',
    CASE WHEN :status = 'received' THEN NULL ELSE n END, :now, :now, 'webhook', 0,
    CASE WHEN :status <> 'done' THEN :status WHEN n % {BRIEF_EVERY} = 0 THEN 'briefed' ELSE 'skipped' END,
    CASE WHEN :status <> 'done' OR n % {BRIEF_EVERY} = 0 THEN NULL ELSE 'plan free is not researched' END,
    0, abs(random()) % 1000000, CASE WHEN :status = 'received' THEN NULL ELSE :triage END, :now
FROM numbers
"""  # noqa: S608
_HISTORY = """
INSERT INTO signal_history (signal_seq, at, status, attempt)
SELECT seq, updated_at, status, 0 FROM signals WHERE status <> 'received' ORDER BY seq
"""
_BRIEFS = """
INSERT INTO briefs (brief_id, signal_seq, customer_seq, customer_id, cio_id, email, event_type, persona_type, plan,
    mrr, currency, account, research_brief, sections, sources, confidence, hallucination_risk, unsupported_claims,
    credits_used, clarified, extra, prompt, attributes_source, notes, signal_received_at, created_at)
SELECT 'brf_' || lower(hex(randomblob(16))), s.seq, c.seq, c.customer_id, c.cio_id, c.email, 'unsubscribed',
    'High-MRR Fintech (Pro plan)', 'pro', 850, 'USD', :account, :text, :sections, '[]', 0.8, 'low', '[]', 48, 0, '{}',
    :text, 'live', '[]', s.received_at, s.received_at
FROM signals s JOIN customers c ON c.seq = s.customer_seq WHERE s.status = 'briefed' ORDER BY s.seq
"""
_BRIEF_OF = "UPDATE signals SET brief_seq = (SELECT seq FROM briefs WHERE signal_seq = signals.seq) WHERE :any"


def customer_with_brief(number: int) -> str:
    """The id of customer `number` (from 1 on) of those in a filled record who have a brief."""
    return f"{FILLED}{number * BRIEF_EVERY}"


def fill(path: Path, count: int, *, status: str = "done") -> None:
    """Make a record of `count` signals, one a customer: `done` (one in ten with a brief), `waiting` or `received`.

    Straight by SQL and without syncing: about 100,000 signals a second.
    """
    upgrade_record(path)
    values = {
        "count": count,
        "status": status,
        "now": time.time_ns() // 1000,
        "account": json.dumps(_ACCOUNT),
        "attributes": json.dumps(_ATTRIBUTES),
        "triage": json.dumps(_TRIAGE),
        "sections": json.dumps(_SECTIONS),
        "text": "## Why they churn\n\nThey rarely say.\n" * 60,
    }
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("synchronous=OFF", "journal_mode=MEMORY", "cache_size=-500000"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        for statement in (_CUSTOMERS, _SIGNALS, _HISTORY, _BRIEFS):
            connection.execute(statement, values)
        if status == "done":
            connection.execute(f"{_BRIEF_OF} AND status = 'briefed'", {"any": 1})
        connection.execute("COMMIT")


def counts(path: Path) -> dict[str, int]:
    """How many signals stand where."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return dict(connection.execute("SELECT status, count(*) FROM signals GROUP BY status").fetchall())


def number_of(path: Path, table: str) -> int:
    """How many rows a table has."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608  a table of ours


async def until(
    path: Path, done: Callable[[dict[str, int]], bool], *, most_seconds: float, every: float = 0.05
) -> None:
    """Wait until the record's counts by status are such; raises TimeoutError when they never are."""
    async with asyncio.timeout(most_seconds):
        while True:
            if done(counts(path)):
                return
            await asyncio.sleep(every)


def nothing_untriaged(found: dict[str, int]) -> bool:
    """Whether every signal has been triaged."""
    return "received" not in found


def nothing_unfinished(found: dict[str, int]) -> bool:
    """Whether every signal has its outcome."""
    return not set(UNFINISHED) & set(found)
