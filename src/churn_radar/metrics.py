"""What Prometheus sees: counts and times, no ids, no personal data."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

registry = CollectorRegistry()

_DOOR = Counter("churn_radar_door_answers", "Webhook requests by answer.", ["answer"], registry=registry)
_SIGNALS = Counter("churn_radar_signals", "Signals by what became of them.", ["status"], registry=registry)
_UPSTREAM = Histogram(
    "churn_radar_upstream_seconds",
    "Upstream calls by service and outcome.",
    ["service", "outcome"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 90, 180),
    registry=registry,
)
_CREDITS = Counter("churn_radar_mavera_credits", "Mavera credits spent on stored briefs.", registry=registry)
_DELIVERIES = Counter(
    "churn_radar_deliveries", "Deliveries by sink and outcome.", ["sink", "outcome"], registry=registry
)
_BACKLOG = Gauge("churn_radar_backlog", "Jobs that the engine holds, by step.", ["step"], registry=registry)

# Looking a labelled child up costs more than counting; the door does it for every request.
_door = {
    answer: _DOOR.labels(answer)
    for answer in ("accepted", "duplicate", "ignored", "quarantined", "refused", "unavailable")
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


def credits_spent(amount: int) -> None:
    """Count the credits of a stored brief."""
    _CREDITS.inc(amount)


def delivery(sink: str, outcome: str) -> None:
    """Count one attempt to deliver."""
    _DELIVERIES.labels(sink, outcome).inc()


def backlog(jobs: Mapping[str, int]) -> None:
    """Set how many jobs wait or run, by step."""
    for step, count in jobs.items():
        _BACKLOG.labels(step).set(count)


def exposition() -> bytes:
    """The Prometheus text format."""
    return generate_latest(registry)
