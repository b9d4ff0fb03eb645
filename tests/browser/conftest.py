"""A real Chromium in front of a real service: what a person sees and presses.

One browser and one service serve all these tests; each test has a context (cookies, clipboard, window) of its own. What
any page writes to the console as an error, or breaks of its own security policy, fails the test that met it. Their
modules say `pytestmark = pytest.mark.asyncio(loop_scope="session")`: browser and service live in one event loop.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from churn_radar.simulator.customerio import CustomerioSimulation, create_customerio
from churn_radar.simulator.faults import Faults
from churn_radar.simulator.mavera import MaveraSimulation, create_mavera
from churn_radar.simulator.server import running
from tests.browser.desk import Desk
from tests.support.servers import missing
from tests.support.service import ServiceProcess, service_settings, serving

CHROMIUM_VARIABLE = "CHURN_RADAR_TEST_CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# It is to talk to this machine and to nobody else; and containers have neither a sandbox nor much shared memory.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str:
    """Where the system's browser is; skips when there is none."""
    told = os.environ.get(CHROMIUM_VARIABLE)
    found = told or next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        missing(f"Chromium (looked for {', '.join(NAMES)}; {CHROMIUM_VARIABLE} may name another)")
    assert found is not None
    return found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The system's browser, without a window."""
    path = chromium()
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield launched
        await launched.close()


@pytest.fixture(scope="session")
def mave_faults() -> Faults:
    """What Mave is to do wrong next."""
    return Faults()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def service(tmp_path_factory: pytest.TempPathFactory, mave_faults: Faults) -> AsyncIterator[ServiceProcess]:
    """A service with both upstream stand-ins, quick ones."""
    folder = tmp_path_factory.mktemp("browser")
    customerio = create_customerio(CustomerioSimulation(requests_per_second=1000))
    mavera = create_mavera(MaveraSimulation(requests_per_minute=6000, latency_seconds=(0, 0.02), faults=mave_faults))
    async with running(customerio) as customerio_url, running(mavera) as mavera_url:
        settings = service_settings(folder, customerio=customerio_url, mavera=mavera_url)
        async with serving(folder, settings) as started:
            yield started


@pytest_asyncio.fixture(loop_scope="session")
async def desk(browser: Browser, service: ServiceProcess) -> AsyncIterator[Desk]:
    """A person at a screen, not logged in yet."""
    async with sitting(browser, service) as desk:
        yield desk


@asynccontextmanager
async def sitting(browser: Browser, service: ServiceProcess, **window: Any) -> AsyncIterator[Desk]:
    """A window of the browser; `window` as Playwright's `new_context` takes it."""
    context: BrowserContext = await browser.new_context(base_url=service.url, **window)
    context.set_default_timeout(10_000)
    try:
        page: Page = await context.new_page()
        desk = Desk(page, service)
        yield desk
        assert not desk.complaints, desk.complaints
    finally:
        await context.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def morning(service: ServiceProcess) -> ServiceProcess:
    """The service after a morning: briefs, a skipped signal, one that joined, a quarantined body."""
    waiting = [(await send(service, *each)) for each in MORNING]
    assert (await service.post(b'{"event_id": 7, "metric": []}')).status_code == 200
    for event_id in waiting:
        await service.until(event_id, "briefed", "skipped", "joined")
    return service


MORNING = (
    ("unsubscribed", "cust_1001", "jane@acme.co"),
    ("spammed", "cust_1003", "priya@coinharbor.example"),
    ("bounced", "cust_1006", "luc.garnier@petitpanier.example"),
    ("unsubscribed", "cust_1008", "dana.whitlock@bigbarn.example"),
    ("unsubscribed", "cust_1004", "tobias@pocketteller.example"),
    ("bounced", "cust_1001", "jane@acme.co"),
)
_numbers = itertools.count(1)


async def send(service: ServiceProcess, metric: str, customer: str, mail: str) -> str:
    """A signed event at the door; returns its id."""
    event_id = f"01HBROWSER{next(_numbers):016d}"
    event = {
        "event_id": event_id,
        "object_type": "email",
        "metric": metric,
        "timestamp": 1_795_500_000,
        "data": {"customer_id": customer, "identifiers": {"id": customer, "email": mail}, "recipient": mail},
    }
    assert (await service.post(event)).json()["status"] == "accepted"
    return event_id
