"""The record's schema: is it ours, is it current, bring it up to date.

Everything here is synchronous and runs before the service accepts anything: an old, new or damaged file is
found out before a byte of it is altered.
"""

from __future__ import annotations

import os
import sqlite3
from enum import StrEnum
from importlib import resources
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, create_engine, event, inspect
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import NullPool

from churn_radar.errors import RecordUnusable
from churn_radar.store.tables import signals

VERSION_TABLE = "alembic_version"
# There while a copy of another record is not complete; see `churn_radar.store.copying`.
COPY_TABLE = "churn_radar_copy"


HALF_COPIED = (
    "holds the unfinished copy of another record; finish it: run the same `churn-radar copy-record` again, or delete it"
)


class SchemaState(StrEnum):
    """How a record's schema compares with this release."""

    EMPTY = "empty"
    CURRENT = "current"
    OLDER = "older"
    NEWER = "newer"
    FOREIGN = "foreign"
    COPYING = "half copied"


def sqlite_path(database_url: str) -> Path:
    """The file behind `sqlite:///relative.db` or `sqlite:////absolute.db`.

    Raises RecordUnusable for what names no file: the database in memory, a URI, or parameters after a `?`.
    """
    name = database_url.removeprefix("sqlite:///")
    if name == ":memory:" or name.startswith("file:") or "?" in name:
        raise RecordUnusable("CHURN_RADAR_DATABASE_URL has to name a plain file, without parameters: sqlite:///FILE")
    return Path(name)


def alembic_config() -> Config:
    """Alembic's configuration: where the migrations are."""
    config = Config()
    config.set_main_option("script_location", str(resources.files("churn_radar.store") / "migrations"))
    return config


def _state(connection: Connection) -> SchemaState:
    tables = inspect(connection).get_table_names()
    if not tables:
        return SchemaState.EMPTY
    if not {VERSION_TABLE, signals.name} <= set(tables):
        return SchemaState.FOREIGN
    return SchemaState.COPYING if COPY_TABLE in tables else compare_version(connection)


def compare_version(connection: Connection) -> SchemaState:
    """How the schema of a database that holds a record compares with this release."""
    scripts = ScriptDirectory.from_config(alembic_config())
    current = MigrationContext.configure(connection).get_current_revision()
    if current == scripts.get_current_head():
        return SchemaState.CURRENT
    known = {script.revision for script in scripts.walk_revisions()}
    return SchemaState.OLDER if current is None or current in known else SchemaState.NEWER


def inspect_record(path: Path) -> SchemaState:
    """Read the schema's state without altering anything.

    Raises RecordUnusable when the folder is missing or unwritable, or the file is damaged, unreadable or no
    database.
    """
    folder = path.parent
    if not folder.is_dir():
        raise RecordUnusable(f"the folder of the database, {str(folder)!r}, does not exist; create it")
    if not path.exists():
        _require_writable(folder)
        return SchemaState.EMPTY
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True),
        poolclass=NullPool,
    )
    try:
        with engine.connect() as connection:
            return _state(connection)
    except OperationalError as error:
        raise RecordUnusable(f"{str(path)!r} cannot be read ({error.orig}); mend its owner, mode or disk") from error
    except DatabaseError as error:
        raise RecordUnusable(
            f"{str(path)!r} is damaged or not a SQLite database ({error.orig}); restore a backup, "
            "or point CHURN_RADAR_DATABASE_URL at another file"
        ) from error
    finally:
        engine.dispose()


def _require_writable(folder: Path) -> None:
    probe = folder / ".churn_radar-write-test"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RecordUnusable(
            f"the folder of the database, {str(folder)!r}, is not writable ({error.strerror}); mend its owner or mode"
        ) from error


def upgrade_record(path: Path) -> SchemaState:
    """Create the record or bring it to this release's schema; returns the state it was found in.

    Raises RecordUnusable for a file that is newer than this release, not ours, damaged or unwritable; such a
    file is left exactly as it was.
    """
    state = inspect_record(path)
    if state is SchemaState.NEWER:
        raise RecordUnusable(f"{str(path)!r} was written by a newer churn_radar; run that release, or a newer one")
    if state is SchemaState.FOREIGN:
        raise RecordUnusable(f"{str(path)!r} is a database of another program; choose another file")
    if state is SchemaState.COPYING:
        raise RecordUnusable(f"{str(path)!r} {HALF_COPIED}")
    if state is SchemaState.EMPTY:
        # Private from the first byte: the record names customers. SQLite gives its side files the same mode.
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _durable(dbapi_connection: sqlite3.Connection, _: object) -> None:
        dbapi_connection.execute("PRAGMA journal_mode=WAL")
        dbapi_connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _all_or_nothing(connection: Connection) -> None:
        # The driver begins no transaction for CREATE TABLE; left to it, a crash here would leave half a schema.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    try:
        with engine.begin() as connection:
            # SQLite opens a read-only file, and even begins a write there, without a word: only a write tells.
            connection.exec_driver_sql("PRAGMA user_version = 0")
            if state is not SchemaState.CURRENT:
                config = alembic_config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
    except DatabaseError as error:
        raise RecordUnusable(f"{str(path)!r} cannot be written ({error.orig}); mend its owner, mode or disk") from error
    finally:
        engine.dispose()
    return state
