"""The whole service with a buffer in front of its record: the door, the drain, readiness and figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from churn_radar.api.readiness import BufferState, Standing
from churn_radar.buffer import front
from churn_radar.errors import SettingsError
from churn_radar.intake.door import PATH
from churn_radar.sending import signed_headers
from churn_radar.settings import load_settings
from tests.support.door import as_body
from tests.support.servers import free_port, own_redis, redis_stream, redis_url
from tests.support.work import SECRET, Running, payload, service, until, waiting_in_vain


@pytest.fixture
def buffered() -> Iterator[dict[str, Any]]:
    """Settings that name a stream of the tests' Redis."""
    url = redis_url()
    with redis_stream(url) as stream:
        yield {"buffer_url": url, "buffer_stream": stream}


async def knock(live: Running, body: bytes) -> tuple[int, str]:
    """One signed event at the door; its status and verdict."""
    answer = await live.stranger.post(PATH, content=body, headers=signed_headers(body, SECRET))
    return answer.status_code, answer.json().get("status", "")


async def arrives(live: Running, event_id: str, status: str) -> None:
    """Wait until an event stands at a status in the record."""

    async def stands() -> bool:
        return bool((await live.http.get(f"/signals/{event_id}")).json().get("status") == status)

    await until(stands, f"{event_id} to be {status}")


async def test_the_door_takes_events_while_the_record_is_locked_and_they_are_briefed_afterwards(
    tmp_path: Path, buffered: dict[str, Any]
) -> None:
    async with service(tmp_path, **buffered) as live:
        churn = as_body(payload("cust_1001", event_id="01CHURN"))
        odd = as_body({"event_id": "01ODD", "what": "ever"})
        noise = as_body(payload("cust_1001", "opened", event_id="01NOISE"))
        with waiting_in_vain(live):
            for _ in range(2):
                assert await knock(live, churn) == (200, "accepted")
            assert await knock(live, odd) == (200, "quarantined")
            assert await knock(live, noise) == (200, "ignored")
            ready = await live.stranger.get("/readyz")
            assert (ready.status_code, ready.json()["status"], ready.json()["reason"]) == (200, "ready", None)
            assert "record" in ready.json()["record"]
            assert ready.json()["buffer"]["drained"] is True
        await arrives(live, "01CHURN", "briefed")
        await arrives(live, "01ODD", "quarantined")
        counted = (await live.http.get("/signals")).json()["items"]
        assert len(counted) == 2
        assert live.service.buffer is not None
        live.service.buffer._looked_at = 0
        told = (await live.stranger.get("/metrics")).text
        assert "churn_radar_buffer_events 0.0" in told
        assert "churn_radar_buffer_drained_total" in told


async def test_without_a_worker_events_wait_in_the_buffer_for_a_process_that_has_one(
    tmp_path: Path, buffered: dict[str, Any]
) -> None:
    async with service(tmp_path, with_worker=False, **buffered) as live:
        assert await knock(live, as_body(payload("cust_1001", event_id="01CHURN"))) == (200, "accepted")
        ready = (await live.stranger.get("/readyz")).json()
        assert ready["buffer"] == {"waiting": 1, "problem": None, "drained": None}
        assert (await live.http.get("/signals")).json()["items"] == []
    async with service(tmp_path, **buffered) as live:
        await arrives(live, "01CHURN", "briefed")


async def test_a_buffer_that_is_away_is_told_and_passed_by(tmp_path: Path) -> None:
    url = f"redis://:a-password-nobody-sees@127.0.0.1:{free_port()}"
    async with service(tmp_path, buffer_url=url) as live:
        assert await knock(live, as_body(payload("cust_1001", event_id="01CHURN"))) == (200, "accepted")
        ready = await live.stranger.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["buffer"]["problem"].startswith("Redis cannot be asked: ")
        assert "churn_radar_buffer_events NaN" in (await live.stranger.get("/metrics")).text
        await arrives(live, "01CHURN", "briefed")


async def test_a_redis_that_is_killed_and_started_again_keeps_what_it_held_and_events_pass_it_by_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "AWAY_SECONDS", 0.0)
    async with own_redis(tmp_path) as redis:
        async with service(tmp_path, with_worker=False, buffer_url=redis.url) as live:
            for name in "abc":
                assert await knock(live, as_body(payload("cust_1001", event_id=f"01{name}"))) == (200, "accepted")
            await redis.kill()
            for name in "de":
                assert await knock(live, as_body(payload("cust_1001", event_id=f"01{name}"))) == (200, "accepted")
            assert {item["event_id"] for item in (await live.http.get("/signals")).json()["items"]} == {"01d", "01e"}
            await redis.start()
            assert await knock(live, as_body(payload("cust_1001", event_id="01f"))) == (200, "accepted")
            assert await redis_length(redis.url, live.service.settings.buffer_stream) == 4
        async with service(tmp_path, buffer_url=redis.url) as live:

            async def all_there() -> bool:
                items = (await live.http.get("/signals")).json()["items"]
                return len(items) == 6 and {item["status"] for item in items} == {"briefed", "joined"}

            await until(all_there, "every event to have its outcome")
            [brief] = (await live.http.get("/briefs/cust_1001")).json()["items"]
            assert set(brief["event_ids"]) == {f"01{name}" for name in "abcdef"}


async def redis_length(url: str, stream: str) -> int:
    """How many entries a stream has."""
    async with Redis.from_url(url) as client:
        return int(await client.xlen(stream))


TAKES = BufferState(waiting=3, drained=True)
AWAY = BufferState(problem="it does not answer", drained=True)


@pytest.mark.parametrize(
    ("standing", "reason"),
    [
        (Standing(None, None, None), None),
        (Standing("no", None, None), "no"),
        (Standing("no", None, TAKES), None),
        (Standing("no", None, AWAY), "no"),
        (Standing(None, None, AWAY), None),
        (Standing(None, "stopped", TAKES), "stopped"),
        (Standing("no", "stopped", TAKES), "stopped"),
        (Standing("no", "stopped", None), "no"),
        (
            Standing(None, None, BufferState(waiting=3, drained=False)),
            "the buffer is no longer emptied by this process; restart the service",
        ),
    ],
)
def test_ready_is_who_can_hold_an_event_somewhere(standing: Standing, reason: str | None) -> None:
    assert standing.reason == reason


@pytest.mark.parametrize("url", ["http://:secretword@host", "redis://:secretword@", "sqs://a:secretword@host/1/q"])
def test_a_buffer_url_that_is_none_stops_the_start_with_one_line_that_quotes_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHURN_RADAR_BUFFER_URL", url)
    with pytest.raises(SettingsError) as raised:
        load_settings(environment="development")
    [line] = raised.value.problems
    assert line.startswith("CHURN_RADAR_BUFFER_URL: ")
    assert "example: CHURN_RADAR_BUFFER_URL=redis://" in line
    assert "secretword" not in line
