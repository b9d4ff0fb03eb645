"""What came of it all: outcomes by persona, kind of event and offer, without names."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from churn_radar.api.auth import KeyedRoute, require_key
from churn_radar.api.errors import documented
from churn_radar.api.signals import record_of
from churn_radar.outcome.counting import day_number, day_of
from churn_radar.outcome.rules import Outcome
from churn_radar.outcome.summary import Counts
from churn_radar.store.outcome_sums import Figures, read_figures

router = APIRouter(tags=["outcomes"], dependencies=[Depends(require_key)], route_class=KeyedRoute)

LONGEST_DAYS = 3660
MOST_PERSONAS = 200


class OutcomeCounts(BaseModel):
    """The briefs of one persona, kind or offer, in one currency."""

    value: str = Field(description="The persona, kind or offer; empty: of all, or of briefs that show no offer.")
    currency: str
    briefs: int
    open: int = Field(description="Nobody has said anything of these yet.")
    contacted: int
    saved: int
    lost: int
    not_a_risk: int
    saved_share: float | None = Field(description="Saved among saved and lost, 0 to 1; null before the first.")
    mrr: float = Field(description="MRR of all these briefs, a month.")
    mrr_saved: float
    mrr_lost: float
    credits: int = Field(description="Mavera credits that these briefs cost.")
    customers_contacted: int = Field(description="Briefs of which `contacted` or `saved` was ever said.")
    contacted_within_hour: int = Field(description="Those of them so soon after the signal.")
    contacted_within_day: int
    contacted_within_week: int
    mean_hours_to_contact: float | None = Field(description="From the signal; null when nobody was contacted.")

    @classmethod
    def of(cls, counts: Counts) -> OutcomeCounts:
        """As it is told."""
        total = counts.total
        hours = counts.mean_hours_to_contact
        return cls(
            value=counts.value,
            currency=counts.currency,
            briefs=total.briefs,
            open=counts.of(None).briefs,
            **{outcome.value: counts.of(outcome).briefs for outcome in Outcome},
            saved_share=counts.saved_share,
            mrr=total.mrr,
            mrr_saved=counts.of(Outcome.SAVED).mrr,
            mrr_lost=counts.of(Outcome.LOST).mrr,
            credits=total.credits,
            customers_contacted=total.contacts,
            contacted_within_hour=total.within_hour,
            contacted_within_day=total.within_day,
            contacted_within_week=total.within_week,
            mean_hours_to_contact=round(hours, 2) if hours is not None else None,
        )


class OutcomeSummary(BaseModel):
    """The outcomes of the briefs of some days. A brief counts on the day it was written, whenever its end was told."""

    first_day: date = Field(description="UTC, included.")
    last_day: date = Field(description="UTC, included.")
    credits_spent: int = Field(description="Mavera credits of these days by the ledger, those without a brief too.")
    total: list[OutcomeCounts] = Field(description="One entry for each currency.")
    by_persona: list[OutcomeCounts] = Field(description="Most MRR first.")
    by_kind: list[OutcomeCounts]
    by_offer: list[OutcomeCounts] = Field(description="The offer that a brief names first, by a short name of ours.")


async def figures_of_days(request: Request, days: int) -> tuple[Figures, int, int]:
    """The figures of the last so many days, today included, with the first and the last day's number."""
    last = day_number(request.app.state.service.now())
    first = last - days + 1
    async with record_of(request).read() as connection:
        return await read_figures(connection, first_day=first, last_day=last), first, last


@router.get(
    "/outcomes/summary",
    summary="Outcomes by persona, kind and offer",
    responses=documented(401, 422, 503),
)
async def read_summary(
    request: Request,
    days: Annotated[int, Query(ge=1, le=LONGEST_DAYS, description="Briefs of the last so many days, UTC.")] = 90,
) -> OutcomeSummary:
    """Counts, MRR saved and lost against credits spent, and how soon customers were spoken to. No names are in it."""
    figures, first, last = await figures_of_days(request, days)
    return OutcomeSummary(
        first_day=day_of(first),
        last_day=day_of(last),
        credits_spent=figures.credits_spent,
        total=[OutcomeCounts.of(each) for each in figures.total],
        by_persona=[OutcomeCounts.of(each) for each in figures.by_persona[:MOST_PERSONAS]],
        by_kind=[OutcomeCounts.of(each) for each in figures.by_kind],
        by_offer=[OutcomeCounts.of(each) for each in figures.by_offer],
    )
