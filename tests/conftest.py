"""Fixtures that decide where a test's record is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.postgres import Scratch, scratch, using


@pytest.fixture(scope="session")
def postgres_database() -> Iterator[Scratch]:
    """A migrated database of this session on a real server."""
    with scratch() as database:
        yield database


@pytest.fixture
def postgres(postgres_database: Scratch) -> Iterator[Scratch]:
    """The same, empty; every record that the test opens is in it."""
    postgres_database.reset()
    with using(postgres_database):
        yield postgres_database


@pytest.fixture(params=["sqlite", "postgres"])
def everywhere(request: pytest.FixtureRequest) -> str:
    """Runs the test once with its records in files, and once with its record on Postgres."""
    if request.param == "postgres":
        request.getfixturevalue("postgres")
    return str(request.param)
