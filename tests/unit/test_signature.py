from __future__ import annotations

import hashlib
import hmac
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from churn_radar.intake.signature import Refusal, SignedBody, sign, verify

# A busy machine is no finding.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

KEY, NEW_KEY = b"the-key", b"the-key-after-rotation"
BODY = b'{"event_id": "01E4", "metric": "bounced"}'
NOW = 1_795_500_000
TIMESTAMP = b"1795500000"


def judge(
    body: bytes = BODY,
    *signatures: bytes | str,
    timestamps: tuple[bytes, ...] = (TIMESTAMP,),
    secrets: tuple[bytes, ...] = (KEY,),
    now: float = NOW,
) -> SignedBody | Refusal:
    given = [each.encode() if isinstance(each, str) else each for each in signatures]
    return verify(body, signatures=given, timestamps=timestamps, secrets=secrets, now=now)


def current(body: bytes = BODY, timestamp: bytes = TIMESTAMP, key: bytes = KEY) -> str:
    """Written out here as Customer.io documents it, so that `sign` itself is under test."""
    return hmac.new(key, b"v0:" + timestamp + b":" + body, hashlib.sha256).hexdigest()


def older(body: bytes = BODY, key: bytes = KEY) -> str:
    return hmac.new(key, body, hashlib.sha256).hexdigest()


def test_the_current_scheme_is_accepted() -> None:
    assert judge(BODY, current()) == SignedBody(BODY)


def test_the_older_scheme_is_accepted_where_no_timestamp_was_sent() -> None:
    assert judge(BODY, older(), timestamps=()) == SignedBody(BODY)


def test_what_we_sign_is_what_customer_io_would_sign() -> None:
    assert sign(KEY, BODY, TIMESTAMP) == current()
    assert sign(KEY, BODY, None) == older()


@pytest.mark.parametrize(
    "dress", [str.upper, "v0={}".format, "V0={}".format, " {} ".format, lambda s: f"v0={s.upper()}"]
)
def test_the_signature_may_be_prefixed_padded_or_in_upper_case(dress: object) -> None:
    assert callable(dress)
    assert judge(BODY, dress(current())) == SignedBody(BODY)
    assert judge(BODY, dress(older()), timestamps=()) == SignedBody(BODY)


@pytest.mark.parametrize("secrets", [(KEY, NEW_KEY), (NEW_KEY, KEY), (b"a", b"b", KEY, b"c")])
def test_while_a_key_is_rotated_each_of_the_keys_opens(secrets: tuple[bytes, ...]) -> None:
    assert judge(BODY, current(), secrets=secrets) == SignedBody(BODY)
    assert judge(BODY, older(), timestamps=(), secrets=secrets) == SignedBody(BODY)


@pytest.mark.parametrize("timestamp", [b"1", b"0", b"946684800", b"4102444800", b"1795500000000", b"yesterday", b""])
def test_age_is_no_reason_to_refuse_a_right_signature(timestamp: bytes) -> None:
    assert judge(BODY, current(timestamp=timestamp), timestamps=(timestamp,)) == SignedBody(BODY)


def test_a_timestamp_header_rules_the_older_scheme_out() -> None:
    assert judge(BODY, older()) is Refusal.OLDER_SCHEME


def test_an_empty_timestamp_header_is_a_timestamp_header() -> None:
    assert judge(BODY, older(), timestamps=(b"",)) is Refusal.OLDER_SCHEME


def test_a_current_signature_does_not_pass_for_an_older_one_by_moving_the_timestamp_into_the_body() -> None:
    carried = b"v0:" + TIMESTAMP + b":" + BODY
    assert older(carried) == current()
    assert judge(carried, current(), timestamps=()) is Refusal.STRIPPED_TIMESTAMP


def test_the_timestamp_is_part_of_what_is_signed() -> None:
    assert isinstance(judge(BODY, current(), timestamps=(b"1795500001",)), Refusal)


@pytest.mark.parametrize("timestamps", [(TIMESTAMP,), ()])
def test_one_bit_changed_anywhere_is_refused(timestamps: tuple[bytes, ...]) -> None:
    signature = current() if timestamps else older()
    for place in range(len(BODY)):
        changed = bytearray(BODY)
        changed[place] ^= 1
        assert judge(bytes(changed), signature, timestamps=timestamps) is Refusal.KEY_OR_BODY
    assert judge(BODY + b"\n", signature, timestamps=timestamps) is Refusal.KEY_OR_BODY


@pytest.mark.parametrize("timestamps", [(TIMESTAMP,), ()])
def test_the_same_json_written_anew_is_refused(timestamps: tuple[bytes, ...]) -> None:
    signature = current() if timestamps else older()
    anew = json.dumps(json.loads(BODY), separators=(",", ":")).encode()
    assert json.loads(anew) == json.loads(BODY)
    assert judge(anew, signature, timestamps=timestamps) is Refusal.KEY_OR_BODY


def test_another_key_is_refused_in_both_schemes() -> None:
    assert judge(BODY, current(key=NEW_KEY)) is Refusal.KEY_OR_BODY
    assert judge(BODY, older(key=NEW_KEY), timestamps=()) is Refusal.KEY_OR_BODY


def test_with_no_key_in_force_nothing_is_genuine() -> None:
    assert isinstance(judge(BODY, current(), secrets=()), Refusal)


def test_a_missing_signature_is_named() -> None:
    assert judge(BODY) is Refusal.NO_HEADER


@pytest.mark.parametrize(
    ("signatures", "timestamps"),
    [
        ((current(), current()), (TIMESTAMP,)),
        ((current(), "0" * 64), (TIMESTAMP,)),
        ((current(),), (TIMESTAMP, TIMESTAMP)),
        ((current(),), (TIMESTAMP, b"1")),
        ((older(), older()), ()),
    ],
)
def test_repeated_headers_are_refused_even_when_one_of_them_is_right(
    signatures: tuple[str, ...], timestamps: tuple[bytes, ...]
) -> None:
    assert judge(BODY, *signatures, timestamps=timestamps) is Refusal.REPEATED_HEADER


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"v0=",
        b"zz",
        b"\xff\xfe\x00",
        "Übel".encode(),
        current().encode()[:-1],
        current().encode() + b"0",
        current().encode() + b"\n" + current().encode(),
        b"v0=v0=" + current().encode(),
        b"sha256=" + current().encode(),
        "０".encode() * 64,
    ],
)
def test_what_is_no_hex_digest_is_refused_without_a_crash(value: bytes) -> None:
    assert judge(BODY, value) is Refusal.NOT_HEX


@pytest.mark.parametrize("timestamp", [b"1", b"9" * 40, b"\xff", b"yesterday", "²".encode(), b"-5"])
def test_a_wrong_signature_with_a_strange_clock_points_at_the_clock(timestamp: bytes) -> None:
    assert judge(BODY, "0" * 64, timestamps=(timestamp,)) is Refusal.CLOCK


def test_a_retry_of_days_ago_with_a_wrong_signature_does_not_point_at_the_clock() -> None:
    assert judge(BODY, "0" * 64, now=NOW + 7 * 86400) is Refusal.KEY_OR_BODY


@unhurried
@given(body=st.binary(), signature=st.binary(max_size=80), timestamp=st.binary(max_size=20))
def test_the_likely_cause_never_quotes_what_was_sent(body: bytes, signature: bytes, timestamp: bytes) -> None:
    verdict = judge(body, signature, timestamps=(timestamp,))
    # A refusal is one of a handful of fixed sentences.
    assert isinstance(verdict, Refusal)


@unhurried
@given(body=st.binary(), timestamp=st.integers(0, 10**12), key=st.binary(min_size=1))
def test_whatever_was_signed_is_accepted_byte_for_byte(body: bytes, timestamp: int, key: bytes) -> None:
    moment = b"%d" % timestamp
    assert judge(body, sign(key, body, moment), timestamps=(moment,), secrets=(key,)) == SignedBody(body)
