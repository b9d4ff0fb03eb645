"""The operator's pages: what they show, what they mask, and that a change is told before it is made."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from churn_radar.intake.door import PATH
from churn_radar.sending import signed_headers
from churn_radar.simulator.people import PEOPLE, Person
from churn_radar.web.base import NAVIGATION
from churn_radar.web.help import sections
from churn_radar.web.site import ROOMS
from churn_radar.work import remedy
from tests.support.pages import READER_KEY, Browser, browsing, tags, words
from tests.support.work import SECRET, ListSink, Running, payload, service, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

# What somebody might write into their profile, or into an event, to see what happens.
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\u202e\"'><a href='javascript:x'>"
STRANGE = [Person(f"own-{n}", None, f"own{n}@example.org", {"plan_type": "pro", "mrr": "90"}) for n in range(20)]
NASTY = Person("nasty", None, None, {"plan_type": "pro", "mrr": "900", "industry": HOSTILE})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with service(
        tmp_path_factory.mktemp("pages"),
        people=[*PEOPLE, *STRANGE, NASTY],
        sinks=[ListSink("good"), ListSink("broken", [OSError("no")] * 99)],
        retry_delays_seconds=(0.01,),
        reader_api_keys=READER_KEY,
    ) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def browser(live: Running) -> AsyncIterator[Browser]:
    async with browsing(live) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def reader(live: Running) -> AsyncIterator[Browser]:
    async with browsing(live, READER_KEY) as opened:
        yield opened


async def dead(live: Running, customer_id: str, status: int = 400) -> str:
    """A dead letter; returns our id of the signal."""
    live.mavera_faults.add(f"status:{status}")
    told = await live.becomes(await live.post(payload(customer_id)), "dead")
    return str(told["id"])


async def quarantined(live: Running, body: bytes) -> str:
    answer = await live.stranger.post(PATH, content=body, headers=signed_headers(body, SECRET))
    told = (await live.http.get(f"/signals/{answer.json()['event_id']}")).json()
    assert told["status"] == "quarantined"
    return str(told["id"])


def button(page: str, name: str) -> bool:
    return any(tag == "button" for tag, _ in tags(page)) and name in words(page)


# -- signals


async def test_the_list_says_what_became_of_each_and_masks_whom_it_is_about(live: Running, browser: Browser) -> None:
    event = payload("cust_1001", email="x")
    event["data"]["identifiers"]["email"] = "jane@acme.co"
    told = await live.briefed(event)

    page = await browser.get("/desk/signals")

    text = words(page.text)
    assert "j***@acme.co" in text
    assert "jane@acme.co" not in page.text
    assert "cust_1001" not in page.text
    assert "High-MRR Fintech (Pro plan)" in text
    assert "$850" in text
    assert f"/desk/signals/{told['id']}" in page.text


async def test_the_list_is_filtered_and_continued(live: Running, browser: Browser) -> None:
    await live.becomes(await live.post(payload("cust_1007")), "skipped")
    text = words((await browser.get("/desk/signals?status=skipped")).text)
    assert 'plan "free" is not researched' in text
    assert (await browser.get("/desk/signals?status=nonsense")).status_code == 422
    assert (await browser.get("/desk/signals?cursor=nonsense")).status_code == 400
    assert "No signal stands here" in await browser.text("/desk/signals?status=researching")


async def test_a_signal_shows_its_story_and_deliveries_masked(live: Running, browser: Browser) -> None:
    event = payload("cust_1002", "bounced")
    event["data"] |= {"failure_message": "550 5.1.1 <mara@example.org> User unknown", "campaign_id": 23}
    event["data"]["identifiers"]["email"] = "mara@example.org"
    told = await live.briefed(event)

    async def given_up() -> bool:
        deliveries = (await live.http.get(f"/signals/{told['id']}")).json()["deliveries"]
        return {each["status"] for each in deliveries} == {"delivered", "dead"}

    await until(given_up, "the broken sink to be given up")
    page = (await browser.get(f"/desk/signals/{told['id']}")).text

    text = words(page)
    for word in (
        "received",
        "waiting",
        "researching",
        "briefed",
        "good",
        "delivered",
        "broken",
        "dead",
        "Campaign id 23",
    ):
        assert word in text
    assert "<m***@example.org> User unknown" in text
    assert "mara@example.org" not in page
    assert "cust_1002" not in page


async def test_an_operator_may_see_whom_it_is_about_and_the_trail_tells(live: Running, browser: Browser) -> None:
    told = await live.briefed(payload("cust_1003"))
    answer = await browser.post(f"/desk/signals/{told['id']}/show")
    assert answer.status_code == 200
    assert "cust_1003" in words(answer.text)
    assert answer.headers["cache-control"] == "no-store"
    newest = (await live.http.get("/audit")).json()["items"][0]
    assert (newest["action"], newest["subject"]) == ("show personal data", told["id"])


async def test_readers_see_no_button_that_changes_anything(live: Running, reader: Browser) -> None:
    signal_id = await dead(live, "own-1")
    body_id = await quarantined(live, b"for readers")
    for path in (
        f"/desk/signals/{signal_id}",
        f"/desk/signals/{body_id}",
        "/desk/dead-letters",
        "/desk/dead-letters/of?service=mavera&status=400",
        "/desk/quarantine",
        "/desk/welcome",
    ):
        page = await reader.get(path)
        assert page.status_code == 200
        actions = {found.get("action") for tag, found in tags(page.text) if tag == "form"}
        buttons = [found for tag, found in tags(page.text) if tag == "button" and found.get("type") == "submit"]
        assert len(buttons) == 1, "nothing but the log-out"
        assert "/desk/logout" in actions


async def test_of_a_signal_that_is_not_there_a_page_says_so(browser: Browser) -> None:
    answer = await browser.get("/desk/signals/sig_nothing")
    assert answer.status_code == 404
    assert "Nothing is known of this event" in words(answer.text)
    nowhere = await browser.get("/desk/nowhere")
    assert nowhere.status_code == 404
    assert "There is no such page here" in nowhere.text
    assert nowhere.text.count("Not Found") == 2  # in the window's title and on the page


# -- dead letters


async def test_dead_letters_are_told_by_their_cause_with_what_to_do(live: Running, browser: Browser) -> None:
    await dead(live, "own-2", 422)
    text = await browser.text("/desk/dead-letters")
    assert re.search(r"Mavera 4xx · [0-9]+ dead letters? · last answer 422", text)
    assert "Mavera did not like the request, and never will" in text
    of_it = await browser.text("/desk/dead-letters/of?service=mavera&status=422")
    assert "ow…-2" in of_it
    assert "mavera (422)" in of_it
    assert "None is left" in await browser.text("/desk/dead-letters/of?service=customerio&status=503")


async def test_every_cause_has_its_help() -> None:
    assert remedy.sections() <= set(sections())


async def test_a_replay_is_told_first_and_changes_nothing_until_it_is_confirmed(
    live: Running, browser: Browser
) -> None:
    ids = [await dead(live, f"own-{n}") for n in (3, 4)]

    told = await browser.post("/desk/replay", {"signal_id": ids, "back": "dead_letters"})

    text = words(told.text)
    assert told.status_code == 200
    assert "Replay 2 signals?" in text
    assert "2 Research starts again" in text
    assert {(await live.http.get(f"/signals/{each}")).json()["status"] for each in ids} == {"dead"}
    hidden = [str(f["value"]) for tag, f in tags(told.text) if tag == "input" and f.get("name") == "signal_id"]
    assert hidden == ids

    done = await browser.post("/desk/replay", {"signal_id": hidden, "back": "dead_letters", "confirmed": "true"})

    assert (done.status_code, done.headers["location"]) == (303, "/desk/dead-letters?replayed=2")
    assert "2 signals replayed" in await browser.text(done.headers["location"])
    for each in ids:
        await live.becomes(each, "briefed")


async def test_all_of_one_cause_are_replayed_and_those_of_another_stay(live: Running, browser: Browser) -> None:
    those, other = [await dead(live, f"own-{n}", 404) for n in (5, 6)], await dead(live, "own-7", 403)
    cause = {"service": "mavera", "status": "404", "back": "dead_letters"}
    told = await browser.post("/desk/replay", cause)
    assert "Replay 2 signals?" in words(told.text)
    assert (await browser.post("/desk/replay", {**cause, "confirmed": "true"})).status_code == 303
    for each in those:
        await live.becomes(each, "briefed")
    assert (await live.http.get(f"/signals/{other}")).json()["status"] == "dead"


async def test_nothing_chosen_is_told_and_so_is_nonsense(browser: Browser) -> None:
    answer = await browser.post("/desk/replay", {"back": "dead_letters", "confirmed": "true"})
    assert answer.status_code == 422
    assert "tick what is to be replayed" in words(answer.text)
    answer = await browser.post("/desk/replay", {"signal_id": "sig_nothing", "back": "https://evil.example"})
    assert answer.status_code == 422
    assert "evil" not in answer.text


# -- quarantine


async def test_the_quarantine_shows_the_reason_and_how_a_body_begins_masked(live: Running, browser: Browser) -> None:
    body = {"metric": "unsubscribed", "data": {"name": "Ann Miller", "note": HOSTILE}}
    signal_id = await quarantined(live, json.dumps(body).encode())

    page = (await browser.get("/desk/quarantine")).text

    assert "the event names no customer" in page
    assert '{"metric": "unsubscribed", "data": {"name": "…"' in words(page)
    assert "Ann Miller" not in page
    assert "Ann Miller" not in (await browser.get(f"/desk/signals/{signal_id}")).text
    shown = await browser.post(f"/desk/signals/{signal_id}/show")
    assert "Ann Miller" in words(shown.text)
    assert "alert(1)" in words(shown.text)
    assert not [found for tag, found in tags(shown.text) if tag in ("img", "script") and not found.get("src", "x")]
    assert "<img" not in shown.text
    assert "<script>" not in shown.text


@pytest.mark.parametrize(("action", "told"), [("drop", "deleted for good"), ("export", "written to a file")])
async def test_bodies_are_dropped_or_exported_after_it_was_told_what_that_means(
    live: Running, browser: Browser, action: str, told: str
) -> None:
    mine, other = (
        await quarantined(live, b"mine " + action.encode()),
        await quarantined(live, b"not " + action.encode()),
    )
    asked = await browser.post(f"/desk/quarantine/{action}", {"signal_id": mine})
    assert told in words(asked.text)
    assert (await live.http.get(f"/signals/{mine}")).json()["status"] == "quarantined"
    done = await browser.post(f"/desk/quarantine/{action}", {"signal_id": mine, "confirmed": "true"})
    assert done.status_code == 303
    assert "1 body " in await browser.text(done.headers["location"])
    assert (await live.http.get(f"/signals/{mine}")).json()["status"] == "skipped"
    assert (await live.http.get(f"/signals/{other}")).json()["status"] == "quarantined"
    assert (await live.http.get("/audit")).json()["items"][0]["action"] == action


async def test_what_is_not_in_quarantine_is_not_taken_out(live: Running, browser: Browser) -> None:
    signal_id = await dead(live, "own-8")
    answer = await browser.post("/desk/quarantine/drop", {"signal_id": signal_id, "confirmed": "true"})
    assert answer.status_code == 422
    assert (await browser.post("/desk/quarantine/burn", {"signal_id": signal_id})).status_code == 422


# -- health


async def test_health_tells_of_upstreams_work_sinks_and_version(live: Running, browser: Browser) -> None:
    text = await browser.text("/desk/health")
    for words_ in (
        "Events are accepted",
        "Customer.io",
        "Mavera",
        "Rate in force",
        "6,000 calls in a minute",
        "SQLite",
    ):
        assert words_ in text
    for name in ("received", "waiting", "researching", "good", "broken"):
        assert name in text


async def test_health_says_what_waits_for_the_operator_and_what_to_do(tmp_path: Path) -> None:
    async with service(tmp_path) as own, browsing(own) as browser:
        own.mavera_faults.add("status:402", None)
        await own.post(payload("cust_1001"))

        async def troubled() -> bool:
            return bool((await own.stranger.get("/readyz")).json()["troubles"])

        await until(troubled, "the trouble to be known")
        text = await browser.text("/desk/health")
    assert "Mavera waits for you" in text
    assert "Credits are spent, or a budget at Mavera is" in text
    assert re.search(r"waiting 1 – – – – 1 ", text)


async def test_how_long_work_has_been_waiting_is_counted_by_age(everywhere: str, tmp_path: Path) -> None:
    async with service(tmp_path, with_worker=False) as own, browsing(own) as browser:
        for number in range(3):
            await own.post(payload(f"cust_100{number}"))
        text = await browser.text("/desk/health")
    assert re.search(r"received 3 – – – – 3 ", text)


# -- the first run


async def test_the_first_page_leads_to_what_is_missing_and_a_sample_goes_through_the_real_door(
    everywhere: str, tmp_path: Path
) -> None:
    async with service(tmp_path) as own, browsing(own) as browser:
        assert (await browser.get("/")).headers["location"] == "/desk/welcome"
        page = await browser.text("/desk/welcome")
        assert "Nothing has arrived yet" in page
        assert f"{own.url}/webhooks/customerio" in page
        sent = await browser.post("/desk/welcome/sample", {"customer": "cust_1001"})
        assert "The door said accepted" in words(sent.text)
        [signal] = (await own.http.get("/signals")).json()["items"]
        assert signal["source"] == "webhook"
        assert f"/desk/signals/{signal['id']}" in sent.text
        await own.becomes(signal["id"], "briefed")
        assert (await browser.get("/")).headers.get("location") != "/desk/welcome"


async def test_what_is_missing_is_named_and_no_secret_is_shown(tmp_path: Path) -> None:
    told: dict[str, Any] = {"environment": "development", "mavera_api_key": None, "api_keys": ""}
    async with service(tmp_path, with_worker=False, **told) as own:
        page = (await own.stranger.get("/desk/welcome")).text
    assert "missing MAVERA_API_KEY" in words(page)
    assert "missing CHURN_RADAR_API_KEYS" in words(page)
    assert "set CIO_APP_KEY" in words(page)
    assert SECRET not in page


# -- all of them


async def test_hostile_content_is_shown_as_text(live: Running, browser: Browser) -> None:
    told = await live.briefed(payload("nasty", facts=HOSTILE))
    event = payload(HOSTILE)
    event["data"] |= {"subject": HOSTILE, "failure_message": HOSTILE}
    other = await live.becomes(await live.post(event), "skipped", "dead", "briefed")
    for path in ("/desk/signals", f"/desk/signals/{told['id']}", f"/desk/signals/{other['id']}"):
        page = (await browser.get(path)).text
        assert "<img" not in page, path
        assert "alert(1)</script>" not in page, path
        assert not [f for tag, f in tags(page) if (f.get("href") or "").startswith("javascript:")], path
    shown = await browser.post(f"/desk/signals/{other['id']}/show")
    assert "alert(1)" in words(shown.text)
    assert "<img" not in shown.text


async def test_every_page_has_landmarks_one_heading_and_names_for_its_fields(live: Running, browser: Browser) -> None:
    paths = {str(route.name): str(route.path) for room in ROOMS for route in room.router.routes}
    for entry in NAVIGATION:
        page = (await browser.get(paths[entry.route])).text
        found = tags(page)
        names = [tag for tag, _ in found]
        assert names.count("h1") == 1, entry
        assert names.count("main") == 1, entry
        assert "nav" in names
        assert paths[entry.route] in [f.get("href") for _, f in found if f.get("aria-current") == "page"], entry
        labelled = {f.get("for") for tag, f in found if tag == "label"}
        for tag, f in found:
            if tag == "input" and f.get("type") not in ("hidden", "submit"):
                assert f.get("aria-label") or f.get("id") in labelled, (entry, f)
        ids = [f["id"] for _, f in found if "id" in f]
        assert len(ids) == len(set(ids)), entry
