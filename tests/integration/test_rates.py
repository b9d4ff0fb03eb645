"""How fast both upstreams are called, against the stand-ins with their real windows: with limits set right, and wrong.

Mavera's window of a minute is shortened by a clock that runs fast, the same one on both sides of the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from pydantic import SecretStr

from churn_radar.customerio.client import CustomerioClient
from churn_radar.customerio.gather import GatheredLookUps
from churn_radar.errors import RetryLater
from churn_radar.settings import Settings
from churn_radar.simulator.customerio import CustomerioSimulation, create_customerio
from churn_radar.simulator.limits import Clock
from churn_radar.simulator.mavera import CHAT, MaveraSimulation, MaveraState, create_mavera
from churn_radar.simulator.server import running
from churn_radar.triage.customer import CustomerRef
from churn_radar.upstream import Request, Upstream, WindowPace, create_http

TIMES_FASTER = 20
CONCURRENCY = 10


class FastPace(WindowPace):
    """Mavera's minute, run through fast."""

    def __init__(self, calls: int) -> None:
        super().__init__(calls, 60.0 / TIMES_FASTER, spread_seconds=1.0 / TIMES_FASTER)
        self.seconds = 60.0


def fast(clock: Any) -> Any:
    began = clock()
    return lambda: began + (clock() - began) * TIMES_FASTER


async def sleep_fast(seconds: float) -> None:
    await asyncio.sleep(seconds / TIMES_FASTER)


@contextlib.asynccontextmanager
async def mavera(*, setting: int, allowed: int) -> AsyncIterator[tuple[Upstream, MaveraState]]:
    """A caller who may make `setting` calls a minute by its settings, and `allowed` by Mavera."""
    clock = Clock(fast(time.time), sleep_fast)
    app = create_mavera(MaveraSimulation(requests_per_minute=allowed, latency_seconds=(2, 6), clock=clock))
    async with running(app) as url:
        http = create_http(
            f"{url}/api/v1",
            key=SecretStr("mvra_live_demo"),
            key_name="MAVERA_API_KEY",
            read_seconds=10,
            connections=CONCURRENCY,
            trust_env=False,
        )
        async with http:
            yield (
                Upstream(
                    "mavera",
                    http,
                    key_name="MAVERA_API_KEY",
                    pace=FastPace(setting),
                    attempts=10,
                    concurrency=CONCURRENCY,
                    max_bytes=1_000_000,
                    charges=True,
                    sleep=sleep_fast,
                    now=clock.now,
                    monotonic=fast(time.monotonic),
                ),
                app.state.simulation,
            )


async def ask(upstream: Upstream, times: int) -> None:
    """So many researches, wanted all at once; one that is told to wait for long is put off, as by its job."""
    chat = Request("POST", "mave/chat", body={"message": "Why do they leave?", "stream": False})

    async def job() -> None:
        while True:
            try:
                await upstream.call(chat, lambda answer: answer.payload)
            except RetryLater as error:
                await sleep_fast((error.retry_after or timedelta(seconds=5)).total_seconds())
            else:
                return

    await asyncio.gather(*(job() for _ in range(times)))


async def test_with_maveras_limit_set_right_a_blast_meets_not_one_429() -> None:
    async with mavera(setting=24, allowed=24) as (upstream, seen):
        await ask(upstream, 40)
    assert seen.statuses == {200: 40}
    assert seen.most_in_flight[CHAT] == CONCURRENCY
    rate = upstream.rate_in_force()
    assert (rate.limit, rate.in_force, rate.window_seconds, rate.too_many) == (24, 24, 60.0, 0)


async def test_a_setting_above_what_mavera_allows_is_corrected_by_its_headers_before_a_429() -> None:
    async with mavera(setting=600, allowed=24) as (upstream, seen):
        await ask(upstream, 40)
    assert seen.statuses == {200: 40}
    rate = upstream.rate_in_force()
    assert (rate.limit, rate.in_force) == (600, 24)
    assert rate.told is not None
    assert rate.told.limit == 24


async def test_a_setting_far_above_costs_no_more_than_what_left_before_the_first_answer() -> None:
    async with mavera(setting=600, allowed=6) as (upstream, seen):
        await ask(upstream, 12)
    assert seen.statuses[200] == 12
    assert 1 <= seen.statuses[429] <= CONCURRENCY
    assert upstream.rate_in_force().too_many == seen.statuses[429]


async def test_when_another_program_uses_the_same_key_the_calls_wait_for_what_is_left() -> None:
    async with mavera(setting=24, allowed=24) as (upstream, seen):
        async with mavera_again(upstream) as other:
            await ask(other, 12)
        # The first ten leave before anything is told; they fit, and after them the headers say that two are left.
        await ask(upstream, 30)
    assert seen.statuses[200] == 42
    assert seen.statuses[429] <= 2


@contextlib.asynccontextmanager
async def mavera_again(upstream: Upstream) -> AsyncIterator[Upstream]:
    """Another program with the same key, which knows nothing of the first."""
    yield Upstream(
        "mavera",
        upstream.http,
        key_name="MAVERA_API_KEY",
        pace=FastPace(24),
        attempts=1,
        concurrency=CONCURRENCY,
        max_bytes=1_000_000,
    )


@contextlib.asynccontextmanager
async def app_api(*, setting: float) -> AsyncIterator[tuple[CustomerioClient, Any]]:
    """The client as the settings make it, and an App API that allows ten calls a second."""
    app = create_customerio(CustomerioSimulation(app_key="app-key"))
    async with running(app) as url:
        settings = Settings(
            _env_file=None,
            environment="development",
            cio_app_url=f"{url}/v1",
            cio_app_key="app-key",
            cio_requests_per_second=setting,
        )
        client = CustomerioClient.create(settings)
        try:
            yield client, app.state.simulation
        finally:
            await client.aclose()


async def test_two_thousand_customers_of_a_blast_are_looked_up_without_one_429() -> None:
    async with app_api(setting=10) as (client, seen):
        look_ups = GatheredLookUps(client)
        await asyncio.gather(*(look_ups.look_up(CustomerRef(id=f"c{number}")) for number in range(2000)))
        rate = client.rate_in_force()
    assert set(seen.statuses) == {200}
    assert sum(seen.calls.values()) <= 21
    assert (rate.limit, rate.in_force, rate.window_seconds, rate.told) == (10, 10, 1.0, None)


async def test_a_setting_above_what_the_app_api_allows_is_learned_from_one_burst_of_429() -> None:
    """The App API documents no rate headers: what it took before it refused is its limit."""
    async with app_api(setting=50) as (client, seen):
        found = await asyncio.gather(*(client.look_up(CustomerRef(id="cust_1001")) for _ in range(35)))
        rate = client.rate_in_force()
    assert all(found)
    assert seen.statuses[429] <= 20
    assert (rate.limit, rate.too_many) == (50, seen.statuses[429])
    assert 3 <= rate.in_force <= 10
