"""The seam to the network that both clients share: pace, one call with its retries, and what a "no" means."""

from churn_radar.upstream.call import DEADLINE_MARGIN_SECONDS, Answer, Request, Sleep, Upstream, create_http
from churn_radar.upstream.failure import Unanswered
from churn_radar.upstream.pace import FREE_TURN, Pace, Turn, WindowPace, per_minute, per_second
from churn_radar.upstream.rate import RateInForce, RateSeen

__all__ = [
    "DEADLINE_MARGIN_SECONDS",
    "FREE_TURN",
    "Answer",
    "Pace",
    "RateInForce",
    "RateSeen",
    "Request",
    "Sleep",
    "Turn",
    "Unanswered",
    "Upstream",
    "WindowPace",
    "create_http",
    "per_minute",
    "per_second",
]
