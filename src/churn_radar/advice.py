"""What to do about a service that was not reached or said no, for the lines of `churn-radar doctor`. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from churn_radar.errors import GiveUp, OperatorMustAct, UpstreamError
from churn_radar.upstream.failure import NotReached, Obstacle

PROXY = "HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
AGAIN = "ask again in a minute; where it stays so, look at its status page"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a service is by the settings, and what opens it.

    `setting` is the one that says where; `key` the one with its key, to be had where `key_from` says; `is_proxied`
    tells whether the environment has a proxy for it.
    """

    host: str
    setting: str
    key: str
    key_from: str
    is_proxied: bool = False


def advice(error: UpstreamError, place: Place) -> str:
    """What to do about `error`, in one clause."""
    match error:
        case NotReached():
            return _way_there(error.obstacle, place)
        case OperatorMustAct(status=402):
            return f"buy credits, raise the budget, or set {place.key} to one that has some"
        case OperatorMustAct():
            return f"copy {place.key} again ({place.key_from}), and see that {place.setting} is the one it belongs to"
        case GiveUp(status=int() as status) if 300 <= status < 400 or status in (404, 405, 410):
            return f"correct {place.setting}: it has to name the API itself, version and all"
        case GiveUp(status=403):
            return f"see what {place.key} may do and from which addresses ({place.key_from})"
        case UpstreamError(status=429):
            return f"ask again in a minute; something else may be using {place.key}"
        case GiveUp():
            return f"check {place.key} and {place.setting}"
        case _:
            return AGAIN


def _way_there(obstacle: Obstacle, place: Place) -> str:
    if place.is_proxied:
        return f"check the proxy ({PROXY}), that it lets {place.host} through, and {place.setting}"
    match obstacle:
        case Obstacle.NAME:
            return f"check the spelling in {place.setting}, then the DNS of this machine (`getent hosts {place.host}`)"
        case Obstacle.TLS:
            return (
                f"check {place.setting} and the clock; where your network opens TLS, "
                "name its certificate in SSL_CERT_FILE"
            )
        case _:
            return (
                f"check host and port in {place.setting}, then that a firewall lets this machine out "
                "(behind a proxy, set HTTPS_PROXY)"
            )
