"""The pages of the briefs: found, read, copied and vouched for; hostile content stays content."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from churn_radar.store.brief_search import Place
from churn_radar.web.briefs import place_cursor, read_filters, read_place
from tests.support.kept_briefs import keep_briefs
from tests.support.pages import READER_KEY, Browser, browsing, tags, words
from tests.support.work import ListSink, Running, payload, service

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCRIPT = "<script>alert(1)</script>"
HOSTILE: dict[str, Any] = {
    "customer": "cust_evil",
    "brief_id": "brf_hostile",
    "email": "\u202egro.live@\u202djo.example",
    "persona_type": f"{SCRIPT} \u05d0\u05d1\u05d2",
    "plan": '"><img src=x onerror=alert(1)>',
    "mrr": 1e9,
    "research_brief": f"# {SCRIPT}\n\n[x](javascript:alert(1))\n\n" + "Long. \n" * 300_000,
    "sections": {
        "churn_reasons": f"{SCRIPT} [x](javascript:alert(1)) \u05d0\u05d1",
        "winback_emails": f"## Email 1\n{SCRIPT}\n\n## Email 2\n</textarea>{SCRIPT}",
    },
    "sources": [{"url": "https://a.example/", "title": SCRIPT, "domain": "a.example"}],
    "unsupported_claims": [SCRIPT],
    "notes": [SCRIPT],
    "prompt": f"EVENT: {SCRIPT}",
    "hallucination_risk": "high",
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    folder: Path = tmp_path_factory.mktemp("pages")
    async with service(folder, sinks=[ListSink()], reader_api_keys=READER_KEY) as running:
        await running.briefed(payload("cust_1001"))
        await running.becomes(await running.post(payload("cust_1001", "spammed")), "joined")
        await running.briefed(payload("cust_1003", "bounced"))
        await keep_briefs(running.service.record, HOSTILE)
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(live: Running) -> AsyncIterator[Browser]:
    async with browsing(live) as opened:
        yield opened


async def id_of(live: Running, customer: str) -> str:
    return str((await live.http.get(f"/briefs/{customer}")).json()["items"][0]["id"])


def rows(page: str) -> list[str | None]:
    return [told["href"] for tag, told in tags(page) if tag == "a" and "/desk/briefs/brf_" in (told.get("href") or "")]


async def test_the_list_is_dearest_first_and_tells_what_may_be_sent(browser: Browser) -> None:
    page = (await browser.get("/desk/briefs")).text
    assert [href and href[-7:] for href in rows(page)][:1] == ["hostile"]
    assert len(rows(page)) == 3
    said = words(page)
    assert "no mail" in said
    assert "bounces" in said
    assert "2 signals" in said


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=jane", 1),
        ("q=ACME.CO", 1),
        ("kind=bounced", 1),
        ("mrr_from=1,000&mrr_to=20000", 1),
        ("mrr_from=&persona=fintech&plan=pro", 1),
        ("since=2020-01-01&until=2099-01-01&at_risk=yes", 3),
        ("outcome=saved", 0),
        ("outcome=none&owner=", 3),
        ("q=nobody", 0),
    ],
)
async def test_filters_narrow_the_list(browser: Browser, query: str, found: int) -> None:
    answer = await browser.get(f"/desk/briefs?{query}")
    assert answer.status_code == 200
    assert len(rows(answer.text)) == found


async def test_what_cannot_be_read_is_left_out_and_said_to_be(browser: Browser) -> None:
    said = await browser.text("/desk/briefs?mrr_from=much&since=yesterday&outcome=eaten")
    assert all(name in said.partition("left out:")[2][:60] for name in ("mrr from", "since", "outcome"))
    assert (await browser.get("/desk/briefs?cursor=nonsense")).status_code == 400
    assert (await browser.get(f"/desk/briefs?q={'x' * 300}")).status_code == 422


async def test_a_brief_shows_facts_consent_mails_sources_and_history(live: Running, browser: Browser) -> None:
    brief_id = await id_of(live, "cust_1001")
    page = (await browser.get(f"/desk/briefs/{brief_id}")).text
    said = words(page)

    for told in ("jane@acme.co", "Send no mail at all", "an in-app message", "Why they churn", "Offer structure"):
        assert told.lower() in said.lower(), told
    # Once on top, once with the section, once with each of its three mails.
    assert said.count("Send no mail at all") == 5
    ids = {told["id"] for _, told in tags(page) if told.get("id")}
    assert {"churn_reasons", "winback_emails", "timing", "sources", "mail-3-text", "mail-3-source"} <= ids
    assert {told["data-copy"] for _, told in tags(page) if told.get("data-copy")} >= {"mail-1-text", "mail-1-source"}
    assert "delivered" in said
    assert "briefed" in said
    assert "Research anew" in said


async def test_a_reader_may_read_and_not_research_anew(live: Running) -> None:
    async with browsing(live, READER_KEY) as reader:
        assert "Research anew" not in await reader.text(f"/desk/briefs/{await id_of(live, 'cust_1001')}")


async def test_what_mave_was_told_is_shown_word_for_word_and_names_nobody(live: Running, browser: Browser) -> None:
    page = await browser.text(f"/desk/briefs/{await id_of(live, 'cust_1001')}/told")
    assert "EVENT: unsubscribed" in page
    prompt = page.partition("A high-value customer")[2]
    assert "jane" not in prompt.lower()
    assert "cust_1001" not in prompt


async def test_hostile_content_is_shown_harmlessly_and_in_time(browser: Browser) -> None:
    for path in ("/desk/briefs", *(f"/desk/briefs/brf_hostile{end}" for end in ("", "/told", "/text", "/text?part=7"))):
        answer = await browser.get(path)
        assert answer.status_code == 200, path
        assert len(answer.content) < 300_000
        for tag, told in tags(answer.text):
            assert tag != "img"
            assert tag != "script" or (told.get("src") or "").startswith("/desk/static/")
            assert not any(name.startswith("on") or name == "style" for name in told), (tag, told)
            assert not (told.get("href") or "").lower().startswith("javascript")
    assert SCRIPT in words((await browser.get("/desk/briefs/brf_hostile")).text)
    assert "<bdi>\u202egro" in (await browser.get("/desk/briefs/brf_hostile")).text


async def test_an_unknown_brief_and_a_part_beyond_the_end_are_404(browser: Browser) -> None:
    for path in ("nothing", "nothing/told", "nothing/text", "brf_hostile/text?part=9999", "%00"):
        assert (await browser.get(f"/desk/briefs/{path}")).status_code == 404, path


async def test_a_place_in_the_list_survives_its_cursor() -> None:
    for place in (Place(850.0, 7), Place(0.1, 2**40), Place(0.0, 1)):
        assert read_place(place_cursor(place)) == place


async def test_empty_fields_ask_nothing() -> None:
    wanted, unread = read_filters({})
    assert not unread
    assert wanted == type(wanted)()
