"""Every page that a link leads to: for any screen, for the keyboard, for a screen reader, by day and by night."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.browser.conftest import sitting
from tests.browser.desk import Desk
from tests.support.service import ServiceProcess

pytestmark = pytest.mark.asyncio(loop_scope="session")

# A page for each signal, brief, cause ...: one of each kind is looked at.
_ID = re.compile(r"/(?:sig_|brf_|[0-9A-Z]{20,}|[0-9a-f-]{16,}|\d+)[^/]*")
MOST_PAGES = 60


def kind_of(path: str) -> str:
    """A path without what names one thing of many."""
    return _ID.sub("/*", urlsplit(path).path)


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def pages(browser: Browser, morning: ServiceProcess) -> AsyncIterator[dict[str, str]]:
    """One address for each kind of page that links lead to from the first one."""
    async with sitting(browser, morning) as desk:
        await desk.log_in()
        found: dict[str, str] = {}
        ahead = [urlsplit(desk.page.url).path]
        while ahead and len(found) < MOST_PAGES:
            address = ahead.pop(0)
            if kind_of(address) in found:
                continue
            answer = await desk.page.goto(address)
            assert answer is not None
            assert answer.status == 200, (address, answer.status)
            found[kind_of(address)] = address
            links = await desk.page.eval_on_selector_all("a[href]", "all => all.map(a => a.href)")
            here = desk.service.url
            ahead += [
                urlsplit(link).path for link in links if link.startswith(f"{here}/desk") and "download" not in link
            ]
        yield found


async def test_links_lead_to_every_room(pages: dict[str, str]) -> None:
    rooms = {path.split("/")[2] for path in pages if path.count("/") > 1}
    assert {"signals", "briefs", "health", "quarantine"} <= rooms, sorted(pages)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_keeps_anybody_out_and_nothing_is_cut_off(
    browser: Browser, morning: ServiceProcess, pages: dict[str, str], scheme: str
) -> None:
    width = 360 if scheme == "dark" else 1280
    async with sitting(
        browser, morning, color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce"
    ) as desk:
        await desk.log_in()
        wrong: dict[str, object] = {}
        for kind, address in pages.items():
            await desk.page.goto(address)
            if barriers := await desk.barriers():
                wrong[kind] = barriers
            if cut_off := await desk.cut_off():
                wrong[f"{kind} at {width} px"] = cut_off
        assert not wrong


async def test_lists_fit_a_tablet_whichever_way_it_is_held(desk: Desk, pages: dict[str, str]) -> None:
    await desk.log_in()
    wrong: dict[str, object] = {}
    for width in (800, 1024, 1120):
        await desk.page.set_viewport_size({"width": width, "height": 800})
        for kind in ("/desk/today", "/desk/briefs", "/desk/outcomes", "/desk/signals"):
            await desk.page.goto(pages[kind])
            if cut_off := await desk.cut_off():
                wrong[f"{kind} at {width} px"] = cut_off
    assert not wrong


async def test_on_a_phone_a_reason_stands_below_its_status_not_below_the_label(
    desk: Desk, morning: ServiceProcess
) -> None:
    await desk.log_in()
    await desk.page.set_viewport_size({"width": 360, "height": 800})
    await desk.page.goto("/desk/signals")
    cell = desk.page.locator("td[data-label='Stands at']").filter(has=desk.page.locator(".clip")).first
    status = await cell.locator(".badge").bounding_box()
    reason = await cell.locator(".clip").bounding_box()
    assert status is not None
    assert reason is not None
    assert reason["x"] == status["x"]


async def test_on_a_phone_a_reason_that_is_one_long_word_is_broken(desk: Desk, morning: ServiceProcess) -> None:
    await desk.log_in()
    await desk.page.set_viewport_size({"width": 360, "height": 800})
    for address in ("/desk/signals", "/desk/today"):
        await desk.page.goto(address)
        await desk.page.locator(".clip").first.evaluate("reason => { reason.textContent = 'shares ' + 'W'.repeat(60) }")
        assert await desk.cut_off() == []


async def test_the_keyboard_reaches_the_main_part_first_and_shows_where_it_is(
    desk: Desk, morning: ServiceProcess
) -> None:
    await desk.log_in()
    await desk.page.keyboard.press("Tab")
    first = await desk.page.evaluate("document.activeElement.getAttribute('href')")
    assert first == "#main"
    outline = await desk.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


async def test_on_a_phone_a_long_id_in_the_audit_trail_is_broken(desk: Desk, morning: ServiceProcess) -> None:
    await desk.log_in()
    await desk.page.set_viewport_size({"width": 360, "height": 800})
    await desk.page.goto("/desk/audit")
    subject = desk.page.locator("td[data-label='To']").first
    await subject.evaluate("cell => { cell.innerHTML = `<span class=\"mono small\">brf_${'0'.repeat(60)}</span>` }")
    assert await desk.cut_off() == []


async def test_a_short_page_begins_right_below_the_navigation(desk: Desk, pages: dict[str, str]) -> None:
    await desk.log_in()
    heights = set()
    for width in (360, 800):
        for kind in ("/desk/personal", "/desk/signals"):
            await desk.page.set_viewport_size({"width": width, "height": 1600})
            await desk.page.goto(pages[kind])
            box = await desk.page.locator(".side").bounding_box()
            assert box is not None
            heights.add((width, box["height"]))
    assert len(heights) == 2, heights
