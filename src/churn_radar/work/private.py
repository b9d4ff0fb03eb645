"""What names the person behind a signal: none of it may reach a prompt. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from churn_radar.store.customers import KnownCustomer
from churn_radar.store.signals import Signal

# Attributes that name a person, however they are spelled. Their values never reach a prompt, wherever they turn up.
PERSONAL = frozenset(
    {
        *("name", "fullname", "firstname", "lastname", "middlename", "givenname", "familyname", "surname"),
        *("nickname", "displayname", "contactname", "username", "email", "emailaddress"),
        *("phone", "phonenumber", "mobile", "mobilephone"),
    }
)


def private_values(customer: KnownCustomer, signals: Sequence[Signal]) -> Collection[str]:
    """Everything that names the person: identifiers of the customer and of each event, and personal attributes."""
    refs = [customer.profile.ref, *(signal.customer for signal in signals)]
    values = [value for ref in refs for value in (ref.id, ref.cio_id, ref.email)]
    attributes: Mapping[str, object] = customer.profile.attributes
    for name, value in attributes.items():
        if re.sub(r"[^a-z]", "", name.lower()) in PERSONAL and isinstance(value, str | int):
            values.append(str(value))
    return {value.strip() for value in values if value and value.strip()}
