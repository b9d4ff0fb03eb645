"""Who changed what: the trail, and how a route adds to it.

A line is written before the change is made: nothing is changed that is not in the trail. It tells what was asked for; a
change that then fails leaves its line, and the log says why it failed.
"""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from churn_radar.access import Who
from churn_radar.api.auth import KeyedRoute, require_operator
from churn_radar.api.errors import documented
from churn_radar.api.pages import Cursor, Limit, cursor_of, read_cursor
from churn_radar.store.audit import Change, list_changes, write_change
from churn_radar.triage.text import clean_text, hide_mail

router = APIRouter(tags=["audit"], dependencies=[Depends(require_operator)], route_class=KeyedRoute)

NAMED_AT_MOST = 5
# Five ids, or the name of a file; longer is only what somebody made up.
LONGEST = 500


class AuditLine(BaseModel):
    """One change."""

    at: datetime
    who: str = Field(description="The fingerprint of an API key (`printf %s KEY | sha256sum`), or a proxy's user.")
    via: str = Field(
        description="page, api, link, or command: by one that had the record to itself. One beside a running service "
        "comes by its API, as anybody with the key may, and is called that."
    )
    action: str = Field(description="What was asked for: replay, drop, export, import, post event, log in, ...")
    subject: str | None = Field(description="Ids of what it was done to; never of customers.")
    detail: str | None


class AuditPage(BaseModel):
    """Some lines of the trail, newest first."""

    items: list[AuditLine]
    cursor: str | None = Field(description="Pass it on to read further; null at the end.")


@router.get("/audit", summary="Who changed what", responses=documented(400, 401, 403, 422, 503))
async def read_audit(request: Request, limit: Limit = 50, cursor: Cursor = None) -> AuditPage:
    """One page of the audit trail, newest first; for operators. Continue with the `cursor` of the answer."""
    async with request.app.state.service.record.read() as connection:
        found = await list_changes(connection, before=read_cursor(cursor), limit=limit + 1)
    return AuditPage(
        items=[AuditLine.model_validate(stored.change, from_attributes=True) for stored in found[:limit]],
        cursor=cursor_of(found[limit - 1].seq) if len(found) > limit else None,
    )


async def note(
    request: Request, who: Who, action: str, subject: str | None = None, detail: str | None = None, *, via: str = "api"
) -> None:
    """Write down who asks for what, before it is done; raises RecordUnavailable, and then it must not be done.

    Ids of customers, secrets and what people typed do not belong here; see `churn_radar.store.audit.Change`. Ids that
    come in a path may be anything all the same: no mail address, nothing long, and nothing that a database does not
    take gets into the trail.
    """
    service = request.app.state.service
    # What a request says of itself anybody can say; that nobody can reach this process but its command, it knows.
    if via == "api" and service.is_command:
        via = "command"
    change = Change(service.now(), who.name, via, action, _fit(subject), _fit(detail))
    await service.record.write(lambda connection: write_change(connection, change))


def _fit(text: str | None) -> str | None:
    line = clean_text(text, LONGEST)
    return None if line is None else hide_mail(line)


def named(ids: list[str]) -> str | None:
    """Several ids as one subject: the first of them, and how many more."""
    if not ids:
        return None
    more = len(ids) - NAMED_AT_MOST
    return ", ".join(ids[:NAMED_AT_MOST]) + (f" and {more:,} more" if more > 0 else "")
