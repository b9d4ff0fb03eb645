"""Step three: ask Mave, and keep the brief. A brief that is stored is never asked for again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar import metrics
from churn_radar.errors import UpstreamError
from churn_radar.research.answer import clean_sources, confidence, risk, unsupported_claims
from churn_radar.research.brief import AttributesSource
from churn_radar.research.mave import SERVICE, MaveAnswer
from churn_radar.research.prompt import build_prompt
from churn_radar.research.sections import parse_sections
from churn_radar.store.briefs import briefs_of_signal, insert_brief
from churn_radar.store.customers import KnownCustomer, load_customer
from churn_radar.store.deliveries import plan_deliveries
from churn_radar.store.signals import Signal, advance, attach_brief, joined_signals, load_signal
from churn_radar.store.tables import Status
from churn_radar.triage.account import Account
from churn_radar.work.engine import Done, Outcome, Step, Task
from churn_radar.work.steps import Floor, fail, not_yet
from churn_radar.work.triaged import Triaged

log = structlog.get_logger(__name__)

# Attributes that name a person, however they are spelled. Their values never reach a prompt, wherever they turn up.
PERSONAL = frozenset(
    {
        *("name", "fullname", "firstname", "lastname", "middlename", "givenname", "familyname", "surname"),
        *("nickname", "displayname", "contactname", "username", "email", "emailaddress"),
        *("phone", "phonenumber", "mobile", "mobilephone"),
    }
)
# More than any balance; a count that no column holds must not cost the brief that it came with.
_MOST_CREDITS = 10**9


class Researcher(Protocol):
    """Whoever can research a persona: the Mavera client."""

    async def ask(self, message: str) -> MaveAnswer:
        """The answer to a prompt; raises UpstreamError."""
        ...


@dataclass(frozen=True)
class ResearchStep:
    """Takes a waiting signal to briefed, and owes the brief to every sink."""

    floor: Floor
    mave: Researcher
    sinks: Sequence[str]
    currency: str

    async def __call__(self, seq: int) -> Outcome:
        """Do the step for one signal; safe to repeat: a stored brief is not asked for again."""
        async with self.floor.record.read() as connection:
            signal = await load_signal(connection, seq)
        if signal is None or signal.status is not Status.WAITING:
            return Done()
        if wait := await not_yet(self.floor, signal, SERVICE):
            return wait
        now = self.floor.now()
        started = await self.floor.write(lambda connection: _start(connection, seq, now))
        if started is None:
            return Done()
        try:
            return await self._research(*started)
        except Exception as error:
            return await fail(self.floor, started[0], error, back_to=Status.WAITING)

    async def _research(self, signal: Signal, customer: KnownCustomer, joined: Sequence[Signal]) -> Outcome:
        triaged = Triaged.model_validate(signal.triage)
        account, persona = triaged.account, triaged.persona
        if account is None or persona is None:
            raise AssertionError("a waiting signal has been triaged")
        prompt = build_prompt(
            kinds=list(dict.fromkeys(s.kind for s in (signal, *joined) if s.kind)),
            persona=persona,
            account=account,
            currency=self.currency,
            private=private_values(customer, (signal, *joined)),
        )
        began = self.floor.now()
        try:
            answer = await self.mave.ask(prompt)
        except UpstreamError as error:
            metrics.upstream(SERVICE, type(error).__name__, (self.floor.now() - began).total_seconds())
            raise
        metrics.upstream(SERVICE, "ok", (self.floor.now() - began).total_seconds())
        self.floor.troubles.clear(SERVICE)
        deliveries = await self.floor.write(
            lambda connection: self._keep(connection, signal, customer, triaged, account, persona, prompt, answer)
        )
        metrics.signal(Status.BRIEFED.value)
        metrics.credits_spent(answer.credits_used)
        log.info(
            "signal.briefed",
            signal_id=signal.signal_id,
            event_id=signal.event_id,
            kind=signal.kind,
            credits=answer.credits_used,
            seconds=round((self.floor.now() - began).total_seconds(), 1),
        )
        await self.floor.enqueue([Task(Step.DELIVER, delivery, signal.priority) for delivery in deliveries])
        return Done()

    async def _keep(
        self,
        connection: AsyncConnection,
        signal: Signal,
        customer: KnownCustomer,
        triaged: Triaged,
        account: Account,
        persona: str,
        prompt: str,
        answer: MaveAnswer,
    ) -> list[int]:
        """Brief, states and owed deliveries in one transaction: either all of it is there after a crash, or none."""
        now = self.floor.now()
        earlier = await briefs_of_signal(connection, signal.seq)
        ref = customer.profile.ref
        brief_seq = await insert_brief(
            connection,
            {
                "brief_id": _brief_id(signal.signal_id, earlier),
                "signal_seq": signal.seq,
                "customer_seq": customer.seq,
                "customer_id": ref.preferred[1],
                # Where the App API does not tell them, the event's own names are better than none.
                "cio_id": ref.cio_id or signal.customer.cio_id,
                "email": ref.email or signal.customer.email,
                "event_type": signal.kind,
                "persona_type": persona,
                "plan": account.plan,
                "mrr": float(account.mrr),
                "currency": self.currency,
                "account": {**asdict(account), "mrr": str(account.mrr)},
                "prompt": prompt,
                "attributes_source": triaged.attributes_source,
                "attributes_seen_at": triaged.attributes_seen_at,
                "notes": _notes(account, triaged, answer),
                "signal_received_at": signal.received_at,
                "created_at": now,
                **_answer_values(answer),
            },
        )
        await advance(
            connection,
            signal.seq,
            expected=(Status.RESEARCHING,),
            to=Status.BRIEFED,
            now=now,
            brief_seq=brief_seq,
        )
        await attach_brief(connection, signal.seq, brief_seq)
        return await plan_deliveries(connection, brief_seq, self.sinks, now)


async def _start(
    connection: AsyncConnection, seq: int, now: datetime
) -> tuple[Signal, KnownCustomer, list[Signal]] | None:
    """Claim a waiting signal; None when it is not waiting any more (someone else has it, or it is done)."""
    signal = await load_signal(connection, seq)
    if signal is None or signal.status is not Status.WAITING or signal.customer_seq is None:
        return None
    customer = await load_customer(connection, signal.customer_seq)
    if customer is None:
        return None
    claimed = await advance(
        connection,
        seq,
        expected=(Status.WAITING,),
        to=Status.RESEARCHING,
        now=now,
        attempts=signal.attempts,
    )
    if not claimed:
        return None
    return signal, customer, await joined_signals(connection, seq)


def private_values(customer: KnownCustomer, signals: Sequence[Signal]) -> Collection[str]:
    """Everything that names the person: identifiers of the customer and of each event, and personal attributes."""
    refs = [customer.profile.ref, *(signal.customer for signal in signals)]
    values = [value for ref in refs for value in (ref.id, ref.cio_id, ref.email)]
    attributes: Mapping[str, object] = customer.profile.attributes
    for name, value in attributes.items():
        if re.sub(r"[^a-z]", "", name.lower()) in PERSONAL and isinstance(value, str | int):
            values.append(str(value))
    return {value.strip() for value in values if value and value.strip()}


def _answer_values(answer: MaveAnswer) -> dict[str, Any]:
    return {
        "research_brief": answer.content,
        "sections": parse_sections(answer.content).as_dict(),
        "sources": clean_sources(answer.sources),
        "confidence": confidence(answer.validation.get("confidence_score")),
        "hallucination_risk": risk(answer.validation.get("hallucination_risk")),
        "unsupported_claims": unsupported_claims(answer.validation.get("unsupported_claims")),
        "credits_used": min(answer.credits_used, _MOST_CREDITS),
        "mave_thread_id": answer.thread_id,
        "mave_message_id": answer.message_id,
        "clarified": answer.clarified,
        "extra": dict(answer.extra),
    }


def _notes(account: Account, triaged: Triaged, answer: MaveAnswer) -> list[str]:
    """What a reader of the brief should know before relying on it."""
    notes = list(account.notes)
    if triaged.attributes_source is AttributesSource.CACHED and triaged.attributes_seen_at:
        notes.append(
            "Customer.io could not show this customer now; the attributes are those last seen on "
            f"{triaged.attributes_seen_at:%Y-%m-%d %H:%M} UTC"
        )
    if answer.clarified:
        notes.append("Mave asked for details first and was told to proceed on stated assumptions")
    return notes


def _brief_id(signal_id: str, earlier: int) -> str:
    """The same brief of the same signal has the same id, however often a crash makes us write it."""
    return f"brf_{hashlib.sha256(f'{signal_id}:{earlier}'.encode()).hexdigest()[:32]}"
