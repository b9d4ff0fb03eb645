"""What came of it all, and what is held on whom: a person says outcomes and sees the figures, an operator forgets."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.async_api import Locator, expect

from tests.browser.conftest import send
from tests.browser.desk import Desk
from tests.support.service import ServiceProcess

pytestmark = pytest.mark.asyncio(loop_scope="session")

INES, SOFIA = ("cust_1014", "ines@hillcrest.example", 3900), ("cust_1009", "sofia.brandt@clinicflow.example", 640)
CARLA = ("cust_1025", "carla@dailyharbor.example")


async def briefed(service: ServiceProcess, customer: str, mail: str) -> None:
    """A brief on somebody whom no other test is about."""
    await service.until(await send(service, "unsubscribed", customer, mail), "briefed")


def figure(desk: Desk, name: str) -> Locator:
    """One of the figures on top of the page."""
    return desk.page.locator(".figure").filter(has=desk.page.get_by_text(name, exact=True)).locator("dd")


async def totals(desk: Desk) -> dict[str, int]:
    """What the page of the outcomes tells: MRR saved and with a brief, and the unsubscribed by what became of them."""
    await desk.page.get_by_role("link", name="Outcomes").first.click()
    await expect(desk.page.get_by_role("heading", level=1)).to_have_text("Outcomes")
    amounts = re.findall(r"\$([\d,]+)", await figure(desk, "MRR saved").inner_text())
    row = desk.page.get_by_role("region", name="By kind of signal").get_by_role("row").filter(has_text="unsubscribed")
    cells = {
        name: int((await row.locator(f'[data-label="{name}"]').inner_text()).split()[0])
        for name in ("Briefs", "Saved", "Lost", "Open")
    }
    return {"MRR saved": int(amounts[0].replace(",", "")), "MRR": int(amounts[1].replace(",", "")), **cells}


async def say(desk: Desk, mail: str, outcome: str) -> None:
    """On the page of their brief."""
    await desk.page.goto("/desk/briefs")
    await desk.page.get_by_role("link", name=mail).first.click()
    await desk.page.get_by_role("button", name=outcome, exact=True).click()
    await expect(desk.page.get_by_role("button", name=outcome, exact=True, pressed=True)).to_be_visible()


async def test_outcomes_that_are_said_stand_in_the_figures(desk: Desk, morning: ServiceProcess) -> None:
    for customer, mail, _ in (INES, SOFIA):
        await briefed(morning, customer, mail)
    await desk.log_in()
    before = await totals(desk)

    await say(desk, INES[1], "Saved")
    await say(desk, SOFIA[1], "Lost")

    after = await totals(desk)
    change = {name: after[name] - before[name] for name in after}
    assert change == {"MRR saved": INES[2], "MRR": 0, "Briefs": 0, "Saved": 1, "Lost": 1, "Open": -2}
    await expect(figure(desk, "MRR saved")).to_contain_text(f"${after['MRR saved']:,}")
    for mail in (INES[1], SOFIA[1]):
        await expect(desk.page.get_by_text(mail)).to_have_count(0)


async def test_an_operator_hands_over_what_is_held_on_a_person_and_forgets_them(
    desk: Desk, morning: ServiceProcess, tmp_path: Path
) -> None:
    customer, mail = CARLA
    await briefed(morning, customer, mail)
    await desk.log_in()
    await desk.page.get_by_role("link", name="Personal data").first.click()
    await desk.page.get_by_label("Customer id, cio_id or mail address").fill(mail)
    await desk.page.get_by_role("button", name="Look").click()
    held = desk.page.get_by_role("region", name=f"What is held on {mail}")
    await expect(held).to_be_visible()
    assert mail not in desk.page.url, "addresses get into logs"

    async with desk.page.expect_download() as saving:
        await held.get_by_role("button", name="Download everything as JSON").click()
    await (await saving.value).save_as(tmp_path / "person.json")
    told = json.loads((tmp_path / "person.json").read_text())
    assert told["names"]["id"] == [customer]
    assert len(told["tables"]["briefs"]) == 1

    # Nothing happens before it was said that this is meant.
    await held.get_by_role("button", name="Forget this person").click()
    await expect(held).to_be_visible()
    await held.get_by_label("I am sure").check()
    await held.get_by_role("button", name="Forget this person").click()
    await expect(desk.page.get_by_role("heading", level=1)).to_have_text("Forgotten")
    await expect(desk.page.get_by_role("status")).to_contain_text("1 signal, 1 brief")

    await desk.page.get_by_role("link", name="Another person").click()
    await desk.page.get_by_label("Customer id, cio_id or mail address").fill(customer)
    await desk.page.get_by_role("button", name="Look").click()
    await expect(desk.page.get_by_role("heading", name=f"Nothing is held on {customer}")).to_be_visible()
    late = {
        "event_id": "01HBROWSERLATE",
        "object_type": "customer",
        "metric": "unsubscribed",
        "timestamp": 1_795_500_000,
        "data": {"customer_id": customer},
    }
    assert (await morning.post(late)).json()["status"] == "ignored"
