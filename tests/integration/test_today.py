"""Today: what is at risk, dearest first, what waits, and the same live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from churn_radar.app import create_app
from churn_radar.serving import server_for
from churn_radar.sockets import bind
from tests.support.pages import Browser, browsing, tags, words
from tests.support.work import ListSink, Running, payload, service

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    folder: Path = tmp_path_factory.mktemp("today")
    async with service(folder, sinks=[ListSink()], monthly_credits=1000) as running:
        for customer, kind in (("cust_1001", "unsubscribed"), ("cust_1003", "spammed")):
            await running.briefed(payload(customer, kind))
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(live: Running) -> AsyncIterator[Browser]:
    async with browsing(live) as opened:
        yield opened


async def events(http: httpx.AsyncClient, count: int, **headers: str) -> list[dict[str, str]]:
    """The first events of the stream."""
    found: list[dict[str, str]] = []
    event: dict[str, str] = {}
    async with asyncio.timeout(15), http.stream("GET", "/desk/live", headers=headers) as stream:
        assert stream.status_code == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        async for line in stream.aiter_lines():
            name, _, value = line.partition(": ")
            if line:
                event[name] = event.get(name, "") + value
            elif event:
                found.append(event)
                event = {}
                if len(found) == count:
                    break
    return found


async def test_the_first_page_is_today_and_tells_what_is_at_risk(browser: Browser) -> None:
    answer = await browser.get("/")
    assert answer.headers["location"] == "/desk/today"
    page = (await browser.get("/desk/today")).text
    said = words(page)
    for told in ("$12,650", "2 customers", "High-MRR Fintech (Pro plan)", "complained", "of 1,000", "no mail"):
        assert told in said, told
    assert said.index("priya@") < said.index("jane@")
    assert sum(tag == "rect" and told.get("class") == "hit" for tag, told in tags(page)) == 30
    assert not any(name == "style" or name.startswith("on") for _, told in tags(page) for name in told)


async def test_who_watches_sees_a_signal_arrive_and_is_not_told_twice(live: Running, browser: Browser) -> None:
    first = await events(browser.http, 2)
    assert [event["event"] for event in first] == ["figures", "signals"]
    seen = first[1]["id"]
    watching = asyncio.create_task(events(browser.http, 2, **{"Last-Event-ID": seen}))
    await live.post(payload("cust_1007"))
    news = await watching
    assert news[1]["id"] != seen
    assert news[1]["data"].count("<tr ") == 3


async def test_nobody_watches_without_a_log_in_and_no_more_than_there_is_room_for(
    live: Running, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = await live.stranger.get("/desk/live", headers={"Accept": "text/event-stream"})
    # Told in the stream: a browser would ask again and again after any other answer.
    assert stranger.headers["content-type"].startswith("text/event-stream")
    assert stranger.text == "event: ended\ndata: \n\n"
    monkeypatch.setattr(live.service.live, "most_viewers", 0)
    assert (await browser.get("/desk/live")).status_code == 503


async def test_a_stream_ends_with_its_log_in_and_no_other(live: Running, browser: Browser) -> None:
    async with browsing(live) as viewer, viewer.http.stream("GET", "/desk/live") as stream, asyncio.timeout(15):
        lines = stream.aiter_lines()
        await anext(lines)
        await viewer.post("/desk/logout")
        assert "event: ended" in [line async for line in lines]
    assert (await browser.get("/desk/today")).status_code == 200


async def test_who_watches_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    async with service(tmp_path, with_worker=False) as running:
        listener = bind("127.0.0.1", 0)
        server = server_for(create_app(running.service))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        there = Running(**{**vars(running), "url": f"http://127.0.0.1:{listener.getsockname()[1]}"})
        async with browsing(there) as viewer, viewer.http.stream("GET", "/desk/live") as stream:
            await anext(stream.aiter_lines())
            began = asyncio.get_running_loop().time()
            server.should_exit = True
            await serving
            assert asyncio.get_running_loop().time() - began < 2
        listener.close()
