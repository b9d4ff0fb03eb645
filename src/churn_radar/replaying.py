"""`churn-radar replay`: page by page, so that a hundred thousand signals need no more memory than a thousand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from churn_radar.reaching import Api
from churn_radar.store.tables import Status

PAGE = 500


@dataclass
class Total:
    """What all pages together did, or with a dry run would do."""

    counts: Counter[tuple[str, str, str | None]] = field(default_factory=Counter)
    unknown: list[str] = field(default_factory=list)

    @property
    def replayed(self) -> int:
        """How many signals."""
        return sum(self.counts.values())


async def replay(
    api: Api,
    event_ids: Sequence[str],
    statuses: Sequence[Status],
    *,
    conditions: Mapping[str, Any],
    force: bool,
    dry_run: bool,
    tell: Callable[[dict[str, Any]], None],
    progress: Callable[[int], None] = lambda replayed: None,
) -> Total:
    """Replay signals by their ids, and those of each status that fit the conditions of `POST /signals/replay`.

    `tell` hears of each that was replayed, `progress` after each page of how many there were so far. Raises StartError.
    """
    total = Total()
    common = {"force": force, "dry_run": dry_run, "limit": PAGE}
    requests = [{"event_ids": event_ids[i : i + PAGE], **common} for i in range(0, len(event_ids), PAGE)]
    requests += [{"status": status.value, **conditions, **common} for status in statuses]
    for request in requests:
        cursor: str | None = None
        while True:
            answer = await api.post("/signals/replay", {**request, "cursor": cursor})
            for line in answer["replayed"]:
                tell(line)
            for line in answer["counts"]:
                total.counts[line["status"], line["effect"], line["help"]] += line["count"]
            total.unknown += answer["unknown"]
            progress(total.replayed)
            cursor = answer["cursor"]
            if cursor is None:
                break
    return total
