"""Who is this customer? The App API first; when it is down or the customer is gone, what was last seen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from churn_radar.errors import GiveUp, RetryLater
from churn_radar.research.brief import AttributesSource
from churn_radar.store.customers import KnownCustomer, recall_all
from churn_radar.store.record import Record
from churn_radar.triage.customer import CustomerRef, Profile


class LookUp(Protocol):
    """Whoever can look a customer up: the Customer.io client."""

    async def look_up(self, ref: CustomerRef) -> Profile | None:
        """The customer, or None when there is no such one; raises UpstreamError."""
        ...


@dataclass(frozen=True, slots=True)
class Enriched:
    """A customer with attributes. `known` is set when they were not read live just now.

    `failure` is why not, when the App API could not say whether it knows the customer; `gone` when it said no.
    """

    profile: Profile
    source: AttributesSource
    known: KnownCustomer | None = None
    failure: RetryLater | GiveUp | None = None
    gone: bool = False

    @property
    def seen_at(self) -> datetime | None:
        """When cached attributes were last read live; None for live ones."""
        return self.known.seen_at if self.known else None


Found = Enriched | Exception | None


async def fresh(record: Record, refs: Sequence[CustomerRef], *, since: datetime) -> dict[CustomerRef, Enriched]:
    """The customers that the record has seen since `since`: they need not be looked up."""
    known = await _recall(record, refs)
    return {
        ref: Enriched(each.profile, AttributesSource.CACHED, each)
        for ref, each in known.items()
        if each.seen_at >= since
    }


async def enrich(record: Record, customerio: LookUp, refs: Sequence[CustomerRef]) -> list[Found]:
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
            found[ref] = Enriched(answer, AttributesSource.LIVE)
        elif answer is None or isinstance(answer, RetryLater | GiveUp):
            missing[ref] = answer
        elif isinstance(answer, Exception):
            found[ref] = answer
        else:
            raise answer
    seen = await _recall(record, list(missing)) if missing else {}
    for ref, failure in missing.items():
        if known_before := seen.get(ref):
            found[ref] = Enriched(
                known_before.profile, AttributesSource.CACHED, known_before, failure, gone=failure is None
            )
        else:
            found[ref] = failure
    return [found[ref] for ref in refs]


async def _recall(record: Record, refs: Sequence[CustomerRef]) -> dict[CustomerRef, KnownCustomer]:
    async with record.read() as connection:
        known = await recall_all(connection, refs)
    return {ref: customer for ref, customer in zip(refs, known, strict=True) if customer}
