"""The door over a real record, knocked at without a server: exact bytes in, exact bytes out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.types import Message, Scope

from churn_radar.intake.door import MAX_BODIES_BYTES, PATH, Door
from churn_radar.intake.signature import sign
from churn_radar.store import arrivals_postgres
from churn_radar.store.arrivals import Accepted, Arrival, Cursor, insert_arrivals
from churn_radar.store.dialect import driver_connection, is_shared
from churn_radar.store.record import Record, open_record
from churn_radar.store.signals import Signal, list_signals, quarantined_body
from churn_radar.store.tables import Status
from churn_radar.triage.customer import CustomerRef
from tests.support.place import url_for

SECRET = b"signing-key-of-the-tests"
ALERTS = ("unsubscribed", "bounced", "complained")
NOW = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
MAX_BODY = 5 * 1024 * 1024
# For a commit: what a test is not about must not fail on a machine whose disk is slow.
PATIENT_SECONDS = 60.0

Headers = list[tuple[bytes, bytes]]


def arrival(key: str, **values: Any) -> Arrival:
    """A bounce with `key` as its permanent key; any field can be told otherwise."""
    told: dict[str, Any] = {
        "event_key": key,
        "signal_id": f"sig_{key}",
        "received_at": NOW,
        "source": "webhook",
        "event_id": key,
        "kind": "bounced",
        "metric": "bounced",
        "customer": CustomerRef(f"customer-{key}"),
    }
    return Arrival(**{**told, **values})


async def insert_into(connection: AsyncConnection, arrivals: Sequence[Arrival]) -> list[Accepted]:
    """What the door's own writer does to arrivals, on a connection of SQLAlchemy's."""
    if is_shared(connection.dialect):
        raw = await driver_connection(connection)
        statement = await raw.prepare(arrivals_postgres.insert_text())
        return await arrivals_postgres.insert_arrivals(raw, statement, arrivals)
    return await connection.run_sync(lambda sync: insert_arrivals(cast("Cursor", sync.connection.cursor()), arrivals))


def unstorable(key: str) -> Arrival:
    """What no database keeps as text: half of a surrogate pair."""
    return arrival(key, metric="\ud800")


def event(**told: Any) -> dict[str, Any]:
    """A bounce as Customer.io documents it; top-level keys can be told otherwise, `...` takes one away."""
    payload: dict[str, Any] = {
        "event_id": "01E4C4CT6YDC7Y5M7FE1GWWPQJ",
        "object_type": "email",
        "metric": "bounced",
        "timestamp": 1_795_500_000,
        "data": {"customer_id": "42", "identifiers": {"id": "42", "email": "jo@x.io", "cio_id": "a3f0"}},
        **told,
    }
    return {name: value for name, value in payload.items() if value is not ...}


def as_body(payload: object) -> bytes:
    """A payload as a sender would write it."""
    return json.dumps(payload).encode()


def signed_headers(body: bytes, *, timestamp: bytes = b"1795500000", secret: bytes = SECRET) -> Headers:
    """The headers of a reporting webhook, in the current scheme."""
    return [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-cio-timestamp", timestamp),
        (b"x-cio-signature", sign(secret, body, timestamp).encode()),
    ]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the door sent."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def verdict(self) -> str:
        """The status of a 200."""
        assert self.status == 200, (self.status, self.body)
        return str(self.json["status"])


async def knock(
    door: Door,
    body: bytes = b"",
    *,
    headers: Headers | None = None,
    method: str = "POST",
    messages: Iterable[Message] | None = None,
) -> Answer | None:
    """One request, signed unless `headers` say otherwise; None when the door leaves it unanswered.

    `messages` are the ASGI messages of the body when it does not come in one piece; after the last one the
    sender is silent for ever.
    """
    scope: Scope = {
        "type": "http",
        "method": method,
        "path": PATH,
        "headers": signed_headers(body) if headers is None else headers,
    }
    coming = iter(messages if messages is not None else [{"type": "http.request", "body": body, "more_body": False}])
    sent: list[Message] = []

    async def receive() -> Message:
        message = next(coming, None)
        if message is None:
            await asyncio.Event().wait()
            raise AssertionError("unreachable")
        return message

    async def send(message: Message) -> None:
        sent.append(message)

    await door(scope, receive, send)
    if not sent:
        return None
    start, *rest = sent
    assert start["type"] == "http.response.start"
    assert [message["type"] for message in rest] == ["http.response.body"]
    said = rest[0]["body"]
    told = dict(start["headers"])
    assert len(told) == len(start["headers"])
    assert told[b"content-length"] == b"%d" % len(said)
    return Answer(start["status"], told, said)


async def answer(door: Door, body: bytes = b"", **request: Any) -> Answer:
    """As `knock`, for requests that must be answered."""
    said = await knock(door, body, **request)
    assert said is not None, "the door did not answer"
    return said


@dataclass(frozen=True, slots=True)
class House:
    """An open record, its door, and what each commit told the worker."""

    path: Path
    record: Record
    door: Door
    commits: list[Sequence[Accepted]]

    async def signals(self, status: Status | None = None) -> list[Signal]:
        """What the record holds, oldest first."""
        async with self.record.read() as connection:
            return (await list_signals(connection, status=status, after=None, limit=10_000))[::-1]

    async def kept_body(self, signal: Signal) -> bytes | None:
        """The raw bytes that the record keeps with a signal."""
        async with self.record.read() as connection:
            return await quarantined_body(connection, signal.seq)


def door_of(
    record: Record, *, secrets: Sequence[bytes] = (SECRET,), max_body_bytes: int = MAX_BODY, **told: Any
) -> Door:
    """A door as the service makes it, with a still clock."""
    return Door(
        lambda body, arrival: record.accept_soon(arrival),
        secrets=secrets,
        alert_events=told.get("alert_events", ALERTS),
        max_body_bytes=max_body_bytes,
        max_bodies_bytes=told.get("max_bodies_bytes", MAX_BODIES_BYTES),
        now=lambda: NOW,
    )


@contextlib.asynccontextmanager
async def house(
    folder: Path, *, commit_timeout_seconds: float = PATIENT_SECONDS, max_waiting: int = 2000
) -> AsyncIterator[House]:
    """Open `record.db` in a folder, or the database of the test, with a door in front of it."""
    path = folder / "record.db"
    commits: list[Sequence[Accepted]] = []
    async with open_record(
        url_for(folder),
        on_accepted=commits.append,
        commit_timeout_seconds=commit_timeout_seconds,
        max_waiting=max_waiting,
    ) as record:
        yield House(path, record, door_of(record), commits)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Nobody else can write while the block runs: another connection holds the write lock."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextlib.contextmanager
def stuck(record: Record) -> Iterator[None]:
    """As `held`, and whoever waits for a commit is soon told that it takes too long.

    Only while the block runs: any other commit may take as long as the machine's disk needs.
    """
    assert record.path is not None
    rows = record._rows
    usual, rows._timeout = rows._timeout, 0.3
    if rows._sweep is not None:
        # It would look only after the usual time.
        rows._sweep.cancel()
        rows._sweep = None
    try:
        with held(record.path):
            yield
    finally:
        rows._timeout = usual


async def tell_the_writer(record: Record, pragma: str) -> None:
    """Set a pragma on the connection that everything is written through."""

    async def tell(connection: AsyncConnection) -> None:
        await connection.execute(text(pragma))

    await record.write(tell)


async def fill_disk(record: Record) -> None:
    """From here on the record's file cannot grow: to SQLite a full disk."""
    async with record.read() as connection:
        pages = (await connection.execute(text("PRAGMA page_count"))).scalar_one()
    await tell_the_writer(record, f"PRAGMA max_page_count = {int(pages)}")


async def empty_disk(record: Record) -> None:
    """There is room again."""
    await tell_the_writer(record, "PRAGMA max_page_count = 1000000")


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Run a block as nobody in particular: to root no file is read-only."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def shop_window() -> Iterator[Path]:
    """A folder that everybody can look into, and only its owner can write to."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        yield Path(folder)
        Path(folder).chmod(0o700)
