from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from churn_radar.errors import NotUnderstood
from churn_radar.intake.events import ChurnEvent, NotASignal, may_be_signal, to_arrival, to_quarantine, understand
from churn_radar.intake.payload import decode, read_event
from churn_radar.triage.customer import CustomerRef
from tests.support.door import ALERTS, NOW, event

# A busy machine is no finding.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

OFF = {"topics": {"topic_7": False, "topic_8": False}, "channels": {"email": False}}
PARTLY = {"topics": {"topic_7": False, "topic_8": True}, "channels": {"email": False}}


def read(payload: dict[str, Any], alerts: tuple[str, ...] = ALERTS) -> ChurnEvent | NotASignal:
    return understand(read_event(decode(json.dumps(payload).encode())), alerts)


def churn(payload: dict[str, Any], alerts: tuple[str, ...] = ALERTS) -> ChurnEvent:
    result = read(payload, alerts)
    assert isinstance(result, ChurnEvent), result
    return result


def reason(payload: dict[str, Any]) -> str:
    with pytest.raises(NotUnderstood) as caught:
        read(payload)
    return caught.value.reason


def preferences(content: object, **told: Any) -> dict[str, Any]:
    metric = "cio_subscription_preferences_changed"
    return event(object_type="customer", metric=metric, data={"customer_id": "42", "content": content}, **told)


FORMS_OF_ONE_BOUNCE: dict[str, dict[str, Any]] = {
    "current": event(),
    "event_type": event(metric=..., event_type="bounced"),
    "prefixed event_type": event(metric=..., event_type="email_bounced", object_type=...),
    "prefixed metric": event(metric="email_bounced"),
    "shouted": event(metric="  BOUNCED "),
    "blank metric beside an event_type": event(metric="", event_type="email_bounced"),
    "no object_type": event(object_type=...),
    "misspelt object_type": event(object_type=..., object_type_type="email"),
    "blank object_type": event(object_type=" "),
    "shouted object_type": event(object_type="EMAIL"),
    "id in data alone": event(data={"customer_id": "42"}),
    "id as a number": event(data={"customer_id": 42}),
    "id among the identifiers alone": event(data={"identifiers": {"id": "42"}}),
    "id as a number among the identifiers": event(data={"identifiers": {"id": 42, "email": None}}),
    "blank customer_id beside identifiers": event(data={"customer_id": "", "identifiers": {"id": "42"}}),
    "id at the top": event(data=..., customer_id="42"),
    "id among the identifiers at the top": event(data={}, identifiers={"id": "42"}),
    "null data": event(data=None, customer_id=42),
    "id padded with blanks": event(data={"customer_id": " 42 "}),
    "no timestamp": event(timestamp=...),
    "timestamp as text": event(timestamp="1795500000"),
    "more keys": event(delivery_type="transactional", object_type_type="email", x={"y": [1]}),
    "event_id padded with blanks": event(event_id=" 01E4C4CT6YDC7Y5M7FE1GWWPQJ "),
}


@pytest.mark.parametrize("form", FORMS_OF_ONE_BOUNCE)
def test_one_event_gives_one_signal_with_one_key_in_whichever_form_it_came(form: str) -> None:
    current, other = churn(FORMS_OF_ONE_BOUNCE["current"]), churn(FORMS_OF_ONE_BOUNCE[form])
    assert other.key == current.key
    assert other.kind == "bounced"
    assert other.customer.id == "42"


FORMS_OF_ONE_DEPARTURE: dict[str, dict[str, Any]] = {
    "metric": event(object_type="customer", metric="unsubscribed"),
    "prefixed": event(object_type=..., metric=..., event_type="customer_unsubscribed"),
    "by the link of a mail": event(metric="unsubscribed"),
    "every switch off, as text": preferences(json.dumps(OFF)),
    "every switch off, as an object": preferences(OFF),
    "every switch off, flat": preferences(json.dumps({"topic_7": False, "topic_8": False})),
    "every switch off, prefixed": {**preferences(OFF), "metric": "customer_cio_subscription_preferences_changed"},
}


@pytest.mark.parametrize("form", FORMS_OF_ONE_DEPARTURE)
def test_every_form_of_leaving_counts_as_unsubscribed(form: str) -> None:
    departure = churn(FORMS_OF_ONE_DEPARTURE[form])
    assert departure.kind == "unsubscribed"
    assert departure.key == churn(FORMS_OF_ONE_DEPARTURE["metric"]).key


@pytest.mark.parametrize("name", ["spammed", "email_spammed", "complained", "email_complained", "Spammed"])
def test_a_spam_complaint_counts_as_complained(name: str) -> None:
    complaint = churn(event(metric=name))
    assert complaint.kind == "complained"
    assert complaint.key == churn(event(metric="spammed")).key
    assert complaint.metric == name


@pytest.mark.parametrize("content", [PARTLY, {"topic_7": False, "topic_8": True}, {"channels": {"email": True}}])
def test_preferences_that_leave_something_on_are_no_signal(content: dict[str, Any]) -> None:
    assert read(preferences(content)) == NotASignal("01E4C4CT6YDC7Y5M7FE1GWWPQJ")
    assert isinstance(read(preferences(json.dumps(content))), NotASignal)


@pytest.mark.parametrize(
    "content", [None, "", "{", "{}", "null", "[]", '{"a": "no"}', {}, [], 5, True, 2**70, {"a": {"b": {"c": False}}}]
)
def test_preferences_that_cannot_be_read_are_not_understood(content: object) -> None:
    assert reason(preferences(content))


def test_preferences_without_data_are_not_understood() -> None:
    assert reason(event(metric="cio_subscription_preferences_changed", data=..., customer_id="42"))


@pytest.mark.parametrize(
    ("payload", "customer"),
    [
        (event(), CustomerRef("42", "a3f0", "jo@x.io")),
        (event(data={"identifiers": {"email": "Jo@X.io"}}), CustomerRef(None, None, "Jo@X.io")),
        (event(data={"identifiers": {"id": None, "email": "", "cio_id": "a3f0"}}), CustomerRef(None, "a3f0", None)),
        (event(data={"identifiers": {"id": "", "cio_id": "a3f0"}, "customer_id": None}), CustomerRef(None, "a3f0")),
        (event(data={"email_address": "jo@x.io"}), CustomerRef(None, None, "jo@x.io")),
        (event(data={"recipient": "jo@x.io"}), CustomerRef(None, None, "jo@x.io")),
        (event(data=..., identifiers={"cio_id": "a3f0", "email": "jo@x.io"}), CustomerRef(None, "a3f0", "jo@x.io")),
        (event(customer_id="9", identifiers={"id": "8"}), CustomerRef("42", "a3f0", "jo@x.io")),
        (event(data={}, customer_id="9", identifiers={"id": "8"}), CustomerRef("9")),
        (event(data={"customer_id": "42", "recipient": "office@x.io"}), CustomerRef("42")),
        (
            event(data={"identifiers": {"email": "jo@x.io"}, "email_address": "old@x.io"}),
            CustomerRef(None, None, "jo@x.io"),
        ),
    ],
)
def test_the_customer_is_found_wherever_the_event_names_them(payload: dict[str, Any], customer: CustomerRef) -> None:
    assert churn(payload).customer == customer


@pytest.mark.parametrize(
    "payload",
    [
        event(data=...),
        event(data=None),
        event(data={}),
        event(data={"customer_id": None, "identifiers": {"id": None, "email": None, "cio_id": None}}),
        event(data={"customer_id": " ", "identifiers": None}),
        event(object_type="sms", data={"recipient": "+15550100"}),
    ],
)
def test_a_signal_that_names_nobody_is_not_understood(payload: dict[str, Any]) -> None:
    assert reason(payload) == "the event names no customer"


@pytest.mark.parametrize(
    "name", ["opened", "clicked", "sent", "converted", "email_opened", "subscribed", "failed", "x"]
)
def test_other_metrics_are_no_signals_whoever_they_are_about(name: str) -> None:
    assert isinstance(read(event(metric=name)), NotASignal)
    assert isinstance(read(event(metric=name, data=...)), NotASignal)


@pytest.mark.parametrize("object_type", ["whatsapp", "line", "inbox", "Email!", "emails"])
def test_an_unknown_kind_of_object_is_no_signal(object_type: str) -> None:
    assert isinstance(read(event(object_type=object_type)), NotASignal)
    assert isinstance(read(event(object_type=..., metric=f"{object_type}_bounced")), NotASignal)


@pytest.mark.parametrize("object_type", ["customer", "email", "push", "sms", "in_app", "slack", "webhook"])
def test_every_documented_kind_of_object_can_signal(object_type: str) -> None:
    assert churn(event(object_type=object_type)).kind == "bounced"
    assert churn(event(object_type=..., metric=..., event_type=f"{object_type}_bounced")).kind == "bounced"


def test_only_alert_events_are_signals() -> None:
    assert isinstance(read(event(), ("unsubscribed",)), NotASignal)
    assert isinstance(read(preferences(OFF), ("bounced",)), NotASignal)
    assert churn(event(metric="failed"), ("failed",)).kind == "failed"
    assert not may_be_signal("email_bounced", ("complained",))
    assert may_be_signal("email_spammed", ("complained",))


def test_kinds_that_share_an_event_id_are_different_events() -> None:
    keys = {churn(event(metric=metric)).key for metric in ("bounced", "unsubscribed", "spammed")}
    assert len(keys) == 3


def test_customers_that_share_an_event_id_are_different_events() -> None:
    assert churn(event()).key != churn(event(data={"customer_id": "43"})).key


def test_no_trick_with_separators_makes_two_events_one() -> None:
    one = churn(event(event_id="a", data={"customer_id": "b"}))
    for event_id, customer in (("a\x1fb", "c"), ('a","bounced', "b"), ("a:id", "b"), ("ab", "b")):
        assert churn(event(event_id=event_id, data={"customer_id": customer})).key != one.key


def test_a_mail_address_is_the_same_in_any_case() -> None:
    one, other = (churn(event(data={"identifiers": {"email": mail}})) for mail in ("Jo@X.io", "jo@x.IO"))
    assert one.key == other.key


def test_without_an_event_id_the_same_event_is_still_known() -> None:
    assert churn(event(event_id=...)).key == churn(event(event_id="")).key == churn(event(event_id=None)).key


@pytest.mark.parametrize(
    "different",
    [
        event(event_id=..., timestamp=1_795_500_001),
        event(event_id=..., metric="unsubscribed"),
        event(event_id=..., data={"customer_id": "43"}),
        event(event_id=..., data={"customer_id": "42", "delivery_id": "other"}),
    ],
)
def test_without_an_event_id_another_moment_kind_customer_or_message_is_another_event(
    different: dict[str, Any],
) -> None:
    assert churn(different).key != churn(event(event_id=...)).key


@pytest.mark.parametrize("content", [2**70, -(2**64), [2**70], {"a": {"b": 2**100}}, 1.5, "text", "a\0b", None, [[[]]]])
def test_without_an_event_id_content_of_any_kind_does_no_harm(content: object) -> None:
    bounce = churn(event(event_id=..., data={"customer_id": "42", "content": content}))
    assert bounce.key == churn(event(event_id=..., data={"customer_id": "42"})).key


def test_the_particulars_of_the_message_are_kept_and_its_body_is_not() -> None:
    bounce = churn(
        event(
            data={"customer_id": "42", "campaign_id": 23, "failure_message": "550", "content": "Dear Jo", "href": "x"}
        )
    )
    assert bounce.facts == {"campaign_id": "23", "failure_message": "550"}
    assert bounce.occurred_at == datetime(2026, 11, 24, 6, 0, tzinfo=UTC)


def test_an_arrival_carries_the_event_and_its_key() -> None:
    kept = to_arrival(churn(event()), received_at=NOW, source="webhook")
    assert kept.event_key == churn(event()).key
    assert kept.signal_id == f"sig_{kept.event_key}"
    assert (kept.event_id, kept.kind, kept.metric) == ("01E4C4CT6YDC7Y5M7FE1GWWPQJ", "bounced", "bounced")
    assert (kept.received_at, kept.source, kept.forced, kept.body) == (NOW, "webhook", False, None)


def test_keys_stand_in_the_order_of_the_event_ids_times() -> None:
    ids = ["01E4C4CT6YDC7Y5M7FE1GWWPQJ", "01E4C4CT7ZDC7Y5M7FE1GWWPQJ", "01E4C4D0000C7Y5M7FE1GWWPQJ"]
    keys = [churn(event(event_id=each)).key for each in ids]
    assert [key[:10] for key in keys] == [each[:10].lower() for each in ids]
    assert {len(key) for key in keys} == {32}


@pytest.mark.parametrize("event_id", ["a b", "ünï", "../..", "%00", "x" * 9 + "/"])
def test_a_key_holds_letters_and_digits_alone_whatever_the_event_id(event_id: str) -> None:
    key = churn(event(event_id=event_id)).key
    assert key.isascii()
    assert key.isalnum()


def test_a_letter_that_is_only_ascii_once_it_is_lower_case_begins_no_key() -> None:
    # The sign for kelvin, which no database takes for a letter of ASCII: an upgrade leaves such keys as they are.
    assert not churn(event(event_id="\u212aelvin")).key.startswith("k")


def test_a_forced_arrival_is_an_event_of_its_own() -> None:
    usual = to_arrival(churn(event()), received_at=NOW, source="api")
    forced = [to_arrival(churn(event()), received_at=NOW, source="api", force_salt=salt) for salt in ("a", "b", "a")]
    assert len({each.event_key for each in (usual, *forced)}) == 3
    assert all(each.forced for each in forced)


def test_a_quarantined_body_is_known_by_its_bytes() -> None:
    one, same, other = (to_quarantine(body, "why", received_at=NOW, event_id=None) for body in (b"{", b"{", b"{ "))
    assert one == same
    assert one.event_key != other.event_key
    assert (one.body, one.reason, one.kind) == (b"{", "why", None)


def test_keys_fit_their_columns() -> None:
    kept = to_arrival(churn(event()), received_at=NOW, source="webhook")
    quarantined = to_quarantine(b"", "why", received_at=NOW, event_id=None)
    assert all(len(each.event_key) <= 80 and len(each.signal_id) <= 40 for each in (kept, quarantined))


_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)


@unhurried
@given(
    metric=st.sampled_from(["bounced", "spammed", "unsubscribed", "cio_subscription_preferences_changed"]),
    event_id=st.none() | _text | st.integers(),
    data=st.dictionaries(st.sampled_from(["customer_id", "content", "subject", "recipient", "campaign_id"]), _json),
)
def test_any_churn_event_is_understood_or_told_apart_never_a_crash(metric: str, event_id: object, data: object) -> None:
    with contextlib.suppress(NotUnderstood):
        result = read(event(metric=metric, event_id=event_id, data=data))
        assert isinstance(result, NotASignal) or result.customer.preferred
