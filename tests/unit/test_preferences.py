from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_radar.errors import NotUnderstood
from churn_radar.triage.preferences import PreferenceChange, read_preferences

OFF, PARTLY = PreferenceChange.EVERYTHING_OFF, PreferenceChange.PARTLY_ON


@pytest.mark.parametrize(
    "content",
    [
        {"topics": {"topic_7": False, "topic_8": False}, "channels": {"email": False}},
        {"topics": {}, "channels": {"email": False}},
        {"topic_7": False, "topic_8": False},
        {"topic_7": False, "channels": {"sms": False}},
    ],
)
def test_everything_is_off_when_every_switch_is(content: dict[str, object]) -> None:
    assert read_preferences(json.dumps(content)) is OFF
    assert read_preferences(content) is OFF


@pytest.mark.parametrize(
    "content",
    [
        {"topics": {"topic_7": False, "topic_8": True}, "channels": {"email": True}},
        {"topic_7": False, "topic_8": True},
        {"topics": {"topic_7": False}, "channels": {"email": True}},
    ],
)
def test_one_switch_left_on_is_no_departure(content: dict[str, object]) -> None:
    assert read_preferences(json.dumps(content)) is PARTLY
    assert read_preferences(content) is PARTLY


def test_all_channels_off_with_a_topic_still_on_is_no_departure() -> None:
    content = '{"topics":{"topic_7":false,"topic_8":true},"channels":{"email":false}}'
    assert read_preferences(content) is PARTLY


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "  \n",
        "{",
        "null",
        "false",
        "[false]",
        '"{}"',
        "{}",
        '{"topics":{},"channels":{}}',
        '{"topic_7":null}',
        '{"topic_7":0}',
        '{"topic_7":"false"}',
        '{"topic_7":[false]}',
        '{"topics":{"topic_7":{"email":false}}}',
        '{"topic_7":false,"topic_8":NaN}',
        '{"a":' * 50_000,
        '{"a":' * 50_000 + "false" + "}" * 50_000,
        '{"a":' + "9" * 5_000 + "}",
        b'{"topic_7":false}',
        42,
        {"topic_7": 1},
    ],
)
def test_what_is_not_clear_is_not_understood(content: object) -> None:
    with pytest.raises(NotUnderstood):
        read_preferences(content)


def test_a_content_far_too_long_is_not_understood() -> None:
    with pytest.raises(NotUnderstood, match="too long"):
        read_preferences(json.dumps({f"topic_{n}": False for n in range(50_000)}))


@pytest.mark.parametrize("content", ['{"secret-word":1}', '{"secret-word"', '["secret-word"]'])
def test_the_reason_never_quotes_the_content(content: str) -> None:
    with pytest.raises(NotUnderstood) as caught:
        read_preferences(content)
    assert "secret-word" not in caught.value.reason
    assert caught.value.__cause__ is None


@given(
    st.one_of(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
        ),
    )
)
def test_any_content_is_read_or_not_understood(content: object) -> None:
    with contextlib.suppress(NotUnderstood):
        assert read_preferences(content) in (OFF, PARTLY)


@given(st.dictionaries(st.text(), st.booleans() | st.dictionaries(st.text(), st.booleans())))
def test_off_means_that_no_switch_is_on(content: dict[str, bool | dict[str, bool]]) -> None:
    switches = [s for v in content.values() for s in (v.values() if isinstance(v, dict) else [v])]
    if switches:
        assert read_preferences(json.dumps(content)) is (PARTLY if any(switches) else OFF)
