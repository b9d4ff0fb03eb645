"""When two tellings are of the same event, and how a list of messages tells of events."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from churn_radar.customerio.messages import as_event, metrics_for, read_page
from churn_radar.intake.events import ChurnEvent, about_message, understand
from churn_radar.intake.payload import read_event
from churn_radar.triage.known import Known, is_known
from tests.support.work import NOON

SECOND = int(NOON.timestamp())
MESSAGE: dict[str, Any] = {
    "id": "dg01",
    "type": "email",
    "created": SECOND - 60,
    "customer_id": "cust_1001",
    "customer_identifiers": {"id": "cust_1001", "email": "jane@acme.co", "cio_id": None},
    "recipient": "jane@acme.co",
    "subject": "What is new",
    "campaign_id": 23,
    "failure_message": "550 5.1.1 User unknown",
    "metrics": {"sent": SECOND - 50, "bounced": SECOND},
}


def test_the_metrics_asked_for_are_those_of_the_alert_events() -> None:
    assert metrics_for(["unsubscribed", "complained", "bounced"]) == ["bounced", "spammed", "unsubscribed"]
    assert metrics_for(["won_back"]) == []


def test_a_message_gives_the_event_that_the_webhook_would_have_brought() -> None:
    told = as_event(MESSAGE, "bounced", NOON - timedelta(hours=1))
    assert told is not None
    event = understand(read_event(told), {"bounced"})
    assert isinstance(event, ChurnEvent)
    assert (event.kind, event.customer.id, event.customer.email) == ("bounced", "cust_1001", "jane@acme.co")
    assert event.occurred_at == NOON
    assert event.facts["delivery_id"] == "dg01"
    assert event.facts["failure_message"] == "550 5.1.1 User unknown"


def test_its_key_is_the_message_and_the_kind_whatever_else_is_told_of_it() -> None:
    def key(message: dict[str, Any], metric: str) -> str:
        event = understand(read_event(as_event(message, metric, NOON) or {}), {"bounced", "complained"})
        assert isinstance(event, ChurnEvent)
        return about_message(event).key

    complained = {**MESSAGE, "metrics": {"spammed": SECOND, "bounced": SECOND}}
    assert key(MESSAGE, "bounced") == key({**MESSAGE, "subject": "New", "campaign_id": 5}, "bounced")
    assert key(complained, "spammed") != key(complained, "bounced")
    assert key({**MESSAGE, "id": "dg02"}, "bounced") != key(MESSAGE, "bounced")


@pytest.mark.parametrize(
    "message",
    [
        {**MESSAGE, "metrics": {"sent": SECOND}},
        {**MESSAGE, "metrics": None},
        {**MESSAGE, "metrics": {"bounced": SECOND - 1}},
        {**MESSAGE, "metrics": {"bounced": True}},
        {**MESSAGE, "metrics": {"bounced": 10**15}},
        {**MESSAGE, "id": None},
        {},
    ],
)
def test_what_did_not_happen_or_happened_before_is_no_event(message: dict[str, Any]) -> None:
    assert as_event(message, "bounced", NOON) is None


@pytest.mark.parametrize("payload", [None, [], {}, {"messages": None}])
def test_an_answer_without_a_list_is_no_page(payload: object) -> None:
    assert read_page(payload) is None


def test_a_page_ends_where_the_next_begins() -> None:
    page = read_page({"messages": [MESSAGE, None], "next": "abc"})
    assert page is not None
    assert (page.messages, page.next) == ([MESSAGE], "abc")
    last = read_page({"messages": [], "next": ""})
    assert last is not None
    assert last.next is None


@pytest.mark.parametrize(
    ("known", "same"),
    [
        (Known("bounced", "dg01", NOON - timedelta(days=3)), True),
        (Known("bounced", "dg02", NOON), False),
        (Known("complained", "dg01", NOON), False),
        (Known("bounced", None, NOON + timedelta(minutes=59)), True),
        (Known("bounced", None, NOON - timedelta(minutes=61)), False),
    ],
)
def test_the_same_message_and_kind_is_the_same_event_or_the_same_kind_at_about_the_same_time(
    known: Known, same: bool
) -> None:
    assert is_known("bounced", "dg01", NOON, [known]) is same
