"""What Redis answers, read: entries of the stream as events, its configuration as warnings. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson

from churn_radar.buffer.protocol import RawEvent, Taken
from churn_radar.store.tables import EPOCH

Entry = tuple[bytes, Mapping[bytes, bytes] | None]


def durability(config: Mapping[str, str]) -> list[str]:
    """One line for each setting of the server by which it could lose events."""
    lines = []
    if config.get("appendonly") == "no":
        lines.append("appendonly is no: a restart of Redis loses what it holds; set appendonly yes, appendfsync always")
    elif config.get("appendfsync") in ("everysec", "no"):
        lines.append(
            f"appendfsync is {config['appendfsync']}: a crash of Redis loses its last writes; set appendfsync always"
        )
    policy = config.get("maxmemory-policy", "noeviction")
    if policy.startswith("allkeys"):
        lines.append(f"maxmemory-policy is {policy}: Redis may evict the stream; set noeviction")
    return lines


def streams(answer: Any) -> Iterator[tuple[Any, list[Entry]]]:
    """The streams of an XREADGROUP answer, which is a mapping in the newer protocol and pairs in the older."""
    for name, found in answer.items() if isinstance(answer, dict) else answer or ():
        # The newer protocol wraps the entries in one more list.
        yield name, pairs(found[0] if found and isinstance(found[0], list) else found)


def pairs(entries: Any) -> list[Entry]:
    """Id and fields of each entry."""
    # Entries that somebody deleted come without fields, and need no work.
    return [(entry[0], entry[1]) for entry in entries if entry and entry[1] is not None]


def text_of(value: Any) -> str:
    """A value of Redis for people."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def taken_of(entry: Entry, deliveries: int) -> Taken:
    """The event of an entry; an entry that is none of ours has a `problem`."""
    token, fields = text_of(entry[0]), entry[1] or {}
    try:
        received_at = EPOCH + timedelta(microseconds=int(fields[b"received_at"]))
        event = RawEvent(fields[b"body"], received_at, fields[b"source"].decode())
    except (KeyError, ValueError, OverflowError):
        # Everything that is there, for a person to look at; the id begins with the time in milliseconds.
        raw = orjson.dumps({text_of(name): text_of(value) for name, value in fields.items()})
        stray = RawEvent(raw, _id_time(token), "buffer")
        return Taken(token, stray, deliveries, "an entry of the buffer that is no event of ours")
    return Taken(token, event, deliveries)


def _id_time(token: str) -> datetime:
    milliseconds = min(int(token.partition("-")[0]), 10**14)
    return EPOCH + timedelta(milliseconds=milliseconds)
