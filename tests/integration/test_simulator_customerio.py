"""The Customer.io stand-in keeps to the App API's public reference."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from churn_radar.simulator.customerio import MANY, ONE, CustomerioSimulation, CustomerioState, create_customerio
from churn_radar.simulator.limits import Clock
from churn_radar.simulator.people import PEOPLE
from churn_radar.simulator.server import running

KEY = {"Authorization": "Bearer demo-app-key"}


class StillTime:
    """A clock that a test moves: sleeping returns at once and is written down."""

    def __init__(self) -> None:
        self.now = 1_795_000_000.0
        self.slept: list[float] = []

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, self._sleep)


@pytest.fixture
def time() -> StillTime:
    return StillTime()


@pytest.fixture
def settings(time: StillTime) -> CustomerioSimulation:
    return CustomerioSimulation(clock=time.clock)


@pytest.fixture
async def api(settings: CustomerioSimulation) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_customerio(settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://cio.test/v1", headers=KEY) as client:
        yield client


def customer(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["customer"]
    return found


async def test_a_customer_is_found_by_id_with_every_attribute_a_string(api: httpx.AsyncClient) -> None:
    found = customer(await api.get("/customers/cust_1001/attributes"))
    assert found["id"] == "cust_1001"
    assert found["identifiers"] == {"id": "cust_1001", "email": "jane@acme.co", "cio_id": "03000001"}
    assert all(isinstance(value, str) for value in found["attributes"].values())
    expected = {"plan_type": "pro", "mrr": "850", "industry": "fintech", "tenure_days": "342", "usage_tier": "high"}
    assert expected.items() <= found["attributes"].items()
    assert {"timestamps", "unsubscribed", "devices"} <= found.keys()


@pytest.mark.parametrize(
    ("path", "id_type"),
    [
        ("cust_1001", "id"),
        ("03000001", "cio_id"),
        ("jane%40acme.co", "email"),
        ("JANE@ACME.CO", "email"),
        ("team%2F42", "id"),
        ("ops%2Beu%40trailhead.example", "id"),
    ],
)
async def test_ids_with_special_characters_work_over_a_socket(path: str, id_type: str) -> None:
    app = create_customerio(CustomerioSimulation(latency_seconds=(0, 0)))
    async with running(app) as url, httpx.AsyncClient(headers=KEY) as client:
        answer = await client.get(f"{url}/v1/customers/{path}/attributes?id_type={id_type}")
    assert customer(answer)["attributes"]["first_name"]


@pytest.mark.parametrize("path", ["team/42", "ops+eu%40trailhead.example"])
async def test_ids_that_were_not_encoded_are_not_found(path: str) -> None:
    app = create_customerio(CustomerioSimulation(latency_seconds=(0, 0)))
    async with running(app) as url, httpx.AsyncClient(headers=KEY) as client:
        answer = await client.get(f"{url}/v1/customers/{path}/attributes")
    assert answer.status_code == 404


async def test_an_unknown_customer_is_404_with_the_documented_errors(api: httpx.AsyncClient) -> None:
    answer = await api.get("/customers/nobody/attributes")
    assert answer.status_code == 404
    assert answer.json()["errors"][0]["detail"]


async def test_an_unknown_id_type_is_400(api: httpx.AsyncClient) -> None:
    assert (await api.get("/customers/cust_1001/attributes?id_type=phone_number")).status_code == 400
    assert (await api.post("/customers/attributes?id_type=uuid", json={"ids": ["a"]})).status_code == 400


async def test_mail_is_400_in_a_workspace_where_it_is_no_identifier(
    api: httpx.AsyncClient, settings: CustomerioSimulation
) -> None:
    settings.email_is_identifier = False
    answer = await api.get("/customers/jane%40acme.co/attributes?id_type=email")
    assert answer.status_code == 400
    assert "not an identifier" in answer.json()["errors"][0]["detail"]


async def test_a_bulk_look_up_leaves_out_the_ids_that_do_not_exist(api: httpx.AsyncClient) -> None:
    answer = await api.post("/customers/attributes?id_type=id", json={"ids": ["cust_1003", "nobody", "cust_1001"]})
    assert [each["customer"]["id"] for each in answer.json()["customers"]] == ["cust_1003", "cust_1001"]


async def test_a_hundred_ids_are_one_call_and_more_are_malformed(api: httpx.AsyncClient) -> None:
    assert (await api.post("/customers/attributes", json={"ids": ["x"] * 100})).status_code == 200
    malformed: list[object] = [{"ids": ["x"] * 101}, {"ids": []}, {"ids": [1]}, {"id": "x"}, []]
    for body in malformed:
        answer = await api.post("/customers/attributes", json=body)
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["detail"]
    assert (await api.post("/customers/attributes", content=b"{")).status_code == 400


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer other"}, {"Authorization": "demo-app-key"}])
async def test_a_wrong_key_is_401(settings: CustomerioSimulation, headers: dict[str, str]) -> None:
    transport = httpx.ASGITransport(create_customerio(settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://cio.test") as client:
        assert (await client.get("/v1/customers/cust_1001/attributes", headers=headers)).status_code == 401


async def test_the_eleventh_call_within_any_second_is_429(api: httpx.AsyncClient, time: StillTime) -> None:
    statuses = []
    for _ in range(10):
        statuses.append((await api.get("/customers/cust_1001/attributes")).status_code)
        time.now += 0.05
    refused = await api.post("/customers/attributes", json={"ids": ["cust_1001"]})
    assert statuses == [200] * 10
    assert refused.status_code == 429
    time.now += 0.51
    assert (await api.get("/customers/cust_1001/attributes")).status_code == 200


async def test_a_rate_below_one_a_second_is_kept(time: StillTime) -> None:
    settings = CustomerioSimulation(requests_per_second=0.5, clock=time.clock)
    transport = httpx.ASGITransport(create_customerio(settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://cio.test/v1", headers=KEY) as api:
        answers = []
        for _ in range(3):
            answers.append((await api.get("/customers/cust_1001/attributes")).status_code)
            time.now += 1.1
    assert answers == [200, 429, 200]


async def test_an_answer_takes_a_moment(api: httpx.AsyncClient, time: StillTime) -> None:
    await api.get("/customers/cust_1001/attributes")
    (slept,) = time.slept
    assert 0.02 <= slept <= 0.08


async def test_the_state_shows_calls_statuses_ids_and_the_busiest_second(time: StillTime) -> None:
    app = create_customerio(CustomerioSimulation(clock=time.clock))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://cio.test", headers=KEY) as api:
        for _ in range(11):
            await api.get("/v1/customers/cust_1001/attributes")
        time.now += 5
        await api.post("/v1/customers/attributes", json={"ids": ["a", "b"]})
        shown = (await api.get("/_simulator/state", headers={"Authorization": ""})).json()
    state = app.state.simulation
    assert isinstance(state, CustomerioState)
    assert shown["calls"] == {ONE: 11, MANY: 1} == dict(state.calls)
    assert shown["statuses"] == {"200": 11, "429": 1}
    assert shown["busiest"] == {"seconds": 1.0, "calls": 11}
    assert shown["ids_asked"][-3:] == ["cust_1001", "a", "b"]
    assert shown["in_flight"] == {ONE: 0, MANY: 0}


async def test_other_paths_and_methods_are_refused_as_documented(api: httpx.AsyncClient) -> None:
    assert (await api.get("/segments")).json() == {"errors": [{"detail": "no such resource"}]}
    assert (await api.delete("/customers/attributes")).status_code == 405


def test_the_workspace_is_varied_enough_to_try_every_rule_on() -> None:
    assert len(PEOPLE) == 36
    assert len({person.attributes.get("industry") for person in PEOPLE}) >= 8
    plans = {person.attributes["plan_type"] for person in PEOPLE}
    assert plans == {"free", "starter", "pro", "business", "enterprise"}
    assert {"N/A", "$1,200", ""} <= {person.attributes["mrr"] for person in PEOPLE}
    assert sum(person.id is None for person in PEOPLE) >= 2
    for named in ("id", "cio_id", "email"):
        values = [getattr(person, named) for person in PEOPLE if getattr(person, named)]
        assert len(values) == len(set(values))
    assert all(isinstance(value, str) for person in PEOPLE for value in person.attributes.values())


def test_everybody_but_the_documented_example_lives_on_an_example_domain() -> None:
    mails = [person.email for person in PEOPLE if person.email]
    assert [mail for mail in mails if not mail.endswith(".example")] == ["jane@acme.co"]
