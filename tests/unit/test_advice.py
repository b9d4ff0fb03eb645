"""What the doctor says to do about a service."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from churn_radar.advice import AGAIN, Place, advice
from churn_radar.errors import GiveUp, OperatorMustAct, RetryLater, UpstreamError
from churn_radar.upstream.failure import NotReached, Obstacle, Unanswered, failure

PLACE = Place("app.mavera.io", "CHURN_RADAR_MAVERA_URL", "MAVERA_API_KEY", "your account at Mavera")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NotReached("mavera", "", Obstacle.NAME), "DNS of this machine (`getent hosts app.mavera.io`)"),
        (NotReached("mavera", "", Obstacle.NAME), "spelling in CHURN_RADAR_MAVERA_URL"),
        (NotReached("mavera", "", Obstacle.CONNECTION), "firewall"),
        (NotReached("mavera", "", Obstacle.TLS), "SSL_CERT_FILE"),
        (OperatorMustAct("mavera", "", status=401), "copy MAVERA_API_KEY again (your account at Mavera)"),
        (OperatorMustAct("mavera", "", status=402), "buy credits"),
        (GiveUp("mavera", "", status=301), "correct CHURN_RADAR_MAVERA_URL"),
        (GiveUp("mavera", "", status=404), "correct CHURN_RADAR_MAVERA_URL"),
        (GiveUp("mavera", "", status=403), "what MAVERA_API_KEY may do"),
        (GiveUp("mavera", "", status=422), "check MAVERA_API_KEY and CHURN_RADAR_MAVERA_URL"),
        (RetryLater("mavera", "", status=429), "something else may be using MAVERA_API_KEY"),
        (RetryLater("mavera", "", status=503), AGAIN),
        (Unanswered("mavera", ""), AGAIN),
    ],
)
def test_each_trouble_has_its_own_way_out(error: UpstreamError, said: str) -> None:
    assert said in advice(error, PLACE)


@pytest.mark.parametrize("obstacle", Obstacle)
def test_where_a_proxy_stands_between_it_is_looked_at_first(obstacle: Obstacle) -> None:
    said = advice(NotReached("mavera", "", obstacle), replace(PLACE, is_proxied=True))

    assert said.startswith("check the proxy (HTTPS_PROXY")


async def test_a_name_that_does_not_resolve_is_known_from_a_port_that_is_shut() -> None:
    obstacles = []
    async with httpx.AsyncClient(trust_env=False) as http:
        for url in ("http://no-such-host.invalid", "http://127.0.0.1:1"):
            try:
                await http.get(url)
            except httpx.HTTPError as error:
                told = failure("mavera", "", error)
                assert isinstance(told, NotReached)
                obstacles.append(told.obstacle)

    assert obstacles == [Obstacle.NAME, Obstacle.CONNECTION]
