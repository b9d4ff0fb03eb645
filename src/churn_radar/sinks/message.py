"""What people are told, before it is put in the words of a service: facts, a few lines, a caution, links. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from churn_radar.counts import counted
from churn_radar.research.brief import Brief
from churn_radar.sinks.gist import gist
from churn_radar.triage.money import format_money


@dataclass(frozen=True, slots=True)
class Link:
    """A link that we made ourselves; `label` is ours too. The first of a message is what to open."""

    label: str
    url: str


@dataclass(frozen=True, slots=True)
class Message:
    """A message to people. Titles, facts and lines hold text from outside, as it came: whoever renders it escapes it.

    `id` is the same for the same brief or digest, whenever it is sent. `caution` is what must not be overlooked.
    """

    id: str
    title: str
    facts: tuple[tuple[str, str], ...] = ()
    lines: tuple[tuple[str, str], ...] = ()
    caution: str | None = None
    links: tuple[Link, ...] = ()


LinksFor = Callable[[Brief], Awaitable[Sequence[Link]]]
"""What a brief's message links to."""


async def no_links(brief: Brief) -> Sequence[Link]:
    """Where nobody knows how the pages are reached."""
    return ()


def of_brief(brief: Brief, links: Sequence[Link] = ()) -> Message:
    """A brief as a message."""
    mrr = format_money(Decimal(str(brief.mrr)), brief.currency)
    facts = [
        ("Customer", brief.email or brief.customer_id),
        ("MRR", f"{mrr} a month"),
        ("Plan", brief.plan),
    ]
    if brief.tenure_days is not None:
        facts.append(("Tenure", counted(brief.tenure_days, "day")))
    facts.append(("Signal", f"{brief.signal_received_at:%Y-%m-%d %H:%M} UTC"))
    return Message(
        id=brief.id,
        title=f"Churn alert: {brief.event_type}, {brief.persona_type}",
        facts=tuple(facts),
        lines=tuple(gist(brief)),
        caution=caution(brief),
        links=tuple(links),
    )


def caution(brief: Brief) -> str:
    """What may be sent to this person, and what can be done instead."""
    instead = brief.consent.instead
    return f"{brief.consent.mark} Instead: {'; '.join(instead)}." if instead else brief.consent.mark
