"""What the person who owns retention does of a morning, with mouse and keyboard."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser, expect

from churn_radar.simulator.faults import Faults
from tests.browser.conftest import send, sitting
from tests.browser.desk import Desk
from tests.support.service import ServiceProcess

pytestmark = pytest.mark.asyncio(loop_scope="session")

CLIPBOARD = ["clipboard-read", "clipboard-write"]


async def open_brief(desk: Desk, mail: str) -> None:
    """From the list to one brief."""
    await desk.page.goto("/desk/briefs")
    await desk.page.get_by_role("link", name=mail).first.click()
    await expect(desk.page.get_by_role("heading", level=1)).to_have_text(mail)


async def test_a_signal_is_seen_as_it_arrives_and_moves_on_without_a_reload(
    desk: Desk, morning: ServiceProcess
) -> None:
    await desk.log_in()
    await desk.page.goto("/desk/today")
    rows = desk.page.locator("#live-signals tr")
    before = await rows.count()
    await desk.page.evaluate("window.stillTheSame = true")
    event_id = await send(morning, "unsubscribed", "cust_1018", "bo.larsen@kajline.example")
    newest = rows.first
    await expect(newest).to_contain_text(re.compile("kajline"))
    await morning.until(event_id, "briefed")
    await expect(newest).to_contain_text(re.compile("briefed", re.IGNORECASE))
    assert await rows.count() >= before
    assert await desk.page.evaluate("window.stillTheSame")


async def test_a_brief_is_found_by_keyboard_alone(desk: Desk, morning: ServiceProcess) -> None:
    await desk.log_in()
    await desk.page.goto("/desk/briefs")
    await desk.page.keyboard.press("/")
    await desk.page.keyboard.type("jane@")
    await desk.page.keyboard.press("Enter")
    await expect(desk.page.get_by_role("link", name="jane@acme.co")).to_be_visible()
    await expect(desk.page.get_by_role("link", name="priya@coinharbor.example")).to_have_count(0)
    await desk.page.keyboard.press("j")
    await desk.page.keyboard.press("Enter")
    await expect(desk.page.get_by_role("heading", level=1)).to_have_text("jane@acme.co")


async def test_a_mail_of_a_brief_is_copied_as_text_and_as_html(browser: Browser, morning: ServiceProcess) -> None:
    async with sitting(browser, morning, permissions=CLIPBOARD) as desk:
        await desk.log_in()
        await open_brief(desk, "luc.garnier@petitpanier.example")
        mail = desk.page.get_by_role("article").first
        await mail.get_by_role("button", name="Copy as text").click()
        await expect(mail.get_by_role("button", name="Copied")).to_be_visible()
        text = await desk.page.evaluate("navigator.clipboard.readText()")
        assert len(text) > 40
        assert "<p>" not in text
        await mail.get_by_role("button", name="Copy as HTML").click()
        await expect(mail.get_by_role("button", name="Copied")).to_have_count(2)
        kinds = await desk.page.evaluate("navigator.clipboard.read().then(all => all.flatMap(item => item.types))")
        assert "text/html" in kinds


async def test_nobody_is_led_to_mail_a_person_who_complained(desk: Desk, morning: ServiceProcess) -> None:
    await desk.log_in()
    await open_brief(desk, "priya@coinharbor.example")
    consent = desk.page.get_by_role("region", name=re.compile("mail", re.IGNORECASE)).first
    await expect(consent).to_contain_text(re.compile("complain", re.IGNORECASE))
    for mail in await desk.page.get_by_role("article").all():
        await expect(mail).to_contain_text(re.compile("no mail|do not", re.IGNORECASE))


async def test_what_became_of_a_customer_is_told_with_an_owner_and_a_note(desk: Desk, morning: ServiceProcess) -> None:
    await desk.log_in()
    await open_brief(desk, "dana.whitlock@bigbarn.example")
    await desk.page.get_by_label("Owner").fill("Ada")
    await desk.page.get_by_role("button", name="Assign").click()
    await expect(desk.page.get_by_label("Owner")).to_have_value("Ada")
    await desk.page.get_by_label("Note").fill("Called; a pause of two months.")
    await desk.page.get_by_role("button", name="Saved").click()
    await desk.page.get_by_role("link", name="What was done").click()
    await expect(desk.page.get_by_text("Called; a pause of two months.").first).to_be_visible()
    async with morning.client() as api:
        brief = (await api.get("/briefs/cust_1008")).json()["items"][0]
    assert (brief["outcome"]["value"] if isinstance(brief["outcome"], dict) else brief["outcome"]) == "saved"
    assert brief["owner"] == "Ada"


async def test_what_mave_was_told_names_nobody(desk: Desk, morning: ServiceProcess) -> None:
    await desk.log_in()
    await open_brief(desk, "jane@acme.co")
    await desk.page.get_by_role("link", name="What Mave was told").click()
    told = await desk.page.locator("main").inner_text()
    prompt = told[told.index("EVENT") :]
    assert "PERSONA TYPE" in prompt
    assert not re.search(r"jane|acme|cust_1001|@", prompt, re.IGNORECASE)


async def test_a_brief_is_printed_on_few_pages(browser: Browser, morning: ServiceProcess) -> None:
    async with sitting(browser, morning) as desk:
        await desk.log_in()
        await desk.page.goto("/desk/briefs")
        links = await desk.page.locator("main table a").all()
        pages = {}
        for address in [await link.get_attribute("href") for link in links]:
            await desk.page.goto(address or "")
            printed = await desk.page.pdf(format="A4")
            pages[address] = len(re.findall(rb"/Type\s*/Page\b", printed))
        assert pages
        assert max(pages.values()) <= 2, pages


async def test_a_dead_letter_is_replayed_once_its_effect_was_told(
    desk: Desk, morning: ServiceProcess, mave_faults: Faults
) -> None:
    mave_faults.add("status:400")
    event_id = await send(morning, "unsubscribed", "cust_1010", "n.haddad@northward.example")
    await morning.until(event_id, "dead")
    await desk.log_in()
    await desk.page.get_by_role("link", name="Dead letters").first.click()
    await desk.page.get_by_role("link", name="Look at them").first.click()
    await desk.page.get_by_role("checkbox").last.check()
    await desk.page.get_by_role("button", name=re.compile("Replay")).click()
    await expect(desk.page.get_by_text("Nothing has been changed yet")).to_be_visible()
    assert (await morning.signal(event_id))["status"] == "dead"
    await desk.page.get_by_role("button", name="Replay 1 signal").click()
    await morning.until(event_id, "briefed")
