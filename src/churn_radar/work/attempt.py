"""What every engine does with a step: one attempt that never raises, and tasks packed into jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import groupby
from typing import Any

import structlog

from churn_radar.errors import RecordUnavailable
from churn_radar.work.tasks import Again, BatchHandler, Handler, Outcome, Step, Task

log = structlog.get_logger(__name__)

NO_DELAY = timedelta()
FAULT_DELAY = timedelta(seconds=60)
RECORD_DELAY = timedelta(seconds=5)

_Alike = tuple[Step, int, timedelta | None]


@dataclass(frozen=True, slots=True)
class Packed:
    """Rows of one step that one job stands for."""

    step: Step
    seqs: tuple[int, ...]
    priority: int
    delay: timedelta | None

    @property
    def payload(self) -> bytes:
        """As the engine keeps it: the numbers, with commas between."""
        return b",".join(b"%d" % seq for seq in self.seqs)

    @property
    def key(self) -> str | None:
        """By this a waiting job is known again; only what stands for one row is."""
        return f"{self.step.value}:{self.seqs[0]}" if len(self.seqs) == 1 else None


def unpack(payload: bytes | None) -> list[int]:
    """The rows that a job's payload names."""
    return [int(number) for number in (payload or b"").split(b",") if number]


def pack(tasks: Sequence[Task], most: dict[Step, int]) -> list[Packed]:
    """Tasks that differ in nothing but the row, put together: as many rows to a job as its step takes."""
    return [job for key, alike in groupby(tasks, key=_alike) for job in _cut(key, alike, most.get(key[0], 1))]


def _cut(key: _Alike, tasks: Iterable[Task], most: int) -> Iterator[Packed]:
    step, priority, delay = key
    seqs = [task.seq for task in tasks]
    for start in range(0, len(seqs), most):
        yield Packed(step, tuple(seqs[start : start + most]), priority, delay)


def _alike(task: Task) -> _Alike:
    return task.step, task.priority, task.delay


def merged(jobs: Iterable[Packed]) -> list[Packed]:
    """Each key once, with the highest priority and the earliest moment; jobs without a key as they are.

    In the order of their keys, whoever asks: two who add the same ones to a database do not wait for each other.
    """
    once: dict[str, Packed] = {}
    others = []
    for job in jobs:
        if job.key is None:
            others.append(job)
        elif (known := once.get(job.key)) is None:
            once[job.key] = job
        else:
            delay = None if None in (job.delay, known.delay) else min(job.delay or NO_DELAY, known.delay or NO_DELAY)
            once[job.key] = replace(known, priority=max(job.priority, known.priority), delay=delay)
    return others + [once[key] for key in sorted(once)]


def one_by_one(handler: Handler) -> BatchHandler:
    """A step that does one row at a time, as one that takes several."""

    async def each(seqs: Sequence[int]) -> Sequence[Outcome]:
        return [await handler(seq) for seq in seqs]

    return each


async def attempt(
    step: Step, seqs: Sequence[int], handler: BatchHandler, task: asyncio.Task[Any] | None
) -> Sequence[Outcome]:
    """Let a step be done once. Raises CancelledError when `task` itself was cancelled, and nothing else."""
    try:
        return await handler(seqs)
    except asyncio.CancelledError:
        if task is None or task.cancelling():
            raise
        # Not this job was cancelled but something that it waited for, in a sink for instance.
        log.warning("work.step_cancelled", step=step.value, seqs=len(seqs))
    except RecordUnavailable as error:
        # What a step has found out is written whenever the record is back; this one could not even begin.
        log.warning("work.waits_for_the_record", step=step.value, seqs=len(seqs), cause=str(error))
        return [Again(RECORD_DELAY)] * len(seqs)
    except Exception:
        # Steps turn every failure into an outcome; what arrives here is a fault of ours. The record
        # still holds the work, so nothing is lost: try again, and leave a trace for the developers.
        log.exception("work.step_failed", step=step.value, seqs=len(seqs))
    return [Again(FAULT_DELAY)] * len(seqs)


def tell_of_death(running: asyncio.Task[None]) -> None:
    """Readiness shows an engine that has died; this says what of."""
    if not running.cancelled() and (error := running.exception()):
        log.error("work.engine_died", exc_info=error)
