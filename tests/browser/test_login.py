from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.desk import Desk

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_person_comes_in_with_a_key_and_leaves_again(desk: Desk) -> None:
    await desk.log_in()
    await expect(desk.page.get_by_role("navigation").first).to_be_visible()
    await desk.page.get_by_role("button", name="Log out").click()
    await desk.page.goto("/")
    await expect(desk.page.get_by_label("API key")).to_be_focused()


async def test_a_wrong_key_is_told_and_lets_nobody_in(desk: Desk) -> None:
    await desk.page.goto("/")
    await desk.page.get_by_label("API key").fill("a guess")
    await desk.page.get_by_role("button", name="Log in").click()
    await expect(desk.page.get_by_role("alert")).to_be_visible()
    desk.complaints.clear()  # the browser calls a 401 an error
    await desk.page.goto("/desk/signals")
    await expect(desk.page.get_by_label("API key")).to_be_visible()


async def test_a_page_that_is_left_open_says_when_its_log_in_has_ended(desk: Desk) -> None:
    await desk.log_in()
    await desk.page.goto("/desk/today")
    mark = desk.page.locator(".live-mark")
    await expect(mark).to_have_text("live")
    elsewhere = await desk.page.context.new_page()
    await elsewhere.goto("/desk/today")
    await elsewhere.get_by_role("button", name="Log out").click()
    await expect(mark).to_have_text("logged out: as it was then")
