from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from churn_radar.customerio.gather import GatheredLookUps
from churn_radar.errors import GiveUp, RetryLater
from churn_radar.triage.customer import CustomerRef, IdType, Profile


class Client:
    """Answers when its turn comes, which the test decides; knows every customer but those in `unknown`."""

    def __init__(self) -> None:
        self.turn = asyncio.Event()
        self.asked: list[tuple[IdType, list[str]]] = []
        self.unknown: set[str] = set()
        self.bad: set[str] = set()
        self.failure: Exception | None = None

    async def look_up_gathered(self, id_type: IdType, take: Callable[[], Sequence[str]]) -> dict[str, Profile]:
        await self.turn.wait()
        ids = list(take())
        self.asked.append((id_type, ids))
        if self.failure is not None:
            raise self.failure
        if self.bad & set(ids):
            raise GiveUp("customerio", "malformed", status=400)
        return {
            value: Profile(CustomerRef(**{id_type.value: value}), {"who": value})
            for value in ids
            if value not in self.unknown
        }


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def look_ups(client: Client) -> GatheredLookUps:
    return GatheredLookUps(client, linger_seconds=0)


async def started(*tasks: asyncio.Task[Profile | None]) -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def ask(look_ups: GatheredLookUps, *customers: str) -> list[asyncio.Task[Profile | None]]:
    return [asyncio.create_task(look_ups.look_up(CustomerRef(id=customer))) for customer in customers]


async def test_look_ups_that_wait_at_the_same_time_share_one_call(client: Client, look_ups: GatheredLookUps) -> None:
    tasks = ask(look_ups, *(f"c{i}" for i in range(60)))
    await started(*tasks)
    client.turn.set()
    profiles = await asyncio.gather(*tasks)
    assert [len(ids) for _, ids in client.asked] == [60]
    assert [profile.attributes["who"] for profile in profiles if profile] == [f"c{i}" for i in range(60)]


async def test_a_call_names_a_hundred_customers_at_most_and_the_rest_goes_with_the_next(
    client: Client, look_ups: GatheredLookUps
) -> None:
    tasks = ask(look_ups, *(f"c{i}" for i in range(250)))
    await started(*tasks)
    client.turn.set()
    assert all(await asyncio.gather(*tasks))
    assert [len(ids) for _, ids in client.asked] == [100, 100, 50]


async def test_what_arrives_before_the_turn_comes_still_goes_along(client: Client, look_ups: GatheredLookUps) -> None:
    first = ask(look_ups, "c1")
    await started(*first)
    second = ask(look_ups, "c2")
    await started(*second)
    client.turn.set()
    await asyncio.gather(*first, *second)
    assert client.asked == [(IdType.ID, ["c1", "c2"])]


async def test_the_same_customer_asked_for_twice_is_looked_up_once(client: Client, look_ups: GatheredLookUps) -> None:
    client.turn.set()
    one, two = await asyncio.gather(*ask(look_ups, "c1", "c1"))
    assert one == two
    assert client.asked == [(IdType.ID, ["c1"])]


async def test_each_kind_of_identifier_has_calls_of_its_own(client: Client, look_ups: GatheredLookUps) -> None:
    client.turn.set()
    refs = (CustomerRef(id="c1"), CustomerRef(cio_id="x1"), CustomerRef(email="a@b.example"))
    assert all(await asyncio.gather(*(look_ups.look_up(ref) for ref in refs)))
    assert sorted(kind.value for kind, _ in client.asked) == ["cio_id", "email", "id"]


async def test_an_id_left_out_of_the_answer_is_tried_by_the_next_identifier_and_then_unknown(
    client: Client, look_ups: GatheredLookUps
) -> None:
    client.turn.set()
    client.unknown = {"c1", "c2"}
    found, gone = await asyncio.gather(
        look_ups.look_up(CustomerRef(id="c1", email="a@b.example")), look_ups.look_up(CustomerRef(id="c2"))
    )
    assert found is not None
    assert found.ref.email == "a@b.example"
    assert gone is None


async def test_one_bad_id_does_not_take_the_others_of_its_call_with_it(
    client: Client, look_ups: GatheredLookUps
) -> None:
    client.bad = {"bad"}
    tasks = ask(look_ups, "c1", "bad", "c2")
    await started(*tasks)
    client.turn.set()
    one, bad, two = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(one, Profile)
    assert isinstance(two, Profile)
    assert isinstance(bad, GiveUp)


async def test_a_failing_call_is_told_to_everybody_in_it_and_to_nobody_after(
    client: Client, look_ups: GatheredLookUps
) -> None:
    client.failure = RetryLater("customerio", "down", status=503)
    client.turn.set()
    outcomes = await asyncio.gather(*ask(look_ups, "c1", "c2"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [RetryLater, RetryLater]
    client.failure = None
    assert all(await asyncio.gather(*ask(look_ups, "c1", "c2")))


async def test_a_caller_that_is_cancelled_does_not_spoil_it_for_another(
    client: Client, look_ups: GatheredLookUps
) -> None:
    leaving, staying = ask(look_ups, "c1", "c1")
    await started(leaving, staying)
    leaving.cancel()
    client.turn.set()
    assert await staying is not None
    assert leaving.cancelled()
