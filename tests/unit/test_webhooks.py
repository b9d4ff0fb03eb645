"""Which reporting webhook the workspace should have."""

from __future__ import annotations

import pytest

from churn_radar.customerio.webhooks import Webhook, as_wanted, events_for, read_webhooks, same_endpoint
from churn_radar.triage.kinds import event_kind

HERE = "https://hooks.example.com/webhooks/customerio"
KINDS = ("unsubscribed", "bounced", "complained")


def test_the_events_of_a_webhook_are_those_by_which_our_kinds_are_told() -> None:
    events = events_for(KINDS)
    assert "email_spammed" in events
    told = {event_kind(event) for event in events} - {"subscription_preferences_changed"}
    assert told == set(KINDS)
    assert events_for(["subscribed"]) == ("customer_subscribed",)
    assert events_for(["dropped"]) == ("email_dropped",)


def test_without_a_webhook_for_the_endpoint_a_new_one_is_wanted() -> None:
    other = Webhook("https://other.example.com/", ("email_sent",), id="1")
    assert as_wanted([other], HERE, KINDS) == Webhook(HERE, events_for(KINDS))


def test_one_that_is_there_is_switched_on_and_keeps_what_was_ticked() -> None:
    there = Webhook(
        HERE + "/", ("email_opened", "email_bounced"), name="ours", id="7", disabled=True, with_content=True
    )
    wanted = as_wanted([there], HERE, KINDS)
    assert (wanted.id, wanted.name, wanted.disabled, wanted.with_content) == ("7", "ours", False, True)
    assert wanted.events[:2] == there.events
    assert set(events_for(KINDS)) <= set(wanted.events)
    assert as_wanted([wanted], HERE, KINDS) == wanted


@pytest.mark.parametrize(
    "written",
    [
        HERE,
        HERE + "/",
        HERE.upper().replace("/WEBHOOKS/CUSTOMERIO", "/webhooks/customerio"),
        HERE.replace(".com", ".com:443"),
    ],
)
def test_an_endpoint_is_the_same_however_it_is_written(written: str) -> None:
    assert same_endpoint([Webhook(written, ())], HERE)
    assert not same_endpoint([Webhook(written + "/more", ())], HERE)


@pytest.mark.parametrize("payload", [None, [], {}, {"reporting_webhooks": None}, {"webhooks": []}])
def test_an_answer_without_a_list_is_none(payload: object) -> None:
    assert read_webhooks(payload) is None


def test_odd_entries_are_left_out() -> None:
    payload = {"reporting_webhooks": [None, {"id": 1}, {"id": 2, "endpoint": HERE, "events": None, "disabled": "yes"}]}
    assert read_webhooks(payload) == [Webhook(HERE, (), id="2")]
