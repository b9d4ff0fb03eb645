from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from churn_radar.intake.events import ChurnEvent, NotASignal, understand
from churn_radar.intake.payload import decode, read_event
from churn_radar.intake.samples import SAMPLES
from churn_radar.simulator.people import PEOPLE
from churn_radar.triage.kinds import METRICS, OBJECT_TYPES

ALERTS = ("unsubscribed", "bounced", "complained")
KINDS = {
    "unsubscribed": "unsubscribed",
    "email_unsubscribed": "unsubscribed",
    "bounced": "bounced",
    "spammed": "complained",
    "preferences_changed": "unsubscribed",
    "older_form": "bounced",
    "opened": None,
}


def sent(name: str) -> ChurnEvent | NotASignal:
    """A sample as the door reads it off the wire."""
    return understand(read_event(decode(json.dumps(SAMPLES[name].payload).encode())), ALERTS)


def test_there_is_a_sample_for_every_alert_event_and_one_that_is_none() -> None:
    assert SAMPLES.keys() == KINDS.keys()
    assert {*ALERTS, None} == set(KINDS.values())


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_means_what_it_says(name: str) -> None:
    event = sent(name)
    kind = event.kind if isinstance(event, ChurnEvent) else None
    assert kind == KINDS[name]
    assert SAMPLES[name].summary


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind])
def test_every_sample_is_about_somebody_whom_the_simulator_knows(name: str) -> None:
    event = sent(name)
    assert isinstance(event, ChurnEvent)
    assert event.customer.id in {person.id for person in PEOPLE}


def test_no_two_samples_are_the_same_event() -> None:
    keys = [event.key for name in SAMPLES if isinstance(event := sent(name), ChurnEvent)]
    assert len(set(keys)) == len(keys)
    ids = [sample.payload["event_id"] for sample in SAMPLES.values() if "event_id" in sample.payload]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "older_form"])
def test_samples_use_documented_names_only(name: str) -> None:
    payload: Mapping[str, Any] = SAMPLES[name].payload
    assert payload.keys() == {"event_id", "object_type", "metric", "timestamp", "data"}
    assert payload["object_type"] in OBJECT_TYPES
    assert payload["metric"] in METRICS
