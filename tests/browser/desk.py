"""What a person does at the pages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import ConsoleMessage, Page

from tests.support.service import API_KEY

GRAVE = ("serious", "critical")


class Served(Protocol):
    """What a desk needs to know of the service behind it."""

    url: str


@dataclass
class Desk:
    """A page of the browser, and the service behind it; `complaints` are what the browser found wrong."""

    page: Page
    service: Served
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Listen for what the browser complains of."""
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(f"a script failed: {error}"))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    async def log_in(self, key: str = API_KEY) -> None:
        """Come to the first page and give a key."""
        await self.page.goto("/")
        await self.page.get_by_label("API key").fill(key)
        await self.page.get_by_role("button", name="Log in").click()
        await self.page.wait_for_url(lambda url: "/login" not in url)

    async def cut_off(self) -> list[str]:
        """What makes the page wider than the window, innermost parts first."""
        found: list[str] = await self.page.evaluate(
            """() => {
              const width = document.documentElement.clientWidth;
              if (document.documentElement.scrollWidth <= width) return [];
              const inScroller = part => part.closest(".scroll, pre, nav") !== null;
              return [...document.body.querySelectorAll("*")]
                .filter(part => part.getBoundingClientRect().right > width + 0.5 && !inScroller(part))
                .reverse().slice(0, 4).map(part => part.outerHTML.slice(0, 120));
            }"""
        )
        return found

    async def barriers(self) -> list[str]:
        """What axe-core finds that keeps somebody out, one line each."""
        found: Any = (await Axe().run(self.page)).response
        return [
            f"{each['id']}: {each['help']}: {[node['target'] for node in each['nodes']][:3]}"
            for each in found["violations"]
            if each["impact"] in GRAVE
        ]
