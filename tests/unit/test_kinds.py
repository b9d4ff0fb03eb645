from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_radar.triage.kinds import METRICS, OBJECT_TYPES, PREFERENCES_CHANGED, event_kind, is_known_object_type


@pytest.mark.parametrize(
    "name", ["bounced", "email_bounced", "sms_bounced", "push_bounced", " Email_Bounced\n", "BOUNCED"]
)
def test_one_kind_comes_of_every_form_of_its_name(name: str) -> None:
    assert event_kind(name) == "bounced"


@pytest.mark.parametrize("object_type", sorted(OBJECT_TYPES))
@pytest.mark.parametrize("metric", sorted(METRICS - {"spammed"}))
def test_the_prefix_of_every_known_object_type_is_taken_off(object_type: str, metric: str) -> None:
    assert event_kind(f"{object_type}_{metric}") == event_kind(metric) == metric


@pytest.mark.parametrize("name", ["spammed", "email_spammed", "complained", "email_complained", "Spammed"])
def test_a_spam_report_is_a_complaint(name: str) -> None:
    assert event_kind(name) == "complained"


@pytest.mark.parametrize("name", [PREFERENCES_CHANGED, f"customer_{PREFERENCES_CHANGED}"])
def test_a_preference_change_keeps_its_name(name: str) -> None:
    assert event_kind(name) == "cio_subscription_preferences_changed"


@pytest.mark.parametrize("name", ["whatsapp_bounced", "inbox_unsubscribed", "line_spammed", "unsubscribed_email"])
def test_an_unknown_prefix_stays_so_the_event_is_no_churn_signal(name: str) -> None:
    assert event_kind(name) == name


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("email_email_bounced", "email_bounced"),
        ("customer_email_bounced", "email_bounced"),
        ("email_", ""),
        ("in_app_opened", "opened"),
        ("", ""),
        ("subscribed", "subscribed"),
    ],
)
def test_a_prefix_is_taken_off_once_and_subscribing_is_not_unsubscribing(name: str, kind: str) -> None:
    assert event_kind(name) == kind


@pytest.mark.parametrize("object_type", [None, "", "  ", "email", "Customer", " in_app "])
def test_known_and_unnamed_object_types_can_carry_signals(object_type: str | None) -> None:
    assert is_known_object_type(object_type)


@pytest.mark.parametrize("object_type", ["whatsapp", "line", "emails", "email_"])
def test_an_unknown_object_type_carries_none(object_type: str) -> None:
    assert not is_known_object_type(object_type)


@given(st.text())
def test_any_name_has_a_kind(name: str) -> None:
    assert isinstance(event_kind(name), str)
