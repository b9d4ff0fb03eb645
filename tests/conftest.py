"""Fixtures that decide where a test's record is, and the servers that several folders share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.place import Kind, Place, using
from tests.support.postgres import Scratch, scratch
from tests.support.servers import moto_server


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


@pytest.fixture(params=["sqlite", "postgres"])
def everywhere(request: pytest.FixtureRequest) -> str:
    """Runs the test once with its records in files, and once with its record on Postgres."""
    if request.param == "postgres":
        request.getfixturevalue("postgres")
    return str(request.param)


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """Where a stand-in for SQS listens, `host:port`; each test has queues of its own."""
    with moto_server() as address:
        yield address


@pytest.fixture
def aws_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that the stand-in takes."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
