"""The console: each brief as an alert block on standard output."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import TextIO

from churn_radar.research.brief import Brief
from churn_radar.sinks.alert import alert_block
from churn_radar.sinks.protocol import SinkOptions
from churn_radar.sinks.thread import OwnThread
from churn_radar.triage.money import format_money


@dataclass(frozen=True)
class ConsoleSink:
    """Prints the alert block; see `churn_radar.sinks.alert` for its exact form."""

    name: str
    brief_characters: int
    stream: TextIO | None = None
    _thread: OwnThread = field(default_factory=lambda: OwnThread("console"), repr=False)

    async def deliver(self, brief: Brief) -> None:
        """Print one block, whole, never interleaved with another's lines. Raises OSError."""
        await self._thread.run(partial(self._print, render(brief, self.brief_characters)))

    def _print(self, block: str) -> None:
        stream = self.stream or sys.stdout
        # A terminal that cannot show a character shows a question mark; the brief itself is in the record.
        encoding = getattr(stream, "encoding", None) or "utf-8"
        stream.write(block.encode(encoding, "replace").decode(encoding) + "\n")
        stream.flush()


def render(brief: Brief, brief_characters: int) -> str:
    """A brief as its alert block."""
    return alert_block(
        event=brief.event_type,
        email=brief.email or brief.customer_id,
        persona=brief.persona_type,
        mrr=format_money(Decimal(str(brief.mrr)), brief.currency),
        tenure=f"{brief.tenure_days}d" if brief.tenure_days is not None else "N/A",
        plan=brief.plan,
        brief=brief.research_brief,
        source_count=len(brief.sources),
        brief_characters=brief_characters,
    )


def create(options: SinkOptions) -> ConsoleSink:
    """The factory behind `console`. Raises SettingsError for keys of a table: it has none."""
    options.expect()
    return ConsoleSink(options.name, options.settings.alert_brief_characters)
