"""docs/what-to-do.md as a page, and its sections where dead letters are shown.

The file lies in this room as well, since a wheel holds no docs; a test keeps the two alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from markdown_it import MarkdownIt
from markupsafe import Markup

from churn_radar.web.base import page
from churn_radar.web.guard import PageRoute, Reader

router = APIRouter(route_class=PageRoute)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what is below it, as HTML."""

    title: str
    html: Markup


@cache
def sections() -> Mapping[str, Section]:
    """The sections by their anchors, in the order of the file; the first, without a heading, is at the empty one."""
    text = (resources.files("churn_radar.web") / "what-to-do.md").read_text(encoding="utf-8")
    render = MarkdownIt("commonmark", {"html": False}).render
    first, *rest = re.split(r"^## ", text.partition("\n")[2], flags=re.MULTILINE)
    # Our own text, in which no HTML is let through.
    found = {"": Section("What to do about a dead letter", Markup(render(first)))}  # noqa: S704
    for part in rest:
        title, _, body = part.partition("\n")
        anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        found[anchor] = Section(title, Markup(render(body)))  # noqa: S704
    return found


@router.get("/desk/help", name="help")
async def show_help(request: Request, visitor: Reader) -> HTMLResponse:
    """All of it."""
    return page(request, "help.html", visitor=visitor, sections=sections())
