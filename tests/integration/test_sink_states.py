"""Each sink stands for itself: what it takes, what it was given up on, and when it is stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from churn_radar.errors import Gone
from churn_radar.sinks.filter import Filter
from churn_radar.sinks.protocol import Declined, Outlets
from churn_radar.store.sinks import list_deliveries, names_in_record, resume, state_of, stopped
from churn_radar.store.tables import DeliveryStatus
from churn_radar.work.redeliver import Redelivered, redeliver
from churn_radar.work.tasks import Again, Done, Step, Task
from tests.support.work import ListSink, Running, Workshop, payload, service, until, workshop

GONE = Gone("webhook", "desk.example answered 410", status=410)


@pytest.fixture
async def shop(tmp_path: Path, everywhere: str) -> AsyncIterator[Workshop]:
    sinks = [ListSink("good"), ListSink("bad")]
    async with workshop(tmp_path, sinks=sinks, retry_delays_seconds=(60,), cool_down_hours=0) as made:
        await made.briefed(payload())
        yield made


def bad(shop: Workshop) -> ListSink:
    found = shop.deliver.sinks["bad"]
    assert isinstance(found, ListSink)
    return found


async def test_a_sink_that_answers_gone_is_stopped_and_the_others_are_not(shop: Workshop) -> None:
    bad(shop).errors.append(GONE)
    owed = await shop.deliveries()

    assert await shop.deliver(owed["bad"].seq) == Done()
    assert await shop.deliver(owed["good"].seq) == Done()

    async with shop.record.read() as connection:
        state = await state_of(connection, "bad")
        assert await stopped(connection, "good") is None
    assert state.stopped is not None
    assert (state.stopped.since, state.dead, state.waiting) == (shop.clock(), 1, 0)
    assert state.stopped.reason == "webhook (410): desk.example answered 410"
    assert state.delivered_at is None


async def test_a_stopped_sink_is_called_no_more_until_it_is_resumed(shop: Workshop) -> None:
    bad(shop).errors.append(GONE)
    await shop.deliver((await shop.deliveries())["bad"].seq)
    await shop.briefed(payload())
    second = (await shop.deliveries(2))["bad"].seq

    assert await shop.deliver(second) == Done()

    after = (await shop.deliveries(2))["bad"]
    assert (after.status, bad(shop).calls) == (DeliveryStatus.DEAD, 1)
    assert after.reason == "this sink is stopped: webhook (410): desk.example answered 410"
    assert await shop.record.write(lambda connection: resume(connection, "bad"))
    assert not await shop.record.write(lambda connection: resume(connection, "bad"))
    await shop.briefed(payload())
    assert await shop.deliver((await shop.deliveries(3))["bad"].seq) == Done()
    assert (await shop.deliveries(3))["bad"].status is DeliveryStatus.DELIVERED


async def test_a_sink_may_decline_a_brief_which_is_no_failure(shop: Workshop) -> None:
    bad(shop).errors.append(Declined("this person is no longer in Customer.io"))

    assert await shop.deliver((await shop.deliveries())["bad"].seq) == Done()

    delivery = (await shop.deliveries())["bad"]
    assert (delivery.status, delivery.reason) == (DeliveryStatus.SKIPPED, "this person is no longer in Customer.io")


async def test_a_state_counts_what_waits_and_tells_the_newest_trouble(shop: Workshop) -> None:
    bad(shop).errors += [OSError(28, "full"), OSError(13, "denied")]
    outcome = await shop.deliver((await shop.deliveries())["bad"].seq)
    assert isinstance(outcome, Again)
    await shop.deliver((await shop.deliveries())["good"].seq)
    shop.clock.forward(timedelta(minutes=1))

    async with shop.record.read() as connection:
        waits, good = await state_of(connection, "bad"), await state_of(connection, "good")
        nobody = await state_of(connection, "nobody")
        assert await names_in_record(connection) == ["bad", "good"]
    assert (waits.waiting, waits.dead, waits.trouble) == (1, 0, "OSError: No space left on device")
    assert good.delivered_at == shop.clock() - timedelta(minutes=1)
    assert (nobody.waiting, nobody.dead, nobody.delivered_at, nobody.stopped) == (0, 0, None, None)


async def test_a_filtered_brief_is_skipped_and_says_why(tmp_path: Path) -> None:
    dear, everything = ListSink("dear"), ListSink("everything")
    outlets = Outlets([dear, everything], {"dear": Filter(mrr_from=Decimal(5000))})
    async with service(tmp_path, sinks=outlets) as live:
        told = await live.briefed(payload())
        event = told["event_id"]

        async def delivered() -> bool:
            return len(everything.briefs) == 1

        await until(delivered, "the other sink's delivery")
        states = {each["sink"]: each for each in (await live.http.get(f"/signals/{event}")).json()["deliveries"]}
        skipped = (await live.http.get("/deliveries", params={"status": "skipped"})).json()["items"]
    assert (states["dear"]["status"], dear.calls) == ("skipped", 0)
    assert states["dear"]["reason"] == "filtered out: this sink takes an MRR from 5000 on"
    assert [each["sink"] for each in skipped] == ["dear"]


async def test_dead_deliveries_are_found_counted_and_owed_again(shop: Workshop) -> None:
    bad(shop).errors += [OSError()] * 2
    seq = (await shop.deliveries())["bad"].seq
    for _ in range(2):
        await shop.deliver(seq)
        shop.clock.forward(timedelta(minutes=2))
    started: list[Task] = []

    async def start(tasks: Sequence[Task]) -> None:
        started.extend(tasks)

    async def again(*, sink: str | None = None, dry_run: bool = False) -> Redelivered:
        return await redeliver(
            shop.record,
            ids=None,
            sink=sink,
            before=None,
            limit=1,
            dry_run=dry_run,
            now=shop.clock(),
            committed=start,
        )

    async with shop.record.read() as connection:
        [listed] = await list_deliveries(connection, status=DeliveryStatus.DEAD, sink="bad", before=seq + 1, limit=5)
        assert not await list_deliveries(connection, status=DeliveryStatus.DEAD, sink="good", limit=5)
    assert (listed.delivery.seq, listed.customer_id) == (seq, "cust_1001")
    assert await again(sink="good") == Redelivered(0)
    assert await again(dry_run=True) == Redelivered(1)
    assert started == []
    assert await again() == Redelivered(1, seq)
    assert started == [Task(Step.DELIVER, seq)]
    assert await again() == Redelivered(0)
    assert await shop.deliver(seq) == Done()
    assert (await shop.deliveries())["bad"].status is DeliveryStatus.DELIVERED


async def test_what_is_owed_to_a_sink_that_hangs_waits_and_says_so(shop: Workshop) -> None:
    await shop.briefed(payload())
    until_then = shop.clock() + timedelta(seconds=30)
    shop.deliver._queues["bad"].put_off_until = until_then

    outcome = await shop.deliver((await shop.deliveries(2))["bad"].seq)

    assert outcome == Again(timedelta(seconds=30), in_record=True)
    for owed in (await shop.deliveries(1), await shop.deliveries(2)):
        assert (owed["bad"].due_at, owed["bad"].attempts) == (until_then, 0)
        assert owed["good"].due_at is None
    async with shop.record.read() as connection:
        state = await state_of(connection, "bad")
    assert (state.waiting, state.trouble) == (2, "waits: this sink is slow or does not answer")
    shop.clock.forward(timedelta(seconds=31))
    assert await shop.deliver((await shop.deliveries(2))["bad"].seq) == Done()
    assert bad(shop).calls == 1


# -- over the API


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Running]:
    sinks = [ListSink("good"), ListSink("bad", [OSError()] * 100)]
    async with service(tmp_path, sinks=sinks, retry_delays_seconds=(0.01,), cool_down_hours=0) as made:
        yield made


async def dead(live: Running, count: int) -> list[dict[str, object]]:
    """Feed so many events in, and wait until the bad sink has been given up on for each."""
    for _ in range(count):
        await live.briefed(payload())

    async def all_dead() -> list[dict[str, object]] | None:
        items: list[dict[str, object]] = (await live.http.get("/deliveries")).json()["items"]
        return items if len(items) == count else None

    return await until(all_dead, f"{count} dead deliveries")


async def test_dead_deliveries_are_listed_newest_first_and_page_by_page(live: Running) -> None:
    items = await dead(live, 3)

    pages = []
    cursor = None
    while True:
        page = (
            await live.http.get("/deliveries", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        ).json()
        pages += page["items"]
        if (cursor := page["cursor"]) is None:
            break
    assert pages == items
    assert [each["id"] for each in items] == sorted((each["id"] for each in items), reverse=True)  # type: ignore[type-var]
    first = items[0]
    assert (first["sink"], first["status"], first["customer_id"]) == ("bad", "dead", "cust_1001")
    assert (await live.http.get("/deliveries", params={"sink": "good"})).json()["items"] == []


async def test_dead_deliveries_start_again_by_sink_and_only_those(live: Running) -> None:
    await dead(live, 2)
    [good, failing] = live.service.sinks
    assert isinstance(failing, ListSink)
    assert isinstance(good, ListSink)

    told = await live.http.post("/deliveries/replay", json={"sink": "bad", "dry_run": True})
    assert (told.status_code, told.json()) == (200, {"count": 2, "cursor": None})
    assert (await live.http.post("/deliveries/replay", json={"sink": "good"})).json()["count"] == 0
    failing.errors.clear()
    first = await live.http.post("/deliveries/replay", json={"sink": "bad", "limit": 1})
    assert (first.status_code, first.json()["count"]) == (202, 1)
    rest = await live.http.post("/deliveries/replay", json={"all": True})

    assert rest.json()["count"] == 1

    async def delivered() -> bool:
        return len(failing.briefs) == 2

    await until(delivered, "both to be delivered")
    assert len(good.briefs) == 2
    assert (await live.http.post("/deliveries/replay", json={"all": True})).json()["count"] == 0


async def test_a_delivery_is_replayed_by_its_id_once(live: Running) -> None:
    [item] = await dead(live, 1)
    [_, failing] = live.service.sinks
    assert isinstance(failing, ListSink)
    failing.errors.clear()

    assert (await live.http.post("/deliveries/replay", json={"ids": [item["id"], 999]})).json()["count"] == 1

    async def delivered() -> bool:
        return len(failing.briefs) == 1

    await until(delivered, "it to be delivered")


@pytest.mark.parametrize("body", [{}, {"ids": [1], "all": True}, {"ids": [0]}, {"sink": "bad", "all": True}])
async def test_which_deliveries_are_meant_has_to_be_said_one_way(live: Running, body: dict[str, object]) -> None:
    assert (await live.http.post("/deliveries/replay", json=body)).status_code == 422


async def test_sinks_are_listed_as_configured_with_how_they_stand(live: Running) -> None:
    await dead(live, 1)

    items = (await live.http.get("/sinks")).json()["items"]

    assert [each["name"] for each in items] == ["good", "bad"]
    good, failing = items
    assert (good["waiting"], good["dead"], good["trouble"], good["configured"]) == (0, 0, None, True)
    assert good["delivered_at"] is not None
    assert (failing["dead"], failing["trouble"], failing["delivered_at"]) == (1, "unexpected OSError", None)


async def test_a_name_that_no_sink_can_have_is_refused(live: Running) -> None:
    for name in ("a\0b", "a" * 5000):
        assert (await live.http.get("/deliveries", params={"sink": name})).status_code == 422
        assert (await live.http.post("/sinks/resume", json={"name": name})).status_code == 422
        assert (await live.http.post("/deliveries/replay", json={"sink": name})).status_code == 422


async def test_a_mistyped_name_is_told_and_not_taken_for_a_sink_with_nothing_to_do(live: Running) -> None:
    for path, wanted in (("/sinks/resume", {"name": "god"}), ("/deliveries/replay", {"sink": "god"})):
        answer = await live.http.post(path, json=wanted)
        assert answer.status_code == 422
        assert "churn-radar sinks" in answer.json()["detail"]
        assert (await live.http.post(path, json=dict.fromkeys(wanted, "good"))).is_success


async def test_a_stopped_sink_says_so_and_is_resumed(live: Running) -> None:
    [_, failing] = live.service.sinks
    assert isinstance(failing, ListSink)
    failing.errors[:] = [GONE]
    await dead(live, 1)

    stands = (await live.http.get("/sinks")).json()["items"][1]
    resumed = await live.http.post("/sinks/resume", json={"name": "bad"})

    assert stands["stopped_because"] == "webhook (410): desk.example answered 410"
    assert stands["stopped_at"] is not None
    assert resumed.json() == {"name": "bad", "was_stopped": True, "dead": 1}
    assert (await live.http.get("/sinks")).json()["items"][1]["stopped_at"] is None


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/sinks"), ("GET", "/deliveries"), ("POST", "/deliveries/replay"), ("POST", "/sinks/resume")],
)
async def test_only_a_key_opens_them(live: Running, method: str, path: str) -> None:
    assert (await live.stranger.request(method, path, json={})).status_code == 401
