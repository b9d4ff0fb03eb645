"""What may still be sent to somebody who gave a churn signal, and what can be done instead. Pure.

A brief holds win-back mails, and the person it is about has just asked for fewer of them, called one spam, or has an
address that takes none. So each brief says what may be sent, wherever its mails are shown. The rule only ever narrows:
what one signal forbids, no other allows, and neither does a look-up that says "subscribed" today.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from churn_radar.triage.kinds import BOUNCED, COMPLAINED, UNSUBSCRIBED

# Events about these, or about nothing in particular, speak of the mail address; a push that bounced does not.
_MAIL = frozenset({"", "email", "customer"})

# Kind of a signal and type of the object that it was about, as in the record.
Given = tuple[str | None, str | None]


class MayMail(StrEnum):
    """How much of mail is left, the least first."""

    NOTHING = "nothing"
    NO_MARKETING = "no_marketing"
    OTHER_ADDRESS = "other_address"
    ANYTHING = "anything"


class Consent(BaseModel):
    """What may still be sent to a person, why, and what can be done instead."""

    model_config = ConfigDict(frozen=True)

    may_mail: MayMail = Field(
        description="nothing: no mail at all (a complaint). no_marketing: no marketing mail, so no win-back mail either"
        " (unsubscribed). other_address: another address or channel first (a bounce). anything: no signal forbids mail."
    )
    mark: str = Field(description="One line to stand wherever the win-back mails are shown.")
    why: list[str] = Field(description="What each restriction rests on, the strictest first; empty without any.")
    instead: list[str] = Field(description="What can be done instead, the best first.")


_MARKS = {
    MayMail.NOTHING: "Send no mail at all: this person reported one as spam.",
    MayMail.NO_MARKETING: "Send no marketing mail, these included: this person has unsubscribed.",
    MayMail.OTHER_ADDRESS: "Find another address or channel first: mail to this one comes back.",
    MayMail.ANYTHING: "Nothing known here forbids mail to this person.",
}
_WHY = {
    MayMail.NOTHING: "complained: a mail was reported as spam, and each further one harms delivery to everybody else",
    MayMail.NO_MARKETING: "unsubscribed: marketing mail is refused; receipts, service notices and replies are not",
    MayMail.OTHER_ADDRESS: "bounced: the address does not take mail, whatever is sent to it",
}
_SAYS_CUSTOMERIO = "unsubscribed: so Customer.io's profile says, from before this signal or for another reason"
_OTHER_CHANNEL = "bounced: messages by {channel} do not arrive; mail is not affected"

_IN_APP = "an in-app message, when they next log in"
_PHONE = "a call by the account owner"
_OWNER = "a personal word from the account owner, in a conversation that is already going on"
_ADDRESS = "ask for the right address, in the app or by phone; another contact at the same customer may know"
_INSTEAD = {
    MayMail.NOTHING: (_PHONE, _IN_APP),
    MayMail.NO_MARKETING: (_IN_APP, _PHONE, _OWNER),
    MayMail.OTHER_ADDRESS: (_ADDRESS, _PHONE, _IN_APP),
    MayMail.ANYTHING: (),
}


def consent(given: Iterable[Given], *, unsubscribed: bool | None = None) -> Consent:
    """What may be sent after these signals of one person, joined and skipped ones included.

    `unsubscribed` is what Customer.io's profile said when it was last read; None when it did not say. Kinds that the
    operator added to the alert events forbid nothing.
    """
    found: dict[MayMail, str] = {}
    elsewhere: set[str] = set()
    for kind, object_type in given:
        channel = (object_type or "").strip().lower()
        if kind == COMPLAINED:
            found[MayMail.NOTHING] = _WHY[MayMail.NOTHING]
        elif kind == UNSUBSCRIBED:
            found[MayMail.NO_MARKETING] = _WHY[MayMail.NO_MARKETING]
        elif kind == BOUNCED and channel in _MAIL:
            found[MayMail.OTHER_ADDRESS] = _WHY[MayMail.OTHER_ADDRESS]
        elif kind == BOUNCED:
            elsewhere.add(channel)
    if unsubscribed:
        found.setdefault(MayMail.NO_MARKETING, _SAYS_CUSTOMERIO)
    levels = [level for level in MayMail if level in found]
    strictest = levels[0] if levels else MayMail.ANYTHING
    mark = _MARKS[strictest]
    if strictest is MayMail.NO_MARKETING and MayMail.OTHER_ADDRESS in found:
        mark += " Mail to the address comes back as well."
    return Consent(
        may_mail=strictest,
        mark=mark,
        why=[found[level] for level in levels] + [_OTHER_CHANNEL.format(channel=c) for c in sorted(elsewhere)],
        instead=_instead(strictest, address_fails=MayMail.OTHER_ADDRESS in found),
    )


def _instead(strictest: MayMail, *, address_fails: bool) -> list[str]:
    # A word in a going conversation is a mail too, most often: nothing for an address that takes none.
    return [way for way in _INSTEAD[strictest] if not (address_fails and way == _OWNER)]
