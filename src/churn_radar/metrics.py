"""What Prometheus sees: counts and times, no ids, no personal data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    # The seam to the upstreams counts here; it must not be needed for that.
    from churn_radar.upstream.rate import RateInForce

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

registry = CollectorRegistry()
# Figures of the business, which are not everybody's.
business = CollectorRegistry()

_DOOR = Counter("churn_radar_door_answers", "Webhook requests by answer.", ["answer"], registry=registry)
_SIGNALS = Counter("churn_radar_signals", "Signals by what became of them.", ["status"], registry=registry)
_UPSTREAM = Histogram(
    "churn_radar_upstream_seconds",
    "Upstream calls by service and outcome.",
    ["service", "outcome"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 90, 180),
    registry=registry,
)
_TOO_MANY = Counter(
    "churn_radar_upstream_too_many",
    "Answers with 429, those that a retry made good included.",
    ["service"],
    registry=registry,
)
_CREDITS = Counter("churn_radar_mavera_credits", "Mavera credits spent on stored briefs.", registry=business)
_CREDITS_MONTH = Gauge(
    "churn_radar_mavera_credits_month",
    "Mavera credits spent this calendar month (UTC), with or without a brief, estimates included.",
    registry=business,
)
_CREDITS_LIMIT = Gauge(
    "churn_radar_mavera_credits_month_limit",
    "Mavera credits that may be spent in a calendar month; +Inf without a limit.",
    registry=business,
)
_DELIVERIES = Counter(
    "churn_radar_deliveries", "Deliveries by sink and outcome.", ["sink", "outcome"], registry=registry
)
_LIMIT = Gauge("churn_radar_upstream_limit_calls", "Calls a window by the settings.", ["service"], registry=registry)
_IN_FORCE = Gauge(
    "churn_radar_upstream_limit_in_force_calls",
    "Calls a window that are kept to: the setting, or less where the service allows less.",
    ["service"],
    registry=registry,
)
_WINDOW = Gauge("churn_radar_upstream_window_seconds", "The window of both limits.", ["service"], registry=registry)
_REMAINING = Gauge(
    "churn_radar_upstream_told_remaining_calls",
    "Calls left by the rate headers that came last; absent while there were none.",
    ["service"],
    registry=registry,
)
_HELD = Gauge(
    "churn_radar_upstream_held_seconds", "How much longer no call goes out at all.", ["service"], registry=registry
)
_IN_FLIGHT = Gauge("churn_radar_upstream_in_flight", "Calls under way.", ["service"], registry=registry)
_CONCURRENCY = Gauge(
    "churn_radar_upstream_concurrency", "Most calls that may be under way at once.", ["service"], registry=registry
)
_KEPT_OUT = Counter(
    "churn_radar_kept_out", "Events about people who were forgotten, acknowledged and not kept.", registry=registry
)
_QUARANTINE = Gauge(
    "churn_radar_quarantine_bytes", "Quarantined bodies that the record keeps, in bytes.", registry=registry
)
_QUARANTINED = Gauge("churn_radar_quarantine_bodies", "Quarantined bodies that the record keeps.", registry=registry)
_BACKLOG = Gauge("churn_radar_backlog", "Jobs that the engine holds, by step.", ["step"], registry=registry)
_BUFFER_EVENTS = Gauge(
    "churn_radar_buffer_events", "Events that the buffer holds; NaN while it does not answer.", registry=registry
)
_DRAINED = Counter(
    "churn_radar_buffer_drained", "Events that this process brought from the buffer into the record.", registry=registry
)
_PASSED_BY = Counter(
    "churn_radar_buffer_passed_by",
    "Events that went straight to the record, since the buffer was away or full, or they are too large for it.",
    registry=registry,
)

# Looking a labelled child up costs more than counting; the door does it for every request.
_door = {
    answer: _DOOR.labels(answer)
    for answer in (
        "accepted",
        "duplicate",
        "ignored",
        "quarantined",
        "refused",
        "unavailable",
        "wrong_method",
        "too_slow",
        "too_large",
        "no_room",
        "wrong_type",
    )
}


def door(answer: str) -> None:
    """Count one answer of the door."""
    _door[answer].inc()


def signal(status: str) -> None:
    """Count one signal that reached a status."""
    _SIGNALS.labels(status).inc()


def upstream(service: str, outcome: str, seconds: float) -> None:
    """Count one upstream call and how long it took."""
    _UPSTREAM.labels(service, outcome).observe(seconds)


def too_many(service: str) -> None:
    """Count one 429."""
    _TOO_MANY.labels(service).inc()


def rates(in_force: Iterable[RateInForce]) -> None:
    """Set how fast each upstream is called."""
    for rate in in_force:
        _LIMIT.labels(rate.service).set(rate.limit)
        _IN_FORCE.labels(rate.service).set(rate.in_force)
        _WINDOW.labels(rate.service).set(rate.window_seconds)
        _HELD.labels(rate.service).set(rate.held_seconds)
        _IN_FLIGHT.labels(rate.service).set(rate.in_flight)
        _CONCURRENCY.labels(rate.service).set(rate.concurrency)
        _TOO_MANY.labels(rate.service)
        if rate.told is not None and rate.told.remaining is not None:
            _REMAINING.labels(rate.service).set(rate.told.remaining)


def credits_spent(amount: int) -> None:
    """Count the credits of a stored brief."""
    _CREDITS.inc(amount)


def budget(spent: int, limit: int | None) -> None:
    """Set what this month has cost, and what it may cost."""
    _CREDITS_MONTH.set(spent)
    _CREDITS_LIMIT.set(math.inf if limit is None else limit)


def delivery(sink: str, outcome: str) -> None:
    """Count one attempt to deliver."""
    _DELIVERIES.labels(sink, outcome).inc()


def backlog(jobs: Mapping[str, int]) -> None:
    """Set how many jobs wait or run, by step."""
    for step, count in jobs.items():
        _BACKLOG.labels(step).set(count)


def kept_out() -> None:
    """Count an event about somebody who was forgotten."""
    _KEPT_OUT.inc()


def quarantine(bodies: int, size: int) -> None:
    """Set how many quarantined bodies the record keeps, and their bytes together."""
    _QUARANTINED.set(bodies)
    _QUARANTINE.set(size)


def buffer(events: int | None) -> None:
    """Set how many events the buffer holds; None while it does not answer."""
    _BUFFER_EVENTS.set(math.nan if events is None else events)


def drained(events: int) -> None:
    """Count events that reached the record by way of the buffer."""
    _DRAINED.inc(events)


def passed_by() -> None:
    """Count one event that did not go into the buffer."""
    _PASSED_BY.inc()


def exposition(*, with_credits: bool = True) -> bytes:
    """The Prometheus text format, with or without what research has cost."""
    return generate_latest(registry) + (generate_latest(business) if with_credits else b"")
