"""Research that is built upon: a brief for a like customer continues the Mavera thread of an earlier one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from churn_radar.errors import GiveUp, RetryLater
from churn_radar.research.mave import MaveAnswer
from churn_radar.research.prompt import ASKS
from churn_radar.research.reuse import MOST_FOLLOW_UPS
from churn_radar.simulator.mavera import CHAT
from churn_radar.simulator.people import Person
from churn_radar.store.tables import Status, briefs, credits
from churn_radar.work.tasks import Again, Done
from tests.support.work import Workshop, payload, workshop

pytestmark = pytest.mark.usefixtures("everywhere")

FULL = "\n\n".join(f"## {ask.heading}\n\nAnswer to {ask.key}." for ask in ASKS)


def person(number: int, **attributes: str) -> Person:
    """One of many customers of one persona, each with an MRR and a tenure of their own."""
    return Person(
        id=f"like_{number}",
        cio_id=f"0800{number:04x}",
        email=f"like{number}@many.example",
        attributes={
            "first_name": f"Firstname{number}",
            "plan_type": "pro",
            "mrr": str(700 + number),
            "industry": "fintech",
            "tenure_days": str(40 + number),
            "last_active_at": f"asked for Firstname{number}",
            **attributes,
        },
    )


MANY = [
    *(person(number) for number in range(30)),
    person(30, plan_type="business"),
    person(31, industry="media"),
    person(32, mrr="90"),
    # Of one persona, which does not name the plan.
    person(33, plan_type="business", mrr="90"),
    person(34, plan_type="enterprise", mrr="90"),
]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path, people=MANY, reuse_research_days=7, retry_delays_seconds=(60, 300)) as made:
        yield made


async def waiting(shop: Workshop, number: int, metric: str = "unsubscribed") -> int:
    seq = await shop.arrive(payload(f"like_{number}", metric))
    await shop.triage(seq)
    assert (await shop.signal(seq)).status is Status.WAITING
    return seq


async def briefed(shop: Workshop, number: int, metric: str = "unsubscribed") -> Any:
    """The brief of a customer's signal."""
    assert await shop.research(await waiting(shop, number, metric)) == Done()
    return (await shop.briefs())[0]


def told(prompt: str) -> Mapping[str, str]:
    return dict(re.findall(r"^([A-Z ]+): (.*)$", prompt, re.MULTILINE))


@dataclass
class Scripted:
    """Answers follow-ups by a list, keeps what it was asked, and in which thread."""

    answers: list[MaveAnswer | BaseException] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    async def ask(self, message: str) -> MaveAnswer:
        self.asked.append((message, None))
        return MaveAnswer(FULL, credits_used=50, thread_id=f"thread_{len(self.asked)}")

    async def follow_up(self, message: str, thread_id: str) -> MaveAnswer:
        self.asked.append((message, thread_id))
        answer = self.answers.pop(0) if self.answers else MaveAnswer(FULL, credits_used=25, thread_id=thread_id)
        if isinstance(answer, BaseException):
            raise answer
        return answer


@dataclass
class Together(Scripted):
    """Answers nobody before two have asked."""

    both: asyncio.Barrier = field(default_factory=lambda: asyncio.Barrier(2))

    async def ask(self, message: str) -> MaveAnswer:
        await self.both.wait()
        return await super().ask(message)

    async def follow_up(self, message: str, thread_id: str) -> MaveAnswer:
        await self.both.wait()
        return await super().follow_up(message, thread_id)


# -- a like customer


async def test_a_like_customer_is_asked_about_in_the_thread_of_the_first_brief(shop: Workshop) -> None:
    first, second = await briefed(shop, 0), await briefed(shop, 1)

    assert first.reused_brief_id is None
    assert second.reused_brief_id == first.id
    assert second.mave_thread_id == first.mave_thread_id
    assert any(first.id in note for note in second.notes)
    assert second.credits_used == shop.mavera.credits_used - first.credits_used
    assert shop.mavera.followed_up == 1


async def test_a_follow_up_tells_only_what_is_particular_to_this_customer_and_asks_for_all_six_again(
    shop: Workshop,
) -> None:
    await briefed(shop, 0)
    brief = await briefed(shop, 1)

    opening, follow_up = shop.mavera.messages
    assert len(follow_up) < len(opening) * 0.7
    assert told(follow_up) == {
        "EVENT": "unsubscribed",
        "MRR": "$701",
        "TENURE": "41 days",
        "LAST ACTIVE": "asked for [removed]",
    }
    assert all(brief.sections.model_dump().values())
    assert "$8,412 a year" in brief.research_brief  # by this customer's MRR, not the first one's
    async with shop.record.read() as connection:
        kept = (await connection.execute(select(briefs.c.prompt).order_by(briefs.c.seq.desc()))).scalars().first()
    assert kept == follow_up


async def test_a_follow_up_names_nobody(shop: Workshop) -> None:
    await briefed(shop, 0)
    await briefed(shop, 1)

    for private in ("Firstname", "like_1", "like1", "08000001", "@"):
        assert private not in shop.mavera.messages[1]


async def test_the_third_continues_the_thread_of_the_first_not_of_the_second(shop: Workshop) -> None:
    first, _, third = [await briefed(shop, number) for number in range(3)]

    assert third.reused_brief_id == first.id


@pytest.mark.parametrize(
    ("number", "metric"), [(30, "unsubscribed"), (31, "unsubscribed"), (32, "unsubscribed"), (1, "bounced")]
)
async def test_another_plan_persona_or_kind_of_event_is_asked_about_afresh(
    shop: Workshop, number: int, metric: str
) -> None:
    await briefed(shop, 0)

    assert (await briefed(shop, number, metric)).reused_brief_id is None
    assert shop.mavera.followed_up == 0


async def test_two_plans_of_one_persona_are_two_kinds_of_customer(shop: Workshop) -> None:
    first, second = await briefed(shop, 33), await briefed(shop, 34)

    assert first.persona_type == second.persona_type
    assert second.reused_brief_id is None


async def test_old_research_is_not_built_upon(shop: Workshop) -> None:
    first = await briefed(shop, 0)
    shop.clock.forward(timedelta(days=7) - timedelta(seconds=1))
    assert (await briefed(shop, 1)).reused_brief_id == first.id
    shop.clock.forward(timedelta(seconds=1))
    # Not even by way of a younger brief that built upon it.
    assert (await briefed(shop, 2)).reused_brief_id is None


async def test_unless_it_is_set_each_is_researched_afresh(tmp_path: Path) -> None:
    async with workshop(tmp_path, people=MANY) as shop:
        await briefed(shop, 0)
        assert (await briefed(shop, 1)).reused_brief_id is None
        assert shop.mavera.followed_up == 0


async def test_whoever_has_a_signal_researched_anew_gets_new_research(shop: Workshop) -> None:
    await briefed(shop, 0)
    seq = await waiting(shop, 1)
    await shop.research(seq)
    await shop.replay(seq, force=True)

    await shop.research(seq)

    anew, reused, _ = await shop.briefs()
    assert reused.reused_brief_id is not None
    assert anew.reused_brief_id is None


# -- several at once


async def test_two_that_are_researched_at_once_are_each_asked_about_afresh(shop: Workshop) -> None:
    step = replace(shop.research, mave=Together())
    seqs = [await waiting(shop, number) for number in (0, 1)]

    async with asyncio.timeout(30):
        await asyncio.gather(*(step(seq) for seq in seqs))

    assert [brief.reused_brief_id for brief in await shop.briefs()] == [None, None]


async def test_a_thread_holds_one_question_at_a_time(shop: Workshop) -> None:
    """Nothing is documented about two at once: whoever finds it taken opens another, which serves from then on."""
    await briefed(shop, 0)
    mave = Together()
    step = replace(shop.research, mave=mave)
    seqs = [await waiting(shop, number) for number in (1, 2)]

    async with asyncio.timeout(30):
        await asyncio.gather(*(step(seq) for seq in seqs))

    assert len([thread for _, thread in mave.asked if thread]) == 1
    assert len({brief.mave_thread_id for brief in await shop.briefs()}) == 2


async def test_a_thread_that_a_crash_left_taken_is_free_again_after_an_hour(shop: Workshop) -> None:
    first = await briefed(shop, 0)
    seq = await waiting(shop, 1)
    claim = await shop.record.write(lambda connection: shop.research._claim(connection, seq))
    assert claim is not None
    assert claim.opening is not None

    assert (await briefed(shop, 2)).reused_brief_id is None
    async with shop.record.read() as connection:
        assert (await connection.execute(select(func.count()).select_from(credits))).scalar_one() == 3
    await shop.record.write(
        lambda connection: connection.execute(
            update(briefs).where(briefs.c.brief_id != first.id).values(thread_lost_at=shop.clock())
        )
    )
    shop.clock.forward(timedelta(hours=1))
    assert (await briefed(shop, 3)).reused_brief_id == first.id


async def test_a_thread_is_left_when_it_has_grown_long(shop: Workshop) -> None:
    first, *rest = [await briefed(shop, number) for number in range(MOST_FOLLOW_UPS + 3)]

    assert {brief.reused_brief_id for brief in rest[:MOST_FOLLOW_UPS]} == {first.id}
    assert rest[MOST_FOLLOW_UPS].reused_brief_id is None
    assert rest[MOST_FOLLOW_UPS + 1].reused_brief_id == rest[MOST_FOLLOW_UPS].id


# -- a thread that is gone


async def test_a_thread_that_mave_no_longer_knows_costs_no_attempt_and_is_not_tried_again(shop: Workshop) -> None:
    first = await briefed(shop, 0)
    await shop.record.write(
        lambda connection: connection.execute(
            update(briefs).where(briefs.c.brief_id == first.id).values(mave_thread_id="mave_thread_deleted")
        )
    )

    second = await briefed(shop, 1)

    assert second.reused_brief_id is None
    assert not any(first.id in note for note in second.notes)
    assert (await shop.signal(2)).attempts == 0
    assert shop.mavera.calls[CHAT] == 3
    assert (await briefed(shop, 2)).reused_brief_id == second.id
    await shop.record.write(
        lambda connection: connection.execute(
            update(briefs).where(briefs.c.brief_id == second.id).values(thread_lost_at=shop.clock())
        )
    )
    # With the second one's thread gone too, the first one's is not fallen back to.
    assert (await briefed(shop, 3)).reused_brief_id is None
    assert shop.mavera.calls[CHAT] == 5


@pytest.mark.parametrize(
    "refusal",
    [
        GiveUp("mavera", "mavera.example answered 400: invalid_field: thread_id is not valid", status=400),
        GiveUp("mavera", "mavera.example answered 400", status=400),
        GiveUp("mavera", "mavera.example answered 403: another workspace's thread", status=403),
        GiveUp("mavera", "mavera.example answered 404", status=404),
        GiveUp("mavera", "mavera.example answered 410", status=410),
    ],
)
async def test_however_a_thread_is_refused_the_question_is_asked_afresh(shop: Workshop, refusal: GiveUp) -> None:
    mave = Scripted([refusal])
    step = replace(shop.research, mave=mave)
    await step(await waiting(shop, 0))

    assert await step(await waiting(shop, 1)) == Done()

    assert [thread for _, thread in mave.asked] == [None, "thread_1", None]
    assert "PERSONA TYPE" in mave.asked[2][0]
    assert (await shop.briefs())[0].reused_brief_id is None


async def test_when_the_new_question_is_refused_too_the_signal_is_dead_as_ever(shop: Workshop) -> None:
    await briefed(shop, 0)
    seq = await waiting(shop, 1)
    shop.mavera_faults.add("status:400", 2)

    assert await shop.research(seq) == Done()

    assert (await shop.signal(seq)).status is Status.DEAD


async def test_a_follow_up_that_may_pass_later_is_tried_again_in_its_thread(shop: Workshop) -> None:
    mave = Scripted([RetryLater("mavera", "busy", status=503)])
    step = replace(shop.research, mave=mave)
    await step(await waiting(shop, 0))
    seq = await waiting(shop, 1)

    failed = await step(seq)
    assert isinstance(failed, Again)
    assert (await shop.signal(seq)).attempts == 1
    shop.clock.forward(failed.delay)
    await step(seq)

    assert [thread for _, thread in mave.asked] == [None, "thread_1", "thread_1"]


async def test_what_a_lost_thread_cost_is_counted_with_the_rest(shop: Workshop) -> None:
    gone = GiveUp("mavera", "gone", status=404)
    gone.credits_lost = 12
    mave = Scripted([gone])
    step = replace(shop.research, mave=mave)
    await step(await waiting(shop, 0))
    await step(await waiting(shop, 1))

    async with shop.record.read() as connection:
        rows = await connection.execute(select(credits.c.purpose, credits.c.amount, credits.c.reused_brief_id))
        assert [tuple(row) for row in rows] == [("brief", 50, None), ("brief", 50, None), ("lost", 12, None)]


async def test_a_question_back_in_a_continued_thread_is_answered_there(shop: Workshop) -> None:
    await briefed(shop, 0)
    shop.mavera_faults.add("question")

    brief = await briefed(shop, 1)

    assert (brief.clarified, brief.reused_brief_id is not None) == (True, True)
    assert all(brief.sections.model_dump().values())


async def test_the_api_tells_of_it(shop: Workshop) -> None:
    first, second = await briefed(shop, 0), await briefed(shop, 1)

    assert first.as_record()["reused_brief_id"] is None
    assert second.as_record()["reused_brief_id"] == first.id
