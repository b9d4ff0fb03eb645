"""Where the service of a test keeps what it takes in: which record, and which buffer before it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.support.postgres import Scratch
from tests.torture.reading import DatabaseReading, FileReading, Reading


class Kind(StrEnum):
    """The four that a service can have, as the ids of the tests and the table of the results name them."""

    SQLITE = "sqlite"
    POSTGRES = "postgres"
    REDIS = "postgres+redis"
    SQS = "postgres+sqs"


@dataclass(frozen=True)
class Place:
    """One of them, with nothing in it. No `database` is a file in the test's folder; `buffer` are settings."""

    kind: Kind = Kind.SQLITE
    database: Scratch | None = None
    buffer: Mapping[str, str] = field(default_factory=dict)

    def settings(self, folder: Path) -> dict[str, str]:
        """The settings by which a service finds it."""
        return {"database_url": self.url(folder), **self.buffer}

    def variables(self, folder: Path) -> dict[str, str]:
        """The same as variables of the environment."""
        return {f"CHURN_RADAR_{name.upper()}": value for name, value in self.settings(folder).items()}

    def url(self, folder: Path) -> str:
        """Of the record."""
        return f"sqlite:///{folder / 'record.db'}" if self.database is None else self.database.url

    def reading(self, folder: Path) -> Reading:
        """The record, to be read past the service."""
        return FileReading(folder / "record.db") if self.database is None else DatabaseReading(self.database.url)

    @property
    def repeated(self) -> str:
        """What the door answers to an event that it has taken before: only a record knows that it has."""
        return "accepted" if self.buffer else "duplicate"


_current: list[Place] = []


@contextlib.contextmanager
def using(place: Place) -> Iterator[Place]:
    """Let every record and service that a test opens be in this place."""
    _current.append(place)
    try:
        yield place
    finally:
        _current.pop()


def current() -> Place:
    """The test's place: a file, unless a fixture has said otherwise."""
    return _current[-1] if _current else Place()


def url_for(folder: Path) -> str:
    """Where the record of a test is that has this folder."""
    return current().url(folder)
