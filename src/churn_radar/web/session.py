"""The session cookie: signed, bound to the key that was given, with an idle and an absolute end. Pure.

The cookie holds no secret: an id, which key it was begun with (as a keyed hash), and two times. It ends by itself when
the key leaves the settings, since no key then has that hash.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from itsdangerous import BadData, URLSafeSerializer

from churn_radar.access import Key, Keys

COOKIE = "churn_radar_session"
# While a log-in page is open; what it holds is worth nothing without the form that goes with it.
LOGIN_COOKIE = "churn_radar_login"
LOGIN_COOKIE_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Session:
    """A log-in with an API key."""

    id: str
    key_mark: str
    began: datetime
    seen: datetime


@dataclass(frozen=True, slots=True)
class Sessions:
    """Begins sessions, reads them back, and says when they are over."""

    secret: bytes
    idle: timedelta
    longest: timedelta

    def begin(self, key: Key, now: datetime) -> Session:
        """A new session of whoever gave this key."""
        return Session(secrets.token_urlsafe(18), self._mark(key), now, now)

    def cookie(self, session: Session) -> str:
        """What the browser keeps."""
        began, seen = (int(moment.timestamp()) for moment in (session.began, session.seen))
        return self._signer.dumps([session.id, session.key_mark, began, seen])

    def read(self, cookie: str, now: datetime) -> Session | None:
        """The session of a cookie; None when it is not ours, or over."""
        try:
            session_id, key_mark, began, seen = self._signer.loads(cookie)
            session = Session(session_id, key_mark, _moment(began), _moment(seen))
        except (BadData, ValueError, TypeError, OverflowError, OSError):
            return None
        return session if now < self.end(session) else None

    def end(self, session: Session) -> datetime:
        """When it is over, unless somebody uses it before that."""
        return min(session.began + self.longest, session.seen + self.idle)

    def seconds_left(self, session: Session, now: datetime) -> float:
        """How long it can last at most, however much it is used."""
        return (session.began + self.longest - now).total_seconds()

    def holder(self, session: Session, keys: Keys) -> Key | None:
        """The key it was begun with, while that is still one."""
        return next((key for key in keys.all if hmac.compare_digest(self._mark(key), session.key_mark)), None)

    def is_worth_renewing(self, session: Session, now: datetime) -> bool:
        """Whether the browser should be given a cookie that tells of this use: not with each request."""
        return now - session.seen > self.idle / 20

    def renewed(self, session: Session, now: datetime) -> Session:
        """The same session, used just now."""
        return Session(session.id, session.key_mark, session.began, now)

    @property
    def _signer(self) -> URLSafeSerializer:
        return URLSafeSerializer(self.secret, salt="session", signer_kwargs={"digest_method": hashlib.sha256})

    def _mark(self, key: Key) -> str:
        return hmac.new(self.secret, b"key of a session:" + key.value, "sha256").hexdigest()[:32]


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def csrf_token(secret: bytes, binding: str) -> str:
    """What each form carries; `binding` is whose: the session's id, or the user that the proxy names."""
    return hmac.new(secret, b"form of:" + binding.encode(), "sha256").hexdigest()
