from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import to_json

from churn_radar.errors import NotUnderstood
from churn_radar.intake.payload import (
    MAX_ID_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    Event,
    decode,
    particular,
    read_event,
    read_name,
)

# A busy machine is no finding.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SECRETIVE = "jane@acme.co"


def reason(payload: dict[str, Any]) -> str:
    with pytest.raises(NotUnderstood) as caught:
        read_event(payload)
    return caught.value.reason


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": 1}{"a": 1}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": "\x00"}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        b"metric=bounced&customer_id=42",
        b"<event/>",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a": ' + b"9" * 100_000 + b"}",
    ],
)
def test_what_is_not_json_is_not_understood(body: bytes) -> None:
    with pytest.raises(NotUnderstood, match="not valid JSON"):
        decode(body)


@pytest.mark.parametrize("body", [b"null", b"true", b"1", b'"text"', b"[]", b'[{"metric": "bounced"}]'])
def test_json_that_is_no_object_is_not_understood(body: bytes) -> None:
    with pytest.raises(NotUnderstood, match="not a JSON object"):
        decode(body)


@unhurried
@given(st.binary())
def test_decoding_gives_an_object_or_a_reason_for_any_bytes(body: bytes) -> None:
    with contextlib.suppress(NotUnderstood):
        assert isinstance(decode(body), dict)


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        ({"metric": "bounced"}, "bounced"),
        ({"event_type": "email_bounced"}, "email_bounced"),
        ({"metric": "bounced", "event_type": "email_opened"}, "bounced"),
        ({"metric": None, "event_type": "email_bounced"}, "email_bounced"),
        ({"metric": "", "event_type": "email_bounced"}, "email_bounced"),
        ({"metric": " \t", "event_type": "email_bounced"}, "email_bounced"),
    ],
)
def test_the_name_is_the_metric_else_the_event_type(payload: dict[str, Any], name: str) -> None:
    assert read_name(payload) == name


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"metric": None},
        {"metric": "", "event_type": "  "},
        {"metric": 0},
        {"metric": False},
        {"metric": 1},
        {"metric": ["bounced"]},
        {"metric": {"name": "bounced"}},
        {"metric": "a" * 201},
        {"metric": "bounced\0"},
        {"event_type": [], "metric": None},
        {"events": [{"metric": "bounced"}]},
    ],
)
def test_an_event_without_a_name_in_text_is_not_understood(payload: dict[str, Any]) -> None:
    with pytest.raises(NotUnderstood):
        read_name(payload)


def test_identifiers_come_as_text_or_numbers_and_leave_as_text() -> None:
    event = read_event(
        {
            "event_id": 7,
            "customer_id": " 42 ",
            "data": {"customer_id": 2**63, "identifiers": {"id": -1}},
        }
    )
    assert (event.event_id, event.customer_id) == ("7", "42")
    assert event.data is not None
    assert event.data.identifiers is not None
    assert (event.data.customer_id, event.data.identifiers.id) == (str(2**63), "-1")


@pytest.mark.parametrize("blank", [None, "", "  ", "\t\n"])
def test_blank_is_absent(blank: str | None) -> None:
    event = read_event({"event_id": blank, "metric": blank, "timestamp": blank, "data": {"customer_id": blank}})
    assert event.data is not None
    assert not any((event.event_id, event.metric, event.timestamp, event.data.customer_id))


@pytest.mark.parametrize(
    "wrong", [True, False, 1.5, [], {}, ["42"], {"id": "42"}, "a" * (MAX_ID_CHARACTERS + 1), 10**600]
)
def test_an_identifier_of_another_type_is_not_understood(wrong: object) -> None:
    for payload in ({"event_id": wrong}, {"customer_id": wrong}, {"data": {"recipient": wrong}}):
        assert reason(payload)


def test_an_identifier_of_the_greatest_length_is_read() -> None:
    assert read_event({"event_id": "a" * MAX_ID_CHARACTERS}).event_id == "a" * MAX_ID_CHARACTERS


@pytest.mark.parametrize("unstorable", ["a\0b", "\0", "a\ud800", "\udfff"])
def test_text_that_no_database_keeps_is_not_understood(unstorable: str) -> None:
    for payload in ({"event_id": unstorable}, {"object_type": unstorable}, {"data": {"recipient": unstorable}}):
        assert reason(payload)


def test_long_text_is_cut_and_other_scalars_are_read_as_text() -> None:
    assert particular("a" * 10_000) == "a" * MAX_TEXT_CHARACTERS
    assert [particular(value) for value in (550, 12.5, 0, " x ")] == ["550", "12.5", "0", "x"]


@pytest.mark.parametrize("odd", [None, True, False, [], ["x"], {"x": 1}, "", "  ", "\0"])
def test_a_particular_that_is_blank_or_neither_text_nor_number_is_left_out(odd: object) -> None:
    assert particular(odd) is None


def test_of_a_particular_what_no_database_keeps_is_left_out() -> None:
    assert particular("a\0b\ud800c") == "ab?c"


@pytest.mark.parametrize("odd", [12.5, True, [1], {"id": 7}, "a\0b", "a" * 3000])
def test_a_particular_of_any_type_does_not_keep_the_event_from_being_read(odd: object) -> None:
    assert read_event({"metric": "bounced", "data": {"customer_id": "42", "campaign_id": odd, "subject": odd}}).data


@pytest.mark.parametrize(
    "timestamp",
    [1_795_500_000, "1795500000", " 1795500000 ", 1_795_500_000.0, "2026-11-24T06:00:00Z", "2026-11-24T07:00:00+01:00"],
)
def test_a_timestamp_is_read_in_seconds_or_iso_8601(timestamp: object) -> None:
    assert read_event({"timestamp": timestamp}).timestamp == datetime(2026, 11, 24, 6, 0, tzinfo=UTC)


def test_a_timestamp_without_a_zone_is_utc() -> None:
    assert read_event({"timestamp": "2026-11-24T06:00:00"}).timestamp == datetime(2026, 11, 24, 6, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "timestamp",
    [
        -1,
        1_795_500_000_000,
        4_102_444_801,
        10**400,
        float("inf"),
        float("-inf"),
        float("nan"),
        True,
        [],
        {},
        "yesterday",
        "²",
        "9" * 50,
        "9" * 5000,
        "1e9",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "2026-02-30",
    ],
)
def test_a_timestamp_out_of_range_or_of_another_kind_is_not_understood(timestamp: object) -> None:
    assert reason({"timestamp": timestamp}).startswith("timestamp: ")


@pytest.mark.parametrize(
    "payload",
    [
        {"event_id": [SECRETIVE]},
        {"customer_id": {"id": SECRETIVE}},
        {"timestamp": SECRETIVE},
        {"timestamp": "²" + SECRETIVE},
        {"data": SECRETIVE},
        {"data": [SECRETIVE]},
        {"data": {"identifiers": SECRETIVE}},
        {"data": {"identifiers": {"email": [SECRETIVE]}}},
        {"identifiers": [SECRETIVE]},
        {"data": {"email_address": {SECRETIVE: 1}}},
        {"data": {"recipient": SECRETIVE * 100}},
    ],
)
def test_a_reason_names_the_place_and_never_the_value(payload: dict[str, Any]) -> None:
    told = reason(payload)
    assert SECRETIVE not in told
    assert told.split(":")[0] in ("event_id", "customer_id", "timestamp", "identifiers") or told.startswith("data")
    assert len(told) <= 200


def test_the_superscript_two_is_a_digit_to_python_and_is_not_quoted_either() -> None:
    assert "²" not in reason({"timestamp": "²"})


def test_unknown_keys_are_let_through_unread() -> None:
    read = read_event(
        {"metric": "bounced", "object_type_type": 7, "x": [[[]]], "data": {"proxied": {}, "recipients": 1}}
    )
    assert read == read_event({"metric": "bounced", "data": {}})


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=4
)
_names = st.sampled_from(
    [*Event.model_fields, "id", "email", "cio_id", "content", "recipient", "subject", "campaign_id"]
)


@unhurried
@given(st.dictionaries(_names, _values | st.dictionaries(_names, _values | st.dictionaries(_names, _values))))
def test_reading_gives_an_event_or_a_reason_for_any_object(payload: dict[str, Any]) -> None:
    with contextlib.suppress(NotUnderstood):
        # What was read can be stored: no NUL, no half of a surrogate pair.
        event = read_event(payload)
        assert b"\\u0000" not in to_json(event.model_copy(update={"data": None}))
        assert b"\\u0000" not in to_json([particular(value) for value in dict(event.data or ()).values()])


@pytest.mark.parametrize("field", ["object_type", "metric", "event_type"])
def test_a_name_that_is_no_text_is_not_understood(field: str) -> None:
    with pytest.raises(NotUnderstood, match=f"{field}: Input should be a valid string"):
        read_event({"metric": "unsubscribed", field: 7})
