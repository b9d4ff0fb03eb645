from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_radar.store.quarantine import KeptBody
from churn_radar.work.export import NotALine, from_line, to_line
from tests.support.work import NOON


def kept(body: bytes) -> KeptBody:
    return KeptBody(7, "q1f0c", "qua_1f0c", "01E", NOON, "webhook", "the body is not valid JSON", body)


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode(errors="ignore")))
def test_every_body_comes_back_byte_for_byte_with_all_that_is_known_of_its_arrival(body: bytes) -> None:
    line = to_line(kept(body), NOON + timedelta(days=1))

    arrival = from_line(line)

    assert line.count(b"\n") == 1
    assert arrival.body == body
    assert (arrival.event_key, arrival.signal_id, arrival.event_id) == ("q1f0c", "qua_1f0c", "01E")
    assert (arrival.received_at, arrival.source, arrival.reason) == (NOON, "webhook", "the body is not valid JSON")


def test_text_can_be_read_in_the_file() -> None:
    assert json.loads(to_line(kept(b'{"metric": "new"}'), NOON))["body"] == '{"metric": "new"}'


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        to_line(kept(b"x"), NOON)[:50],
        b'{"event_key": "q", "signal_id": "s", "received_at": "2026-11-24T12:00:00Z", "body_base64": "?"}',
        b'{"event_key": "", "signal_id": "s", "received_at": "2026-11-24T12:00:00Z", "body": "x"}',
        b'{"event_key": "q", "signal_id": "s", "received_at": "2026-11-24T12:00:00", "body": "x"}',
        b'{"event_key": "q", "signal_id": "s", "received_at": "2026-11-24T12:00:00Z", "body": "\\ud800"}',
        b'{"event_key": "q", "signal_id": "s", "received_at": "2026-11-24T12:00:00Z"}',
    ],
)
def test_what_is_no_exported_body_is_told_apart(line: bytes) -> None:
    with pytest.raises(NotALine):
        from_line(line)
