"""Who is this customer? The App API first; when it is down or the customer is gone, what was last seen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from churn_radar.errors import GiveUp, RetryLater
from churn_radar.research.brief import AttributesSource
from churn_radar.store.customers import KnownCustomer, recall
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

    `failure` is why not, when the App API could not say whether it knows the customer.
    """

    profile: Profile
    source: AttributesSource
    known: KnownCustomer | None = None
    failure: RetryLater | GiveUp | None = None

    @property
    def seen_at(self) -> datetime | None:
        """When cached attributes were last read live; None for live ones."""
        return self.known.seen_at if self.known else None


async def enrich(record: Record, customerio: LookUp, ref: CustomerRef) -> Enriched | None:
    """The customer's attributes, and where they came from; None for a customer nobody has ever seen.

    Raises UpstreamError when the App API cannot answer and the record has never seen the customer, or when
    the operator must act: degraded research is no cure for a wrong key.
    """
    failure: RetryLater | GiveUp | None = None
    try:
        profile = await customerio.look_up(ref)
    except (RetryLater, GiveUp) as error:
        profile, failure = None, error
    if profile is not None:
        return Enriched(profile, AttributesSource.LIVE)
    async with record.read() as connection:
        known = await recall(connection, ref)
    if known is not None:
        return Enriched(known.profile, AttributesSource.CACHED, known, failure)
    if failure is not None:
        raise failure
    return None
