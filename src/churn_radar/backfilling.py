"""`churn-radar backfill`: every page of every metric, through the service that owns the record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from churn_radar.customerio.messages import metrics_for
from churn_radar.reaching import Api

COUNTED = ("fed_in", "known", "kept_out", "not_understood")


async def backfill(
    api: Api,
    kinds: Collection[str],
    *,
    since: str,
    dry_run: bool,
    progress: Callable[[str, Counter[str]], None],
) -> dict[str, Counter[str]]:
    """Feed in what happened since this moment (ISO 8601); returns for each metric what became of its events.

    `progress` is told after each page. Raises StartError.
    """
    done: dict[str, Counter[str]] = {}
    for metric in metrics_for(kinds):
        counts = done[metric] = Counter()
        cursor: str | None = None
        while True:
            wanted = {"metric": metric, "since": since, "dry_run": dry_run, "cursor": cursor}
            answer = await api.post("/signals/backfill", wanted)
            counts.update({name: answer[name] for name in COUNTED})
            progress(metric, counts)
            cursor = answer["cursor"]
            if cursor is None:
                break
    return done
