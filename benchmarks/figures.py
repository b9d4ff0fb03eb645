"""What a benchmark finds: figures (a sample for each round), courses over time, and the machine they hold for."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Figure(BaseModel):
    """One thing measured, several times.

    `wanted` is the goal in words; `goal` is the same as a number, to be drawn. Figures of one `plot` are drawn
    together, so they share a unit.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    unit: str
    samples: list[float]
    wanted: str | None = None
    goal: float | None = None
    plot: str | None = None

    @property
    def median(self) -> float:
        """The middle sample."""
        return statistics.median(self.samples)


class Course(BaseModel):
    """Something over time: named lines of (x, y)."""

    model_config = ConfigDict(frozen=True)

    title: str
    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]]


class Machine(BaseModel):
    """What the figures depend on, without saying whose machine it is."""

    model_config = ConfigDict(frozen=True)

    cores: int
    architecture: str
    system: str
    python: str
    sqlite: str
    sync_milliseconds: float


class Result(BaseModel):
    """What one benchmark found, and how to find it again."""

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    about: str
    figures: list[Figure]
    courses: list[Course] = []
    notes: list[str] = []
    command: str = ""
    date: str = ""
    seconds: float = 0
    quick: bool = False
    machine: Machine | None = None

    @property
    def plots(self) -> dict[str, list[Figure]]:
        """The figures that are drawn, by plot."""
        found: dict[str, list[Figure]] = {}
        for figure in self.figures:
            if figure.plot:
                found.setdefault(figure.plot, []).append(figure)
        return found


class Results(BaseModel):
    """Everything that `results.json` holds: the newest result of each benchmark."""

    model_config = ConfigDict(frozen=True)

    benchmarks: dict[str, Result] = {}


def this_machine(folder: Path) -> Machine:
    """This machine; `folder` is where the records of the benchmarks lie, so its disk counts."""
    return Machine(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        architecture=platform.machine(),
        system=platform.system(),
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version,
        sync_milliseconds=round(statistics.median(_sync(folder / "sync") for _ in range(40)), 3),
    )


def _sync(path: Path) -> float:
    """Milliseconds that 4 KiB take to the disk: what every commit waits for."""
    with path.open("ab") as file:
        file.write(os.urandom(4096))
        file.flush()
        began = time.perf_counter()
        os.fsync(file.fileno())
        return (time.perf_counter() - began) * 1000
