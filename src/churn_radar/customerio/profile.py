"""Reads a customer out of an App API answer. Pure, and tolerant: what is missing is None, never an error."""

from __future__ import annotations

from collections.abc import Mapping

from churn_radar.triage.customer import CustomerRef, Profile

# What stands beside the attributes in a `customer` object and is none itself.
_STRUCTURE = frozenset({"id", "attributes", "identifiers", "timestamps", "devices", "unsubscribed"})


def read_profile(payload: object) -> Profile | None:
    """The customer in `{"customer": {...}}`; None when the payload holds none.

    Attributes are those of `customer.attributes` (App API reference) or, in older shapes, the keys directly under
    `customer`; their values stay as they came. Each identifier is the first that is set of `customer`,
    `customer.identifiers` and the attributes. After a merge they may differ from the one that was asked for, and
    none at all may be set. Whether they have unsubscribed stands beside the attributes, or among them.
    """
    customer = _mapping(_mapping(payload).get("customer"))
    nested = customer.get("attributes")
    attributes = (
        dict(nested)
        if isinstance(nested, Mapping)
        else {name: value for name, value in customer.items() if name not in _STRUCTURE}
    )
    places = (customer, _mapping(customer.get("identifiers")), attributes)
    ref = CustomerRef(id=_first("id", places), cio_id=_first("cio_id", places), email=_first("email", places))
    if not attributes and ref == CustomerRef():
        return None
    return Profile(ref, attributes, _unsubscribed(customer, attributes))


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _unsubscribed(*places: Mapping[str, object]) -> bool | None:
    """The first place that says so or the contrary; among the attributes every value is a string."""
    words = {"true": True, "false": False}
    said = (words.get(str(place.get("unsubscribed")).strip().lower()) for place in places)
    return next((each for each in said if each is not None), None)


def _first(name: str, places: tuple[Mapping[str, object], ...]) -> str | None:
    return next((text for place in places if (text := _identifier(place.get(name)))), None)


def _identifier(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    return text if text.strip() else None
