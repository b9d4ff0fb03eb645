from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_radar.web.masking import masked_body, masked_id, masked_mail, masked_text


@pytest.mark.parametrize(
    ("address", "shown"), [("jane@acme.co", "j***@acme.co"), ("j@x", "j***@x"), ("@x", "***@x"), (None, ""), ("", "")]
)
def test_a_mail_address_keeps_its_first_letter_and_its_host(address: str | None, shown: str) -> None:
    assert masked_mail(address) == shown


def test_an_id_keeps_its_ends_and_a_short_one_nothing() -> None:
    assert (masked_id("cust_1001"), masked_id("abcd"), masked_id("ann@x.org")) == ("cu…01", "…", "a***@x.org")


def test_addresses_in_a_text_are_masked_and_the_rest_stays() -> None:
    assert masked_text("550 <ann@x.org> is unknown, see bob@y.org.") == "550 <a***@x.org> is unknown, see b***@y.org."


def test_of_a_body_the_kind_of_event_is_shown_and_nothing_about_the_person() -> None:
    body = {
        "metric": "paused",
        "event_id": "01A",
        "data": {"customer_id": "cust_77", "phone": 4915112345678, "tags": ["Ann Miller"], "gone": True},
    }
    shown = masked_body(json.dumps(body).encode())
    assert '"metric": "paused"' in shown
    assert '"event_id": "01A"' in shown
    assert '"customer_id": "…"' in shown
    for word in ("cust_77", "4915112345678", "Ann"):
        assert word not in shown


@pytest.mark.parametrize(
    ("head", "shown"),
    [
        (b"", "(empty)"),
        (b"Ann Miller has left", "(no JSON)"),
        (b'{"name": "Ann Mil', '{"name": "…"'),
        (b'{"name": "a\\"nn"', '{"name": "…"'),
        (b'["ann"', '["…"'),
        (b"{'email': 'ann@x.org', 'age': 44}", "{…: …, …: …}"),
        (b"[ann@x.org, +49 151 2345 6789, 7]", "[…, … … … …, 7]"),
        (b'{"email": "an\\\nn@x.org"}', '{"email": "…"}'),
        (b"{\"email\": 'ann@x.org'}", '{"…": …}'),
        (
            b'{"type": "ann@x.org", "metric": "Ann Miller", "event_id": "01A"}',
            '{"type": "…", "metric": "…", "event_id": "01A"}',
        ),
        (b'{"ann@x.org": {"a": [1, 4915112345678, "ann"]}}', '{"…": {"a": [1, …, "…"]}}'),
    ],
)
def test_what_is_cut_off_or_no_json_tells_nothing(head: bytes, shown: str) -> None:
    assert masked_body(head) == shown


@given(st.dictionaries(st.sampled_from(["name", "mail"]), st.text(min_size=6), min_size=1), st.integers(0, 60))
def test_no_value_slips_through_wherever_the_head_ends(data: dict[str, str], end: int) -> None:
    text = json.dumps(data, ensure_ascii=False).encode(errors="replace")
    shown = masked_body(text[:end] if end else text)
    for value in data.values():
        plain = "".join(letter for letter in value if letter.isalnum())
        assert len(plain) < 6 or plain not in shown
