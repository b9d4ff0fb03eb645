"""Tombstones: what is left of somebody who was forgotten, so that late events about them are kept out. Pure.

A tombstone holds no identifier, only a keyed hash of each (HMAC-SHA256). Without the key nobody can tell whose it is;
with it, only somebody who has the identifier already can tell that its owner was forgotten.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from churn_radar.triage.customer import CustomerRef, IdType


@dataclass(frozen=True, slots=True)
class Mark:
    """One identifier of a person who was forgotten; `person` tells which marks belong together."""

    person: str
    kind: str
    mark: str


def identifiers(ref: CustomerRef) -> list[tuple[IdType, str]]:
    """The names of a reference, the lasting ones first; a mail address in lower case."""
    named = (
        (IdType.CIO_ID, ref.cio_id),
        (IdType.ID, ref.id),
        (IdType.EMAIL, ref.email.lower() if ref.email else None),
    )
    return [(kind, value) for kind, value in named if value]


def mark_of(key: bytes, kind: IdType, value: str) -> str:
    """What is kept of an identifier."""
    return hmac.new(key, f"{kind.value}:{value}".encode(errors="surrogatepass"), "sha256").hexdigest()[:40]


@dataclass
class Tombstones:
    """Everybody who was forgotten, as far as this process has heard."""

    _people: dict[str, set[str]] = field(default_factory=dict, repr=False)
    _kinds: dict[str, set[str]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """How many marks there are."""
        return len(self._people)

    def add(self, marks: Iterable[Mark]) -> None:
        """Hear of more of them."""
        for each in marks:
            self._people.setdefault(each.mark, set()).add(each.person)
            self._kinds.setdefault(each.person, set()).add(each.kind)

    def clear(self) -> None:
        """Begin anew."""
        self._people.clear()
        self._kinds.clear()

    def person(self, key: bytes, ref: CustomerRef) -> str | None:
        """The forgotten person that a reference names; None when it names nobody of them.

        The same rule as for everybody else: a lasting identifier decides; a mail address, which may have changed hands
        or be shared, names somebody only when no other identifier says that it is another one.
        """
        marks = {kind: mark_of(key, kind, value) for kind, value in identifiers(ref)} if self._people else {}
        for kind in (IdType.CIO_ID, IdType.ID):
            for person in self._people.get(marks.get(kind, ""), ()):
                return person
        for person in sorted(self._people.get(marks.get(IdType.EMAIL, ""), ())):
            known = self._kinds[person]
            if not any(kind in marks and kind.value in known for kind in (IdType.CIO_ID, IdType.ID)):
                return person
        return None


def marks_for(key: bytes, person: str, names: Mapping[IdType, Iterable[str]]) -> list[Mark]:
    """The marks of a person, one for each of their names."""
    return [
        Mark(person, kind.value, mark_of(key, kind, value.lower() if kind is IdType.EMAIL else value))
        for kind, values in names.items()
        for value in sorted(set(values))
    ]
