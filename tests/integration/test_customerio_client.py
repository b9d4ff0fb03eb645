"""The App API client over real sockets, and with made-up answers where a socket shows nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from urllib.parse import unquote

import httpx
import pytest
import respx
from pydantic import SecretStr

from churn_radar.customerio.client import CustomerioClient
from churn_radar.customerio.gather import GatheredLookUps
from churn_radar.errors import GiveUp, OperatorMustAct, RetryLater, UpstreamError
from churn_radar.settings import Settings
from churn_radar.simulator.customerio import CustomerioSimulation, create_customerio
from churn_radar.simulator.server import running
from churn_radar.triage.customer import CustomerRef, IdType
from churn_radar.upstream import FREE_TURN, Turn, Unanswered, create_http
from tests.integration.wire import Behaviour, Wire, cutting, drip, flooding, hang, saying, wire

ID = CustomerRef(id="cust_1001")


class NoPace:
    calls, seconds, taken = 1_000_000, 1.0, None

    async def wait(self) -> Turn:
        return FREE_TURN

    def keep_to(self, calls: int) -> None: ...

    def stay_away(self, seconds: float) -> None: ...


async def no_sleep(_: float) -> None: ...


def client_of(base_url: str, *, read_seconds: float = 2.0, attempts: int = 1, margin: float = 0.1) -> CustomerioClient:
    http = create_http(
        base_url,
        key=SecretStr("app-key"),
        key_name="CIO_APP_KEY",
        read_seconds=read_seconds,
        connections=5,
        trust_env=False,
    )
    return CustomerioClient(http, pace=NoPace(), attempts=attempts, sleep=no_sleep, deadline_margin_seconds=margin)


@contextlib.asynccontextmanager
async def talking(
    *answers: bytes | Behaviour, read_seconds: float = 2.0, attempts: int = 1
) -> AsyncIterator[tuple[CustomerioClient, Wire]]:
    async with wire(*answers) as place:
        client = client_of(place.url, read_seconds=read_seconds, attempts=attempts)
        try:
            yield client, place
        finally:
            await client.aclose()


def customer(**attributes: str) -> dict[str, object]:
    names = {name: attributes[name] for name in ("id", "cio_id", "email") if name in attributes}
    return {"customer": {"id": attributes.get("id"), "attributes": attributes, "identifiers": names}}


FOUND = saying(200, customer(id="cust_1001", plan_type="pro", mrr="850"))
NOT_FOUND = saying(404, {"errors": [{"detail": "no customer"}]})


# -- one customer


async def test_a_customer_is_looked_up_by_id_with_the_key() -> None:
    async with talking(FOUND) as (client, place):
        profile = await client.look_up(ID)
    assert profile is not None
    assert profile.ref == ID
    assert profile.attributes["mrr"] == "850"
    [heard] = place.heard
    assert (heard.method, heard.target) == ("GET", "/v1/customers/cust_1001/attributes?id_type=id")
    assert heard.headers["authorization"] == "Bearer app-key"
    assert heard.headers["user-agent"].startswith("churn_radar/")


@pytest.mark.parametrize(
    "odd",
    [
        "a/b",
        "a%2Fb",
        "100%",
        "jo+win@example.com",
        "a b",
        "a?b#c",
        "..a",
        "../..",
        "日本",
        "a:b",
        "a\\b",
        "a\nb",
        "~",
        ";x=1",
    ],
)
async def test_an_id_of_any_characters_arrives_as_it_is(odd: str) -> None:
    async with talking(FOUND) as (client, place):
        await client.look_up(CustomerRef(id=odd))
    path, _, query = place.heard[0].target.partition("?")
    before, segment, after = path.removeprefix("/v1").removesuffix("/attributes").rpartition("/")
    assert (before, segment, unquote(after)) == ("/customers", "/", odd)
    assert query == "id_type=id"
    assert not set("+@ ") & set(after)


@pytest.mark.parametrize("dots", [".", ".."])
async def test_an_id_that_is_a_path_step_goes_in_a_body(dots: str) -> None:
    async with talking(saying(200, {"customers": [customer(id=dots)]})) as (client, place):
        profile = await client.look_up(CustomerRef(id=dots))
    assert profile is not None
    assert (place.heard[0].target, place.heard[0].json) == (
        "/v1/customers/attributes?id_type=id",
        {"ids": [dots]},
    )


@pytest.mark.parametrize("status", [404, 405, 501])
@pytest.mark.parametrize("dots", [".", ".."])
async def test_without_a_bulk_look_up_an_id_that_is_a_path_step_is_passed_over_for_the_next(
    dots: str, status: int
) -> None:
    async with talking(saying(status, {}), saying(200, customer(id=dots, email="jo@example.com"))) as (client, place):
        profile = await client.look_up(CustomerRef(id=dots, email="jo@example.com"))
    assert profile is not None
    assert [heard.target.partition("?")[2] for heard in place.heard] == ["id_type=id", "id_type=email"]
    async with talking(saying(status, {})) as (client, _):
        assert await GatheredLookUps(client).look_up(CustomerRef(id=dots)) is None


@pytest.mark.parametrize("status", [400, 500])
async def test_an_error_that_is_not_about_the_bulk_look_up_stays_one_for_such_an_id(status: int) -> None:
    async with talking(saying(status, {})) as (client, _):
        with pytest.raises(UpstreamError):
            await client.look_up(CustomerRef(id=".."))


async def test_a_customer_unknown_by_id_is_looked_up_by_the_other_identifiers() -> None:
    found = saying(200, customer(id="9", cio_id="a3", email="jo@example.com"))
    async with talking(NOT_FOUND, NOT_FOUND, found) as (client, place):
        profile = await client.look_up(CustomerRef("1", "a3", "jo@example.com"))
    assert profile is not None
    assert profile.ref.id == "9"
    assert [heard.target.partition("?")[2] for heard in place.heard] == [
        "id_type=id",
        "id_type=cio_id",
        "id_type=email",
    ]


async def test_a_customer_unknown_by_every_identifier_is_none() -> None:
    async with talking(NOT_FOUND) as (client, place):
        assert await client.look_up(CustomerRef("1", "a3", "jo@example.com")) is None
    assert len(place.heard) == 3


async def test_a_workspace_without_mail_identifiers_knows_nobody_by_mail() -> None:
    refusal = saying(400, {"errors": [{"detail": "email is not an identifier in this workspace"}]})
    async with talking(refusal) as (client, _):
        assert await client.look_up(CustomerRef(email="jo@example.com")) is None
        assert await client.look_up_many(IdType.EMAIL, ["jo@example.com"]) == {}
        with pytest.raises(GiveUp):
            await client.look_up(ID)


async def test_a_web_page_in_place_of_the_api_is_not_an_unknown_customer() -> None:
    page = b"HTTP/1.1 404 No\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"
    async with talking(page) as (client, _):
        with pytest.raises(RetryLater, match="CHURN_RADAR_CIO_APP_URL"):
            await client.look_up(ID)


async def test_a_customer_whose_answer_names_nobody_keeps_the_name_asked_for() -> None:
    async with talking(saying(200, {"customer": {"attributes": {"plan_type": "pro"}}})) as (client, _):
        profile = await client.look_up(ID)
    assert profile is not None
    assert profile.ref == ID


async def test_the_name_that_was_asked_for_stays_where_the_answer_tells_only_others() -> None:
    payload = {"customer": {"email": "flat1@acme.example", "plan_type": "pro"}}
    async with talking(saying(200, payload)) as (client, _):
        profile = await client.look_up(CustomerRef(id="flat1"))
    assert profile is not None
    assert profile.ref == CustomerRef(id="flat1", email="flat1@acme.example")


async def test_an_identifier_that_the_workspace_does_not_take_is_passed_over_for_the_next() -> None:
    refused, found = saying(400, {"errors": [{"detail": "no"}]}), saying(200, {"customer": {"id": "7"}})
    async with talking(refused, found) as (client, place):
        profile = await client.look_up(CustomerRef(id="7", email="a@b.example"))
    assert profile is not None
    assert len(place.heard) == 2
    async with talking(saying(400, {"errors": [{"detail": "no"}]})) as (client, _):
        with pytest.raises(GiveUp):
            await client.look_up(CustomerRef(id="7"))


@pytest.mark.parametrize("payload", [{}, {"customer": None}, [], "customer", 5])
async def test_a_success_without_a_customer_is_retried_later(payload: object) -> None:
    async with talking(saying(200, payload)) as (client, _):
        with pytest.raises(RetryLater):
            await client.look_up(ID)


async def test_half_a_character_is_nobodys_id() -> None:
    async with talking(FOUND) as (client, place):
        assert await client.look_up(CustomerRef(id="cut \ud83d")) is None
        assert await client.look_up_many(IdType.ID, ["\ud83d", " "]) == {}
    assert place.heard == []


# -- up to a hundred customers


async def test_many_customers_are_looked_up_in_one_call_and_keyed_as_asked() -> None:
    answer = saying(200, {"customers": [customer(id="2", mrr="9"), customer(id="1")]})
    async with talking(answer) as (client, place):
        found = await client.look_up_many(IdType.ID, ["1", "2", "3", "1"])
    assert set(found) == {"1", "2"}
    assert found["2"].attributes["mrr"] == "9"
    [heard] = place.heard
    assert (heard.method, heard.target) == ("POST", "/v1/customers/attributes?id_type=id")
    assert heard.json == {"ids": ["1", "2", "3"]}


async def test_mail_addresses_match_in_any_case_and_other_ids_do_not() -> None:
    answer = saying(200, {"customers": [customer(id="Ab", email="jo@example.com")]})
    async with talking(answer) as (client, _):
        by_mail = await client.look_up_many(IdType.EMAIL, ["Jo@Example.com", "JO@example.com", "al@example.com"])
        by_id = await client.look_up_many(IdType.ID, ["ab", "Ab"])
    assert set(by_mail) == {"Jo@Example.com", "JO@example.com"}
    assert set(by_id) == {"Ab"}


async def test_a_merged_customer_is_given_to_the_one_id_without_an_answer() -> None:
    answer = saying(200, {"customers": [customer(id="1"), customer(id="merged-into")]})
    async with talking(answer) as (client, _):
        found = await client.look_up_many(IdType.ID, ["1", "2"])
        unsure = await client.look_up_many(IdType.ID, ["1", "2", "3"])
    assert found["2"].ref.id == "merged-into"
    assert set(unsure) == {"1"}


async def test_one_customers_mail_is_not_taken_for_anothers_id() -> None:
    answer = saying(200, {"customers": [customer(id="7", email="a@example.com")]})
    async with talking(answer) as (client, _):
        found = await client.look_up_many(IdType.ID, ["a@example.com", "7"])
    assert set(found) == {"7"}


async def test_nobody_asked_for_is_nobody_found_without_a_call() -> None:
    async with talking(FOUND) as (client, place):
        assert await client.look_up_many(IdType.ID, []) == {}
        with pytest.raises(ValueError, match="at most 100"):
            await client.look_up_many(IdType.ID, [str(number) for number in range(101)])
    assert place.heard == []


async def test_a_bulk_answer_without_a_list_is_retried_later() -> None:
    async with talking(saying(200, {"customers": None})) as (client, _):
        with pytest.raises(RetryLater):
            await client.look_up_many(IdType.ID, ["1"])


# -- the network on its bad days


async def test_an_upstream_that_never_answers_is_left_after_the_read_timeout() -> None:
    async with talking(hang, read_seconds=0.05) as (client, _):
        with pytest.raises(Unanswered, match="in time"):
            await client.look_up(ID)


async def test_an_answer_that_drips_is_left_after_the_deadline() -> None:
    async with talking(drip, read_seconds=0.1) as (client, _):
        with pytest.raises(Unanswered, match="in time"):
            await asyncio.wait_for(client.look_up(ID), 2)


async def test_an_answer_cut_off_is_tried_again_within_the_call() -> None:
    async with talking(cutting(200), FOUND, attempts=2) as (client, place):
        assert await client.look_up(ID) is not None
    assert len(place.heard) == 2


async def test_an_answer_without_end_is_not_read() -> None:
    async with talking(flooding(200)) as (client, _):
        with pytest.raises(RetryLater, match="answer too large"):
            await client.look_up(ID)


@pytest.mark.parametrize("behaviour", [flooding(503), cutting(503)])
async def test_an_error_with_a_body_that_cannot_be_read_is_still_an_error(behaviour: Behaviour) -> None:
    async with talking(behaviour) as (client, _):
        with pytest.raises(RetryLater, match="answered 503"):
            await client.look_up(ID)


async def test_a_redirect_is_not_followed_and_the_key_stays_here() -> None:
    async with wire(FOUND) as elsewhere:
        redirect = saying(302, {}, f"Location: http://127.0.0.1:{elsewhere.port}/v1/customers/cust_1001/attributes")
        async with talking(redirect) as (client, _):
            with pytest.raises(GiveUp, match="redirects are not followed"):
                await client.look_up(ID)
    assert elsewhere.heard == []


async def test_a_name_that_does_not_resolve_is_told() -> None:
    client = client_of("https://does-not-exist.invalid/v1")
    with pytest.raises(RetryLater, match=r"the name does-not-exist\.invalid does not resolve"):
        await client.look_up(ID)
    await client.aclose()


async def test_a_closed_port_is_told() -> None:
    async with wire(FOUND) as place:
        pass
    client = client_of(place.url)
    with pytest.raises(RetryLater, match="connection refused"):
        await client.look_up(ID)
    await client.aclose()


async def test_a_failing_tls_handshake_is_told() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    client = client_of(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    with pytest.raises(RetryLater, match=r"TLS with 127\.0\.0\.1 failed: .*(version|record)"):
        await client.look_up(ID)
    await client.aclose()
    server.close()
    await server.wait_closed()


async def test_an_error_repeats_neither_the_id_nor_the_address() -> None:
    echo = saying(422, {"errors": [{"detail": "cannot show jo@example.com (cust_1001, jo%40example.com)"}]})
    async with talking(echo) as (client, _):
        for ref in (ID, CustomerRef(email="jo@example.com")):
            with pytest.raises(GiveUp) as caught:
                await client.look_up(ref)
            assert "example.com" not in str(caught.value)
            assert "cannot show" in str(caught.value)
            assert ref.id is None or ref.id not in str(caught.value)


@respx.mock
async def test_a_connection_that_takes_too_long_is_tried_again() -> None:
    route = respx.get("https://api.customer.io/v1/customers/cust_1001/attributes").mock(
        side_effect=[
            httpx.ConnectTimeout("slow"),
            httpx.Response(429),
            httpx.Response(200, json=customer(id="cust_1001")),
        ]
    )
    client = client_of("https://api.customer.io/v1", attempts=3)
    assert await client.look_up(ID) is not None
    assert route.call_count == 3
    await client.aclose()


@respx.mock
async def test_the_settings_say_where_and_with_which_key() -> None:
    route = respx.get("https://api-eu.customer.io/v1/customers/cust_1001/attributes").mock(
        return_value=httpx.Response(401)
    )
    settings = Settings(_env_file=None, environment="development", cio_region="eu", cio_app_key="the-key")
    client = CustomerioClient.create(settings)
    with pytest.raises(OperatorMustAct, match="CIO_APP_KEY") as caught:
        await client.look_up(ID)
    assert route.calls.last.request.headers["Authorization"] == "Bearer the-key"
    assert "the-key" not in str(caught.value)
    await client.aclose()


# -- against the stand-in


async def test_the_stand_in_and_the_client_agree() -> None:
    app = create_customerio(CustomerioSimulation(app_key="app-key", latency_seconds=(0, 0)))
    async with running(app) as url:
        client = client_of(f"{url}/v1")
        profile = await client.look_up(CustomerRef(id="nobody", email="jane@acme.co"))
        many = await client.look_up_many(IdType.ID, ["cust_1001", "nobody"])
        await client.aclose()
    assert profile is not None
    assert profile.ref.id == "cust_1001"
    assert json.loads(json.dumps(many["cust_1001"].attributes))["plan_type"] == "pro"
    assert set(many) == {"cust_1001"}


async def test_the_documented_ten_a_second_are_never_overrun() -> None:
    app = create_customerio(CustomerioSimulation(app_key="app-key", latency_seconds=(0, 0)))
    async with running(app) as url:
        settings = Settings(_env_file=None, environment="development", cio_app_url=f"{url}/v1", cio_app_key="app-key")
        client = CustomerioClient.create(settings)
        profiles = await asyncio.gather(*(client.look_up(ID) for _ in range(12)))
        await client.aclose()
    assert all(profiles)
    assert app.state.simulation.arrivals.busiest <= 10
