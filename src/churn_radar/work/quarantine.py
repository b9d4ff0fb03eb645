"""The quarantine: bodies that this release does not understand, kept within a bound and never lost.

Beyond the bound the oldest are exported: written to a file beside the record and synced to disk, and only then
deleted from the record. A crash in between exports them twice; bringing them back knows each by its key. Of several
replicas, each with a folder of its own, one exports at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar import metrics
from churn_radar.durable import append_lines
from churn_radar.errors import RecordUnavailable, SettingsError
from churn_radar.privacy.spotting import named_in
from churn_radar.store.arrivals import Arrival
from churn_radar.store.dialect import Held
from churn_radar.store.quarantine import (
    KeptBody,
    bring_back,
    kept_size,
    load_bodies,
    oldest_bodies,
    sizes_of,
    take_out,
)
from churn_radar.store.record import Record
from churn_radar.triage.customer import IdType
from churn_radar.work.export import NotALine, from_line, to_line
from churn_radar.work.forgotten import Forgotten

log = structlog.get_logger(__name__)

Names = set[tuple[IdType, str]]

DROPPED = "dropped by the operator"
EVERY_SECONDS = 60.0
# Exported down to this share of the bound, so that a full quarantine is not exported body by body.
LOW_WATER = 0.9
# Bodies held in memory at once, in bytes and number; one larger than that is taken by itself.
PAGE_BYTES, PAGE = 8 * 1024 * 1024, 50
# A file that is larger than this is followed by another of the same day.
FILE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class BroughtBack:
    """What came of reading a part of an exported file; `offset` is where to read on, None at the end."""

    brought_back: int
    already_here: int
    kept_out: int
    unreadable: int
    offset: int | None


def check_folder(folder: Path | None) -> None:
    """Raises SettingsError for a folder that is not there: better at the start than when something has to go there."""
    if folder is not None and not folder.is_dir():
        problem = f"there is no folder {str(folder)!r}; create it (example: /data/quarantine)"
        raise SettingsError([f"CHURN_RADAR_QUARANTINE_FOLDER: {problem}"])


class Quarantine:
    """The bodies of one record. One for a process."""

    def __init__(
        self,
        record: Record,
        *,
        folder: Path | None,
        max_bytes: int,
        forgotten: Forgotten | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._record = record
        self.folder = folder or record.folder
        self.max_bytes = max_bytes
        self._forgotten = forgotten or Forgotten(record)
        self._now = now
        self._exporting = asyncio.Lock()

    async def size(self) -> tuple[int, int]:
        """How many bodies the record keeps, and their bytes together."""
        async with self._record.read() as connection:
            count, size = await kept_size(connection)
        metrics.quarantine(count, size)
        return count, size

    async def keep_bounded(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Look once a minute, for as long as the service runs; a failure is told, and tried again."""
        while True:
            try:
                await self.tidy()
            except (OSError, RecordUnavailable) as error:
                cause = str(error) if isinstance(error, RecordUnavailable) else error.strerror
                # No trace: it is the operator's to mend, not the developers'.
                log.error("quarantine.export_failed", cause=cause, hint="nothing was deleted; mend folder or disk")  # noqa: TRY400
            except Exception:
                log.exception("quarantine.export_failed")
            await sleep(EVERY_SECONDS)

    async def tidy(self) -> int:
        """Export the oldest bodies when there are more bytes than allowed; returns how many.

        Leaves it to another replica that is at it.
        Raises OSError when the file cannot be written, RecordUnavailable when the record cannot be read or written.
        """
        if not await self._is_too_large():
            return 0
        async with self._exporting, self._record.alone(Held.QUARANTINE, wait=False) as ours:
            # Whoever was at it before may have done it all.
            if ours and await self._is_too_large():
                return await self._export_oldest()
        return 0

    async def _is_too_large(self) -> bool:
        _, size = await self.size()
        return size > self.max_bytes

    async def _export_oldest(self) -> int:
        count, (_, size) = 0, await self.size()
        while size > self.max_bytes * LOW_WATER:
            async with self._record.read() as connection:
                oldest = await oldest_bodies(connection, PAGE)
            wanted = as_many_as(oldest, size - int(self.max_bytes * LOW_WATER))
            exported, _ = await self._export([seq for seq, _ in wanted])
            if not exported:
                break
            count += exported
            _, size = await self.size()
        return count

    async def export(self, seqs: Sequence[int]) -> tuple[int, str | None]:
        """Write the bodies of these signals to the day's file, then delete them; returns how many, and the file's name.

        Raises OSError or RecordUnavailable; what was not written and synced is not deleted.
        """
        async with self._exporting, self._record.alone(Held.QUARANTINE):
            return await self._export(seqs)

    async def _export(self, seqs: Sequence[int]) -> tuple[int, str | None]:
        count, name = 0, None
        async with self._record.read() as connection:
            left = await sizes_of(connection, seqs)
        while left:
            page = as_many_as(left[:PAGE], PAGE_BYTES)
            left = left[len(page) :]
            async with self._record.read() as connection:
                bodies = await load_bodies(connection, [seq for seq, _ in page])
            path = await asyncio.to_thread(self._file)
            now = self._now()
            await asyncio.to_thread(_append, path, bodies, now)
            gone = await self._take_out(
                [body.seq for body in bodies], f"exported to {path.name}; `quarantine import` brings it back"
            )
            count, name = count + len(gone), path.name
            log.warning("quarantine.exported", bodies=len(gone), bytes=sum(s for _, s in page), file=str(path))
        return count, name

    async def drop(self, seqs: Sequence[int]) -> list[int]:
        """Delete the bodies of these signals for good; returns those that had one."""
        dropped: list[int] = []
        for start in range(0, len(seqs), PAGE):
            dropped += await self._take_out(seqs[start : start + PAGE], DROPPED)
        if dropped:
            log.warning("quarantine.dropped", bodies=len(dropped))
        return dropped

    async def bring_back(self, name: str, *, offset: int = 0) -> BroughtBack:
        """Quarantine the bodies of a part of an exported file again; those that the record has are left as they are.

        A body that names somebody who was forgotten since it was exported stays out.
        `name` is a file of the quarantine's folder. Raises FileNotFoundError, OSError or RecordUnavailable.
        """
        # Megabytes of JSON: on the event loop they would hold the door up.
        read, unreadable, further = await asyncio.to_thread(self._read, name, offset)
        await self._forgotten.hear_now()
        arrivals = [arrival for arrival, names in read if not self._forgotten.knows_one(names)]
        now = self._now()

        async def take_in(connection: AsyncConnection) -> int:
            return sum([await bring_back(connection, arrival, now) for arrival in arrivals])

        brought_back = await self._record.write(take_in)
        return BroughtBack(brought_back, len(arrivals) - brought_back, len(read) - len(arrivals), unreadable, further)

    def exports(self) -> dict[str, int]:
        """The files that bodies were exported to, with their sizes in bytes, oldest first. Raises OSError."""
        return {path.name: path.stat().st_size for path in sorted(self.folder.glob(f"{self._stem}-*.jsonl"))}

    @property
    def _stem(self) -> str:
        return f"{self._record.name}-quarantine"

    def _file(self) -> Path:
        """The file to append to: the newest of the day, or the next one when that is large."""
        day = f"{self._stem}-{self._now():%Y%m%d}"
        path, number = self.folder / f"{day}.jsonl", 1
        while path.exists() and path.stat().st_size >= FILE_BYTES:
            number += 1
            path = self.folder / f"{day}-{number:03d}.jsonl"
        return path

    def _read(self, name: str, offset: int) -> tuple[list[tuple[Arrival, Names]], int, int | None]:
        """The bodies of a part of a file with whom they name, how many lines hold none, and where to read on."""
        if Path(name).name != name or not (self.folder / name).is_file():
            # A name, not a path: whoever has a key may not have this process read other files.
            raise FileNotFoundError(name)
        arrivals: list[tuple[Arrival, Names]] = []
        unreadable = size = 0
        with (self.folder / name).open("rb") as file:
            file.seek(offset)
            while size < PAGE_BYTES and len(arrivals) + unreadable < PAGE:
                line = file.readline()
                if not line:
                    return arrivals, unreadable, None
                size += len(line)
                if not line.strip():
                    continue
                try:
                    arrival = from_line(line)
                except NotALine:
                    unreadable += 1
                    continue
                arrivals.append((arrival, named_in(arrival.body or b"")))
            return arrivals, unreadable, file.tell()

    async def _take_out(self, seqs: Sequence[int], reason: str) -> list[int]:
        now = self._now()
        return await self._record.write(lambda connection: take_out(connection, seqs, reason=reason, now=now))


def _append(path: Path, bodies: Sequence[KeptBody], now: datetime) -> None:
    append_lines(path, b"".join(to_line(body, now) for body in bodies))


def as_many_as(bodies: Sequence[tuple[int, int]], most_bytes: int) -> list[tuple[int, int]]:
    """The first of the bodies, given as (row, bytes), until they are that many bytes; at least one."""
    taken: list[tuple[int, int]] = []
    total = 0
    for seq, size in bodies:
        if taken and total >= most_bytes:
            break
        taken.append((seq, size))
        total += size
    return taken
