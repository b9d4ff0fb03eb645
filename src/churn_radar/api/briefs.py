"""Reading briefs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Request
from pydantic import BaseModel, Field

from churn_radar.api.auth import KeyedRoute, require_key
from churn_radar.api.errors import documented
from churn_radar.api.pages import Cursor, Limit, cursor_of, read_cursor
from churn_radar.research.brief import Brief
from churn_radar.store.briefs import list_briefs
from churn_radar.store.customers import customers_named
from churn_radar.store.record import Record
from churn_radar.store.signals import CustomerNames, any_signal, pending_count

router = APIRouter(tags=["briefs"], dependencies=[Depends(require_key)], route_class=KeyedRoute)


class CustomerBriefs(BaseModel):
    """Everything there is to read about one customer."""

    customer_id: str = Field(description="The customer, as known to the workspace; else as asked.")
    items: list[Brief] = Field(description="Newest first.")
    pending: int = Field(description="Signals of this customer that are still under way.")


class BriefPage(BaseModel):
    """Some briefs, newest first."""

    items: list[Brief]
    cursor: str | None = Field(description="Pass it on to read further; null at the end.")


def _record(request: Request) -> Record:
    record: Record = request.app.state.service.record
    return record


@router.get("/briefs", summary="All briefs, newest first", responses=documented(400, 401, 422, 503))
async def read_briefs(request: Request, limit: Limit = 50, cursor: Cursor = None) -> BriefPage:
    """One page of briefs. Continue with the `cursor` of the answer."""
    async with _record(request).read() as connection:
        stored = await list_briefs(connection, before=read_cursor(cursor), limit=limit + 1)
    more = len(stored) > limit
    return BriefPage(
        items=[entry.brief for entry in stored[:limit]],
        cursor=cursor_of(stored[limit - 1].seq) if more else None,
    )


@router.get(
    "/briefs/{customer_id:path}",
    summary="The briefs of one customer",
    responses=documented(401, 404, 422, 503),
)
async def read_customer_briefs(
    request: Request,
    customer_id: Annotated[
        str,
        Path(description="The workspace's id, the cio_id or the mail address; URL-encode what needs it."),
    ],
    limit: Limit = 50,
) -> CustomerBriefs:
    """Briefs of one customer, newest first, and how many of their signals are still under way."""
    async with _record(request).read() as connection:
        seqs = await customers_named(connection, customer_id)
        names = CustomerNames(customer_id, seqs)
        pending = await pending_count(connection, names)
        stored = await list_briefs(connection, customer_seqs=seqs, limit=limit) if seqs else []
        if not seqs and not pending and not await any_signal(connection, names):
            raise HTTPException(404, "nothing is known of this customer")
    known_as = stored[0].brief.customer_id if stored else customer_id
    return CustomerBriefs(customer_id=known_as, items=[entry.brief for entry in stored], pending=pending)
