"""`churn-radar sinks`: how each sink stands, and a sample to one of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from churn_radar.app import links_of
from churn_radar.customerio.client import CustomerioClient
from churn_radar.errors import StartError
from churn_radar.reaching import reach
from churn_radar.settings import Settings
from churn_radar.sinks.protocol import Checks, Declined, Outlets, Parts, Sink, kind_of, opened, shown
from churn_radar.sinks.sample import sample_brief
from churn_radar.work.deliver import hand_over
from churn_radar.work.steps import describe


@dataclass(frozen=True, slots=True)
class Line:
    """One sink, ready to print."""

    name: str
    last: str
    waiting: str
    dead: str
    state: str


def choose(sinks: Sequence[Sink], name: str) -> Sink:
    """The sink of this name, or the only one of this kind. Raises StartError."""
    found = [sink for sink in sinks if sink.name == name] or [sink for sink in sinks if kind_of(sink.name) == name]
    if len(found) == 1:
        return found[0]
    known = ", ".join(shown(sink.name) for sink in sinks)
    raise StartError(f"{'several sinks are' if found else 'there is no sink'} called {name!r}; there are {known}")


async def try_sink(settings: Settings, sink: Sink, now: datetime) -> str:
    """Send a sample; returns what came of it. Raises StartError when it could not be sent."""
    async with AsyncExitStack() as stack:
        look_up = None
        if settings.cio_app_key is not None:
            client = CustomerioClient.create(settings)
            stack.push_async_callback(client.aclose)
            look_up = client.look_up
        await stack.enter_async_context(opened([sink], Parts(look_up, links_of(settings))))
        try:
            if isinstance(sink, Checks):
                await sink.check()
            await hand_over(sink, sample_brief(now))
        except Declined as declined:
            return f"lets us in, and has no use for a sample: {declined}"
        except Exception as error:
            raise StartError(f"{shown(sink.name)}: {describe(error)}") from None
    return "took the sample"


async def sinks_in_words(settings: Settings, outlets: Outlets, url: str) -> list[Line]:
    """Every sink and how it stands; of the settings alone where there is no record yet. Raises StartError."""
    try:
        async with reach(settings, url, sinks=outlets) as api:
            items: list[dict[str, Any]] = (await api.get("/sinks"))["items"]
    except StartError as error:
        if "no record yet" not in str(error):
            raise
        items = [{"name": sink.name, "configured": True} for sink in outlets.sinks]
    return [_line(item, outlets) for item in items]


def _line(item: dict[str, Any], outlets: Outlets) -> Line:
    if item.get("stopped_at"):
        state = f"stopped: {item['stopped_because']}"
    elif not item["configured"]:
        state = "not configured any more"
    else:
        state = item.get("trouble") or "fine"
    taking = "" if item["name"] not in outlets.filters or not outlets.filters[item["name"]].is_set else " (filtered)"
    return Line(
        shown(item["name"]) + taking,
        (item.get("delivered_at") or "never")[:19].replace("T", " "),
        str(item.get("waiting", 0)),
        str(item.get("dead", 0)),
        state,
    )
