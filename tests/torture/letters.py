"""What the crash test sends: churn events in every form, noise and junk, about a crowd of invented customers."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from churn_radar.sending import signed_headers
from churn_radar.simulator.people import PEOPLE, Person
from tests.support.service import SECRET

RESEARCHED_PLANS = ("pro", "business", "enterprise")
PLANS = (*RESEARCHED_PLANS, "starter", "free")
INDUSTRIES = ("fintech", "media", "legal", "gaming", "travel")
KINDS = ("unsubscribed", "bounced", "spammed", "cio_subscription_preferences_changed")
EPOCH = 1_795_500_000


class Expected(StrEnum):
    """What a letter is, and so what has to become of it."""

    CHURN = "churn"
    NOISE = "noise"
    JUNK = "junk"


@dataclass(frozen=True, slots=True)
class Said:
    """One acknowledgement of the door: its verdict, and the id that it told."""

    verdict: str
    event_id: str | None


@dataclass(slots=True)
class Letter:
    """One event as its sender knows it: the bytes, always the same; whom it is about; what the door said, in order."""

    body: bytes
    headers: Mapping[str, str]
    expected: Expected
    customer: str
    researched: bool
    said: list[Said] = field(default_factory=list)

    @property
    def acknowledged(self) -> bool:
        """Whether the door has ever answered 200."""
        return bool(self.said)


def crowd(size: int, dice: random.Random) -> tuple[Person, ...]:
    """The simulator's people, and `size` more."""
    return (*PEOPLE, *(_person(number, dice) for number in range(size)))


def _person(number: int, dice: random.Random) -> Person:
    email = f"crowd{number}@torture.example"
    attributes = {
        "email": email,
        "plan_type": dice.choice(PLANS),
        "mrr": str(dice.randint(20, 12_000)),
        "industry": dice.choice(INDUSTRIES),
        "usage_tier": dice.choice(("low", "medium", "high")),
        "tenure_days": str(dice.randint(1, 2000)),
    }
    return Person(f"crowd_{number}", f"07{number:06x}", email, attributes)


def write_letters(people: Sequence[Person], dice: random.Random) -> Iterator[Letter]:
    """Letters without end: most are churn events, about half of them of a customer who had one before."""
    fresh = list(people)
    dice.shuffle(fresh)
    met: list[Person] = []
    number = 0
    while True:
        number += 1
        roll = dice.random()
        if roll < 0.12:
            payload: Any = _event(number, dice.choice(("opened", "clicked", "delivered")), dice.choice(people), dice)
            yield _letter(payload, Expected.NOISE)
        elif roll < 0.17:
            yield _letter({"event_id": f"01JUNK{number:08d}", "what": "ever"}, Expected.JUNK)
        elif roll < 0.19:
            yield _letter(b'{"event_id": "cut short', Expected.JUNK, salt=number)
        elif roll < 0.22:
            stranger = Person(f"stranger_{number}", None, None)
            yield _letter(_event(number, dice.choice(KINDS), stranger, dice), Expected.CHURN, stranger)
        else:
            if fresh and (not met or dice.random() < 0.5):
                met.append(fresh.pop())
            person = dice.choice(met[-20:] if dice.random() < 0.5 else met)
            yield _letter(_event(number, dice.choice(KINDS), person, dice), Expected.CHURN, person)


def _event(number: int, metric: str, person: Person, dice: random.Random) -> dict[str, Any]:
    """An event in the current or an older form, which names its customer by one identifier or by all."""
    names = {"id": person.id, "cio_id": person.cio_id, "email": person.email}
    known = {name: value for name, value in names.items() if value}
    if person.id and metric in ("unsubscribed", "bounced") and dice.random() < 0.1:
        return {"event_type": f"email_{metric}", "customer_id": person.id, "timestamp": EPOCH + number}
    if dice.random() < 0.4:
        name = dice.choice(list(known))
        known = {name: known[name]}
    data: dict[str, Any] = {"customer_id": known.get("id"), "identifiers": known, "delivery_id": f"delivery{number}"}
    if metric == "cio_subscription_preferences_changed":
        data["content"] = '{"topics":{"topic_7":false},"channels":{"email":false}}'
    return {
        "event_id": f"01TORTURE{number:08d}",
        "object_type": "customer" if metric.startswith("cio_") else "email",
        "metric": metric,
        "timestamp": EPOCH + number,
        "data": data,
    }


def _letter(payload: object, expected: Expected, person: Person | None = None, *, salt: int = 0) -> Letter:
    body = payload + b"%d" % salt if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Letter(
        body=body,
        headers=signed_headers(body, SECRET),
        expected=expected,
        customer=_name_of(person),
        researched=person is not None and person.attributes.get("plan_type") in RESEARCHED_PLANS,
    )


def _name_of(person: Person | None) -> str:
    """The one name that tells people apart, whichever identifier an event uses."""
    return "" if person is None else person.cio_id or person.id or person.email or ""
