"""Plays the story: real sockets, a real SQLite record, signed requests, and both upstream services simulated."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from churn_radar.app import Service, create_app, running_service
from churn_radar.counts import counted
from churn_radar.demo import past
from churn_radar.demo.story import STORY, Manner, Scene
from churn_radar.errors import StartError
from churn_radar.intake.door import PATH
from churn_radar.logs import configure
from churn_radar.research.brief import Brief
from churn_radar.sending import signed_headers
from churn_radar.serving import listening, server_for
from churn_radar.settings import Environment, IsolatedSettings, Settings
from churn_radar.simulator.customerio import CustomerioSimulation, create_customerio
from churn_radar.simulator.faults import Faults
from churn_radar.simulator.mavera import MaveraSimulation, create_mavera
from churn_radar.simulator.server import running
from churn_radar.sinks.console import render
from churn_radar.sockets import bind
from churn_radar.triage.money import format_money

# Mave takes 5 to 90 seconds; a demo has not that long.
TIME_SCALE = 0.04
PATIENCE_SECONDS = 45.0
PORT = 8080

# Whose brief is linked to: the one that the README tells of.
SHOWN = "jane@acme.co"
ENDED = (
    "\nThis one has ended, and its pages with it. To look at them: [bold]make demo[/] in a terminal, without ONCE=1, "
    "goes on serving\nand says where Today and a brief are, and with which key to log in. "
    'The README\'s "Five minutes to production" sets up the real service.'
)


@dataclass
class ShownSink:
    """Prints each brief's alert block between the lines of the story."""

    console: Console
    brief_characters: int
    name: str = "console"
    briefs: list[Brief] = field(default_factory=list)

    async def deliver(self, brief: Brief) -> None:
        """Print the block exactly as the console sink does."""
        self.console.print(render(brief, self.brief_characters), markup=False, highlight=False, soft_wrap=True)
        self.briefs.append(brief)


@dataclass
class Stage:
    """What the story is played on."""

    console: Console
    http: httpx.AsyncClient
    url: str
    secret: str
    currency: str
    sink: ShownSink
    mavera: Any
    began: float
    limit_told: bool = False
    keep_answers: list[tuple[Scene, str, str | None]] = field(default_factory=list)

    def tell_of_limit(self) -> None:
        """Say once that Mavera's rate limit was met."""
        if self.mavera.statuses[429] and not self.limit_told:
            self.limit_told = True
            self.tell("Mavera: [yellow]429 too many requests[/]; we wait as long as it says, and ask again")

    def tell(self, line: str) -> None:
        """Print one line of the story, with the time since its beginning."""
        self.console.print(f"[dim]{time.monotonic() - self.began:5.1f}s[/] {line}", highlight=False, soft_wrap=True)


def demo_settings(folder: Path, *, customerio: str, mavera: str, secret: str, key: str) -> Settings:
    """The settings of the demo: nothing from the machine's own environment."""
    return IsolatedSettings(
        environment=Environment.DEVELOPMENT,
        cio_app_key="demo-app-key",
        cio_webhook_secret=secret,
        mavera_api_key="mvra_live_demo",
        api_keys=key,
        cio_app_url=f"{customerio}/v1",
        mavera_url=f"{mavera}/api/v1",
        database_url=f"sqlite:///{folder / 'demo.db'}",
        log_level="error",
        unknown_customer_retry_seconds=1.0,
        monthly_credits=6000,
    )


async def play(*, stay: bool) -> bool:
    """Play the whole story; returns whether everything came out as the story says.

    With `stay`, goes on serving until Ctrl-C or SIGTERM and says where.
    """
    console = Console(stderr=False, highlight=False)
    secret, key = secrets.token_hex(16), f"demo-{secrets.token_hex(8)}"
    console.rule(
        "[bold]churn_radar demo[/]: a morning's webhooks; Customer.io and Mavera are simulated on this machine"
    )
    faults = Faults()
    faults.add("status:429")
    mavera_app = create_mavera(MaveraSimulation(time_scale=TIME_SCALE, faults=faults))
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="churn_radar-demo-")))
        customerio_url = await stack.enter_async_context(running(create_customerio(CustomerioSimulation())))
        mavera_url = await stack.enter_async_context(running(mavera_app))
        settings = demo_settings(folder, customerio=customerio_url, mavera=mavera_url, secret=secret, key=key)
        configure(settings)
        sink = ShownSink(console, settings.alert_brief_characters)
        service = await stack.enter_async_context(running_service(settings, sinks=[sink]))
        if stay:
            # Pages show something after some weeks only; nobody waits for those.
            await past.fill(service.record, service.now(), currency=settings.currency)
        url = await stack.enter_async_context(_serving(service))
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=10)
        )
        simulation = mavera_app.state.simulation
        stage = Stage(console, http, url, secret, settings.currency, sink, simulation, time.monotonic())
        for scene in STORY:
            await _send(stage, scene)
            await asyncio.sleep(scene.pause_seconds)
            stage.tell_of_limit()
        wrong = await _wait_for_the_end(stage)
        await _sum_up(stage)
        for line in wrong:
            console.print(f"[red]not as it should be:[/] {line}", highlight=False)
        if stay:
            await _stay(stage, key)
        else:
            console.print(ENDED, highlight=False, soft_wrap=True)
    return not wrong


@contextlib.asynccontextmanager
async def _serving(service: Service) -> AsyncIterator[str]:
    """Serve on the usual port when it is free, else on any."""
    try:
        listener = bind("127.0.0.1", PORT)
    except StartError:
        listener = bind("127.0.0.1", 0)
    with contextlib.closing(listener):
        async with listening(server_for(create_app(service)), listener) as url:
            yield url


async def _send(stage: Stage, scene: Scene) -> None:
    secret = secrets.token_hex(16) if scene.manner is Manner.FORGED else stage.secret
    headers = signed_headers(scene.body, secret, older_scheme=scene.manner is Manner.OLDER)
    answer = await stage.http.post(PATH, content=scene.body, headers=headers)
    if answer.status_code == 401:
        status, event_id = "refused", None
    else:
        said = answer.json()
        status, event_id = said["status"], said["event_id"]
    colour = {"accepted": "green", "refused": "red", "quarantined": "yellow"}.get(status, "dim")
    stage.tell(f"{scene.told} → [{colour}]{answer.status_code} {status}[/]")
    stage.keep_answers.append((scene, status, event_id))


async def _wait_for_the_end(stage: Stage) -> list[str]:
    """Wait until every signal has its outcome, showing that Mave thinks; returns what is not as it should be."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    expected_briefs = sum(scene.becomes == "briefed" for scene in STORY)
    with stage.console.status("Mave thinks ...") as status:
        while time.monotonic() < deadline:
            wrong = await _differences(stage)
            stage.tell_of_limit()
            if not wrong and len(stage.sink.briefs) == expected_briefs:
                return []
            status.update(f"Mave thinks ... {len(stage.sink.briefs)} of {counted(expected_briefs, 'brief')} in")
            await asyncio.sleep(0.2)
    return wrong or [f"delivered {len(stage.sink.briefs)} of {counted(expected_briefs, 'brief')}"]


async def _differences(stage: Stage) -> list[str]:
    wrong = []
    for scene, status, event_id in stage.keep_answers:
        if status != scene.expects:
            wrong.append(f"{scene.told}: the door said {status}, not {scene.expects}")
        elif scene.becomes and event_id:
            became = (await stage.http.get(f"/signals/{event_id}")).json()["status"]
            if became != scene.becomes:
                wrong.append(f"{scene.told}: {became}, not {scene.becomes}")
    return wrong


async def _sum_up(stage: Stage) -> None:
    items = (await stage.http.get("/signals", params={"limit": 200})).json()["items"]
    stands = Counter(item["status"] for item in items)
    said = Counter(status for _, status, _ in stage.keep_answers)
    briefs = stage.sink.briefs
    at_risk = sum(brief.mrr for brief in briefs)
    table = Table(title="The morning in figures", show_header=False, title_style="bold")
    table.add_column(justify="left")
    table.add_column(justify="right")
    for label, figure in (
        ("events at the door", len(stage.keep_answers)),
        ("  ignored (no churn signal)", said["ignored"]),
        ("  duplicates", said["duplicate"]),
        ("  refused (forged)", said["refused"]),
        ("  quarantined (kept for a look)", said["quarantined"]),
        ("skipped, with the reason", stands["skipped"]),
        ("joined another signal's brief", stands["joined"]),
        ("briefs", len(briefs)),
        ("Mavera credits spent", sum(brief.credits_used for brief in briefs)),
        ("MRR at risk", format_money(Decimal(str(at_risk)), stage.currency)),
    ):
        table.add_row(label, str(figure))
    stage.console.print(table)


async def _stay(stage: Stage, key: str) -> None:
    """Go on serving until somebody ends it; the last lines say where to look."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stage.console.print(
        look_around(stage.url, key, stage.sink.briefs),
        highlight=False,
        soft_wrap=True,
    )
    await stop.wait()


def look_around(url: str, key: str, briefs: Sequence[Brief]) -> str:
    """Where to look while the demo serves: the pages first, with the key that opens them. Pure."""
    shown = next((brief for brief in briefs if brief.email == SHOWN), briefs[0] if briefs else None)
    brief = f"{url}/desk/briefs/{shown.id}" if shown else f"{url}/desk/briefs"
    return (
        "\nStill serving. Open a page and log in with the key; the weeks before this morning are made up.\n"
        f"  Today     [bold]{url}/desk/today[/]\n"
        f"  a brief   [bold]{brief}[/]\n"
        f"  API key   {key}\n"
        f"  the API   {url}/docs   (Authorize with the key, pick an example event, Execute)\n"
        "Ctrl-C stops it; nothing is left behind."
    )


def in_terminal() -> bool:
    """Whether somebody is watching."""
    return sys.stdout.isatty()
