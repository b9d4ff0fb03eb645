"""Where each test of the whole service runs, and both upstream stand-ins on real sockets.

This is the one place that says which of these tests runs where. One that takes `place` (as `upstreams` does) runs
on a SQLite file and on Postgres; those of the main journey, and with CHURN_RADAR_TESTS_EVERYWHERE=1 all, also with
either buffer before it; one that is marked `anywhere` is about nothing that a place has to do with, and runs in the
first unless all run in all. `@pytest.mark.only_on("sqlite", why="...")` is for what makes no sense elsewhere.
`python -m tests.acceptance.table` makes a table of a run.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from churn_radar.simulator.customerio import CustomerioSimulation, create_customerio
from churn_radar.simulator.faults import Faults
from churn_radar.simulator.mavera import MaveraSimulation, create_mavera
from churn_radar.simulator.server import running
from tests.support.buffers import sqs_bench
from tests.support.place import Kind, Place, using
from tests.support.servers import redis_stream, redis_url
from tests.support.service import service_settings

EVERYWHERE = "CHURN_RADAR_TESTS_EVERYWHERE"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Say where a test runs."""
    if "place" not in metafunc.fixturenames:
        return
    kinds = list(Kind)
    if limited := metafunc.definition.get_closest_marker("only_on"):
        kinds = [Kind(kind) for kind in limited.args]
    if not metafunc.definition.get_closest_marker("journey") and not os.environ.get(EVERYWHERE):
        kinds = [kind for kind in kinds if kind in (Kind.SQLITE, Kind.POSTGRES)]
        if metafunc.definition.get_closest_marker("anywhere"):
            kinds = kinds[:1]
    metafunc.parametrize("place", kinds, ids=str, indirect=True)


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Where the services of the test keep what they take in; nothing is in it yet."""
    kind: Kind = request.param
    if limited := request.node.get_closest_marker("only_on"):
        # Left in the results for the table.
        request.node.user_properties.append(("only_on", limited.kwargs["why"]))
    with ExitStack() as stack:
        database = None if kind is Kind.SQLITE else request.getfixturevalue("postgres")
        buffer = {}
        if kind is Kind.REDIS:
            buffer = {"buffer_url": redis_url(), "buffer_stream": stack.enter_context(redis_stream(redis_url()))}
        if kind is Kind.SQS:
            request.getfixturevalue("aws_keys")
            buffer = {"buffer_url": sqs_bench(request.getfixturevalue("moto")).url}
        yield stack.enter_context(using(Place(kind, database, buffer)))


@dataclass
class Upstreams:
    """The two simulated services, with what they saw, and where a service between them keeps what it takes in."""

    place: Place
    customerio_url: str
    mavera_url: str
    customerio: Any
    mavera: Any
    customerio_faults: Faults
    mavera_faults: Faults

    def settings(self, folder: Path, **more: str) -> dict[str, str]:
        """Settings of a service that talks to these."""
        told = {"CHURN_RADAR_TAKE_OVER_SECONDS": "3", **self.place.variables(folder), **more}
        return service_settings(folder, customerio=self.customerio_url, mavera=self.mavera_url, **told)

    @property
    def asked(self) -> list[str]:
        """Every prompt that Mave was sent."""
        return list(self.mavera.messages)


@pytest.fixture
def mave_seconds() -> tuple[float, float]:
    """How long Mave thinks; tests that need it to dwell override this."""
    return (0.0, 0.02)


@asynccontextmanager
async def stand_ins(
    place: Place, customerio: CustomerioSimulation, mavera: MaveraSimulation
) -> AsyncIterator[Upstreams]:
    """Both stand-ins, each on a socket of its own."""
    customerio_app, mavera_app = create_customerio(customerio), create_mavera(mavera)
    async with running(customerio_app) as customerio_url, running(mavera_app) as mavera_url:
        yield Upstreams(
            place,
            customerio_url,
            mavera_url,
            customerio_app.state.simulation,
            mavera_app.state.simulation,
            customerio.faults,
            mavera.faults,
        )


@pytest.fixture
async def upstreams(place: Place, mave_seconds: tuple[float, float]) -> AsyncIterator[Upstreams]:
    """Both stand-ins, quick and with generous limits."""
    customerio = CustomerioSimulation(requests_per_second=1000, latency_seconds=(0, 0.005))
    mavera = MaveraSimulation(requests_per_minute=6000, latency_seconds=mave_seconds)
    async with stand_ins(place, customerio, mavera) as made:
        yield made
