"""`python -m tests.browser.pictures [FOLDER]`: every page of the demo's morning, as the README and the docs show them.

By day and by night, wide and narrow; the people on them are invented. Starts `churn-radar demo` as in a terminal, logs
in with the key that it prints, and ends it afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from playwright.async_api import Page, async_playwright

from tests.browser.conftest import ARGUMENTS, chromium

FOLDER = Path(__file__).parents[2] / "docs" / "images"
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTHS = {"wide": 1280, "narrow": 360}
PATIENCE_SECONDS = 120


@contextmanager
def demo() -> Iterator[tuple[str, str]]:
    """A demo that goes on serving: its address, and its key."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "churn_radar", "demo"], stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)
    try:
        said = ""
        while not (key := re.search(r"API key\s+(\S+)", said)):
            said += os.read(ours, 65536).decode(errors="replace")
        address = re.search(r"(http://127\.0\.0\.1:\d+)", said)
        assert address is not None, said
        yield address[1], key[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)
        os.close(ours)


async def take(url: str, key: str, folder: Path) -> None:
    """All pictures: `today-light-wide.png` and so on."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        for scheme in SCHEMES:
            for name, width in WIDTHS.items():
                context = await browser.new_context(
                    base_url=url, color_scheme=scheme, viewport={"width": width, "height": 900}, reduced_motion="reduce"
                )
                page = await context.new_page()
                await page.goto("/")
                await page.get_by_label("API key").fill(key)
                await page.get_by_role("button", name="Log in").click()
                await page.wait_for_url(lambda address: "/login" not in address)
                for room, address in (await rooms(page)).items():
                    await page.goto(address)
                    await page.screenshot(path=folder / f"{room}-{scheme}-{name}.png")
                    print(f"{room}-{scheme}-{name}.png", flush=True)
                await context.close()
        await browser.close()


async def rooms(page: Page) -> dict[str, str]:
    """The pages of the navigation, and the dearest brief's."""
    found: dict[str, str] = {}
    for link in await page.get_by_role("navigation").first.get_by_role("link").all():
        address = await link.get_attribute("href")
        if address and "/desk" in address:
            found[address.rstrip("/").rsplit("/", 1)[-1].partition("?")[0]] = address
    await page.goto("/desk/briefs")
    dearest = await page.locator("main table a").first.get_attribute("href")
    return {**found, **({"brief": dearest} if dearest else {})}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with demo() as (url, key):
        asyncio.run(take(url, key, folder))


if __name__ == "__main__":
    main()
