"""Starting the work on stored signals again: one, several by their ids, or all that fit a selection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Body, Depends, HTTPException, Query, Request, Response
from pydantic import AfterValidator, BaseModel, Field, model_validator

from churn_radar.api.audit import named, note
from churn_radar.api.auth import KeyedRoute, Operator, require_key
from churn_radar.api.errors import documented
from churn_radar.api.pages import cursor_of, read_cursor
from churn_radar.api.signals import UNKNOWN, EventId, help_of, record_of
from churn_radar.store.record import Record
from churn_radar.store.signals import Signal, find_signal
from churn_radar.store.tables import Status
from churn_radar.work.replay import Replayed
from churn_radar.work.selection import STATUS_PATTERN, Selection, in_utc, select_page

router = APIRouter(tags=["signals"], dependencies=[Depends(require_key)], route_class=KeyedRoute)

MOST = 1000

Moment = Annotated[datetime, AfterValidator(in_utc)]


class Conditions(BaseModel):
    """Which signals of a status are meant; what is left out is no condition."""

    reason: str | None = Field(
        None, min_length=1, max_length=200, description="Found anywhere in the signal's reason, in whatever case."
    )
    since: Moment | None = Field(
        None, description="Received at this time or later (ISO 8601; UTC unless it says otherwise)."
    )
    until: Moment | None = Field(None, description="Received before this time.")
    cursor: str | None = Field(
        None, max_length=100, description="From the previous answer: continues where that one ended."
    )
    limit: int = Field(MOST, ge=1, le=MOST, description="How many to take at most in this call.")
    dry_run: bool = Field(False, description="Change nothing; only tell what would be done.")

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.since and self.until and self.since > self.until:
            raise ValueError("since is later than until")
        return self


class ReplayRequest(Conditions):
    """Which signals to replay: by their ids, or all of one status that fit the conditions."""

    event_ids: list[str] = Field(default_factory=list, max_length=MOST)
    status: Status | None = Field(None, description="All that stand here: dead, quarantined, skipped, ...")
    failed_service: Literal["customerio", "mavera"] | None = Field(
        None, description="Of dead letters: the service that they died of."
    )
    failed_status: str | None = Field(
        None,
        pattern=STATUS_PATTERN,
        description="Of dead letters: what that service answered last: 503, 5xx, or none where no answer came.",
    )
    force: bool = Field(False, description="Research anew even where a brief is there, and set the cool-down aside.")

    @model_validator(mode="after")
    def _conditions_of_something(self) -> Self:
        conditions = (self.reason, self.since, self.until, self.failed_service, self.failed_status, self.cursor)
        if self.status is None and any(condition is not None for condition in conditions):
            raise ValueError("conditions choose among the signals of one status; name the status")
        return self

    @property
    def selection(self) -> Selection | None:
        """What it selects beyond the ids."""
        if self.status is None:
            return None
        return Selection(self.status, self.reason, self.failed_service, self.failed_status, self.since, self.until)


class ReplayAnswer(BaseModel):
    """What a replay leads to."""

    id: str
    event_id: str
    status: Status = Field(description="Where the signal stands now.")
    effect: str = Field(description="What the replay does, in words.")


class EffectCount(BaseModel):
    """How many replays have one effect, and of dead letters one cause."""

    status: Status
    effect: str
    help: str | None = Field(description="Of dead letters: where to read what they died of, and what to do first.")
    count: int


class ReplayAnswers(BaseModel):
    """What a replay of several leads to."""

    replayed: list[ReplayAnswer] = Field(description="Each one; empty when nothing was changed (dry_run).")
    counts: list[EffectCount] = Field(description="The same by status and effect, the most frequent first.")
    unknown: list[str] = Field(description="Ids of which nothing is known.")
    cursor: str | None = Field(description="Pass it on, with the same conditions, to go on; null at the end.")


ONLY_TOLD: dict[int | str, dict[str, Any]] = {
    200: {"model": ReplayAnswers, "description": "Told only (dry_run); nothing was changed."}
}


async def find_all(record: Record, event_ids: Iterable[str]) -> tuple[list[Signal], list[str]]:
    """The signals of these ids, in order, and the ids of which nothing is known."""
    found: list[Signal] = []
    unknown: list[str] = []
    async with record.read() as connection:
        for event_id in event_ids:
            signal = await find_signal(connection, event_id)
            if signal is None:
                unknown.append(event_id)
            else:
                found.append(signal)
    return found, unknown


async def chosen(
    record: Record, event_ids: Sequence[str], selection: Selection | None, conditions: Conditions
) -> tuple[list[Signal], list[str], str | None]:
    """The signals that a request is about, the unknown of its ids, and the cursor to go on with."""
    found: list[Signal] = []
    unknown: list[str] = []
    after = read_cursor(conditions.cursor)
    if after is None:
        # Once, not with each page of the selection.
        found, unknown = await find_all(record, event_ids)
    further: int | None = None
    if selection is not None:
        page, further = await select_page(record, selection, after=after or 0, most=conditions.limit)
        found += page
    return found, unknown, cursor_of(further) if further is not None else None


def _answer(signal: Signal, replayed: Replayed) -> ReplayAnswer:
    return ReplayAnswer(id=signal.signal_id, event_id=signal.public_id, status=replayed.status, effect=replayed.effect)


@router.post(
    "/signals/replay",
    status_code=202,
    summary="Start the work on several signals again",
    responses={**ONLY_TOLD, **documented(400, 401, 403, 413, 422, 503)},
)
async def replay_signals(
    request: Request, response: Response, who: Operator, wanted: Annotated[ReplayRequest, Body()]
) -> ReplayAnswers:
    """Replay signals by their ids, or those of one status that fit the conditions, at most 1,000 a call.

    Go on with the `cursor` of the answer until there is none; a page of a narrow selection may be empty. After an
    outage, for example: `{"status": "dead", "failed_service": "mavera", "failed_status": "5xx", "since":
    "2026-11-24T10:00:00Z"}`. With `dry_run` nothing is changed, and `counts` tells what would be done.
    """
    service = request.app.state.service
    signals, unknown, cursor = await chosen(record_of(request), wanted.event_ids, wanted.selection, wanted)
    if signals and not wanted.dry_run:
        await note(
            request, who, "replay", named([s.signal_id for s in signals]), "with force" if wanted.force else None
        )
    done = await service.replay_all(signals, force=wanted.force, dry_run=wanted.dry_run)
    if wanted.dry_run:
        response.status_code = 200
    counts = Counter(
        (replayed.status, replayed.effect, help_of(signal, request.app.state.service.settings.help_url))
        for signal, replayed in zip(signals, done, strict=True)
    )
    return ReplayAnswers(
        replayed=[] if wanted.dry_run else [_answer(*pair) for pair in zip(signals, done, strict=True)],
        counts=[
            EffectCount(status=status, effect=effect, help=help_, count=count)
            for (status, effect, help_), count in counts.most_common()
        ],
        unknown=unknown,
        cursor=cursor,
    )


@router.post(
    "/signals/{event_id:path}/replay",
    status_code=202,
    summary="Start the work on a signal again",
    responses=documented(401, 403, 404, 422, 503, not_found=UNKNOWN),
)
async def replay_signal(
    request: Request,
    who: Operator,
    event_id: EventId,
    force: Annotated[bool, Query(description="Research anew even where a brief is there already.")] = False,
) -> ReplayAnswer:
    """Take a dead letter, a skipped or a quarantined signal up again. Replaying twice does what once does."""
    async with record_of(request).read() as connection:
        signal = await find_signal(connection, event_id)
    if signal is None:
        raise HTTPException(404, UNKNOWN)
    await note(request, who, "replay", signal.signal_id, "with force" if force else None)
    return _answer(signal, await request.app.state.service.replay(signal, force=force))
