"""`churn-radar simulate`: the upstream stand-ins on ports of choice, until somebody ends them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections.abc import Callable, Sequence

from churn_radar.errors import SettingsError
from churn_radar.simulator.customerio import CustomerioSimulation, create_customerio
from churn_radar.simulator.faults import Faults
from churn_radar.simulator.mavera import MaveraSimulation, create_mavera
from churn_radar.simulator.server import running
from churn_radar.simulator.track import create_track


def read_faults(orders: Sequence[str], option: str) -> Faults:
    """Faults from the command line: `hang` until cleared, `status:500x3` three times. Raises SettingsError."""
    faults = Faults()
    for order in orders:
        match = re.fullmatch(r"(.+?)(?:x(\d+))?", order)
        name, times = match.groups() if match else (order, None)
        try:
            faults.add(name, int(times) if times else None)
        except ValueError as error:
            raise SettingsError([f"{option} {order!r}: {error} (example: {option} status:503x2)"]) from None
    return faults


async def simulate(
    *,
    customerio_port: int,
    mavera_port: int,
    track_port: int,
    time_scale: float,
    requests_per_minute: int,
    mavera_credits: int | None,
    customerio_faults: Sequence[str],
    mavera_faults: Sequence[str],
    tell: Callable[[str], None],
) -> None:
    """Serve them until SIGINT or SIGTERM. Raises StartError for a port in use, SettingsError for a wrong fault."""
    customerio = create_customerio(CustomerioSimulation(faults=read_faults(customerio_faults, "--customerio-fault")))
    mavera = create_mavera(
        MaveraSimulation(
            time_scale=time_scale,
            requests_per_minute=requests_per_minute,
            credits=mavera_credits,
            faults=read_faults(mavera_faults, "--mavera-fault"),
        )
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        customerio_url = await stack.enter_async_context(running(customerio, port=customerio_port))
        mavera_url = await stack.enter_async_context(running(mavera, port=mavera_port))
        track_url = await stack.enter_async_context(running(create_track(), port=track_port))
        tell("# The stand-ins are running; Ctrl-C ends them. Point a service at them with:")
        tell("CHURN_RADAR_ENVIRONMENT=development")
        tell("CIO_APP_KEY=demo-app-key")
        tell("MAVERA_API_KEY=mvra_live_demo")
        tell(f"CHURN_RADAR_CIO_APP_URL={customerio_url}/v1")
        tell(f"CHURN_RADAR_MAVERA_URL={mavera_url}/api/v1")
        tell("# For the sink customerio, which writes briefs back:")
        tell("CHURN_RADAR_CIO_SITE_ID=demo-site-id")
        tell("CHURN_RADAR_CIO_TRACK_KEY=demo-track-key")
        tell(f"CHURN_RADAR_CIO_TRACK_URL={track_url}/api/v1")
        tell("# Counters: " + ", ".join(f"{url}/_simulator/state" for url in (customerio_url, mavera_url, track_url)))
        await stop.wait()
