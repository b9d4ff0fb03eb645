"""A whole service with a file of sinks: one brief reaches everything that takes it, and what fails fails alone."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

from starlette.responses import Response

from churn_radar.outcome.rules import Outcome
from churn_radar.simulator.people import PEOPLE
from churn_radar.simulator.server import running
from churn_radar.simulator.track import TrackSimulation, create_track
from churn_radar.sinks.protocol import create_outlets
from churn_radar.work.steps import utc_now
from tests.support.receivers import mail_server, receiver
from tests.support.work import payload, service, settings_for, until

FILE = """
[[sink]]
name = "sales"
kind = "slack"
url_env = "SALES_URL"

[[sink]]
name = "desk"
kind = "apprise"
url_env = "DESK_MAIL"

[[sink]]
name = "crm"
kind = "webhook"
url_env = "CRM_URL"
secret_env = "CRM_SECRET"

[[sink]]
name = "gone"
kind = "webhook"
url_env = "GONE_URL"
secret_env = "CRM_SECRET"

[[sink]]
name = "big ones"
kind = "slack"
url_env = "SALES_URL"
mrr_from = 5000

[[sink]]
name = "back"
kind = "customerio"
"""


async def test_one_brief_reaches_every_sink_that_takes_it(tmp_path: Path) -> None:
    file = tmp_path / "sinks.toml"
    file.write_text(FILE)
    track = create_track(TrackSimulation(people=PEOPLE))
    async with receiver() as web, receiver() as gone, mail_server() as mail, running(track) as track_url:
        gone.answers += [Response(status_code=410)] * 9
        told: dict[str, Any] = {
            "sinks_file": file,
            "sinks_private_networks": ("127.0.0.0/8",),
            "public_url": "https://radar.example/churn",
            "cio_site_id": "demo-site-id",
            "cio_track_key": "demo-track-key",
            "cio_track_url": f"{track_url}/api/v1",
        }
        variables = {
            "SALES_URL": f"{web.url}/slack",
            "DESK_MAIL": f"mailto://127.0.0.1:{mail.port}?from=radar@a.example&to=desk@a.example&mode=insecure",
            "CRM_URL": f"{web.url}/crm",
            "CRM_SECRET": "whsec_" + "A" * 32,
            "GONE_URL": f"{gone.url}/gone",
        }
        outlets = create_outlets(settings_for(tmp_path, **told), variables)
        async with service(tmp_path, sinks=outlets, **told) as live:
            signal = await live.briefed(payload("cust_1001", "spammed"))

            async def settled() -> dict[str, dict[str, str]] | None:
                owed = (await live.http.get(f"/signals/{signal['event_id']}")).json()["deliveries"]
                return {each["sink"]: each for each in owed} if all(x["status"] != "pending" for x in owed) else None

            states = await until(settled, "every delivery")
            sinks = {each["name"]: each for each in (await live.http.get("/sinks")).json()["items"]}
            [brief] = (await live.http.get("/briefs/cust_1001")).json()["items"]
            outcome_of = partial(live.service.outcome_links.read, now=utc_now())

    assert {name: each["status"] for name, each in states.items()} == {
        "sales": "delivered",
        "desk": "delivered",
        "crm": "delivered",
        "gone": "dead",
        "big ones": "skipped",
        "back": "delivered",
    }
    assert sinks["gone"]["stopped_because"] == "webhook (410): 127.0.0.1 answered 410"
    assert sinks["crm"]["stopped_because"] is None
    page = f"https://radar.example/churn/desk/briefs/{brief['id']}"
    by_path = {request.path: json.loads(request.body) for request in web.requests}
    assert by_path["/crm"]["data"]["id"] == brief["id"]
    assert page in json.dumps(by_path["/slack"])
    assert "Send no mail at all" in json.dumps(by_path["/slack"])
    [letter] = mail.letters
    for kind in ("plain", "html"):
        part = letter.get_body((kind,))
        assert part is not None
        assert page in part.get_content()
        tokens = set(re.findall(r"https://radar\.example/churn/desk/outcome/([\w.-]+)", part.get_content()))
        leads_to = [outcome_of(token) for token in tokens]
        assert {(link.brief_id, link.outcome) for link in leads_to} == {(brief["id"], outcome) for outcome in Outcome}
    [event] = track.state.simulation.events
    assert (event["customer"], event["data"]["link"], event["data"]["may_mail"]) == ("cio_03000001", page, "nothing")
    assert track.state.simulation.created == []
