"""A browser without scripts: logs in, follows redirects when told to, and sends forms with what they hold."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape
from html.parser import HTMLParser
from typing import Any

import httpx

from tests.support.work import KEY, Running

READER_KEY = "a-reader-key-of-the-tests"


@dataclass
class Browser:
    """Cookies and the pages of one service."""

    http: httpx.AsyncClient

    async def get(self, path: str, **parts: Any) -> httpx.Response:
        """A page."""
        return await self.http.get(path, **parts)

    async def text(self, path: str) -> str:
        """What a page says, without its marks; the page has to be there."""
        answer = await self.get(path)
        assert answer.status_code == 200, (path, answer.status_code, answer.headers)
        return words(answer.text)

    async def csrf(self) -> str:
        """What forms of this log-in carry."""
        return token_of((await self.http.get("/desk/signals")).text)

    async def post(self, path: str, data: Mapping[str, Any] | None = None, **parts: Any) -> httpx.Response:
        """Send a form as the page would."""
        return await self.http.post(path, data={"csrf": await self.csrf(), **(data or {})}, **parts)

    async def log_in(self, key: str = KEY, **fields: str) -> httpx.Response:
        """Fill the log-in form in and send it."""
        form = await self.http.get("/desk/login")
        return await self.http.post("/desk/login", data={"csrf": token_of(form.text), "key": key, **fields})


class _Lenient(httpx.AsyncHTTPTransport):
    """Keeps cookies for https over http, which the tests speak."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await super().handle_async_request(request)
        answer.headers = httpx.Headers([(k, v.replace("; Secure", "")) for k, v in answer.headers.multi_items()])
        return answer


@asynccontextmanager
async def browsing(
    live: Running, key: str | None = KEY, *, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Browser]:
    """A browser of its own, logged in with a key unless that is None."""
    async with httpx.AsyncClient(base_url=live.url, headers=headers, timeout=10, transport=_Lenient()) as http:
        browser = Browser(http)
        if key is not None:
            answer = await browser.log_in(key)
            assert answer.status_code == 303, answer.text
        yield browser


def token_of(page: str) -> str:
    """The token in a page's forms."""
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None, page[:300]
    return unescape(found[1])


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)


def words(page: str) -> str:
    """The text of a page."""
    parser = _Words()
    parser.feed(page)
    return " ".join(" ".join(parser.found).split())


def tags(page: str) -> list[tuple[str, dict[str, str | None]]]:
    """Every element of a page, with its attributes."""
    found: list[tuple[str, dict[str, str | None]]] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, dict(attrs)))

    Tags().feed(page)
    return found
