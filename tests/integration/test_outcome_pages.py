from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from churn_radar.outcome.rules import Outcome
from churn_radar.work.steps import utc_now
from tests.support.pages import READER_KEY, browsing
from tests.support.work import Running, payload, service

PUBLIC = "https://ops.example/churn"


async def briefed(live: Running, customer: str = "cust_1001") -> str:
    return str((await live.briefed(payload(customer)))["brief_id"])


def token_of(live: Running, brief_id: str, outcome: Outcome, when: Any = None) -> str:
    url = live.service.outcome_links.urls(brief_id, when or utc_now())[outcome]
    assert url.startswith(f"{PUBLIC}/desk/outcome/")
    return url.rpartition("/")[2]


async def told(live: Running, brief_id: str) -> Any:
    return (await live.http.get(f"/outcomes/{brief_id}")).json()


async def test_a_link_asks_before_it_does_anything_and_does_it_once(everywhere: str, tmp_path: Path) -> None:
    async with service(tmp_path, sinks=[], public_url=PUBLIC) as live:
        brief_id = await briefed(live)
        saved = f"/desk/outcome/{token_of(live, brief_id, Outcome.SAVED)}"

        for _ in range(3):
            page = await live.stranger.get(saved)
            assert page.status_code == 200
            assert "Mark as saved?" in page.text
            assert "default-src 'none'" in page.headers["content-security-policy"]
            for personal in ("cust_1001", "jane", "acme"):
                assert personal not in page.text.lower()
        assert (await told(live, brief_id))["history"] == [], "looking changes nothing"

        for _ in range(2):
            done = await live.stranger.post(saved, data={"note": "by phone"})
            assert done.status_code == 200
        [line] = (await told(live, brief_id))["history"]
        assert (line["value"], line["note"], line["who"]) == ("saved", "by phone", "a link in a message")

        await live.http.post(f"/outcomes/{brief_id}", json={"outcome": "lost"})
        assert (await live.stranger.post(saved)).status_code == 409
        assert (await told(live, brief_id))["outcome"] == "lost"


async def test_a_link_that_says_what_holds_already_is_used_up_all_the_same(everywhere: str, tmp_path: Path) -> None:
    async with service(tmp_path, sinks=[], public_url=PUBLIC) as live:
        brief_id = await briefed(live)
        saved = f"/desk/outcome/{token_of(live, brief_id, Outcome.SAVED)}"
        await live.http.post(f"/outcomes/{brief_id}", json={"outcome": "saved"})
        assert (await live.stranger.post(saved)).status_code == 200
        await live.http.post(f"/outcomes/{brief_id}", json={"outcome": "lost"})
        assert (await live.stranger.post(saved)).status_code == 409
        assert (await told(live, brief_id))["outcome"] == "lost"


async def test_a_link_that_is_over_cut_off_or_made_up_does_nothing(tmp_path: Path) -> None:
    async with service(tmp_path, sinks=[], public_url=PUBLIC, outcome_link_days=1) as live:
        brief_id = await briefed(live)
        good = token_of(live, brief_id, Outcome.LOST)
        over = token_of(live, brief_id, Outcome.LOST, utc_now() - timedelta(days=1, minutes=1))
        for token in (over, good[:-2], "x", good.replace(good[3], "_", 1)):
            for answer in (
                await live.stranger.get(f"/desk/outcome/{token}"),
                await live.stranger.post(f"/desk/outcome/{token}"),
            ):
                assert answer.status_code == 410, token
        unknown = token_of(live, "brf_unknown", Outcome.LOST)
        assert (await live.stranger.post(f"/desk/outcome/{unknown}")).status_code == 404
        assert (await told(live, brief_id))["history"] == []


def test_there_are_no_links_where_nobody_knows_the_address_or_wants_any() -> None:
    from churn_radar.outcome.links import OutcomeLinks

    for public_url, days in ((None, 14), (PUBLIC, 0)):
        assert OutcomeLinks(b"k" * 32, public_url, timedelta(days=days)).urls("brf_1", utc_now()) == {}
    assert "kkk" not in repr(OutcomeLinks(b"k" * 32, PUBLIC, timedelta(days=1)))


async def test_an_operator_says_what_became_of_it_on_a_page_and_a_reader_only_looks(tmp_path: Path) -> None:
    async with service(tmp_path, sinks=[], reader_api_keys=READER_KEY) as live, browsing(live) as browser:
        brief_id = await briefed(live)
        at = f"/desk/briefs/{brief_id}"
        for path, form in (
            ("outcome", {"outcome": "contacted", "note": "<script>alert(1)</script>"}),
            ("owner", {"owner": "Inés \u202e"}),
            ("snooze", {"days": "3"}),
            ("snooze", {"on": f"{utc_now() + timedelta(days=9):%Y-%m-%d}"}),
        ):
            answer = await browser.post(f"{at}/{path}", form)
            assert answer.status_code == 303, (path, answer.text)
        page = (await browser.get(f"{at}/story")).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)" in page
        now = await told(live, brief_id)
        assert (now["outcome"], now["owner"], len(now["history"])) == ("contacted", "Inés", 4)
        assert now["snoozed_until"].endswith("T08:00:00Z")
        await browser.post(f"{at}/snooze", {"days": ""})
        assert (await told(live, brief_id))["snoozed_until"] is None
        for path, form in (
            ("outcome", {"outcome": "x"}),
            ("snooze", {"days": "0"}),
            ("snooze", {"on": "never"}),
            ("owner", {"owner": "x" * 200}),
        ):
            assert (await browser.post(f"{at}/{path}", form)).status_code == 422, path
        assert (await browser.http.post(f"{at}/outcome", data={"outcome": "lost"})).status_code == 403, "no token"
        assert (await browser.post("/desk/briefs/brf_none/outcome", {"outcome": "lost"})).status_code == 404
        assert (await browser.get("/desk/briefs/brf_none/story")).status_code == 404
    async with service(tmp_path, sinks=[], reader_api_keys=READER_KEY) as live, browsing(live, READER_KEY) as browser:
        assert (await browser.post(f"{at}/outcome", {"outcome": "lost"})).status_code == 403
        assert "<form" not in (await browser.get(f"{at}/story")).text.partition("<main")[2]


async def test_the_outcomes_page_shows_bars_with_their_numbers_in_words(tmp_path: Path) -> None:
    async with service(tmp_path, sinks=[]) as live, browsing(live) as browser:
        assert "There are no briefs of these days" in await browser.text("/desk/outcomes")
        for customer, outcome in (("cust_1001", "saved"), ("cust_1003", "lost")):
            brief_id = await briefed(live, customer)
            await live.http.post(f"/outcomes/{brief_id}", json={"outcome": outcome})
        page = (await browser.get("/desk/outcomes", params={"days": "7"})).text
        assert "$850" in page
        assert "50 %" in page
        assert re.search(r'aria-label="0 contacted, 1 saved, 0 lost', page)
        assert "style=" not in page
        assert (await browser.get("/desk/outcomes", params={"days": "0"})).status_code == 422


async def test_a_person_is_looked_up_handed_over_and_forgotten_with_the_effect_told_before(tmp_path: Path) -> None:
    async with service(tmp_path, sinks=[], reader_api_keys=READER_KEY) as live, browsing(live) as browser:
        await briefed(live)
        assert "Personal data" in await browser.text("/desk/personal")
        page = (await browser.post("/desk/personal", {"customer": " jane@acme.co "})).text
        assert "Forget this person" in page
        assert "the ledger of credits" in page.lower()
        handed = await browser.post("/desk/personal/export", {"customer": "jane@acme.co"})
        assert handed.headers["content-disposition"].startswith("attachment")
        assert handed.json()["names"]["id"] == ["cust_1001"]
        [line, *_] = (await live.http.get("/audit")).json()["items"]
        assert (line["via"], line["action"], line["subject"]) == ("page", "export person", None)
        assert (await browser.post("/desk/personal/forget", {"customer": "jane@acme.co"})).status_code == 422
        assert len((await live.http.get("/briefs")).json()["items"]) == 1
        done = await browser.post("/desk/personal/forget", {"customer": "jane@acme.co", "sure": "yes"})
        assert "Erased: 1 signal, 1 brief" in done.text
        assert "jane" not in done.text
        assert (await live.http.get("/briefs")).json()["items"] == []
        nobody = (await browser.post("/desk/personal", {"customer": "jane@acme.co"})).text
        assert "Nothing is held on" in nobody
    async with service(tmp_path, sinks=[], reader_api_keys=READER_KEY) as live, browsing(live, READER_KEY) as browser:
        assert (await browser.get("/desk/personal")).status_code == 403
        assert "/desk/personal" not in (await browser.get("/desk/outcomes")).text
        assert (await browser.post("/desk/personal", {"customer": "x"})).status_code == 403
