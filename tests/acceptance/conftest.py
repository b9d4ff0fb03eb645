"""Both upstream stand-ins on real sockets, and the service as a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from churn_radar.simulator.customerio import CustomerioSimulation, create_customerio
from churn_radar.simulator.faults import Faults
from churn_radar.simulator.mavera import MaveraSimulation, create_mavera
from churn_radar.simulator.server import running
from tests.support.service import service_settings


@dataclass
class Upstreams:
    """The two simulated services, with what they saw."""

    customerio_url: str
    mavera_url: str
    customerio: Any
    mavera: Any
    customerio_faults: Faults
    mavera_faults: Faults

    def settings(self, folder: Path, **more: str) -> dict[str, str]:
        """Settings of a service that talks to these."""
        return service_settings(folder, customerio=self.customerio_url, mavera=self.mavera_url, **more)

    @property
    def asked(self) -> list[str]:
        """Every prompt that Mave was sent."""
        return list(self.mavera.messages)


@pytest.fixture
def mave_seconds() -> tuple[float, float]:
    """How long Mave thinks; tests that need it to dwell override this."""
    return (0.0, 0.02)


@asynccontextmanager
async def stand_ins(customerio: CustomerioSimulation, mavera: MaveraSimulation) -> AsyncIterator[Upstreams]:
    """Both stand-ins, each on a socket of its own."""
    customerio_app, mavera_app = create_customerio(customerio), create_mavera(mavera)
    async with running(customerio_app) as customerio_url, running(mavera_app) as mavera_url:
        yield Upstreams(
            customerio_url,
            mavera_url,
            customerio_app.state.simulation,
            mavera_app.state.simulation,
            customerio.faults,
            mavera.faults,
        )


@pytest.fixture
async def upstreams(mave_seconds: tuple[float, float]) -> AsyncIterator[Upstreams]:
    """Both stand-ins, quick and with generous limits."""
    customerio = CustomerioSimulation(requests_per_second=1000, latency_seconds=(0, 0.005))
    mavera = MaveraSimulation(requests_per_minute=6000, latency_seconds=mave_seconds)
    async with stand_ins(customerio, mavera) as made:
        yield made
