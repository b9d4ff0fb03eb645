"""The Mave client over real sockets, and with made-up answers where a socket shows nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest
import respx
from pydantic import SecretStr

from churn_radar.errors import GiveUp, OperatorMustAct, RetryLater
from churn_radar.research.mave import MaveAnswer, MaveClient, read_answer
from churn_radar.research.prompt import ASKS, CLARIFICATION_REPLY
from churn_radar.settings import Settings
from churn_radar.simulator.mavera import MaveraSimulation, create_mavera
from churn_radar.simulator.server import running
from churn_radar.upstream import FREE_TURN, RateSeen, Turn, Unanswered, create_http
from tests.integration.wire import Behaviour, Wire, cutting, drip, flooding, hang, saying, wire

PROMPT = "A high-value customer just gave a churn signal. Study how to keep this kind of customer, please."
BRIEF = "\n\n".join(f"## {ask.heading}\n\nAdvice." for ask in ASKS)
QUESTION = "Happy to help. Which markets does the company sell in?"


class NoPace:
    calls, seconds, taken = 1_000_000, 1.0, None

    async def wait(self) -> Turn:
        return FREE_TURN

    def keep_to(self, calls: int) -> None: ...

    def stay_away(self, seconds: float) -> None: ...


async def no_sleep(_: float) -> None: ...


def client_of(
    base_url: str, *, read_seconds: float = 2.0, attempts: int = 1, workspace_id: str | None = None
) -> MaveClient:
    http = create_http(
        base_url,
        key=SecretStr("mvra_live_demo"),
        key_name="MAVERA_API_KEY",
        read_seconds=read_seconds,
        connections=10,
        trust_env=False,
    )
    return MaveClient(
        http,
        pace=NoPace(),
        attempts=attempts,
        workspace_id=workspace_id,
        sleep=no_sleep,
        deadline_margin_seconds=0.1,
    )


@contextlib.asynccontextmanager
async def talking(
    *answers: bytes | Behaviour, read_seconds: float = 2.0, attempts: int = 1, workspace_id: str | None = None
) -> AsyncIterator[tuple[MaveClient, Wire]]:
    async with wire(*answers) as place:
        client = client_of(place.url, read_seconds=read_seconds, attempts=attempts, workspace_id=workspace_id)
        try:
            yield client, place
        finally:
            await client.aclose()


def message(content: object = BRIEF, **more: object) -> dict[str, object]:
    return {"id": "msg_1", "object": "mave_message", "role": "assistant", "content": content, **more}


def charged(credits_used: int) -> dict[str, object]:
    return {"credits_used": credits_used}


# -- what is asked and what comes back


async def test_a_prompt_is_asked_in_a_new_thread_without_streaming() -> None:
    async with talking(saying(200, message())) as (client, place):
        answer = await client.ask(PROMPT)
    assert answer.content == BRIEF
    [heard] = place.heard
    assert (heard.method, heard.target) == ("POST", "/v1/mave/chat")
    assert heard.json == {"message": PROMPT, "stream": False}
    assert heard.headers["authorization"] == "Bearer mvra_live_demo"
    assert heard.headers["content-type"] == "application/json"


async def test_the_workspace_that_pays_is_named_when_it_is_set() -> None:
    async with talking(saying(200, message()), workspace_id="ws_7") as (client, place):
        await client.ask(PROMPT)
    assert place.heard[0].json == {"message": PROMPT, "workspace_id": "ws_7", "stream": False}


def test_every_documented_field_is_read_and_unknown_ones_are_kept() -> None:
    sources = [{"title": "A study", "url": "https://example.com/study", "domain": "example.com"}]
    validation = {"confidence_score": 0.8, "hallucination_risk": "low", "unsupported_claims": []}
    payload = message(
        thread_id="thread_1",
        sources=sources,
        validation=validation,
        usage=charged(42),
        personas_used=[],
        new={"a": 1},
    )
    assert read_answer(payload) == MaveAnswer(
        content=BRIEF,
        sources=sources,
        validation=validation,
        credits_used=42,
        thread_id="thread_1",
        message_id="msg_1",
        extra={
            "object": "mave_message",
            "role": "assistant",
            "usage": charged(42),
            "personas_used": [],
            "new": {"a": 1},
        },
    )


def test_content_alone_is_enough() -> None:
    assert read_answer({"content": BRIEF}) == MaveAnswer(BRIEF)


@pytest.mark.parametrize(
    "odd", [None, "x", 5, True, [], {"credits_used": "many"}, {"credits_used": True}, {"credits_used": -3}]
)
def test_fields_of_a_wrong_type_are_as_good_as_absent(odd: object) -> None:
    answer = read_answer(message(usage=odd, validation="high", thread_id=[], sources=None))
    assert answer is not None
    assert (answer.credits_used, answer.validation, answer.thread_id, answer.sources) == (0, {}, None, ())


@pytest.mark.parametrize(
    "payload",
    [
        message(""),
        message(" \n "),
        message(None),
        message(["a"]),
        message({"text": "a"}),
        {},
        [],
        "text",
        5,
        {"error": {"code": "x"}},
    ],
)
async def test_an_answer_without_content_is_retried_later(payload: object) -> None:
    async with talking(saying(200, payload)) as (client, _):
        with pytest.raises(RetryLater, match="answer has no content"):
            await client.ask(PROMPT)


@pytest.mark.parametrize("body", [b"", b"<!doctype html><p>Be right back</p>", b'{"content": "cut', b"data: {}\n\n"])
async def test_an_answer_that_is_no_json_is_retried_later(body: bytes) -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    async with talking(said) as (client, _):
        with pytest.raises(RetryLater):
            await client.ask(PROMPT)
    assert client.charged_unknown == 1


async def test_credits_of_an_empty_answer_are_counted_as_lost() -> None:
    async with talking(saying(200, message("", usage=charged(30)))) as (client, _):
        with pytest.raises(RetryLater):
            await client.ask(PROMPT)
    assert client.credits_lost == 30


async def test_an_error_tells_what_the_call_cost_all_the_same() -> None:
    nothing, told = saying(200, message("")), saying(200, message("", usage=charged(30)))
    refused = saying(503, {"error": {"code": "busy"}})
    for answers, attempts, lost, unanswered in (
        ([told], 1, 30, 0),
        ([nothing], 1, 0, 1),
        ([told, nothing], 2, 30, 1),
        ([cutting(200)], 1, 0, 1),
        ([refused], 1, 0, 0),
        ([nothing, refused], 2, 0, 1),
    ):
        async with talking(*answers, attempts=attempts) as (client, _):
            with pytest.raises(RetryLater) as caught:
                await client.ask(PROMPT)
        assert (caught.value.credits_lost, caught.value.unanswered) == (lost, unanswered)


async def test_an_answer_tells_what_the_calls_before_it_cost() -> None:
    told, brief = saying(200, message("", usage=charged(30))), saying(200, message(usage=charged(50)))
    for first, lost, unanswered in ((told, 30, 0), (cutting(200), 0, 1)):
        async with talking(first, brief, attempts=2) as (client, _):
            answer = await client.ask(PROMPT)
        assert (answer.credits_used, answer.credits_lost, answer.unanswered) == (50, lost, unanswered)


async def test_a_question_without_a_brief_tells_what_it_cost() -> None:
    question = saying(200, message(QUESTION, thread_id="thread_1", usage=charged(12)))
    async with talking(question, saying(404, {"error": {"code": "resource_not_found"}})) as (client, _):
        with pytest.raises(GiveUp) as caught:
            await client.ask(PROMPT)
    assert caught.value.credits_lost == 12


# -- a thread is gone on in


async def test_a_follow_up_says_which_thread_and_stays_in_it_when_the_answer_names_none() -> None:
    async with talking(saying(200, message())) as (client, place):
        answer = await client.follow_up(PROMPT, "thread_1")
    assert place.heard[0].json == {"message": PROMPT, "thread_id": "thread_1", "stream": False}
    assert answer.thread_id == "thread_1"


async def test_a_thread_that_is_gone_is_not_worth_repeating() -> None:
    said = {"error": {"message": "There is no such thread.", "code": "resource_not_found", "param": "thread_id"}}
    async with talking(saying(404, said), attempts=3) as (client, place):
        with pytest.raises(GiveUp):
            await client.follow_up(PROMPT, "thread_1")
    assert len(place.heard) == 1


# -- the question in place of a brief


async def test_a_clarifying_question_is_answered_once_in_its_thread() -> None:
    question = saying(200, message(QUESTION, thread_id="thread_1", usage=charged(12)))
    brief = saying(200, message(usage=charged(30)))
    async with talking(question, brief, workspace_id="ws_7") as (client, place):
        answer = await client.ask(PROMPT)
    assert answer.content == BRIEF
    assert answer.clarified
    assert answer.credits_used == 42
    assert answer.thread_id == "thread_1"
    assert client.credits_lost == 0
    assert place.heard[1].json == {
        "message": CLARIFICATION_REPLY,
        "thread_id": "thread_1",
        "workspace_id": "ws_7",
        "stream": False,
    }


async def test_a_second_question_is_taken_as_the_answer() -> None:
    async with talking(saying(200, message(QUESTION, thread_id="thread_1"))) as (client, place):
        answer = await client.ask(PROMPT)
    assert (answer.content, answer.clarified) == (QUESTION, True)
    assert len(place.heard) == 2


async def test_a_question_outside_any_thread_is_answered_once_in_a_new_message() -> None:
    asked, told = saying(200, message(QUESTION, usage=charged(12))), saying(200, message(BRIEF, usage=charged(30)))
    async with talking(asked, told) as (client, place):
        answer = await client.ask(PROMPT)
    assert (answer.content, answer.clarified, answer.credits_used) == (BRIEF, True, 42)
    assert len(place.heard) == 2
    assert place.heard[1].json == {"message": f"{PROMPT}\n\n{CLARIFICATION_REPLY}", "stream": False}


async def test_a_question_whose_brief_never_comes_counts_its_credits_as_lost() -> None:
    question = saying(200, message(QUESTION, thread_id="thread_1", usage=charged(12)))
    async with talking(question, saying(402, {"error": {"code": "credits_exhausted"}})) as (client, _):
        with pytest.raises(OperatorMustAct):
            await client.ask(PROMPT)
    assert client.credits_lost == 12


# -- refusals


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "missing_field", GiveUp),
        (401, "revoked_api_key", OperatorMustAct),
        (402, "budget_exceeded", OperatorMustAct),
        (403, "forbidden", GiveUp),
        (404, "not_found", GiveUp),
        (429, "rate_limit_exceeded", RetryLater),
        (500, "internal_error", RetryLater),
        (503, "unavailable", RetryLater),
    ],
)
async def test_each_documented_refusal_says_what_to_do(status: int, code: str, error: type[Exception]) -> None:
    refusal = saying(status, {"error": {"message": "No.", "type": "t", "code": code, "param": None}})
    async with talking(refusal) as (client, _):
        with pytest.raises(error, match=f"127.0.0.1 answered {status}: {code}: No") as caught:
            await client.ask(PROMPT)
    assert caught.value.args == (str(caught.value),)
    assert client.charged_unknown == 0


async def test_a_refusal_that_quotes_the_prompt_is_told_without_it() -> None:
    refusal = saying(400, {"error": {"message": f"invalid message: {PROMPT}", "code": "invalid_field"}})
    async with talking(refusal) as (client, _):
        with pytest.raises(GiveUp) as caught:
            await client.ask(PROMPT)
    assert "high-value customer" not in str(caught.value)


async def test_rate_headers_are_recorded_from_refusals_too() -> None:
    headers = (
        "X-RateLimit-Limit: 60",
        "X-RateLimit-Remaining: 0",
        "X-RateLimit-Reset: 1767323045",
        "Retry-After: 3600",
    )
    async with talking(saying(429, {}, *headers)) as (client, _):
        assert client.rate is None
        with pytest.raises(RetryLater) as caught:
            await client.ask(PROMPT)
    assert caught.value.retry_after is not None
    assert caught.value.retry_after.total_seconds() == 3600
    assert client.rate == RateSeen(60, 0, datetime.fromtimestamp(1767323045, UTC))


# -- the network on its bad days


@pytest.mark.parametrize("behaviour", [hang, drip])
async def test_a_call_that_runs_out_of_time_is_counted_and_not_repeated(behaviour: Behaviour) -> None:
    async with talking(behaviour, read_seconds=0.1, attempts=3) as (client, place):
        with pytest.raises(Unanswered, match="in time"):
            await asyncio.wait_for(client.ask(PROMPT), 2)
    assert client.charged_unknown == len(place.heard) == 1


async def test_a_cut_answer_is_asked_for_once_more() -> None:
    async with talking(cutting(200), saying(200, message()), attempts=3) as (client, place):
        answer = await client.ask(PROMPT)
    assert answer.content == BRIEF
    assert client.charged_unknown == 1
    assert len(place.heard) == 2


async def test_answers_that_keep_being_cut_are_left_to_the_job() -> None:
    async with talking(cutting(200), attempts=5) as (client, place):
        with pytest.raises(Unanswered, match="broke its answer off"):
            await client.ask(PROMPT)
    assert client.charged_unknown == len(place.heard) == 2


async def test_an_answer_without_end_is_not_read() -> None:
    async with talking(flooding(200)) as (client, _):
        with pytest.raises(RetryLater, match="answer too large"):
            await client.ask(PROMPT)


async def test_a_redirect_is_not_followed_and_the_key_stays_here() -> None:
    async with wire(saying(200, message())) as elsewhere:
        redirect = saying(307, {}, f"Location: http://127.0.0.1:{elsewhere.port}/v1/mave/chat")
        async with talking(redirect) as (client, _):
            with pytest.raises(GiveUp, match="redirects are not followed"):
                await client.ask(PROMPT)
    assert elsewhere.heard == []


@respx.mock
async def test_the_settings_say_where_with_which_key_and_how_often() -> None:
    route = respx.post("https://app.mavera.io/api/v1/mave/chat").mock(
        side_effect=[httpx.Response(503, headers={"Retry-After": "0"}), httpx.Response(200, json=message())]
    )
    settings = Settings(
        _env_file=None,
        environment="development",
        mavera_api_key="the-key",
        mavera_workspace_id="ws",
        in_call_attempts=2,
    )
    client = MaveClient.create(settings)
    assert (await client.ask(PROMPT)).content == BRIEF
    assert route.call_count == 2
    assert route.calls.last.request.headers["Authorization"] == "Bearer the-key"
    assert b'"workspace_id":"ws"' in route.calls.last.request.content
    await client.aclose()


# -- against the stand-in


async def test_the_stand_in_and_the_client_agree() -> None:
    simulation = MaveraSimulation(time_scale=0)
    app = create_mavera(simulation)
    simulation.faults.add("question")
    async with running(app) as url:
        client = client_of(f"{url}/api/v1")
        clarified, plain = await client.ask(PROMPT), await client.ask(PROMPT)
        await client.aclose()
    assert clarified.clarified
    assert not plain.clarified
    assert app.state.simulation.credits_used == clarified.credits_used + plain.credits_used
    assert client.rate is not None
    assert client.rate.limit == 60


async def test_no_more_than_the_documented_ten_calls_are_under_way() -> None:
    app = create_mavera(MaveraSimulation(latency_seconds=(0.05, 0.05)))
    async with running(app) as url:
        client = client_of(f"{url}/api/v1")
        answers = await asyncio.gather(*(client.ask(PROMPT) for _ in range(25)))
        await client.aclose()
    assert all(answers)
    assert app.state.simulation.most_in_flight["POST /mave/chat"] == 10
