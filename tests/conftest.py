"""Fixtures that decide where a test's record is, and the servers that several folders share."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from aiobotocore.session import AioSession, get_session
from botocore.loaders import create_loader

from churn_radar.buffer import sqs
from tests.support.certificates import shared_context
from tests.support.dealing import dealt
from tests.support.place import Kind, Place, using
from tests.support.postgres import Scratch, scratch
from tests.support.ready_made import ready_made
from tests.support.servers import moto_server
from tests.support.statements import compiled_once

MEMORY = "/dev/shm"  # noqa: S108
ROOM_BYTES = 2 * 2**30

# Nothing of what is imported and collected is garbage.
gc.disable()

# The tests' files lie in memory where there is room: a record forces its file to disk with each commit, and hundreds
# of tests would wait for a disk that they share. What Postgres writes is on the disk all the same.
with contextlib.suppress(OSError):
    if shutil.disk_usage(MEMORY).free > ROOM_BYTES and os.access(MEMORY, os.W_OK):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests in an order in which several processes share them well (see `tests.support.dealing`)."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items[:] = dealt(items, lambda item: Path(item.nodeid.partition("::")[0]))


def pytest_collection_finish() -> None:
    """Look for garbage as rarely as the service does, and never among what stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def plain_traces() -> None:
    """What a test has not set up logs through structlog's console, which else highlights the source of each trace."""
    structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback


@pytest.fixture(scope="session", autouse=True)
def certificates_read_once() -> Iterator[None]:
    """Each HTTP client would read all of the machine's certificates for itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", shared_context)
        yield


@pytest.fixture(scope="session", autouse=True)
def statements_compiled_once() -> Iterator[None]:
    """Let the tests' records share what SQLAlchemy compiles."""
    with compiled_once():
        yield


@pytest.fixture(scope="session", autouse=True)
def ready_made_records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let the tests' records in files be copies of one that was migrated."""
    with ready_made(tmp_path_factory.mktemp("record")):
        yield


@pytest.fixture(scope="session")
def postgres_database() -> Iterator[Scratch]:
    """A migrated database of this session on a real server."""
    with scratch() as database:
        yield database


@pytest.fixture
def postgres(postgres_database: Scratch) -> Iterator[Scratch]:
    """The same, empty; every record that the test opens is in it."""
    postgres_database.reset()
    with using(Place(Kind.POSTGRES, postgres_database)):
        yield postgres_database


@pytest.fixture(scope="session")
def bare_database() -> Iterator[Scratch]:
    """A second database of this session, which is not migrated."""
    with scratch(migrated=False) as database:
        yield database


@pytest.fixture
def empty(bare_database: Scratch) -> Scratch:
    """A database in which nothing is yet."""
    bare_database.wipe()
    return bare_database


@pytest.fixture(params=["sqlite", "postgres"])
def everywhere(request: pytest.FixtureRequest) -> str:
    """Runs the test once with its records in files, and once with its record on Postgres."""
    if request.param == "postgres":
        request.getfixturevalue("postgres")
    return str(request.param)


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """Where a stand-in for SQS listens, `host:port`; each test has queues of its own."""
    # What a session reads of all services' descriptions takes longer than the calls of a test.
    descriptions = create_loader()

    def session() -> AioSession:
        made = get_session()
        made.register_component("data_loader", descriptions)
        return made

    with moto_server() as address, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqs, "get_session", session)
        yield address


@pytest.fixture
def aws_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that the stand-in takes."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
