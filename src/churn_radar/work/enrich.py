"""Who is this customer? The App API first; when it is down or the customer is gone, what was last seen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from churn_radar.errors import GiveUp, RetryLater
from churn_radar.research.brief import AttributesSource
from churn_radar.store.customers import KnownCustomer, recall_all
from churn_radar.store.record import Record
from churn_radar.store.signals import Signal
from churn_radar.triage.customer import CustomerRef, Profile


class LookUp(Protocol):
    """Whoever can look a customer up: the Customer.io client."""

    async def look_up(self, ref: CustomerRef) -> Profile | None:
        """The customer, or None when there is no such one; raises UpstreamError."""
        ...


@dataclass(frozen=True, slots=True)
class Enriched:
    """A customer with attributes. `known` is set when they were not read just now, but are what was last seen.

    `seen_at` is when they were asked for, at the earliest: writing them down may take as long as the record is away.
    `failure` is why not, when the App API could not say whether it knows the customer; `gone` when it said no.
    """

    profile: Profile
    source: AttributesSource
    seen_at: datetime
    known: KnownCustomer | None = None
    failure: RetryLater | GiveUp | None = None
    gone: bool = False


Found = Enriched | Exception | None

# A blast brings several events of a customer within minutes: one look-up after the last of them serves them all.
SERVES = timedelta(minutes=5)


async def fresh(
    record: Record, signals: Sequence[Signal], *, now: datetime, fresh_for: timedelta
) -> dict[int, Enriched]:
    """The signals, by their number, whose customers need not be looked up.

    Either they were within `fresh_for`, or since the signal came in (and not long ago): that is as live as a look-up
    for this very signal. One that was triaged before is looked at again because somebody wants to know anew.
    """
    known = await _recall(record, list({signal.customer for signal in signals}))
    found: dict[int, Enriched] = {}
    for signal in signals:
        seen = known.get(signal.customer)
        if seen is None or seen.seen_at > now:  # a clock has jumped back: nobody knows how long ago that was
            continue
        is_since = seen.seen_at > max(signal.received_at, now - SERVES)
        if is_since and signal.customer_seq is None and _is_named(signal.customer, seen.profile.ref):
            found[signal.seq] = _recalled(seen, AttributesSource.LIVE)
        elif now - seen.seen_at < fresh_for:
            found[signal.seq] = _recalled(seen, AttributesSource.CACHED)
    return found


def _recalled(known: KnownCustomer, source: AttributesSource) -> Enriched:
    return Enriched(known.profile, source, known.seen_at, known)


def _is_named(asked: CustomerRef, seen: CustomerRef) -> bool:
    """Whether a look-up would show this customer: an address, or one name of two, may be somebody else's by now."""
    named = asked.id or asked.cio_id
    return bool(named) and asked.id in (None, seen.id) and asked.cio_id in (None, seen.cio_id)


async def enrich(record: Record, customerio: LookUp, refs: Sequence[CustomerRef], now: datetime) -> list[Found]:
    """Each customer's attributes, and where they came from; None for a customer nobody has ever seen.

    An error stands in place of a customer when the App API cannot answer and the record has never seen them, or when
    the operator must act: degraded research is no cure for a wrong key.
    """
    found: dict[CustomerRef, Found] = {}
    asked = list(dict.fromkeys(refs))
    answers = await asyncio.gather(*(customerio.look_up(ref) for ref in asked), return_exceptions=True)
    missing: dict[CustomerRef, RetryLater | GiveUp | None] = {}
    for ref, answer in zip(asked, answers, strict=True):
        if isinstance(answer, Profile):
            found[ref] = Enriched(answer, AttributesSource.LIVE, now)
        elif answer is None or isinstance(answer, RetryLater | GiveUp):
            missing[ref] = answer
        elif isinstance(answer, Exception):
            found[ref] = answer
        else:
            raise answer
    seen = await _recall(record, list(missing)) if missing else {}
    for ref, failure in missing.items():
        if known_before := seen.get(ref):
            last_seen = _recalled(known_before, AttributesSource.CACHED)
            found[ref] = replace(last_seen, failure=failure, gone=failure is None)
        else:
            found[ref] = failure
    return [found[ref] for ref in refs]


async def _recall(record: Record, refs: Sequence[CustomerRef]) -> dict[CustomerRef, KnownCustomer]:
    async with record.read() as connection:
        known = await recall_all(connection, refs)
    return {ref: customer for ref, customer in zip(refs, known, strict=True) if customer}
