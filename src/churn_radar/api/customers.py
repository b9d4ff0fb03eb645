"""Everything that is held on one person: shown to an operator, or erased."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from pydantic import BaseModel, Field

from churn_radar.access import Who
from churn_radar.api.audit import note
from churn_radar.api.auth import KeyedRoute, Operator, require_operator
from churn_radar.api.errors import documented
from churn_radar.api.signals import record_of
from churn_radar.counts import counted
from churn_radar.store.person import SeveralPeople, find_person, read_everything
from churn_radar.work.forget import Erased, foresee, forget, let_in_again

router = APIRouter(tags=["personal data"], dependencies=[Depends(require_operator)], route_class=KeyedRoute)

UNKNOWN = "nothing is held on this person"
SEVERAL = "several customers share this address; name one by its id"
Customer = Annotated[
    str, Path(description="The workspace's id, the cio_id or the mail address; URL-encode what needs it.")
]

STAYS = (
    "the ledger of credits, and the sums of the outcomes, which hold no names",
    "a tombstone: keyed hashes of the identifiers, which keep late events out",
    "what sinks were given: files of the jsonl sink, chats, mailboxes and Customer.io are yours to clear",
    "the audit trail, which names briefs and signals by ids of ours",
    "backups, and on Postgres what the server keeps until it vacuums",
)


class Forgetting(BaseModel):
    """What forgetting somebody erased, or with `dry_run` would."""

    dry_run: bool = Field(description="Nothing was changed; this only tells.")
    known: bool = Field(description="The record held something on them. If not, only a tombstone is laid.")
    signals: int
    briefs: int
    deliveries: int
    notes: int = Field(description="Lines about outcomes, owners and snoozes, with their notes.")
    hints: int
    quarantined_bodies: int = Field(description="Bodies that were not understood and name this person.")
    under_way: int = Field(description="Of the signals: not at their end yet. A call that is under way is finished.")
    to_deliver: int = Field(description="Of the deliveries: not made yet; one under way may still arrive.")
    exported_files: list[str] = Field(
        description="Files of bodies that were exported from the quarantine earlier; look through them yourself."
    )
    tombstone: str | None = Field(description="What the log calls this person; it says nothing of who that is.")
    scrubbed: bool = Field(description="Nothing is left in the record's files; false: a backup was reading, run again.")
    stays: list[str] = Field(description="What is left, and where.")

    @classmethod
    def of(cls, erased: Erased, files: list[str], *, dry_run: bool) -> Forgetting:
        """As it is told."""
        amounts = erased.amounts
        return cls(
            dry_run=dry_run,
            known=erased.known,
            signals=amounts.signals,
            briefs=amounts.briefs,
            deliveries=amounts.deliveries,
            notes=amounts.notes,
            hints=amounts.hints,
            quarantined_bodies=erased.bodies,
            under_way=amounts.under_way,
            to_deliver=amounts.to_deliver,
            exported_files=files,
            tombstone=erased.person,
            scrubbed=erased.scrubbed,
            stays=list(STAYS),
        )


class PersonExport(BaseModel):
    """All that is held on one person."""

    asked: str
    exported_at: datetime
    names: dict[str, list[str]] = Field(description="Every name they go by here, by its kind: id, cio_id, email.")
    tables: dict[str, list[dict[str, Any]]] = Field(description="Rows of the record, by table, oldest first.")


class LetIn(BaseModel):
    """What lifting tombstones did."""

    lifted: int = Field(description="How many people's tombstones are gone.")


@router.get(
    "/customers/{customer_id:path}",
    summary="All that is held on one person",
    responses=documented(401, 403, 404, 409, 422, 503, not_found=UNKNOWN),
)
async def export_customer(request: Request, who: Operator, customer_id: Customer) -> PersonExport:
    """Every row of the record that is theirs, as plain JSON: what to hand over to whoever asks for their data."""
    return await everything_on(request, who, customer_id)


async def everything_on(request: Request, who: Who, customer_id: str, *, via: str = "api") -> PersonExport:
    """The same for whoever asks for it in another way; raises HTTPException."""
    async with record_of(request).read() as connection:
        try:
            person = await find_person(connection, customer_id)
        except SeveralPeople as error:
            raise _several(error) from None
        if not person.is_known:
            raise HTTPException(404, UNKNOWN)
        tables = await read_everything(connection, person)
    await note(request, who, "export person", None, counted(len(person.signal_seqs), "signal"), via=via)
    for rows in tables.values():
        for row in rows:
            row.update({name: _readable(value) for name, value in row.items() if isinstance(value, bytes)})
    return PersonExport(
        asked=customer_id,
        exported_at=request.app.state.service.now(),
        names={kind.value: sorted(names) for kind, names in person.names.items()},
        tables=tables,
    )


@router.delete(
    "/customers/{customer_id:path}",
    summary="Forget a person",
    responses=documented(401, 403, 404, 409, 422, 503, not_found=UNKNOWN),
)
async def forget_customer(
    request: Request,
    who: Operator,
    customer_id: Customer,
    dry_run: Annotated[bool, Query(description="Change nothing; only tell what would be erased.")] = False,
) -> Forgetting:
    """Erase a person everywhere in the record, and keep late events about them out.

    Signals, history, briefs, deliveries, notes, hints, the profile as last seen, and quarantined bodies that name them.
    Somebody of whom nothing is held gets a tombstone all the same. `stays` tells what is left.
    """
    service = request.app.state.service
    try:
        if dry_run:
            erased, _ = await foresee(service.record, customer_id)
        else:
            # Without whom: the trail outlives them.
            await note(request, who, "forget")
            erased = await forget(service.record, service.forgotten, customer_id, now=service.now())
    except SeveralPeople as error:
        raise _several(error) from None
    return Forgetting.of(erased, list(service.quarantine.exports()), dry_run=dry_run)


@router.post(
    "/customers/{customer_id:path}/let-in",
    summary="Let events about a forgotten person in again",
    responses=documented(401, 403, 404, 422, 503, not_found="nobody of this name was forgotten"),
)
async def let_in(request: Request, who: Operator, customer_id: Customer) -> LetIn:
    """Take their tombstone away: for somebody who is a customer again. What was erased stays erased."""
    service = request.app.state.service
    await note(request, who, "let in again")
    lifted = await let_in_again(service.record, service.forgotten, customer_id)
    if not lifted:
        raise HTTPException(404, "nobody of this name was forgotten")
    return LetIn(lifted=lifted)


def _several(error: SeveralPeople) -> HTTPException:
    shown = ", ".join(error.ids[:10])
    more = f" and {len(error.ids) - 10} more" if len(error.ids) > 10 else ""
    return HTTPException(409, f"{error}: {shown}{more}")


def _readable(body: bytes) -> str:
    return body.decode(errors="backslashreplace")
