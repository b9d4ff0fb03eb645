"""Servers that several files of these tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from churn_radar.store.postgres_driver import PatientDriver
from tests.support.jobs_database import connected, empty_tables
from tests.support.postgres import scratch


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    """The URL of a database that has every table, the engine's and the shared limits' among them."""
    with scratch() as made:
        yield made.url


@pytest.fixture
async def driver(database: str) -> AsyncIterator[PatientDriver]:
    """A driver on that database, with nothing in it."""
    await empty_tables(database)
    async with connected(database) as opened:
        yield opened
