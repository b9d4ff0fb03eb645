from __future__ import annotations

import base64

import pytest
from fastapi import HTTPException
from hypothesis import given
from hypothesis import strategies as st

from churn_radar.api.pages import cursor_of, read_cursor


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@given(st.integers(min_value=1, max_value=2**63 - 1))
def test_a_cursor_continues_where_it_was_given_out(seq: int) -> None:
    assert read_cursor(cursor_of(seq)) == seq


@given(st.integers(min_value=1, max_value=2**63 - 1))
def test_a_cursor_needs_no_encoding_in_a_url(seq: int) -> None:
    assert cursor_of(seq).replace("-", "").replace("_", "").isalnum()


def test_no_cursor_begins_at_the_newest() -> None:
    assert read_cursor(None) is None


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "=",
        "x",
        "not a cursor",
        "\u0000",
        "\ud83d\ude00",
        "é",
        "AAAA",
        encoded("v1:"),
        encoded("v1:0"),
        encoded("v1:-5"),
        encoded("v1:1.5"),
        encoded("v1:ten"),
        encoded("v2:5"),
        encoded("5"),
        encoded(f"v1:{2**63}"),
        encoded("v1:" + "9" * 60),
        "' OR 1=1 --",
    ],
)
def test_a_cursor_that_is_none_of_ours_is_a_bad_request(cursor: str) -> None:
    with pytest.raises(HTTPException) as caught:
        read_cursor(cursor)

    assert caught.value.status_code == 400


@given(st.text(max_size=100))
def test_any_text_is_a_row_or_a_bad_request(cursor: str) -> None:
    statuses = []
    try:
        seq = read_cursor(cursor)
    except HTTPException as error:
        statuses.append(error.status_code)
    else:
        assert seq is not None
        assert 0 < seq < 2**63
    assert set(statuses) <= {400}
