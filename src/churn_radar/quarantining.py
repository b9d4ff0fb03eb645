"""`churn-radar quarantine`: the operator's hands on what was not understood."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from churn_radar.errors import StartError
from churn_radar.reaching import Api

PAGE = 200


@dataclass
class TakenOut:
    """What a drop or an export did, or with a dry run would do."""

    count: int = 0
    files: dict[str, None] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


async def every_body(api: Api, limit: int) -> AsyncIterator[dict[str, Any]]:
    """What the API tells of each quarantined body, newest first, at most `limit`."""
    cursor: str | None = None
    while limit > 0:
        page = await api.get("/signals", status="quarantined", limit=min(limit, PAGE), cursor=cursor)
        for item in page["items"]:
            yield item
        limit -= len(page["items"])
        cursor = page["cursor"]
        if cursor is None:
            return


def raw_body(told: Mapping[str, Any]) -> bytes | None:
    """The body in what `GET /signals/{event_id}` tells, byte for byte; None where it holds none."""
    if told.get("body_base64") is not None:
        return base64.b64decode(told["body_base64"])
    return None if told["body"] is None else str(told["body"]).encode()


async def take_out(
    api: Api, how: str, event_ids: Sequence[str], *, conditions: Mapping[str, Any], dry_run: bool
) -> TakenOut:
    """Drop or export (`how`) bodies by their ids or by the conditions of `POST /quarantine/drop`. Raises StartError."""
    done = TakenOut()
    requests: list[dict[str, Any]] = [{"event_ids": event_ids[i : i + 500]} for i in range(0, len(event_ids), 500)]
    if any(conditions.values()):
        requests.append(dict(conditions))
    for request in requests:
        cursor: str | None = None
        while True:
            answer = await api.post(f"/quarantine/{how}", {**request, "dry_run": dry_run, "cursor": cursor})
            done.count += answer["count"]
            if answer["file"]:
                done.files[answer["file"]] = None
            done.problems += [f"nothing is known of the event {event_id!r}" for event_id in answer["unknown"]]
            done.problems += [f"{event_id!r} is not in quarantine" for event_id in answer["not_quarantined"]]
            cursor = answer["cursor"]
            if cursor is None:
                break
    return done


def exported_name(file: Path, folder: Path) -> str:
    """The name by which the service knows an exported file; a bare name is one that it has told of.

    Raises StartError when the file does not lie in the quarantine's folder: the service reads nothing else.
    """
    path = folder / file if file.parent == Path() and not file.exists() else file
    if not path.is_file():
        raise StartError(f"there is no file {str(file)!r}")
    if path.resolve().parent != folder.resolve():
        raise StartError(f"{str(file)!r} does not lie in the quarantine's folder; copy it to {str(folder)!r} first")
    return path.name


async def bring_back(api: Api, name: str) -> dict[str, int]:
    """Bring the bodies of an exported file back; returns the figures of `POST /quarantine/import`, summed.

    Raises StartError.
    """
    sums = {"brought_back": 0, "already_here": 0, "kept_out": 0, "unreadable": 0}
    offset: int | None = 0
    while offset is not None:
        answer = await api.post("/quarantine/import", {"file": name, "offset": offset})
        for figure in sums:
            sums[figure] += answer[figure]
        offset = answer["offset"]
    return sums
