"""A sink for churn_radar that appends one line of a CSV file for each brief."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from churn_radar.errors import SettingsError
from churn_radar.research.brief import Brief
from churn_radar.sinks.protocol import SinkOptions
from churn_radar.sinks.thread import OwnThread

COLUMNS = ("id", "created_at", "customer_id", "event_type", "persona_type", "plan", "mrr")


@dataclass(frozen=True)
class CsvSink:
    """Appends to `path`. A brief may come twice, with the same id: whoever reads the file goes by that."""

    name: str
    path: Path
    columns: Sequence[str]
    _thread: OwnThread = field(default_factory=lambda: OwnThread("csv"), repr=False)

    async def deliver(self, brief: Brief) -> None:
        """Append one line; whatever is raised here, the delivery is tried again later."""
        record = brief.as_record()
        line = [_harmless(record[column]) for column in self.columns]
        # Files block, so not on the event loop; on a thread of its own, so that a hung disk holds nobody else up.
        await self._thread.run(partial(self._append, line))

    def _append(self, line: Sequence[object]) -> None:
        with self.path.open("a", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            if file.seek(0, io.SEEK_END) == 0:
                rows.writerow(self.columns)
            rows.writerow(line)


def create(options: SinkOptions) -> CsvSink:
    """What the entry point names. A SettingsError stops the start, with one line for each problem."""
    options.expect("columns")
    columns = options.options.get("columns", COLUMNS)
    if not isinstance(columns, Sequence) or isinstance(columns, str) or not set(columns) <= set(Brief.model_fields):
        known = ", ".join(Brief.model_fields)
        raise SettingsError([f"{options.where}: columns: a list of a brief's fields: {known}"])
    return CsvSink(options.name, Path(options.target or "briefs.csv"), tuple(columns))


def _harmless(value: object) -> object:
    """Text from outside must not become a formula where the file is opened as a spreadsheet."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
