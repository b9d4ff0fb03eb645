"""Is it our own page that sends this change? Pure.

Beside the token of the form: a browser says where a request comes from, in `Sec-Fetch-Site` (where the page is served
by https or from this machine) and in `Origin`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit


def comes_from_here(headers: Mapping[str, str], names: Collection[str]) -> bool:
    """Whether a change may come from one of our pages; `names` are the hosts (with port) that we are reached by.

    A client that says neither is no browser, and holds the token or does not.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() in {name.lower() for name in names if name}
    except ValueError:
        return False


def next_page(wanted: str | None) -> str:
    """Where to go after the log-in: a page of ours, named by its path, or the first page."""
    if wanted and wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable():
        return wanted
    return "/"
