from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar import metrics
from churn_radar.errors import GiveUp, OperatorMustAct, RetryLater
from churn_radar.research.brief import Brief
from churn_radar.store.tables import DeliveryStatus
from churn_radar.work import deliver as deliver_module
from churn_radar.work.deliver import AT_ONCE, BUSY_DELAY, PLACES, PUT_OFF, SLOW, UNKNOWN_DELAY, UNKNOWN_FOR, DeliverStep
from churn_radar.work.tasks import Again, Done, Task
from tests.support.work import ListSink, Workshop, payload, until, workshop


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path, sinks=[ListSink("good"), ListSink("bad")], retry_delays_seconds=(60, 300)) as made:
        await made.briefed(payload())
        yield made


@dataclass
class Hanging:
    """Never ends by itself."""

    name: str = "hanging"
    calls: int = 0

    async def deliver(self, brief: Brief) -> None:
        self.calls += 1
        await asyncio.Event().wait()


def sink(shop: Workshop, name: str) -> ListSink:
    found = shop.deliver.sinks[name]
    assert isinstance(found, ListSink)
    return found


async def row(shop: Workshop, name: str) -> int:
    return (await shop.deliveries())[name].seq


async def test_a_delivered_brief_is_the_stored_one_and_is_not_delivered_again(shop: Workshop) -> None:
    seq = await row(shop, "good")

    assert await shop.deliver(seq) == Done()
    assert await shop.deliver(seq) == Done()

    assert sink(shop, "good").briefs == await shop.briefs()
    delivery = (await shop.deliveries())["good"]
    assert (delivery.status, delivery.attempts, delivery.reason) == (DeliveryStatus.DELIVERED, 1, None)


async def test_one_broken_sink_neither_delays_nor_repeats_the_others(shop: Workshop) -> None:
    sink(shop, "bad").errors += [RuntimeError("down")] * 2
    bad, good = await row(shop, "bad"), await row(shop, "good")

    for _ in range(2):
        outcome = await shop.deliver(bad)
        assert isinstance(outcome, Again)
        shop.clock.forward(outcome.delay)
    await shop.deliver(good)
    await shop.deliver(bad)

    assert (sink(shop, "good").calls, sink(shop, "bad").calls) == (1, 3)
    owed = await shop.deliveries()
    assert [owed[name].status for name in ("good", "bad")] == [DeliveryStatus.DELIVERED, DeliveryStatus.DELIVERED]
    assert owed["bad"].attempts == 3


async def test_a_failing_delivery_waits_its_turn(shop: Workshop) -> None:
    sink(shop, "bad").errors.append(RuntimeError("down"))

    outcome = await shop.deliver(await row(shop, "bad"))

    assert isinstance(outcome, Again)
    delivery = (await shop.deliveries())["bad"]
    assert (delivery.status, delivery.attempts) == (DeliveryStatus.PENDING, 1)
    assert delivery.due_at == shop.clock() + outcome.delay
    assert timedelta(seconds=54) <= outcome.delay <= timedelta(seconds=66)


async def test_an_attempt_before_the_due_time_is_not_made(shop: Workshop) -> None:
    sink(shop, "bad").errors.append(RuntimeError("down"))
    seq = await row(shop, "bad")
    first = await shop.deliver(seq)
    assert isinstance(first, Again)
    shop.clock.forward(timedelta(seconds=10))

    assert await shop.deliver(seq) == Again(first.delay - timedelta(seconds=10), in_record=True)

    assert sink(shop, "bad").calls == 1
    assert (await shop.deliveries())["bad"].attempts == 1


async def test_after_the_ladder_a_delivery_is_dead_and_says_why(shop: Workshop) -> None:
    sink(shop, "bad").errors += [OSError(28, "No space left on device", "/home/jane/briefs.jsonl")] * 3
    seq = await row(shop, "bad")
    for _ in range(2):
        outcome = await shop.deliver(seq)
        assert isinstance(outcome, Again)
        shop.clock.forward(outcome.delay)

    assert await shop.deliver(seq) == Done()

    delivery = (await shop.deliveries())["bad"]
    assert (delivery.status, delivery.attempts) == (DeliveryStatus.DEAD, 3)
    assert delivery.reason == "OSError: No space left on device"
    assert await shop.deliver(seq) == Done()
    assert sink(shop, "bad").calls == 3


async def test_the_reason_quotes_no_foreign_message(shop: Workshop) -> None:
    sink(shop, "bad").errors.append(ValueError("jane@acme.co is not in the channel"))

    await shop.deliver(await row(shop, "bad"))

    assert (await shop.deliveries())["bad"].reason == "unexpected ValueError"


async def test_a_sink_may_say_that_it_will_never_work(shop: Workshop) -> None:
    sink(shop, "bad").errors.append(GiveUp("chat", "no such channel", status=404))

    assert await shop.deliver(await row(shop, "bad")) == Done()

    delivery = (await shop.deliveries())["bad"]
    assert (delivery.status, delivery.reason) == (DeliveryStatus.DEAD, "chat (404): no such channel")


async def test_a_sink_may_say_how_long_to_wait(shop: Workshop) -> None:
    sink(shop, "bad").errors.append(RetryLater("chat", "busy", retry_after=timedelta(hours=2)))

    assert await shop.deliver(await row(shop, "bad")) == Again(timedelta(hours=2), in_record=True)


async def test_a_sinks_wrong_token_costs_no_attempt(shop: Workshop) -> None:
    sink(shop, "bad").errors.append(OperatorMustAct("chat", "the token was refused", status=401))

    assert isinstance(await shop.deliver(await row(shop, "bad")), Again)

    assert (await shop.deliveries())["bad"].attempts == 0


async def test_a_sink_that_only_newer_replicas_know_yet_is_left_to_them_for_a_while(shop: Workshop) -> None:
    async def within(connection: AsyncConnection, tasks: Sequence[Task]) -> None:
        raise AssertionError

    older = DeliverStep(replace(shop.floor, enqueue_within=within), {"good": sink(shop, "good")})
    seq = await row(shop, "bad")

    assert await older(seq) == Again(UNKNOWN_DELAY)
    assert (await shop.deliveries())["bad"].status is DeliveryStatus.PENDING
    shop.clock.forward(UNKNOWN_FOR)
    assert await older(seq) == Done()
    assert (await shop.deliveries())["bad"].status is DeliveryStatus.DEAD


async def test_a_sink_that_was_taken_out_of_the_settings_gets_a_dead_letter(shop: Workshop) -> None:
    fewer = DeliverStep(shop.floor, {"good": sink(shop, "good")})

    assert await fewer(await row(shop, "bad")) == Done()

    delivery = (await shop.deliveries())["bad"]
    assert (delivery.status, delivery.reason) == (DeliveryStatus.DEAD, "this sink is no longer configured")
    assert sink(shop, "bad").calls == 0


async def test_a_row_that_does_not_exist_is_over_at_once(shop: Workshop) -> None:
    assert await shop.deliver(12345) == Done()


async def test_a_hanging_sink_is_cut_off_and_tried_again(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver_module, "TIMEOUT", timedelta(seconds=0.02))
    step = DeliverStep(shop.floor, {"bad": Hanging("bad")})

    assert isinstance(await step(await row(shop, "bad")), Again)

    assert (await shop.deliveries())["bad"].attempts == 1


async def test_a_hanging_sink_takes_no_more_than_its_share_of_the_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, good = Hanging("hanging"), ListSink("good")
    async with workshop(tmp_path, sinks=[hanging, good], cool_down_hours=0) as shop:
        for _ in range(AT_ONCE + 2):
            await shop.briefed(payload())
        owed = [await shop.deliveries(brief_seq) for brief_seq in range(1, AT_ONCE + 3)]
        stuck = [asyncio.create_task(shop.deliver(each["hanging"].seq)) for each in owed[:AT_ONCE]]
        monkeypatch.setattr(deliver_module, "PATIENCE", timedelta(seconds=0.05))

        async def taken() -> bool:
            return hanging.calls == AT_ONCE

        await until(taken, "every place to be taken")

        # Nothing comes back: what is owed to it waits, all of it, looked at once.
        assert await shop.deliver(owed[-1]["hanging"].seq) == Again(PUT_OFF[0], in_record=True)
        for each in (await shop.deliveries(AT_ONCE + 1), await shop.deliveries(AT_ONCE + 2)):
            waits = each["hanging"]
            assert (waits.attempts, waits.due_at, waits.reason) == (0, shop.clock() + PUT_OFF[0], SLOW)
        assert await shop.deliver(owed[-2]["hanging"].seq) == Again(PUT_OFF[0], in_record=True)
        for each in owed:
            assert await shop.deliver(each["good"].seq) == Done()
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)

        assert shop.deliver._queues["hanging"].inside == 0
    assert (hanging.calls, len(good.briefs)) == (AT_ONCE, AT_ONCE + 2)


async def test_metrics_show_a_sinks_kind_and_not_its_target(tmp_path: Path) -> None:
    target = "hook:https://hooks.example/T0KEN"
    async with workshop(tmp_path, sinks=[ListSink(target)]) as shop:
        await shop.briefed(payload())
        await shop.deliver(await row(shop, target))

    shown = metrics.exposition().decode()
    assert 'sink="hook"' in shown
    assert "T0KEN" not in shown


async def test_a_slow_sink_that_gets_on_is_waited_for(tmp_path: Path) -> None:
    hanging = Hanging("bad")
    async with workshop(tmp_path, sinks=[hanging], cool_down_hours=0) as shop:
        for _ in range(AT_ONCE + 1):
            await shop.briefed(payload())
        queue = shop.deliver._queues["bad"]
        waiting = [
            asyncio.create_task(shop.deliver((await shop.deliveries(brief_seq))["bad"].seq))
            for brief_seq in range(1, AT_ONCE + 2)
        ]

        async def one_waits() -> bool:
            return hanging.calls == AT_ONCE and queue.inside == AT_ONCE + 1

        await until(one_waits, "one to wait for a place")
        waiting[0].cancel()

        async def next_one() -> bool:
            return hanging.calls == AT_ONCE + 1

        await until(next_one, "the one that waited to be next")
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert queue.inside == 0


async def test_whoever_finds_every_place_of_a_sink_taken_comes_again(shop: Workshop) -> None:
    shop.deliver._queues["bad"].inside = PLACES

    assert await shop.deliver(await row(shop, "bad")) == Again(BUSY_DELAY)
    assert await shop.deliver(await row(shop, "good")) == Done()
