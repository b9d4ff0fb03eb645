"""One brief: what is known of the account, what to do about it, and what became of it; and what Mave was told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from churn_radar.api.signals import record_of
from churn_radar.outcome.rules import Outcome
from churn_radar.research.brief import Brief
from churn_radar.research.mails import split_mails
from churn_radar.research.prompt import ASKS
from churn_radar.research.timing import moments
from churn_radar.store.at_risk import is_at_risk
from churn_radar.store.briefs import brief_seq_of, load_brief, prompt_of
from churn_radar.store.deliveries import deliveries_of
from churn_radar.store.signals import history, signals_of_brief
from churn_radar.triage.consent import MayMail
from churn_radar.web.base import page
from churn_radar.web.guard import PageRoute, Reader
from churn_radar.web.markdown import as_html, as_text, parts_of

router = APIRouter(route_class=PageRoute)

UNKNOWN = "there is no such brief"
MOST_SIGNALS = 20
# Above this a text is rendered beside the event loop: hostile Markdown takes its time.
_SHORT = 8_000
_INTRODUCTION_CHARACTERS = 2_000
_HEADING = re.compile(r"^(?:#{1,6}[ \t]|\*\*[^*\n]{1,120}\*\*:?[ \t]*$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ShownMail:
    """A win-back mail as it is read, and as it is copied: text, and HTML as source."""

    title: str
    subject: str | None
    html: Markup
    text: str


@dataclass(frozen=True, slots=True)
class ShownSection:
    """One of the six answers; `html` is None where the brief does not show it."""

    key: str
    heading: str
    html: Markup | None
    mails: Sequence[ShownMail] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """The text of a brief in the pieces that its page shows; `parts` is in how many pieces the whole comes."""

    introduction: Markup | None
    sections: Sequence[ShownSection]
    parts: int

    @property
    def is_whole(self) -> bool:
        """Whether the brief could be told apart into sections at all."""
        return any(section.html is not None for section in self.sections)


def shown_brief(brief: Brief) -> Shown:
    """A brief's Markdown as HTML, section by section. Pure."""
    told = brief.sections.model_dump()
    sections = [_section(ask.key, ask.heading, told[ask.key], brief) for ask in ASKS]
    start = _HEADING.search(brief.research_brief[:_INTRODUCTION_CHARACTERS])
    introduction = brief.research_brief[: start.start()].strip() if start else ""
    return Shown(_html(introduction, brief) if introduction else None, sections, len(parts_of(brief.research_brief)))


def _html(markdown: str, brief: Brief) -> Markup:
    return as_html(markdown, sources=len(brief.sources), claims=brief.unsupported_claims)


def _section(key: str, heading: str, markdown: str | None, brief: Brief) -> ShownSection:
    if markdown is None:
        return ShownSection(key, heading, None)
    if key != "winback_emails":
        return ShownSection(key, heading, _html(markdown, brief))
    split = split_mails(markdown)
    return ShownSection(
        key,
        heading,
        _html(split.introduction, brief),
        [ShownMail(m.title, m.subject, as_html(m.body), as_text(m.body)) for m in split.mails],
    )


@router.get("/desk/briefs/{brief_id}", name="brief")
async def show_brief(request: Request, visitor: Reader, brief_id: str) -> HTMLResponse:
    """One brief with everything that is known about it."""
    async with record_of(request).read() as connection:
        seq = await brief_seq_of(connection, brief_id)
        stored = await load_brief(connection, seq) if seq is not None else None
        if seq is None or stored is None:
            raise HTTPException(404, UNKNOWN)
        signals = await signals_of_brief(connection, seq, limit=MOST_SIGNALS)
        story = await history(connection, signals[0]) if signals else []
        deliveries = await deliveries_of(connection, seq)
        at_risk = await is_at_risk(connection, seq)
    brief = stored.brief
    if len(brief.research_brief) > _SHORT:
        shown = await asyncio.to_thread(shown_brief, brief)
    else:
        shown = shown_brief(brief)
    return page(
        request,
        "brief.html",
        visitor=visitor,
        brief=brief,
        seq=seq,
        shown=shown,
        moments=moments(brief.sections.timing, brief.signal_received_at),
        signals=signals,
        story=story,
        deliveries=deliveries,
        is_at_risk=at_risk,
        may_send=brief.consent.may_mail is MayMail.ANYTHING,
        outcomes=list(Outcome),
        can_replay=bool(signals),
    )


@router.get("/desk/briefs/{brief_id}/text", name="brief_text")
async def show_text(
    request: Request, visitor: Reader, brief_id: str, part: Annotated[int, Query(ge=1, le=10_000)] = 1
) -> HTMLResponse:
    """The whole text as it came, a piece at a time: it may be very long."""
    brief = await _brief(request, brief_id)
    parts = parts_of(brief.research_brief)
    if part > len(parts):
        raise HTTPException(404, "the brief is not as long as that")
    html = await asyncio.to_thread(_html, parts[part - 1], brief)
    return page(request, "brief_text.html", visitor=visitor, brief=brief, html=html, part=part, parts_count=len(parts))


@router.get("/desk/briefs/{brief_id}/told", name="brief_told")
async def show_told(request: Request, visitor: Reader, brief_id: str) -> HTMLResponse:
    """The exact prompt, for whoever must vouch that no name, address or id has left the house."""
    brief = await _brief(request, brief_id)
    async with record_of(request).read() as connection:
        prompt = await prompt_of(connection, brief_id)
    return page(request, "brief_told.html", visitor=visitor, brief=brief, prompt=prompt)


async def _brief(request: Request, brief_id: str) -> Brief:
    async with record_of(request).read() as connection:
        seq = await brief_seq_of(connection, brief_id)
        stored = await load_brief(connection, seq) if seq is not None else None
    if stored is None:
        raise HTTPException(404, UNKNOWN)
    return stored.brief
