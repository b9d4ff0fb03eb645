"""The quarantine as an operator keeps it: how full it is, dropping, exporting, bringing back.

Listing, showing and replaying quarantined bodies is done as with every other signal: `GET /signals?status=quarantined`,
`GET /signals/{event_id}`, `POST /signals/replay`.
"""

from __future__ import annotations

from typing import Annotated, Self

from fastapi import APIRouter, Body, Depends, HTTPException, Request
from pydantic import BaseModel, Field, model_validator

from churn_radar.api.audit import named, note
from churn_radar.api.auth import KeyedRoute, Operator, require_key
from churn_radar.api.errors import documented
from churn_radar.api.replays import MOST, Conditions, chosen
from churn_radar.api.signals import record_of
from churn_radar.store.signals import Signal
from churn_radar.store.tables import Status
from churn_radar.work.quarantine import Quarantine
from churn_radar.work.selection import Selection

router = APIRouter(
    prefix="/quarantine", tags=["quarantine"], dependencies=[Depends(require_key)], route_class=KeyedRoute
)


class QuarantineState(BaseModel):
    """How full the quarantine is."""

    bodies: int = Field(description="Bodies that the record keeps.")
    bytes: int = Field(description="Their size together.")
    max_bytes: int = Field(description="Beyond this the oldest are exported (CHURN_RADAR_QUARANTINE_MAX_MEGABYTES).")
    exports: dict[str, int] = Field(description="Files that bodies were exported to, with their sizes in bytes.")


class Chosen(Conditions):
    """Which quarantined bodies: by their ids, by conditions, or `all` of them."""

    event_ids: list[str] = Field(default_factory=list, max_length=MOST)
    all: bool = Field(False, description="Every one; what is left out otherwise chooses nothing.")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.event_ids or self.all or self._has_conditions):
            raise ValueError("name event_ids, a reason or a time; or say all")
        return self

    @property
    def _has_conditions(self) -> bool:
        return any(condition is not None for condition in (self.reason, self.since, self.until))

    @property
    def selection(self) -> Selection | None:
        """What it selects beyond the ids."""
        if not (self.all or self._has_conditions):
            return None
        return Selection(Status.QUARANTINED, self.reason, since=self.since, until=self.until)


class TakenOut(BaseModel):
    """What was dropped or exported."""

    count: int = Field(description="How many bodies; with dry_run, how many it would be.")
    file: str | None = Field(None, description="The file, in the quarantine's folder, that they were exported to.")
    unknown: list[str] = Field(description="Ids of which nothing is known.")
    not_quarantined: list[str] = Field(description="Ids of signals that are not in quarantine; they stay as they are.")
    cursor: str | None = Field(description="Pass it on, with the same conditions, to go on; null at the end.")


class ImportRequest(BaseModel):
    """Which exported file to bring back."""

    file: str = Field(max_length=255, description="Its name; it has to lie in the quarantine's folder.")
    offset: int = Field(0, ge=0, lt=2**63, description="From the previous answer: where that one ended, in bytes.")


class Imported(BaseModel):
    """What came of a part of an exported file."""

    brought_back: int = Field(description="Bodies that are quarantined again.")
    already_here: int = Field(description="Bodies that the record has, read or not; left as they are.")
    kept_out: int = Field(description="Bodies that name somebody who was forgotten; they stay out.")
    unreadable: int = Field(description="Lines that are no exported body, such as one cut short by a crash.")
    offset: int | None = Field(description="Pass it on to read further; null at the end.")


def _quarantine(request: Request) -> Quarantine:
    quarantine: Quarantine = request.app.state.service.quarantine
    return quarantine


async def _pick(request: Request, wanted: Chosen) -> tuple[list[Signal], TakenOut]:
    found, unknown, cursor = await chosen(record_of(request), wanted.event_ids, wanted.selection, wanted)
    picked = {signal.seq: signal for signal in found if signal.status is Status.QUARANTINED}
    others = [signal.public_id for signal in found if signal.status is not Status.QUARANTINED]
    return list(picked.values()), TakenOut(
        count=len(picked), file=None, unknown=unknown, not_quarantined=others, cursor=cursor
    )


@router.get("", summary="How full the quarantine is", responses=documented(401, 422, 503))
async def read_quarantine(request: Request) -> QuarantineState:
    """Bodies and bytes in the record, the bound, and the files that the oldest were exported to."""
    quarantine = _quarantine(request)
    bodies, size = await quarantine.size()
    return QuarantineState(bodies=bodies, bytes=size, max_bytes=quarantine.max_bytes, exports=quarantine.exports())


@router.post("/drop", summary="Delete quarantined bodies for good", responses=documented(400, 401, 403, 413, 422, 503))
async def drop(request: Request, who: Operator, wanted: Annotated[Chosen, Body()]) -> TakenOut:
    """Delete bodies; their events stay known, as `skipped`, so that a retry by Customer.io is no news.

    At most 1,000 a call; go on with the `cursor`.
    """
    picked, told = await _pick(request, wanted)
    if wanted.dry_run:
        return told
    await note(request, who, "drop", named([signal.signal_id for signal in picked]))
    gone = await _quarantine(request).drop([signal.seq for signal in picked])
    return told.model_copy(update={"count": len(gone)})


@router.post("/export", summary="Move quarantined bodies to a file", responses=documented(400, 401, 403, 413, 422, 503))
async def export(request: Request, who: Operator, wanted: Annotated[Chosen, Body()]) -> TakenOut:
    """Write bodies to a file of JSON lines in the quarantine's folder, sync it, then delete them from the record.

    At most 1,000 a call; go on with the `cursor`.
    """
    picked, told = await _pick(request, wanted)
    if wanted.dry_run:
        return told
    await note(request, who, "export", named([signal.signal_id for signal in picked]))
    try:
        count, file = await _quarantine(request).export([signal.seq for signal in picked])
    except OSError as error:
        raise HTTPException(503, f"the export cannot be written: {error.strerror}; nothing was deleted") from None
    return told.model_copy(update={"count": count, "file": file})


@router.post("/import", summary="Bring exported bodies back", responses=documented(401, 403, 413, 422, 503))
async def bring_back(request: Request, who: Operator, wanted: Annotated[ImportRequest, Body()]) -> Imported:
    """Quarantine the bodies of an exported file again, a part of the file a call; go on with the `offset`.

    Doing it twice does what once does: each is known by its key. Replay them afterwards.
    """
    await note(request, who, "import", wanted.file, f"from byte {wanted.offset:,} on")
    try:
        done = await _quarantine(request).bring_back(wanted.file, offset=wanted.offset)
    except FileNotFoundError:
        raise HTTPException(422, "there is no such file in the quarantine's folder") from None
    except OSError as error:
        raise HTTPException(503, f"the file cannot be read: {error.strerror}") from None
    return Imported(
        brought_back=done.brought_back,
        already_here=done.already_here,
        kept_out=done.kept_out,
        unreadable=done.unreadable,
        offset=done.offset,
    )
