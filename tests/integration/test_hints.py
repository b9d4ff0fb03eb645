from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from churn_radar.intake.events import NotASignal
from churn_radar.intake.reading import read_body
from churn_radar.outcome.rules import Outcome
from churn_radar.store.outcomes import set_outcome
from churn_radar.store.tables import hints, signals
from churn_radar.work.hints import MOST_WAITS, WAIT, WINDOW
from churn_radar.work.tasks import Again, Done
from tests.support.door import as_body
from tests.support.work import NOON, Workshop, payload, settings_for, workshop


def subscribed(customer_id: str = "cust_1001", **told: Any) -> dict[str, Any]:
    return payload(customer_id, "subscribed", object_type="customer", **told)


async def count(shop: Workshop, table: Any) -> int:
    async with shop.record.read() as connection:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


async def looked_at(shop: Workshop, event: dict[str, Any]) -> Any:
    return await shop.triage(await shop.arrive(event))


async def test_who_subscribes_again_shows_on_their_open_brief_and_leaves_no_signal(
    everywhere: str, tmp_path: Path
) -> None:
    async with workshop(tmp_path) as shop:
        await shop.briefed(payload("cust_1001"))
        calls = shop.customerio.calls.copy()
        shop.clock.forward(timedelta(hours=1))
        event = subscribed(timestamp=int(shop.clock().timestamp()))

        assert await looked_at(shop, event) == Done()
        assert await looked_at(shop, event) == Done()

        [brief] = await shop.briefs()
        assert [(hint.event_type, hint.at) for hint in brief.hints] == [("subscribed", shop.clock())]
        assert len(brief.event_ids) == 1
        assert (await count(shop, signals), await count(shop, hints)) == (1, 1)
        assert shop.customerio.calls == calls, "nobody was looked up for it"


async def test_it_is_forgotten_where_no_brief_waits_for_its_end(everywhere: str, tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await shop.briefed(payload("cust_1001"))
        await shop.briefed(payload("cust_1003"))
        for brief in await shop.briefs():
            if brief.customer_id == "cust_1001":
                await shop.record.write(
                    lambda connection, brief=brief: set_outcome(  # type: ignore[misc]
                        connection, brief.id, Outcome.LOST, who="Ines", now=shop.clock()
                    )
                )

        assert await looked_at(shop, subscribed("cust_1001")) == Done()
        assert await looked_at(shop, subscribed("a stranger")) == Done()
        shop.clock.forward(WINDOW + timedelta(days=1))
        assert await looked_at(shop, subscribed("cust_1003")) == Done()

        assert (await count(shop, signals), await count(shop, hints)) == (2, 0)


async def test_it_waits_for_a_signal_that_came_just_before_and_shows_on_its_brief(
    everywhere: str, tmp_path: Path
) -> None:
    async with workshop(tmp_path) as shop:
        signal = await shop.arrive(payload("cust_1001"))
        shop.clock.forward(timedelta(seconds=5))
        hint = await shop.arrive(subscribed(timestamp=int(shop.clock().timestamp())))

        assert await shop.triage(hint) == Again(WAIT, in_record=True)
        await shop.triage(signal)
        await shop.research(signal)
        shop.clock.forward(WAIT)
        assert await shop.triage(hint) == Done()

        assert len((await shop.briefs())[0].hints) == 1


async def test_it_does_not_wait_for_ever(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await shop.arrive(payload("cust_1001"))
        hint = await shop.arrive(subscribed())
        for _ in range(MOST_WAITS):
            assert await shop.triage(hint) == Again(WAIT, in_record=True)
            shop.clock.forward(WAIT)
        assert await shop.triage(hint) == Done()
        assert await count(shop, signals) == 1


async def test_the_door_keeps_hints_by_the_setting_and_never_quarantines_one(tmp_path: Path) -> None:
    on, off = settings_for(tmp_path), settings_for(tmp_path, subscription_hints=False)
    kept = read_body(as_body(subscribed()), on.kept_events, received_at=NOON)
    assert not isinstance(kept, NotASignal)
    assert (kept.kind, kept.body) == ("subscribed", None)
    for body, settings in (
        (subscribed(), off),
        (payload("cust_1001", "subscribed", object_type="email"), on),
        (payload(None, "subscribed", object_type="customer"), on),
        (subscribed(data=7), on),
        (payload("cust_1001", "opened"), on),
    ):
        assert isinstance(read_body(as_body(body), settings.kept_events, received_at=NOON), NotASignal)
