"""Briefs written back to Customer.io, against stand-ins of both of its APIs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest
from ulid import ULID

from churn_radar.customerio.brief_event import attributes_of, event_id, event_of
from churn_radar.errors import OperatorMustAct, RetryLater, SettingsError
from churn_radar.research.brief import BriefSections
from churn_radar.settings import Environment, IsolatedSettings, Settings
from churn_radar.simulator.faults import Faults
from churn_radar.simulator.people import PEOPLE, Person
from churn_radar.simulator.server import running
from churn_radar.simulator.track import TrackSimulation, TrackState, create_track
from churn_radar.sinks.customerio import CustomerioSink, create, person_of
from churn_radar.sinks.protocol import Declined, Parts, SinkOptions
from churn_radar.triage.consent import consent
from churn_radar.triage.customer import CustomerRef, Profile
from tests.support.briefs import a_brief

JANE = CustomerRef(id="cust_1001", cio_id="03000001", email="jane@acme.co")
PAGE = "https://radar.example/churn/desk/briefs/"


@dataclass
class Desk:
    """The sink, and what it meets; `known` is whom the App API finds."""

    sink: CustomerioSink
    state: TrackState
    faults: Faults
    asked: list[CustomerRef]
    known: Profile | None = None


def settings(**told: Any) -> Settings:
    return IsolatedSettings(
        **{
            "environment": Environment.DEVELOPMENT,
            "cio_site_id": "demo-site-id",
            "cio_track_key": "demo-track-key",
            "public_url": "https://radar.example/churn",
            "in_call_attempts": 1,
            **told,
        }
    )


@pytest.fixture(params=[{}])
async def desk(request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    app = create_track(simulation := TrackSimulation(people=(*PEOPLE, Person(None, None, "only@mail.example"))))
    async with running(app) as url:
        told = {"cio_track_url": f"{url}/api/v1", **request.param}
        sink = create(SinkOptions("customerio", None, settings(**told)))
        made = Desk(sink, app.state.simulation, simulation.faults, [], Profile(JANE))

        async def look_up(ref: CustomerRef) -> Profile | None:
            made.asked.append(ref)
            return made.known

        await sink.open(Parts(look_up))
        yield made
        await sink.aclose()


async def test_a_brief_becomes_an_event_and_attributes_of_its_person(desk: Desk) -> None:
    await desk.sink.deliver(brief := a_brief(cio_id="03000001", confidence=0.7))

    [event] = desk.state.events
    assert event["customer"] == "cio_03000001"
    assert (event["name"], event["id"]) == ("churn_brief_ready", event_id(brief))
    assert event["timestamp"] == int(brief.created_at.timestamp())
    assert event["data"] == {
        "brief_id": brief.id,
        "kind": "unsubscribed",
        "persona": "High-MRR Fintech (Pro plan)",
        "plan": "pro",
        "mrr": 850.0,
        "currency": "USD",
        "confidence": 0.7,
        "summary": "Why: They do, for reasons.",
        "may_mail": "no_marketing",
        "caution": brief.consent.mark,
        "link": PAGE + brief.id,
    }
    assert desk.state.attributes == {
        "cio_03000001": {
            "churn_brief_at": int(brief.created_at.timestamp()),
            "churn_brief_kind": "unsubscribed",
            "churn_brief_persona": "High-MRR Fintech (Pro plan)",
            "churn_brief_may_mail": "no_marketing",
            "churn_brief_link": PAGE + brief.id,
        }
    }
    assert desk.asked == [CustomerRef(id="cust_1001", cio_id="03000001")]


async def test_a_repeated_delivery_is_one_event(desk: Desk) -> None:
    await desk.sink.deliver(a_brief())
    await desk.sink.deliver(a_brief())
    await desk.sink.deliver(a_brief(2))

    assert (len(desk.state.events), desk.state.duplicates) == (2, 1)


async def test_nobody_who_is_gone_is_written_to(desk: Desk) -> None:
    desk.known = None

    with pytest.raises(Declined, match="nothing was written"):
        await desk.sink.deliver(a_brief())

    assert desk.state.calls == {}


@pytest.mark.parametrize("ref", [CustomerRef(id="deleted"), CustomerRef(cio_id="deleted"), CustomerRef(email="d@x.io")])
async def test_attributes_of_one_who_is_deleted_meanwhile_make_nobody(desk: Desk, ref: CustomerRef) -> None:
    await desk.sink._track.update(ref, {"a": 1})

    assert (desk.state.created, desk.state.attributes) == ([], {})


async def test_a_merged_person_is_written_to_under_their_name_of_today(desk: Desk) -> None:
    desk.known = Profile(CustomerRef(id="cust_1002", cio_id="03000002"))

    await desk.sink.deliver(a_brief())

    assert [event["customer"] for event in desk.state.events] == ["cio_03000002"]


async def test_without_a_cio_id_the_own_id_names_them_whatever_is_in_it(desk: Desk) -> None:
    desk.known = Profile(CustomerRef(email="only@mail.example"))

    await desk.sink.deliver(a_brief())

    assert [event["customer"] for event in desk.state.events] == ["only@mail.example"]


@pytest.mark.parametrize(
    ("told", "ref"),
    [
        ({"customer_id": "42", "cio_id": "a3", "email": "jane@acme.co"}, CustomerRef(id="42", cio_id="a3")),
        ({"customer_id": "a3", "cio_id": "a3", "email": "jane@acme.co"}, CustomerRef(cio_id="a3")),
        ({"customer_id": "jane@acme.co", "email": "jane@acme.co"}, CustomerRef(email="jane@acme.co")),
    ],
)
def test_a_person_is_looked_up_by_what_lasts(told: dict[str, Any], ref: CustomerRef) -> None:
    assert person_of(a_brief(**told)) == ref


@pytest.mark.parametrize("desk", [{"cio_track_key": "wrong"}], indirect=True)
async def test_wrong_credentials_are_the_operators_to_mend(desk: Desk) -> None:
    with pytest.raises(OperatorMustAct, match="CHURN_RADAR_CIO_TRACK_KEY") as caught:
        await desk.sink.deliver(a_brief())

    assert caught.value.status == 401
    with pytest.raises(OperatorMustAct):
        await desk.sink.check()


async def test_a_check_changes_nothing(desk: Desk) -> None:
    await desk.sink.check()

    assert (dict(desk.state.calls), desk.state.events) == ({"GET /accounts/region": 1}, [])


@pytest.mark.parametrize("fault", ["status:503", "status:429", "cut"])
async def test_an_outage_is_tried_again(desk: Desk, fault: str) -> None:
    desk.faults.add(fault, 1)

    with pytest.raises(RetryLater):
        await desk.sink.deliver(a_brief())

    await desk.sink.deliver(a_brief())
    assert len(desk.state.events) == 1


async def test_an_empty_answer_is_a_success() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200))
    sink = create(SinkOptions("customerio", None, settings()))

    async def look_up(ref: CustomerRef) -> Profile | None:
        return Profile(JANE)

    await sink.open(Parts(look_up))
    sink._track._upstream.http._transport = transport
    await sink.deliver(a_brief())
    await sink.aclose()


async def test_the_rate_is_held(desk: Desk) -> None:
    assert desk.sink._track._upstream.rate_in_force().limit == 50


def test_without_credentials_the_start_stops_with_one_line() -> None:
    with pytest.raises(SettingsError) as caught:
        create(SinkOptions("customerio", None, settings(cio_track_key=None)))

    assert "CHURN_RADAR_CIO_TRACK_KEY" in caught.value.problems[0]


@pytest.mark.parametrize(
    ("region", "url"), [("us", "https://track.customer.io/api/v1"), ("eu", "https://track-eu.customer.io/api/v1")]
)
def test_the_region_decides_the_address(region: str, url: str) -> None:
    assert settings(cio_region=region).track_api_url == url


# -- what is told


def test_an_event_id_is_a_ulid_of_the_briefs_time_and_id() -> None:
    brief = a_brief(created_at=datetime(2026, 11, 24, 12, 0, 1, 234000, tzinfo=UTC))

    ulid = ULID.from_str(event_id(brief))

    assert ulid.datetime == brief.created_at
    assert event_id(brief) == event_id(brief.model_copy(update={"research_brief": "x"}))
    assert event_id(brief) != event_id(brief.model_copy(update={"id": "brf_2"}))
    later = brief.model_copy(update={"created_at": brief.created_at + timedelta(milliseconds=1)})
    assert event_id(brief) < event_id(later)


def test_an_event_stays_within_the_limit_however_long_the_brief_is() -> None:
    long = "😀 word\n" * 100_000
    sections = BriefSections(churn_reasons=long, offer=long, timing=long)
    brief = a_brief(sections=sections, research_brief=long, persona_type=long, plan=long)

    assert len(orjson.dumps(event_of(brief, "https://radar.example/1"))) < 32 * 1024
    for value in attributes_of(brief, None).values():
        assert len(str(value).encode()) < 1000


def test_an_event_names_nothing_that_steers_a_message() -> None:
    told = event_of(a_brief(consent=consent([("complained", "email")])), None)["data"]

    assert not {"from_address", "recipient", "reply_to", "email"} & set(told)
    assert told["may_mail"] == "nothing"
