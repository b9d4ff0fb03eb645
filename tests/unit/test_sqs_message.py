from __future__ import annotations

import base64
import re
import zlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_radar.buffer.protocol import RawEvent
from churn_radar.buffer.sqs_message import NotOurs, from_message, to_message
from churn_radar.errors import TooLargeToBuffer

CAME_AT = datetime(2026, 11, 24, 8, 0, 0, 123456, tzinfo=UTC)
MIB = 1024 * 1024

moments = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
bodies = st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass"))


@given(body=bodies, received_at=moments, source=st.sampled_from(["webhook", "backfill", 'a "name"\n']))
def test_every_event_comes_back_byte_for_byte(body: bytes, received_at: datetime, source: str) -> None:
    event = RawEvent(body, received_at, source)
    assert from_message(to_message(event, MIB)) == event


@given(body=bodies)
def test_a_message_holds_only_what_sqs_takes(body: bytes) -> None:
    text = to_message(RawEvent(body, CAME_AT), MIB)
    assert re.fullmatch("[\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+", text)


@given(body=bodies, limit=st.integers(min_value=1, max_value=500))
def test_a_message_is_never_longer_than_allowed(body: bytes, limit: int) -> None:
    try:
        text = to_message(RawEvent(body, CAME_AT), limit)
    except TooLargeToBuffer:
        return
    assert len(text.encode()) <= limit


def test_a_json_body_can_be_read_in_the_queues_console() -> None:
    assert to_message(RawEvent(b'{"metric": "bounced"}', CAME_AT), MIB).endswith('\n{"metric": "bounced"}')


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[]",
        '{"greeting": "hello"}',
        '{"churn_radar": 2, "at": 1, "source": "webhook", "encoding": "text"}\n{}',
        '{"churn_radar": 1, "at": "x", "source": "webhook", "encoding": "text"}\n{}',
        '{"churn_radar": 1, "at": 1e300, "source": "webhook", "encoding": "text"}\n{}',
        '{"churn_radar": 1, "at": 1, "source": "webhook", "encoding": "zlib"}\n!!!',
        '{"churn_radar": 1, "at": 1, "source": "webhook", "encoding": "zlib"}\naGVsbG8=',
        '{"churn_radar": 1, "at": 1, "source": "webhook", "encoding": "rot13"}\n{}',
    ],
)
def test_a_message_of_somebody_else_is_told_apart(text: str) -> None:
    with pytest.raises(NotOurs):
        from_message(text)


def test_a_message_that_unpacks_without_end_is_refused() -> None:
    bomb = base64.b64encode(zlib.compress(b"\0" * (129 * MIB), 9)).decode()
    with pytest.raises(NotOurs):
        from_message(f'{{"churn_radar": 1, "at": 1, "source": "webhook", "encoding": "zlib"}}\n{bomb}')
