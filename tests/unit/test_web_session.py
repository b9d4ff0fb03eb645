from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from churn_radar.access import Key, Keys, Role
from churn_radar.web.session import Sessions, csrf_token
from tests.support.work import NOON

SESSIONS = Sessions(b"s" * 32, idle=timedelta(hours=8), longest=timedelta(hours=72))
KEYS = Keys.of(["a-key-of-an-operator"], ["a-key-of-a-reader"])
KEY = KEYS.all[0]
HOUR = timedelta(hours=1)


def test_a_session_is_read_back_from_its_cookie() -> None:
    session = SESSIONS.begin(KEY, NOON)
    read = SESSIONS.read(SESSIONS.cookie(session), NOON)
    assert read == session
    assert SESSIONS.holder(session, KEYS) == KEY


def test_a_session_that_nobody_uses_ends() -> None:
    cookie = SESSIONS.cookie(SESSIONS.begin(KEY, NOON))
    assert SESSIONS.read(cookie, NOON + 7 * HOUR) is not None
    assert SESSIONS.read(cookie, NOON + 8 * HOUR) is None


def test_a_session_that_is_used_ends_all_the_same_in_the_end() -> None:
    session, now = SESSIONS.begin(KEY, NOON), NOON
    while now < NOON + 71 * HOUR:
        now += HOUR
        session = SESSIONS.renewed(session, now)
        assert SESSIONS.read(SESSIONS.cookie(session), now) is not None
    assert SESSIONS.read(SESSIONS.cookie(session), NOON + 72 * HOUR) is None


def test_a_cookie_is_renewed_now_and_then_only() -> None:
    session = SESSIONS.begin(KEY, NOON)
    assert not SESSIONS.is_worth_renewing(session, NOON + HOUR / 60)
    assert SESSIONS.is_worth_renewing(session, NOON + HOUR)


def test_a_session_ends_with_its_key() -> None:
    session = SESSIONS.begin(KEY, NOON)
    assert SESSIONS.holder(session, Keys.of(["another-key-of-ours"], ["a-key-of-a-reader"])) is None


def test_a_session_of_a_key_that_became_a_readers_reads() -> None:
    session = SESSIONS.begin(KEY, NOON)
    holder = SESSIONS.holder(session, Keys.of([], ["a-key-of-an-operator"]))
    assert holder is not None
    assert holder.who.role is Role.READER


@pytest.mark.parametrize("secret", [b"t" * 32, b""])
def test_another_secret_reads_nothing(secret: bytes) -> None:
    cookie = SESSIONS.cookie(SESSIONS.begin(KEY, NOON))
    assert replace(SESSIONS, secret=secret).read(cookie, NOON) is None


def test_a_cookie_that_was_touched_is_none() -> None:
    cookie = SESSIONS.cookie(SESSIONS.begin(KEY, NOON))
    for at in range(len(cookie)):
        touched = cookie[:at] + ("A" if cookie[at] != "A" else "B") + cookie[at + 1 :]
        read = SESSIONS.read(touched, NOON)
        # The last letter of a base64 text may carry no bit of it.
        assert read is None or at == len(cookie) - 1, at


@pytest.mark.parametrize("cookie", ["", ".", "a.b", "é", "x" * 5000, "W10.sig"])
def test_nonsense_is_no_session(cookie: str) -> None:
    assert SESSIONS.read(cookie, NOON) is None


def test_the_cookie_holds_neither_the_key_nor_its_fingerprint() -> None:
    session = SESSIONS.begin(KEY, NOON)
    assert "a-key" not in SESSIONS.cookie(session)
    assert KEY.who.name.removeprefix("key ") not in session.key_mark
    assert session.key_mark != SESSIONS.begin(Key.of(b"another", Role.READER), NOON).key_mark


def test_each_log_in_has_forms_of_its_own() -> None:
    first, second = (SESSIONS.begin(KEY, NOON).id for _ in range(2))
    assert csrf_token(b"s", first) != csrf_token(b"s", second)
    assert csrf_token(b"s", first) != csrf_token(b"t", first)
