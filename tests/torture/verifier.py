"""The verifier: counts every id in the record and in the sink's file, and says what is wrong.

It reads the record with nothing of the service's (see `reading`) and the sink's file line by line, and trusts none of
the service's counters, so a fault that the service has in writing cannot hide in the reading.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.torture.letters import Expected, Letter
from tests.torture.reading import Reading, Row

OUTCOMES = {Expected.CHURN: {"briefed", "joined", "skipped"}, Expected.JUNK: {"quarantined"}}
VERDICTS = {
    Expected.CHURN: {"accepted", "duplicate"},
    Expected.NOISE: {"ignored"},
    Expected.JUNK: {"quarantined"},
}
# Which status may follow which. A dead letter ends a story as well, but here it is no outcome: nothing was broken.
MOVES = {
    "received": {"received", "waiting", "joined", "skipped"},
    "waiting": {"waiting", "researching"},
    "researching": {"waiting", "briefed"},
}
# Events that join a brief later are named by a later delivery of it, and may forbid more; all else stays as it was.
GROWING = {"event_ids", "consent"}
ALLOWED = ("nothing", "no_marketing", "other_address", "anything")


@dataclass(frozen=True)
class Evidence:
    """What a run leaves behind: what was sent and answered, the record, the sink's file, and what Mave saw.

    `repeated` is what the door answers to an event that it has acknowledged before: with a buffer `accepted`. `kills`
    counts whatever makes work be done again. `clocks_differ_by` is in seconds, over all processes.
    """

    letters: Sequence[Letter]
    record: Reading
    sink: Path
    research_calls: int
    kills: int
    concurrency: int
    repeated: str = "duplicate"
    clocks_differ_by: float = 0.0


@dataclass(frozen=True)
class _Record:
    signals: dict[int, Row]
    stories: dict[int, list[Row]]
    briefs: dict[int, Row]
    deliveries: list[Row]
    integrity: list[str]

    def by_public_id(self) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = defaultdict(list)
        for row in self.signals.values():
            found[row["event_id"] or row["signal_id"]].append(row)
        return found


def verify(evidence: Evidence) -> list[str]:
    """Everything that is wrong, one line each; an empty list when nothing is."""
    record = _read(evidence.record)
    briefed = {row["signal_seq"] for row in record.briefs.values()}
    return [
        *record.integrity,
        *_letters(evidence, record),
        *_customers(evidence.letters, record),
        *(line for row in record.signals.values() for line in _signal(row, record, briefed, evidence)),
        *_sink(evidence, record),
        *_deliveries(record),
        *_research(evidence, len(record.briefs)),
    ]


def unfinished(record: Reading) -> int:
    """How much of a record still waits: signals that have no outcome, deliveries that are owed."""
    [found] = record.rows(
        "SELECT (SELECT count(*) FROM signals WHERE status IN ('received', 'waiting', 'researching')) AS signals,"
        " (SELECT count(*) FROM deliveries WHERE status = 'pending') AS owed"
    )
    return int(found["signals"]) + int(found["owed"])


def _read(record: Reading) -> _Record:
    stories: dict[int, list[Row]] = defaultdict(list)
    for row in record.rows("SELECT * FROM signal_history ORDER BY seq"):
        stories[row["signal_seq"]].append(row)
    return _Record(
        signals={row["seq"]: row for row in record.rows("SELECT * FROM signals")},
        stories=stories,
        briefs={row["seq"]: row for row in record.rows("SELECT * FROM briefs")},
        deliveries=record.rows("SELECT * FROM deliveries"),
        integrity=[f"the record is damaged: {line}" for line in record.damage()],
    )


def _letters(evidence: Evidence, record: _Record) -> Iterator[str]:
    """Each acknowledged event has exactly one row, with an outcome that fits; ignored ones have none."""
    rows = record.by_public_id()
    sent: set[str] = set()
    for letter in evidence.letters:
        if not letter.acknowledged:
            yield f"never acknowledged: {letter.body[:80]!r}"
            continue
        name = letter.said[0].event_id or "?"
        sent.add(name)
        if {said.event_id for said in letter.said} != {letter.said[0].event_id}:
            yield f"{name}: the door told several ids for it"
        verdicts = [said.verdict for said in letter.said]
        if not set(verdicts) <= VERDICTS[letter.expected]:
            yield f"{name}: a {letter.expected} event was answered {verdicts}"
        if "accepted" in verdicts[1:] and evidence.repeated != "accepted":
            yield f"{name}: accepted again after an acknowledgement: {verdicts}"
        found = rows.get(name, [])
        if letter.expected is Expected.NOISE:
            if found:
                yield f"{name}: ignored, and yet in the record"
        elif len(found) != 1:
            yield f"{name}: acknowledged, and in the record {len(found)} times"
        elif found[0]["status"] not in OUTCOMES[letter.expected]:
            yield f"{name}: ended as {found[0]['status']!r} ({found[0]['reason']})"
    for name in rows.keys() - sent:
        yield f"{name}: in the record, but nobody sent it"


def _customers(letters: Sequence[Letter], record: _Record) -> Iterator[str]:
    """Who is worth a brief has exactly one, whatever they were called; who is not has none."""
    customers = {
        said.event_id: letter.customer
        for letter in letters
        for said in letter.said[:1]
        if letter.expected is Expected.CHURN
    }
    got: Counter[str] = Counter()
    for brief in record.briefs.values():
        leader = record.signals.get(brief["signal_seq"])
        name = customers.get(leader["event_id"] or leader["signal_id"]) if leader else None
        if name is None:
            yield f"{brief['brief_id']}: a brief of a signal that nobody sent"
        else:
            got[name] += 1
    wanted = {
        letter.customer: letter.researched
        for letter in letters
        if letter.acknowledged and letter.expected is Expected.CHURN
    }
    for name, researched in wanted.items():
        if got[name] != int(researched):
            yield f"customer {name}: {got[name]} briefs, where {int(researched)} was due"
    for column in ("customer_seq", "customer_id"):
        for value, times in Counter(brief[column] for brief in record.briefs.values()).items():
            if times > 1:
                yield f"{column} {value} has {times} briefs"


def _signal(row: Row, record: _Record, briefed: set[int], evidence: Evidence) -> Iterator[str]:
    """The story leads to where the signal stands, and what it points to is there."""
    name, status, story = row["event_id"] or row["signal_id"], row["status"], record.stories[row["seq"]]
    stands, at = "quarantined" if row["kind"] is None else "received", row["received_at"]
    for step in story:
        if step["status"] not in MOVES.get(stands, set()):
            yield f"{name}: went from {stands!r} to {step['status']!r}"
        if step["at"] < at - evidence.clocks_differ_by * 1_000_000:
            yield f"{name}: its story goes back in time at {step['status']!r}"
        stands, at = step["status"], step["at"]
    if stands != status:
        yield f"{name}: stands at {status!r}, but its story ends at {stands!r}"
    brief = record.briefs.get(row["brief_seq"])
    if (status in ("briefed", "joined")) != (brief is not None):
        yield f"{name}: {status!r} with {'a' if brief else 'no'} brief"
    if brief is not None and brief["customer_seq"] != row["customer_seq"]:
        yield f"{name}: shares the brief of another customer"
    if (status == "briefed") != (row["seq"] in briefed):
        yield f"{name}: {status!r}, but {'a' if row['seq'] in briefed else 'no'} brief was written for it"
    if row["joined_to"] is not None and record.signals[row["joined_to"]]["brief_seq"] != row["brief_seq"]:
        yield f"{name}: joined a signal that has another brief"


def _sink(evidence: Evidence, record: _Record) -> Iterator[str]:
    """Each brief is in the file at least once, always the same; a kill may cut one line short."""
    lines: dict[str, list[dict[str, Any]]] = defaultdict(list)
    torn = 0
    for path in sorted(evidence.sink.parent.glob(f"{evidence.sink.stem}*{evidence.sink.suffix}")):
        for line in path.read_bytes().splitlines():
            try:
                told = json.loads(line)
                lines[told["id"]].append(told)
            except (ValueError, KeyError, TypeError):
                torn += 1
    if torn > evidence.kills:
        yield f"the sink's file has {torn} broken lines, after {evidence.kills} kills"
    for brief in record.briefs.values():
        told_of = lines.pop(brief["brief_id"], [])
        if not told_of:
            yield f"{brief['brief_id']}: in the record, but not in the sink's file"
        for told in told_of:
            differs = [name for name in ("customer_id", "persona_type", "research_brief") if told[name] != brief[name]]
            differs += [name for name, value in told.items() if name not in GROWING and told_of[0].get(name) != value]
            if differs:
                yield f"{brief['brief_id']}: the sink's file tells it differently: {sorted(set(differs))}"
        # Replicas have files of their own, so their lines have no order but this one.
        for earlier, later in pairwise(sorted(told_of, key=lambda told: len(told["event_ids"]))):
            if not set(earlier["event_ids"]) <= set(later["event_ids"]):
                yield f"{brief['brief_id']}: the sink's file tells of other events each time"
            if _strictness(later) < _strictness(earlier):
                yield f"{brief['brief_id']}: the sink's file allows more after more events"
    for brief_id in lines:
        yield f"{brief_id}: in the sink's file, but not in the record"


def _strictness(told: dict[str, Any]) -> int:
    return -ALLOWED.index(told["consent"]["may_mail"])


def _deliveries(record: _Record) -> Iterator[str]:
    """Each brief was delivered to each sink, by one row."""
    sinks = {row["sink"] for row in record.deliveries}
    rows = Counter((row["brief_seq"], row["sink"], row["status"]) for row in record.deliveries)
    wanted = Counter({(seq, sink, "delivered"): 1 for seq in record.briefs for sink in sinks})
    for seq, sink, status in (rows - wanted).keys() | (wanted - rows).keys():
        yield f"brief {seq}: {rows[seq, sink, status]} deliveries {status!r} to {sink.partition(':')[0]}"


def _research(evidence: Evidence, briefs: int) -> Iterator[str]:
    """What a kill cuts off is asked for again: at most once for each kill and call under way."""
    excess, allowed = evidence.research_calls - briefs, evidence.kills * evidence.concurrency
    if excess < 0:
        yield f"{briefs} briefs of {evidence.research_calls} research calls"
    if excess > allowed:
        yield f"{excess} research calls in excess of {briefs} briefs, where {allowed} can be explained"
