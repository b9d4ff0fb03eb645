"""Links in messages that say what became of a customer: signed, for one brief and one outcome, for some days. Pure.

Whoever holds one may do that one thing, without a log-in; so it is treated as a key. Opening it changes nothing: mail
scanners and chat previews open whatever they see. The page it leads to asks, and its button does it, once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from itsdangerous import BadData, URLSafeSerializer

from churn_radar.outcome.rules import Outcome

PATH = "/desk/outcome"


class LinkRefused(Exception):
    """A link that is not ours, or whose time is over; the message says which, to whoever opened it."""


@dataclass(frozen=True, slots=True)
class OutcomeLink:
    """What a link is for. `digest` is what the record knows it by once it has been used."""

    brief_id: str
    outcome: Outcome
    digest: str


@dataclass(frozen=True, slots=True)
class OutcomeLinks:
    """Makes links and reads them back. Without `public_url`, or with no `valid_for`, there are none."""

    secret: bytes = field(repr=False)
    public_url: str | None
    valid_for: timedelta

    def urls(self, brief_id: str, now: datetime) -> dict[Outcome, str]:
        """A link for each outcome of a brief."""
        if self.public_url is None or not self.valid_for:
            return {}
        until = int((now + self.valid_for).timestamp())
        return {
            outcome: f"{self.public_url}{PATH}/{self._signer.dumps([brief_id, outcome.value, until])}"
            for outcome in Outcome
        }

    def read(self, token: str, now: datetime) -> OutcomeLink:
        """What a link is for; raises LinkRefused."""
        try:
            brief_id, outcome, until = self._signer.loads(token)
            link = OutcomeLink(str(brief_id), Outcome(outcome), hashlib.sha256(token.encode()).hexdigest())
            over = now.timestamp() >= int(until)
        except (BadData, ValueError, TypeError):
            raise LinkRefused("this link is not one of ours, or not complete") from None
        if over:
            raise LinkRefused("this link is no longer valid; open the brief itself")
        return link

    @property
    def _signer(self) -> URLSafeSerializer:
        return URLSafeSerializer(
            self.secret, salt="churn_radar outcome link", signer_kwargs={"digest_method": hashlib.sha256}
        )
