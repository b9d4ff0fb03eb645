from __future__ import annotations

import asyncio
import json
import shutil
from collections import namedtuple
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from churn_radar import __version__, app
from churn_radar.intake.door import PATH
from churn_radar.sending import signed_headers
from churn_radar.settings import Environment
from tests.support.work import KEY, SECRET, Running, logged, payload, service, until, waiting_in_vain

pytestmark = pytest.mark.asyncio(loop_scope="module")

Usage = namedtuple("Usage", "total used free")
GIB = 2**30


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with service(tmp_path_factory.mktemp("health")) as running:
        yield running


@dataclass
class Ticking:
    """Stands where the service looks for the `time` module; by hand."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


# -- alive, ready


async def test_alive_needs_no_key_and_tells_the_version(live: Running) -> None:
    answer = await live.stranger.get("/healthz")

    assert (answer.status_code, answer.json()) == (200, {"status": "alive", "version": __version__})


async def test_ready_needs_no_key_and_tells_what_is_under_way(live: Running) -> None:
    answer = await live.stranger.get("/readyz")

    assert answer.status_code == 200
    told = answer.json()
    assert set(told.pop("rates")) == {"customerio", "mavera"}
    assert told == {
        "status": "ready",
        "reason": None,
        "record": None,
        "buffer": None,
        "troubles": {},
        "troubles_detail": {},
        "backlog": {"triage": 0, "research": 0, "deliver": 0},
        "budget": "within budget",
        "credits": None,
    }


async def test_a_record_that_cannot_commit_is_503_with_the_reason_and_ends_by_itself(live: Running) -> None:
    with waiting_in_vain(live):
        answer = await live.stranger.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["status"] == "unavailable"
        assert "record" in answer.json()["reason"]
        assert (await live.stranger.get("/healthz")).status_code == 200
        assert (await live.http.get("/briefs")).status_code == 200

    async def ready() -> bool:
        return (await live.stranger.get("/readyz")).status_code == 200

    await until(ready, "the record to be back")


async def test_an_answer_comes_in_time_however_many_ask_while_the_record_is_locked(live: Running) -> None:
    with waiting_in_vain(live):
        # One after the other they would wait for half a minute.
        async with asyncio.timeout(20):
            answers = await asyncio.gather(*(live.stranger.get("/readyz") for _ in range(90)))

    assert {answer.status_code for answer in answers} == {503}


async def test_asking_often_does_not_write_often(live: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = 0
    clock = Ticking()
    real = live.service.record.check

    async def counted() -> None:
        nonlocal checks
        checks += 1
        await real()

    with monkeypatch.context() as patched:
        patched.setattr(live.service.record, "check", counted)
        patched.setattr(app, "time", clock)
        patched.setattr(live.service, "_checked", 0.0)
        for seconds, written in ((0, 1), (0.9, 1), (0.2, 2), (0, 2)):
            clock.now += seconds
            await asyncio.gather(*(live.stranger.get("/readyz") for _ in range(20)))
            assert checks == written


@pytest.mark.parametrize(("free", "status"), [(64 * 2**20 - 1, 503), (64 * 2**20, 200), (0, 503), (GIB, 200)])
async def test_a_disk_that_is_nearly_full_is_503_with_the_reason(
    live: Running, monkeypatch: pytest.MonkeyPatch, free: int, status: int
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: Usage(GIB, GIB - free, free))
        answer = await live.stranger.get("/readyz")

    assert answer.status_code == status
    if status == 503:
        assert f"{free // 2**20} MiB left" in answer.json()["reason"]


async def test_a_folder_that_is_gone_is_503_not_500(live: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: Path) -> Usage:
        raise FileNotFoundError(2, "No such file or directory", "/data/jane")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", gone)
        answer = await live.stranger.get("/readyz")

    assert answer.status_code == 503
    assert "No such file or directory" in answer.json()["reason"]
    assert "jane" not in answer.text


async def test_a_worker_that_has_died_is_503_with_the_reason(tmp_path: Path) -> None:
    async with service(tmp_path) as live:
        assert live.service.worker is not None
        await live.service.worker.stop(timedelta(seconds=1))

        answer = await live.stranger.get("/readyz")

        assert (answer.status_code, answer.json()["reason"]) == (503, "the worker has stopped; restart the service")


@pytest.mark.parametrize("died_of", [asyncio.CancelledError(), ValueError("jane@acme.co")])
async def test_a_writer_that_has_died_is_503_with_the_reason_and_the_service_still_stops(
    tmp_path: Path, died_of: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing() -> None:
        raise died_of

    body = json.dumps(payload("cust_1001")).encode()
    async with asyncio.timeout(20), service(tmp_path) as live:
        monkeypatch.setattr(live.service.record._rows, "_door_turn", failing)
        for _ in range(2):
            said = await live.stranger.post(PATH, content=body, headers=signed_headers(body, SECRET))
            assert (said.status_code, said.headers["retry-after"]) == (503, "1")
        live.service._checked = 0

        answer = await live.stranger.get("/readyz")

        assert answer.status_code == 503
        assert answer.json()["reason"] == "the record's writer has stopped; restart the service"
        assert "jane" not in answer.text


async def test_a_service_without_a_worker_can_be_ready(tmp_path: Path) -> None:
    async with service(tmp_path, with_worker=False) as live:
        answer = await live.stranger.get("/readyz")

        assert (answer.status_code, answer.json()["backlog"], answer.json()["rates"]) == (200, {}, {})


async def test_a_wrong_key_is_shown_keeps_the_door_open_and_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("churn_radar.work.troubles.PROBE_DELAYS", (timedelta(seconds=0.1),))
    async with service(tmp_path) as live:
        live.customerio_faults.add("status:401", None)
        event_id = await live.post(payload("cust_1001"))

        async def troubled() -> dict[str, str]:
            answer = await live.stranger.get("/readyz")
            assert answer.status_code == 200
            return dict(answer.json()["troubles"])

        assert "401" in (await until(troubled, "the trouble to be shown"))["customerio"]
        shown = (await live.http.get("/readyz")).json()["troubles_detail"]["customerio"]
        assert (shown["status"], shown["help"]) == (401, "docs/what-to-do.md#customerio-401")
        assert shown["since"] < shown["next_probe_at"]
        told = (await live.http.get(f"/signals/{event_id}")).json()
        assert (told["status"], told["attempts"]) == ("received", 0)
        live.customerio_faults.clear()

        await live.becomes(event_id, "briefed")
        assert await troubled() == {}


async def test_a_services_own_words_are_for_whoever_brings_a_key(tmp_path: Path) -> None:
    async with service(tmp_path) as live:
        assert live.service.worker is not None
        troubles, now = live.service.worker.floor.troubles, datetime.now(UTC)
        troubles.report("mavera", "mavera.example answered 402: ask Bob at desk 7", now, 402)
        troubles.report("customerio", "customerio.example answered 401: call Eve", now, 401)

        for no_key in ({}, {"X-API-Key": "a-key-that-is-not-one"}, {"Authorization": f"Basic {KEY}"}):
            answer = await live.stranger.get("/readyz", headers=no_key)
            told = answer.json()
            assert told["troubles"] == {
                "mavera": "mavera answered 402: credits or budget are spent",
                "customerio": "customerio answered 401: the key is refused",
            }
            assert {name: each["message"] for name, each in told["troubles_detail"].items()} == told["troubles"]
            assert "Bob" not in answer.text
            assert "Eve" not in answer.text
        for key in ({"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}):
            told = (await live.stranger.get("/readyz", headers=key)).json()
            assert told["troubles"]["mavera"] == "mavera.example answered 402: ask Bob at desk 7"
            assert {name: each["message"] for name, each in told["troubles_detail"].items()} == told["troubles"]


# -- the month's credits


async def test_readiness_and_prometheus_tell_what_the_month_has_cost_and_that_it_is_spent(tmp_path: Path) -> None:
    async with service(tmp_path, monthly_credits=20) as own:
        told = (await own.http.get("/readyz")).json()["credits"]
        assert (told["spent"], told["limit"], told["warning"]) == (0, 20, None)
        assert told["month"] == f"{datetime.now(UTC):%Y-%m}"
        await own.briefed(payload("cust_1001"))
        own.service.balance._read_at = 0

        answer = await own.http.get("/readyz")

        told = answer.json()["credits"]
        assert answer.status_code == 200
        assert answer.json()["budget"] == "over budget"
        assert (told["spent"], told["estimated"], told["under_way"]) == (own.mavera.credits_used, 0, 0)
        assert told["warning"].startswith("all 20 credits of ")
        assert "an MRR under 500 wait until 1 " in told["warning"]
        told = (await own.stranger.get("/readyz")).json()
        assert (told["budget"], told["credits"]) == ("over budget", None)
        assert "credits" not in (await own.stranger.get("/metrics")).text
        text = (await own.http.get("/metrics")).text
        assert f"churn_radar_mavera_credits_month {own.mavera.credits_used}.0\n" in text
        assert "churn_radar_mavera_credits_month_limit 20.0\n" in text


async def test_a_budget_that_is_nearly_spent_is_warned_of(tmp_path: Path) -> None:
    async with service(tmp_path) as own:
        await own.briefed(payload("cust_1001"))
    spent = own.mavera.credits_used
    async with service(tmp_path, monthly_credits=spent + 1) as own:
        answer = await own.http.get("/readyz")
        told = answer.json()["credits"]

    assert answer.json()["budget"] == "within budget"
    assert told["warning"].startswith(f"{spent} of {spent + 1} credits of ")


async def test_asking_often_does_not_read_the_ledger_often(live: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0
    real = live.service.balance._read

    async def counted() -> Any:
        nonlocal reads
        reads += 1
        return await real()

    with monkeypatch.context() as patched:
        patched.setattr(live.service.balance, "_read", counted)
        await asyncio.gather(*(live.stranger.get(path) for path in ("/readyz", "/metrics") for _ in range(20)))

    assert reads <= 2


# -- the rates in force


def gauges(text: str) -> dict[str, float]:
    """Every sample of an exposition, by name and labels."""
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


async def test_the_rate_in_force_is_shown_and_says_what_mavera_allows(tmp_path: Path) -> None:
    async with service(tmp_path, mavera_allows=40, mavera_requests_per_minute=70, cio_requests_per_second=25) as live:
        before = (await live.stranger.get("/readyz")).json()["rates"]["mavera"]
        assert (before["limit"], before["in_force"], before["told_limit"], before["held_until"]) == (70,) * 2 + (
            None,
        ) * 2
        await live.briefed(payload("cust_1001"))

        rates = (await live.stranger.get("/readyz")).json()["rates"]
        shown = gauges((await live.stranger.get("/metrics")).text)

    mavera, customerio = rates["mavera"], rates["customerio"]
    assert (mavera["limit"], mavera["in_force"], mavera["window_seconds"]) == (70, 40, 60)
    assert (mavera["told_limit"], mavera["told_remaining"]) == (40, 39)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(mavera["told_at"])) < timedelta(minutes=1)
    assert (mavera["in_flight"], mavera["concurrency"], mavera["too_many"]) == (0, 10, 0)
    assert (customerio["limit"], customerio["in_force"], customerio["window_seconds"]) == (25, 25, 1)
    assert (customerio["told_limit"], customerio["told_at"]) == (None, None)
    assert shown['churn_radar_upstream_limit_calls{service="mavera"}'] == 70
    assert shown['churn_radar_upstream_limit_in_force_calls{service="mavera"}'] == 40
    assert shown['churn_radar_upstream_window_seconds{service="mavera"}'] == 60
    assert shown['churn_radar_upstream_told_remaining_calls{service="mavera"}'] == 39
    assert shown['churn_radar_upstream_limit_in_force_calls{service="customerio"}'] == 25


async def test_a_429_is_counted_and_shown_with_the_end_of_the_wait(tmp_path: Path) -> None:
    async with service(tmp_path, mavera_concurrency=3) as live:
        counted = gauges((await live.stranger.get("/metrics")).text)[
            'churn_radar_upstream_too_many_total{service="mavera"}'
        ]
        live.mavera_faults.add("status:429", 1, retry_after_seconds=50)
        await live.post(payload("cust_1001"))

        async def held() -> dict[str, Any] | None:
            rate = (await live.stranger.get("/readyz")).json()["rates"]["mavera"]
            return rate if rate["held_until"] else None

        rate = await until(held, "the hold to be shown")
        shown = gauges((await live.stranger.get("/metrics")).text)

    wait = datetime.fromisoformat(rate["held_until"]) - datetime.now(UTC)
    assert timedelta(seconds=40) < wait <= timedelta(seconds=50)
    assert (rate["too_many"], rate["concurrency"]) == (1, 3)
    assert 40 < shown['churn_radar_upstream_held_seconds{service="mavera"}'] <= 50
    assert shown['churn_radar_upstream_too_many_total{service="mavera"}'] == counted + 1
    assert shown['churn_radar_upstream_held_seconds{service="customerio"}'] == 0


async def test_calls_under_way_are_shown(tmp_path: Path) -> None:
    async with service(tmp_path) as live:
        live.mavera_faults.add("hang", None)
        await live.post(payload("cust_1001"))

        async def under_way() -> bool:
            return bool((await live.stranger.get("/readyz")).json()["rates"]["mavera"]["in_flight"] == 1)

        await until(under_way, "the call to be shown")
        assert (
            gauges((await live.stranger.get("/metrics")).text)['churn_radar_upstream_in_flight{service="mavera"}'] == 1
        )


# -- metrics


async def test_metrics_are_text_that_names_nobody(live: Running) -> None:
    told = await live.briefed(payload("cust_1003"))

    async def nothing_left_to_do() -> httpx.Response | None:
        # The engine counts a job until it has noted its end, a tenth of a second later.
        answer = await live.stranger.get("/metrics")
        return answer if 'churn_radar_backlog{step="research"} 0.0' in answer.text.splitlines() else None

    answer = await until(nothing_left_to_do, "an empty backlog")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = answer.text.splitlines()
    assert any(line.startswith("churn_radar_door_answers_total{") for line in lines)
    assert any(line.startswith('churn_radar_signals_total{status="briefed"}') for line in lines)
    assert any(line.startswith("churn_radar_upstream_seconds_bucket{") for line in lines)
    for value in ("cust_1003", "priya", told["event_id"], told["id"], KEY, SECRET):
        assert value not in answer.text


async def test_metrics_can_be_for_holders_of_a_key_alone(tmp_path: Path) -> None:
    async with service(tmp_path, metrics_need_key=True, with_worker=False) as live:
        refused = await live.stranger.get("/metrics")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert (await live.http.get("/metrics")).status_code == 200


async def test_metrics_can_be_switched_off_and_so_can_the_docs(tmp_path: Path) -> None:
    async with service(tmp_path, metrics_enabled=False, docs_enabled=False, with_worker=False) as live:
        for path in ("/metrics", "/docs", "/openapi.json", "/redoc", "/static-offline-docs/swagger-ui-bundle.js"):
            answer = await live.stranger.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
        assert (await live.stranger.get("/healthz")).status_code == 200


# -- every other answer


@pytest.mark.parametrize("path", ["/nothing", "/brief", "/webhooks", "/webhooks/customerio/x", "/admin.php", "/%00"])
async def test_a_route_that_does_not_exist_is_a_problem(live: Running, path: str) -> None:
    answer = await live.http.get(path)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["title"] == "Not Found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/briefs", "GET"),
        ("DELETE", "/briefs/cust_1001", "GET"),
        ("GET", "/events", "POST"),
        ("PUT", "/events", "POST"),
        ("POST", "/readyz", "GET"),
        ("GET", PATH, "POST"),
        ("OPTIONS", "/briefs", "GET"),
        ("OPTIONS", "/events", "POST"),
        ("OPTIONS", PATH, "POST"),
        ("TRACE", "/healthz", "GET"),
    ],
)
async def test_a_method_that_does_not_fit_is_405_and_says_which_does(
    live: Running, method: str, path: str, allowed: str
) -> None:
    answer = await live.http.request(method, path)

    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/briefs", "/docs", "/openapi.json"])
async def test_head_is_answered_as_get_without_the_body(live: Running, path: str) -> None:
    answer = await live.http.head(path)

    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["content-type"] == (await live.http.get(path)).headers["content-type"]


async def test_head_needs_the_key_where_get_does(live: Running) -> None:
    assert (await live.stranger.head("/briefs")).status_code == 401
    assert (await live.http.head("/briefs/nobody")).status_code == 404


async def test_no_browser_of_another_site_is_let_in(live: Running) -> None:
    answer = await live.http.options(
        "/briefs", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
    )

    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


async def test_what_nobody_thought_of_is_500_without_internals_and_the_log_has_the_trace(
    live: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        raise ValueError("jane@acme.co at /srv/secret")

    with logged(tmp_path) as out, monkeypatch.context() as patched:
        patched.setattr(live.service.record, "read", broken)
        answer = await live.http.get("/briefs/cust_1001")

    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    for value in ("jane", "secret", "ValueError", "Traceback", "cust_1001"):
        assert value not in answer.text
    told = out.getvalue()
    assert "api.unexpected" in told
    assert "ValueError" in told
    assert "briefs.py:" in told
    for value in ("jane", "secret", "cust_1001"):
        assert value not in told
    assert (await live.http.get("/briefs")).status_code == 200


# -- development


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def unlocked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """Development without a key and without a signing secret."""
    async with service(
        tmp_path_factory.mktemp("development"),
        with_worker=False,
        environment=Environment.DEVELOPMENT,
        api_keys="",
        cio_webhook_secret="",
    ) as running:
        yield running


def foreign(answer: httpx.Response) -> bool:
    return answer.status_code == 403 and answer.headers["content-type"] == "application/problem+json"


async def test_development_reads_without_a_key_on_this_machine(unlocked: Running) -> None:
    port = unlocked.url.rpartition(":")[2]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "localhost", "LOCALHOST:1", "[::1]:80"):
        assert (await unlocked.stranger.get("/briefs", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "x@localhost",
    ],
)
async def test_development_refuses_a_name_that_was_bound_to_this_machine(unlocked: Running, host: str) -> None:
    for path in ("/briefs", "/docs", "/healthz"):
        assert foreign(await unlocked.stranger.get(path, headers={"Host": host}))
    assert foreign(await unlocked.stranger.post(PATH, content=b"{}", headers={"Host": host}))
    assert foreign(await unlocked.stranger.post("/events", json=payload(), headers={"Host": host}))


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "https://localhost"]
)
async def test_development_takes_no_events_from_another_sites_page(unlocked: Running, origin: str) -> None:
    """A form or a script of any page can post here, and each event would be researched and paid for."""
    for path in (PATH, "/events"):
        assert foreign(await unlocked.stranger.post(path, json=payload(), headers={"Origin": origin}))


async def test_development_takes_events_from_its_own_pages_and_from_the_shell(unlocked: Running) -> None:
    for headers in ({}, {"Origin": unlocked.url}):
        for path in (PATH, "/events"):
            answer = await unlocked.stranger.post(path, json=payload(), headers=headers)
            assert answer.json()["status"] == "accepted"


async def test_signed_webhooks_reach_a_development_service_through_a_tunnel(tmp_path: Path) -> None:
    async with service(tmp_path, with_worker=False, environment=Environment.DEVELOPMENT) as live:
        body = b'{"metric": "opened"}'
        headers = {**signed_headers(body, SECRET), "Host": "abc.tunnel.example"}
        assert (await live.stranger.post(PATH, content=body, headers=headers)).status_code == 200
        assert (await live.stranger.post(PATH, content=body, headers={"Host": "x.example"})).status_code == 401
        assert foreign(await live.http.get("/briefs", headers={"Host": "abc.tunnel.example"}))


async def test_production_answers_under_any_name(live: Running) -> None:
    assert (await live.http.get("/briefs", headers={"Host": "radar.company.example"})).status_code == 200
