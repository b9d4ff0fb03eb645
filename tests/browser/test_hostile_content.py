"""What comes from outside is shown and does nothing: attributes, answers of Mave's and addresses are untrusted."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.browser.desk import Desk
from tests.integration.test_brief_pages import HOSTILE
from tests.support.kept_briefs import keep_briefs
from tests.support.work import KEY, ListSink, Running, service

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with service(tmp_path_factory.mktemp("hostile"), sinks=[ListSink()]) as running:
        await keep_briefs(running.service.record, HOSTILE)
        yield running


@pytest.mark.parametrize("path", ["/desk/briefs", "/desk/briefs/brf_hostile", "/desk/briefs/brf_hostile/told"])
async def test_no_script_runs_and_nothing_is_fetched_from_elsewhere(browser: Browser, live: Running, path: str) -> None:
    context = await browser.new_context(base_url=live.url)
    page = await context.new_page()
    asked: list[str] = []
    dialogs: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    desk = Desk(page, live)
    await desk.log_in(KEY)
    answer = await page.goto(path)
    assert answer is not None
    assert answer.status == 200
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    # A link that would run something must not be one.
    assert await page.locator("a[href^='javascript']").count() == 0
    assert await page.locator("main script, main img").count() == 0
    assert [url for url in asked if not url.startswith(live.url)] == []
    assert (dialogs, desk.complaints) == ([], [])
    await context.close()
