"""Today: what is at risk, what came in, what waits and why; and the same live."""

from __future__ import annotations

from collections.abc import AsyncIterable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Request
from fastapi.responses import HTMLResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from churn_radar.api.readiness import Credits
from churn_radar.api.signals import SignalSummary, record_of, summarise
from churn_radar.store.at_risk import Risk, RiskNow, day_of, risk_since
from churn_radar.store.brief_search import Wanted, search_briefs
from churn_radar.store.sessions import which_ended
from churn_radar.store.signals import list_signals
from churn_radar.store.waits import Waits, what_waits
from churn_radar.web.base import fragment, page
from churn_radar.web.failures import ENDED
from churn_radar.web.guard import PageRoute, Reader
from churn_radar.web.plots import day_plot, ranking
from churn_radar.work.live import LONGEST_SECONDS, LoggedOut

router = APIRouter(route_class=PageRoute)

NEWEST = 12
DEAREST = 6
PERSONAS = 6


@dataclass(frozen=True, slots=True)
class Sums:
    """The figures on top of the page."""

    total: Risk
    waits: Waits
    credits: Credits | None


@dataclass(frozen=True)
class Reading:
    """What the page, and who watches it, is shown; `service` is the running one."""

    service: Any

    async def signals(self) -> Sequence[SignalSummary]:
        """The newest signals and where they stand."""
        async with self.service.record.read() as connection:
            found = await list_signals(connection, status=None, after=None, limit=NEWEST)
            return await summarise(connection, found, self.service.settings.help_url)

    async def sums(self) -> Sums:
        """What is at risk, what waits, what the month has cost."""
        async with self.service.record.read() as connection:
            return await self._sums(await self._risk(connection), await what_waits(connection))

    async def ended(self, sessions: Collection[str]) -> Collection[str]:
        """Those of these log-ins that somebody has logged out of."""
        if not sessions:
            return ()
        async with self.service.record.read() as connection:
            return await which_ended(connection, sessions)

    async def all(self) -> tuple[Sums, RiskNow]:
        """The same, with what the plots are made of."""
        async with self.service.record.read() as connection:
            risk, waits = await self._risk(connection), await what_waits(connection)
        return await self._sums(risk, waits), risk

    @property
    def first_day(self) -> int:
        """The first day whose briefs may still be at risk."""
        days: int = self.service.settings.at_risk_days
        return day_of(self.service.now()) - days + 1

    async def _risk(self, connection: Any) -> RiskNow:
        return await risk_since(connection, self.first_day, currency=self.service.settings.currency)

    async def _sums(self, risk: RiskNow, waits: Waits) -> Sums:
        shown = await self.service.balance.read()
        over = self.service.settings.budget.over_budget_mrr
        return Sums(risk.total, waits, Credits.of(shown, over_budget_mrr=over) if shown else None)


@router.get("/desk/today", name="today")
async def show_today(request: Request, visitor: Reader) -> HTMLResponse:
    """The page."""
    service = request.app.state.service
    reading = Reading(service)
    sums, risk = await reading.all()
    since = service.now() - timedelta(days=service.settings.at_risk_days)
    async with record_of(request).read() as connection:
        dearest = await search_briefs(connection, Wanted(at_risk=True, since=since), after=None, limit=DEAREST)
    last = day_of(service.now())
    first = min(reading.first_day, last - 6)
    return page(
        request,
        "today.html",
        visitor=visitor,
        sums=sums,
        dearest=dearest.lines,
        plot=day_plot(
            {day: (each.mrr / 100, each.open_mrr / 100) for day, each in risk.days.items()}, first=first, last=last
        ),
        personas=ranking(_open(risk.personas), most=PERSONAS),
        kinds=ranking(_open(risk.kinds), most=PERSONAS),
        items=await reading.signals(),
        **_around(request),
    )


def _open(sums: dict[str, Risk]) -> dict[str, tuple[float, int]]:
    return {name: (each.open_mrr / 100, each.open_briefs) for name, each in sums.items()}


def _around(request: Request) -> dict[str, Any]:
    """What the parts that change need besides."""
    service = request.app.state.service
    troubles = service.worker.floor.troubles.standing if service.worker else ()
    return {
        "currency": service.settings.currency,
        "days": service.settings.at_risk_days,
        "troubles": [trouble.service for trouble in troubles],
        "rates": [rate for rate in service.rates() if rate.held_seconds > 0 or rate.in_force < rate.limit],
    }


def room_to_watch(request: Request) -> None:
    """Raise 503 when as many watch already as may; their browsers ask again."""
    if request.app.state.service.live.is_full:
        raise HTTPException(503, "too many are watching; the page still shows how it stood", {"Retry-After": "30"})


@router.get("/desk/live", name="live", response_class=EventSourceResponse, dependencies=[Depends(room_to_watch)])
async def watch(
    request: Request, visitor: Reader, last_event_id: Annotated[str | None, Header(max_length=100)] = None
) -> AsyncIterable[ServerSentEvent]:
    """The parts of the page that change, as they change, for as long as the log-in holds."""
    service, session = request.app.state.service, visitor.session
    watching = service.live.watch(
        last_event_id,
        session=session.id if session else None,
        longest=service.sessions.seconds_left(session, service.now()) if session else LONGEST_SECONDS,
    )
    try:
        async for state in watching:
            around = _around(request)
            figures = fragment(request, "today_figures.html", visitor=visitor, sums=state.sums, **around)
            rows = fragment(request, "today_rows.html", visitor=visitor, items=state.signals, **around)
            yield ServerSentEvent(raw_data=figures, event="figures")
            yield ServerSentEvent(raw_data=rows, event="signals", id=state.version)
    except LoggedOut:
        yield ServerSentEvent(raw_data="", event=ENDED)
