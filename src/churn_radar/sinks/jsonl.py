"""A file of JSON lines: one brief a line, appended and synced to disk, rotated by size."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import orjson

from churn_radar.durable import append_lines
from churn_radar.errors import SettingsError
from churn_radar.research.brief import Brief
from churn_radar.sinks.protocol import SinkOptions
from churn_radar.sinks.thread import OwnThread


@dataclass(frozen=True)
class JsonlSink:
    """Appends to `path`; when the next line would pass `max_bytes` the file gets a dated name first."""

    name: str
    path: Path
    max_bytes: int
    _thread: OwnThread = field(default_factory=lambda: OwnThread("jsonl"), repr=False)

    async def deliver(self, brief: Brief) -> None:
        """Append one line; returns when it is on disk. Raises OSError."""
        await self._thread.run(partial(self._append, orjson.dumps(brief.as_record()) + b"\n"))

    def _append(self, line: bytes) -> None:
        size = self.path.stat().st_size if self.path.exists() else 0
        if size and size + len(line) > self.max_bytes:
            self.path.rename(self._dated_name())
        append_lines(self.path, line)

    def _dated_name(self) -> Path:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        path, again = self.path.with_stem(f"{self.path.stem}-{stamp}"), 1
        while path.exists():
            # The clock was set back: one file must not take another's place.
            path, again = self.path.with_stem(f"{self.path.stem}-{stamp}-{again}"), again + 1
        return path


def create(options: SinkOptions) -> JsonlSink:
    """The factory behind `jsonl` and `jsonl:PATH`; the folder must exist, the path must not be one."""
    options.expect()
    path = Path(options.target) if options.target else options.settings.jsonl_path
    if not path.parent.is_dir():
        raise SettingsError([f"{options.where}: the folder of {str(path)!r} does not exist; create it"])
    if path.is_dir():
        raise SettingsError([f"{options.where}: {str(path)!r} is a folder; name a file in it (example: briefs.jsonl)"])
    return JsonlSink(options.name, path, options.settings.jsonl_max_bytes)
