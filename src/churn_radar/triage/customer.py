"""How a customer is named, and what Customer.io knows of them. Frozen values; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class IdType(StrEnum):
    """The kinds of identifier that the App API looks customers up by (its `id_type` parameter)."""

    ID = "id"
    CIO_ID = "cio_id"
    EMAIL = "email"


@dataclass(frozen=True, slots=True)
class CustomerRef:
    """The names an event gives its customer; at least one is set, none is blank.

    `id` is the workspace's own id, `cio_id` the one Customer.io assigns for good, `email` may change hands.
    """

    id: str | None = None
    cio_id: str | None = None
    email: str | None = None

    @property
    def preferred(self) -> tuple[IdType, str]:
        """The identifier to look the customer up by: id, else cio_id, else the mail address."""
        if self.id:
            return IdType.ID, self.id
        if self.cio_id:
            return IdType.CIO_ID, self.cio_id
        if self.email:
            return IdType.EMAIL, self.email
        raise ValueError("a customer reference needs at least one identifier")

    @property
    def key(self) -> str:
        """One string for one customer, as far as the event tells: `id:42`, `cio_id:a3f0`, `email:jo@x.io`."""
        id_type, value = self.preferred
        return f"{id_type.value}:{value.lower() if id_type is IdType.EMAIL else value}"


@dataclass(frozen=True, slots=True)
class Profile:
    """A customer as the App API shows them: every documented identifier, and the attributes as they came.

    `unsubscribed` is whether they refuse marketing mail; None where the answer does not say.
    """

    ref: CustomerRef
    attributes: Mapping[str, object] = field(default_factory=dict)
    unsubscribed: bool | None = None
