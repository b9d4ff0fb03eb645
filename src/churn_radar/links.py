"""Where people look: the addresses that messages link to. Pure."""

from __future__ import annotations

from urllib.parse import quote


def brief_page(public_url: str | None, brief_id: str) -> str | None:
    """The page of a brief as users reach it; None where the settings do not say how the pages are reached."""
    return None if public_url is None else f"{public_url}/desk/briefs/{quote(brief_id, safe='')}"


def briefs_page(public_url: str | None) -> str | None:
    """The page that lists all briefs."""
    return None if public_url is None else f"{public_url}/desk/briefs"
