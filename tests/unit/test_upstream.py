"""The seam to both upstreams: pace, retries, and what a "no" means. Time is made up, and so is the network."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from churn_radar.errors import GiveUp, OperatorMustAct, RetryLater, SettingsError, UpstreamError
from churn_radar.upstream import (
    Answer,
    RateSeen,
    Request,
    Turn,
    Unanswered,
    Upstream,
    WindowPace,
    create_http,
    per_second,
)
from churn_radar.upstream.decode import decode_json
from churn_radar.upstream.rate import Throttle, read_rate
from churn_radar.upstream.refusal import error_text, read_retry_after

NOW = 1_767_323_045.0
SECRET = "mvra_live_topsecret"


class FakeTime:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = NOW
        self.sleeps: list[float] = []

    def now(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.seconds += seconds


class CountingPace:
    def __init__(self, calls: int, seconds: float) -> None:
        self.calls = calls
        self.seconds = seconds
        self.kept_to = calls
        self.turns = 0
        self.taken: int | None = None
        self.stayed_away: list[float] = []
        self.over = 0
        self.sent: list[float] = []

    async def wait(self) -> Turn:
        self.turns += 1
        return _CountedTurn(self)

    def stay_away(self, seconds: float) -> None:
        self.stayed_away.append(seconds)

    def keep_to(self, calls: int) -> None:
        self.kept_to = calls


class _CountedTurn:
    def __init__(self, pace: CountingPace) -> None:
        self._pace = pace

    def sent(self, seconds: float) -> None:
        self._pace.sent.append(seconds)

    def over(self) -> None:
        self._pace.over += 1


Reply = httpx.Response | Exception


class Bench:
    """An Upstream over a made-up network that gives the replies in turn, the last one for ever."""

    def __init__(self, *replies: Reply, charges: bool = False, attempts: int = 3, limit: int = 600) -> None:
        self.replies: Sequence[Reply] = replies
        self.requests: list[httpx.Request] = []
        self.time = FakeTime()
        self.pace = CountingPace(limit, 60.0)
        http = httpx.AsyncClient(
            base_url="https://api.example.com/v1",
            headers={"Authorization": f"Bearer {SECRET}"},
            transport=httpx.MockTransport(self._reply),
        )
        self.upstream = Upstream(
            "mavera",
            http,
            key_name="MAVERA_API_KEY",
            pace=self.pace,
            attempts=attempts,
            concurrency=2,
            max_bytes=1000,
            charges=charges,
            sleep=self.time.sleep,
            now=self.time.now,
            monotonic=self.time.now,
        )

    def _reply(self, request: httpx.Request) -> httpx.Response:
        reply = self.replies[min(len(self.requests), len(self.replies) - 1)]
        self.requests.append(request)
        if isinstance(reply, Exception):
            raise reply
        # A response is a stream that is read once; one that is given twice has to be made twice.
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

    async def call(self, *sent: str) -> object:
        return await self.upstream.call(Request("GET", "thing", sent=sent), lambda answer: answer.payload)

    async def fails(self, *sent: str) -> UpstreamError:
        with pytest.raises(UpstreamError) as caught:
            await self.call(*sent)
        return caught.value


def refused(status: int, payload: object = None, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json=payload, headers=named)


GOOD = httpx.Response(200, json={"fine": True})


# -- retries within a call


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 520])
async def test_a_passing_refusal_is_tried_again(status: int) -> None:
    bench = Bench(refused(status), GOOD)
    assert await bench.call() == {"fine": True}
    assert len(bench.requests) == 2


@pytest.mark.parametrize("status", [400, 403, 404, 405, 409, 413, 422])
async def test_a_lasting_refusal_is_given_up_at_once(status: int) -> None:
    bench = Bench(refused(status), GOOD)
    error = await bench.fails()
    assert isinstance(error, GiveUp)
    assert error.status == status
    assert len(bench.requests) == 1


@pytest.mark.parametrize("status", [401, 402])
async def test_a_refused_key_and_spent_credits_are_the_operators_to_mend(status: int) -> None:
    bench = Bench(refused(status), GOOD)
    error = await bench.fails()
    assert isinstance(error, OperatorMustAct)
    assert "MAVERA_API_KEY" in str(error)
    assert len(bench.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304])
async def test_a_redirect_is_given_up(status: int) -> None:
    bench = Bench(refused(status, location="https://elsewhere.example/"), GOOD)
    error = await bench.fails()
    assert isinstance(error, GiveUp)
    assert "redirects are not followed" in str(error)
    assert len(bench.requests) == 1


async def test_waits_between_attempts_grow_and_are_jittered() -> None:
    firsts, seconds = [], []
    for _ in range(20):
        bench = Bench(refused(503))
        await bench.fails()
        first, second = bench.time.sleeps
        firsts.append(first)
        seconds.append(second)
    assert all(0.5 <= wait <= 1.0 for wait in firsts)
    assert all(1.0 <= wait <= 1.5 for wait in seconds)
    assert len(set(firsts)) > 1


async def test_attempts_end_and_the_last_error_is_told() -> None:
    bench = Bench(refused(500), refused(502), refused(503), attempts=3)
    error = await bench.fails()
    assert isinstance(error, RetryLater)
    assert (error.service, error.status) == ("mavera", 503)
    assert len(bench.requests) == bench.pace.turns == 3


async def test_a_retry_after_of_seconds_is_obeyed() -> None:
    bench = Bench(refused(429, Retry_After="7"), GOOD)
    await bench.call()
    assert sum(bench.time.sleeps) == 7


async def test_a_retry_after_of_a_date_is_obeyed() -> None:
    bench = Bench(refused(503, Retry_After="Fri, 02 Jan 2026 03:04:17 GMT"), GOOD)
    await bench.call()
    assert sum(bench.time.sleeps) == pytest.approx(12)


async def test_a_retry_after_of_nothing_still_backs_off() -> None:
    bench = Bench(refused(429, Retry_After="0"), GOOD)
    await bench.call()
    assert 0.5 <= sum(bench.time.sleeps) <= 1.0


async def test_a_long_retry_after_is_left_to_the_job() -> None:
    bench = Bench(refused(429, Retry_After="21"), GOOD)
    error = await bench.fails()
    assert isinstance(error, RetryLater)
    assert error.retry_after == timedelta(seconds=21)
    assert bench.time.sleeps == []


async def test_what_one_call_is_told_to_wait_holds_the_next_call_too() -> None:
    bench = Bench(refused(429, Retry_After="45"), GOOD)
    await bench.fails()
    await bench.call()
    assert bench.time.sleeps == [45]


async def test_a_hold_is_never_longer_than_a_minute() -> None:
    bench = Bench(refused(429, Retry_After="86400"), GOOD)
    await bench.fails()
    await bench.call()
    await bench.call()
    assert bench.time.sleeps == [60]


# -- calls that may have been charged


@pytest.mark.parametrize("failure", [httpx.ReadTimeout("slow"), TimeoutError()])
async def test_a_timeout_of_a_call_that_costs_is_left_to_the_job_and_counted(failure: Exception) -> None:
    bench = Bench(failure, GOOD, charges=True)
    error = await bench.fails()
    assert isinstance(error, Unanswered)
    assert error.timed_out
    assert len(bench.requests) == bench.upstream.unanswered == 1


@pytest.mark.parametrize("failure", [httpx.RemoteProtocolError("cut"), httpx.ReadError("reset"), OSError("tls")])
async def test_a_cut_off_call_that_costs_is_repeated_once_and_counted(failure: Exception) -> None:
    bench = Bench(failure, charges=True, attempts=5)
    error = await bench.fails()
    assert isinstance(error, Unanswered)
    assert not error.timed_out
    assert len(bench.requests) == bench.upstream.unanswered == 2


async def test_a_timeout_of_a_call_that_costs_nothing_is_tried_again() -> None:
    bench = Bench(httpx.ReadTimeout("slow"), GOOD)
    assert await bench.call() == {"fine": True}


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectTimeout("x"),
        httpx.ConnectError("x"),
        httpx.PoolTimeout("x"),
        httpx.WriteError("x"),
        httpx.ProxyError("x"),
    ],
)
async def test_a_call_that_never_arrived_is_repeated_and_not_counted_as_charged(failure: Exception) -> None:
    bench = Bench(failure, failure, GOOD, charges=True)
    assert await bench.call() == {"fine": True}
    assert bench.upstream.unanswered == 0


@pytest.mark.parametrize("content", [b"", b"<!doctype html>", b'{"cut": ', b"null", b"[" * 100_000])
async def test_a_success_that_is_no_json_is_retried_later(content: bytes) -> None:
    bench = Bench(httpx.Response(200, content=content[:900]))
    error = await bench.fails()
    assert isinstance(error, Unanswered)
    assert len(bench.requests) == 3


async def test_an_answer_too_large_is_retried_later() -> None:
    bench = Bench(httpx.Response(200, json="x" * 1000))
    error = await bench.fails()
    assert isinstance(error, RetryLater)
    assert "answer too large" in str(error)


async def test_a_request_that_cannot_be_written_is_given_up() -> None:
    bench = Bench(GOOD)
    with pytest.raises(GiveUp):
        await bench.upstream.call(Request("GET", "x" * 70_000), lambda answer: answer)
    assert bench.requests == []


async def test_a_cancelled_call_stays_cancelled() -> None:
    bench = Bench(GOOD)

    async def for_ever() -> None:
        await asyncio.Event().wait()

    bench.pace.wait = for_ever  # type: ignore[method-assign, assignment]
    task = asyncio.create_task(bench.call())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_no_more_calls_are_under_way_than_allowed() -> None:
    bench = Bench(GOOD)
    under_way, most = 0, 0
    gate = asyncio.Event()

    async def slow(_: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await gate.wait()
        under_way -= 1
        return httpx.Response(200, json={})

    bench.upstream.http = httpx.AsyncClient(base_url="http://x", transport=httpx.MockTransport(slow))
    calls = [asyncio.create_task(bench.call()) for _ in range(6)]
    for _ in range(50):
        await asyncio.sleep(0)
    shown = bench.upstream.rate_in_force()
    assert (shown.in_flight, shown.concurrency) == (2, 2)
    gate.set()
    await asyncio.gather(*calls)
    assert most == 2
    assert bench.upstream.rate_in_force().in_flight == 0


async def test_a_status_that_the_caller_asks_to_see_comes_as_an_answer() -> None:
    bench = Bench(httpx.Response(404, text="<p>no</p>", headers={"Content-Type": "text/html"}))
    answer = await bench.upstream.call(Request("GET", "thing"), lambda answer: answer, also={404})
    assert answer == Answer(404, None, is_page=True)


# -- rate headers


async def test_rate_headers_are_kept_and_nothing_left_holds_the_next_call() -> None:
    headers = {
        "X_RateLimit_Limit": "60",
        "X_RateLimit_Remaining": "0",
        "X_RateLimit_Reset": str(int(NOW) + 30),
    }
    bench = Bench(refused(200, {"fine": 1}, **headers), GOOD)
    await bench.call()
    assert bench.upstream.rate == RateSeen(60, 0, datetime.fromtimestamp(NOW + 30, UTC))
    assert bench.time.sleeps == []
    await bench.call()
    assert bench.time.sleeps == [30]
    assert bench.upstream.rate is not None


@pytest.mark.parametrize(
    ("remaining", "reset", "hold"), [("2", "+30", 0), ("1", "+30", 30), ("0", "-30", 0), ("0", "+7200", 60)]
)
async def test_a_hold_needs_nothing_left_and_a_reset_to_come_and_ends_within_a_minute(
    remaining: str, reset: str, hold: float
) -> None:
    headers = {"X_RateLimit_Remaining": remaining, "X_RateLimit_Reset": str(int(NOW) + int(reset))}
    bench = Bench(refused(200, {"fine": 1}, **headers), GOOD)
    for _ in range(3):
        await bench.call()
    assert sum(bench.time.sleeps) == hold


@pytest.mark.parametrize(
    ("limit", "own", "of_all", "holds"),
    [
        (40, 38, None, False),
        (40, 37, None, True),
        (600, 1, 590, False),
        (600, 1, 589, True),
        (10, 10, None, False),
        (10, 9, None, True),
    ],
)
async def test_nothing_left_holds_nobody_where_all_that_was_taken_is_ours(
    limit: int, own: int, of_all: int | None, holds: bool
) -> None:
    spent = {"X_RateLimit_Limit": str(limit), "X_RateLimit_Remaining": "0", "X_RateLimit_Reset": str(int(NOW) + 30)}
    bench = Bench(*[GOOD] * (own - 1), refused(200, {"fine": 1}, **spent), GOOD, limit=limit)
    bench.pace.taken = of_all
    for _ in range(own + 1):
        await bench.call()
    assert bench.time.sleeps == ([30] if holds else [])
    assert bool(bench.pace.stayed_away) is holds


async def test_nothing_left_of_a_limit_above_the_setting_is_somebody_elses_doing() -> None:
    spent = {"X_RateLimit_Limit": "100", "X_RateLimit_Remaining": "0", "X_RateLimit_Reset": str(int(NOW) + 30)}
    bench = Bench(*[GOOD] * 39, refused(200, {"fine": 1}, **spent), GOOD, limit=40)
    for _ in range(41):
        await bench.call()
    assert bench.time.sleeps == [30]


async def test_the_rate_in_force_is_told_with_its_reasons() -> None:
    headers = {"X_RateLimit_Limit": "60", "X_RateLimit_Remaining": "0", "X_RateLimit_Reset": str(int(NOW) + 30)}
    bench = Bench(refused(200, {"fine": 1}, **headers), limit=120)
    before = bench.upstream.rate_in_force()
    assert (before.service, before.limit, before.window_seconds, before.in_force) == ("mavera", 120, 60.0, 120)
    assert (before.told, before.told_at, before.held_seconds, before.too_many) == (None, None, 0.0, 0)
    await bench.call()
    after = bench.upstream.rate_in_force()
    assert after.told == RateSeen(60, 0, datetime.fromtimestamp(NOW + 30, UTC))
    assert after.told_at == datetime.fromtimestamp(NOW, UTC)
    assert (after.limit, after.in_force, after.held_seconds) == (120, 60, 30.0)


@pytest.mark.parametrize(("told", "kept_to"), [("60", 60), ("600", 600), ("6000", 600), ("0", 600), ("junk", 600)])
async def test_a_limit_below_the_setting_is_kept_to_and_one_above_is_not(told: str, kept_to: int) -> None:
    bench = Bench(refused(200, {"fine": 1}, X_RateLimit_Limit=told))
    await bench.call()
    assert bench.pace.kept_to == bench.upstream.rate_in_force().in_force == kept_to


async def test_a_limit_that_is_raised_again_is_believed_at_once() -> None:
    bench = Bench(refused(200, {}, X_RateLimit_Limit="60"), refused(200, {}, X_RateLimit_Limit="240"))
    await bench.call()
    assert bench.pace.kept_to == 60
    await bench.call()
    assert bench.pace.kept_to == 240


async def test_after_a_hold_calls_leave_evenly_until_one_of_them_was_answered() -> None:
    bench = Bench(refused(429, Retry_After="30"), GOOD, attempts=1, limit=60)
    left: list[float] = []
    await bench.fails()
    gate = asyncio.Event()

    async def slow(_: httpx.Request) -> httpx.Response:
        left.append(bench.time.seconds - NOW)
        await gate.wait()
        return httpx.Response(200, json={})

    bench.upstream.http = httpx.AsyncClient(base_url="http://x", transport=httpx.MockTransport(slow))
    calls = [asyncio.create_task(bench.call()) for _ in range(4)]
    for _ in range(50):
        await asyncio.sleep(0)
    assert left == [30, 31]
    gate.set()
    await asyncio.gather(*calls)
    assert left == [30, 31, 31, 31] or left == [30, 31, 32, 32]


async def test_without_rate_headers_what_was_taken_is_kept_to_and_tried_a_little_faster_each_minute() -> None:
    bench = Bench(*[GOOD] * 20, refused(429), GOOD, attempts=1, limit=60)
    for _ in range(20):
        await bench.call()
    await bench.fails()
    assert bench.pace.kept_to == bench.upstream.rate_in_force().in_force == 20
    bench.time.seconds += 121
    await bench.call()
    assert bench.pace.kept_to == 26
    bench.time.seconds += 100 * 60
    await bench.call()
    assert bench.pace.kept_to == 60


async def test_a_429_out_of_the_blue_slows_down_no_further_than_to_a_quarter() -> None:
    bench = Bench(refused(429), GOOD, attempts=1, limit=12)
    await bench.fails()
    assert bench.pace.kept_to == 3


async def test_a_429_that_says_how_long_to_wait_is_taken_at_its_word_and_changes_no_limit() -> None:
    bench = Bench(refused(429, Retry_After="1"), GOOD, attempts=1, limit=12)
    await bench.fails()
    assert bench.pace.kept_to == bench.upstream.rate_in_force().in_force == 12
    assert bench.upstream.rate_in_force().too_many == 1


async def test_a_call_held_up_on_its_way_and_those_behind_it_never_meet_in_one_short_window() -> None:
    """The window is the service's: what counts is when calls arrive, and a loaded machine may hold them up."""
    bench = Bench(GOOD, limit=4)
    bench.pace.seconds = 1.0
    arrivals: list[float] = []
    bench.upstream = Upstream(
        "customerio",
        httpx.AsyncClient(base_url="http://x", transport=httpx.MockTransport(_held_up_on_their_way(arrivals))),
        key_name="CIO_APP_KEY",
        pace=bench.pace,
        attempts=1,
        concurrency=8,
        max_bytes=1000,
    )
    await asyncio.gather(*(bench.call() for _ in range(10)))
    arrivals.sort()
    assert len(arrivals) == 10
    assert all(later - earlier >= 1.0 for earlier, later in zip(arrivals, arrivals[4:], strict=False))
    assert arrivals[-1] - arrivals[0] < 2.9


def _held_up_on_their_way(arrivals: list[float]) -> Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]:
    """A network that takes its time with the first four calls and none with the rest."""
    begun = 0

    async def answer(_: httpx.Request) -> httpx.Response:
        nonlocal begun
        begun += 1
        await asyncio.sleep(0.3 if begun <= 4 else 0)
        arrivals.append(time.monotonic())
        return httpx.Response(200, json={})

    return answer


async def test_a_service_that_answers_slowly_is_called_no_less_often_for_long() -> None:
    throttle = Throttle(2, 1.0)
    throttle.leave(NOW)
    assert throttle.room_at(NOW) == NOW
    throttle.leave(NOW)
    assert throttle.room_at(NOW + 0.2) == NOW + 1.2
    assert throttle.room_at(NOW + 30) == NOW + 2.0
    throttle.ended(NOW, NOW + 0.5)
    assert throttle.room_at(NOW + 0.5) == NOW + 1.5
    throttle.ended(NOW, NOW + 40)
    assert throttle.room_at(NOW + 40) <= NOW + 40


async def test_a_clock_that_jumps_back_prolongs_no_hold() -> None:
    bench = Bench(refused(429, Retry_After="30"), GOOD, attempts=1)
    wall = NOW
    bench.upstream._now = lambda: wall
    await bench.fails()
    wall -= 7200
    await bench.call()
    assert bench.time.sleeps == [30]


@pytest.mark.parametrize("junk", ["", "many", "-1", "1e9", "9" * 5000, "²", "999999999999999"])
def test_junk_in_rate_headers_is_nothing_seen(junk: str) -> None:
    seen = read_rate({"x-ratelimit-remaining": "0", "x-ratelimit-reset": junk})
    assert seen == RateSeen(None, 0, None)
    assert seen.hold_until(NOW) == NOW
    assert read_rate({}) is None


# -- pace


async def test_no_window_ever_sees_more_calls_than_allowed() -> None:
    pace = WindowPace(5, 0.08, spread_seconds=0.02)
    times: list[float] = []

    async def go() -> None:
        await pace.wait()
        times.append(time.monotonic())

    await asyncio.gather(*(go() for _ in range(16)))
    assert len(times) == 16
    assert all(later - earlier >= 0.08 for earlier, later in zip(times, times[5:], strict=False))
    assert times[-1] - times[0] < 1.0


async def test_a_caller_who_gives_up_waiting_takes_no_turn() -> None:
    pace = WindowPace(1, 0.5, spread_seconds=0)
    await pace.wait()
    gone = asyncio.create_task(pace.wait())
    await asyncio.sleep(0)
    gone.cancel()
    began = time.monotonic()
    await pace.wait()
    assert time.monotonic() - began < 0.9


@pytest.mark.parametrize(("calls", "at_once"), [(10.0, 10), (2.5, 2), (1.0, 1), (0.5, 1)])
async def test_a_rate_a_second_allows_whole_calls_only(calls: float, at_once: int) -> None:
    pace = per_second(calls)
    for _ in range(at_once):
        await asyncio.wait_for(pace.wait(), 0.05)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pace.wait(), 0.02)


async def test_a_pace_kept_to_fewer_calls_counts_those_that_already_went() -> None:
    pace = WindowPace(10, 0.2, spread_seconds=0)
    began = time.monotonic()
    for _ in range(4):
        await pace.wait()
    pace.keep_to(3)
    await pace.wait()
    assert time.monotonic() - began >= 0.2
    pace.keep_to(10)
    for _ in range(6):
        await asyncio.wait_for(pace.wait(), 0.05)


# -- what a refusal says


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"errors": [{"detail": "ids must be a list"}]}, "ids must be a list"),
        ({"errors": ["ids must be a list"]}, "ids must be a list"),
        ({"meta": {"error": "not found"}}, "not found"),
        ({"meta": {"errors": ["one", "two"]}}, "one"),
        (
            {"error": {"message": "Slow down", "type": "x", "code": "rate_limit_exceeded"}},
            "rate_limit_exceeded: Slow down",
        ),
        ({"error": {"code": "credits_exhausted"}}, "credits_exhausted"),
        ({"error": "nope"}, "nope"),
        ({"detail": "nope"}, "nope"),
        ("plain", "plain"),
        ({"error": "two\nlines\tand\x1b[31m colour\u202e"}, "two lines and [31m colour"),
        ({"errors": []}, ""),
        ({"error": {"error": {"error": {"error": {"error": "deep"}}}}}, ""),
        ({"error": 5}, ""),
        (None, ""),
        ([], ""),
    ],
)
def test_the_upstreams_words_are_found_in_every_documented_shape(payload: object, text: str) -> None:
    assert error_text(payload) == text


def test_the_words_are_cut_to_two_hundred_characters() -> None:
    assert len(error_text({"error": "word " * 100_000})) == 200
    assert len(error_text({"error": "x" * 5_000_000})) == 200


@pytest.mark.parametrize(
    "echo", ["jo@example.com", "JO@Example.com", "jo%40example.com", "<jo@example.com>", "other@example.com"]
)
def test_no_mail_address_gets_into_an_error(echo: str) -> None:
    text = error_text({"errors": [{"detail": f"no customer {echo} here"}]}, ["jo@example.com"])
    assert text.startswith(("no customer [removed]", "no customer <[removed]"))
    assert "example.com" not in text.lower()


@pytest.mark.parametrize("value", ["42", "a/b c", "cust_1001", "日本"])
def test_no_id_that_was_sent_gets_into_an_error(value: str) -> None:
    assert (
        error_text({"error": f"customer {value}: gone, as of 2042"}, [value]) == "customer [removed]: gone, as of 2042"
    )


def test_a_text_that_repeats_the_prompt_is_left_out() -> None:
    prompt = "A high-value customer just gave a churn signal.\nEVENT: unsubscribed\nMRR: $850"
    text = error_text({"error": "cannot process 'gave a churn signal. EVENT: unsubscribed MRR'"}, [prompt])
    assert "churn signal" not in text
    assert error_text({"error": "cannot process this"}, [prompt]) == "cannot process this"


async def test_no_error_holds_the_key() -> None:
    bench = Bench(refused(401, {"error": {"code": "invalid_api_key", "message": f"bad key {SECRET}"}}))
    error = await bench.fails()
    assert SECRET not in str(error)
    assert "invalid_api_key" in str(error)


@given(st.text(), st.lists(st.text(), max_size=3))
def test_any_text_makes_one_short_line(text: str, sent: list[str]) -> None:
    line = error_text({"error": text}, sent)
    assert len(line) <= 200
    assert "\n" not in line


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        (" 1.5 ", 1.5),
        ("999999999999", 86400),
        ("Fri, 02 Jan 2026 03:04:05 GMT", 0),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 60),
        ("Fri, 02 Jan 2026 03:05:05 -0000", 60),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86400),
        ("-5", None),
        ("soon", None),
        ("1e5", None),
        ("", None),
        (None, None),
        ("9" * 5000, None),
    ],
)
def test_a_retry_after_is_read_as_seconds_or_as_a_date(value: str | None, seconds: float | None) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert read_retry_after(value, now=NOW) == expected


# -- decoding


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": "two\nlines"}', {"a": "two\nlines"}),
        (b'{"a": NaN, "b": -Infinity}', {"a": None, "b": None}),
        (b'{"a": "\xff"}', {"a": "\ufffd"}),
        (rb'{"a": "\ud83d\ude00"}', {"a": "\U0001f600"}),
        (rb'{"a": "cut \ud83d"}', {"a": "cut \ufffd"}),
        (rb'{"a": "\ude00\ud83d"}', {"a": "\ufffd\ufffd"}),
        (rb'{"a": "\\ud83d"}', {"a": "\\ud83d"}),
        (rb'{"a": "\\\ud83d"}', {"a": "\\\ufffd"}),
        (rb'{"a": "nul \u0000"}', {"a": "nul \ufffd"}),
        (b'{"a": "nul \x00"}', {"a": "nul \ufffd"}),
        (b"<html>", None),
        (b"", None),
        (b"[" * 200_000, None),
        (b"1" * 10_000, None),
    ],
)
def test_json_is_read_as_far_as_it_can_be(raw: bytes, value: object) -> None:
    assert decode_json(raw) == value


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_every_decoded_text_can_be_stored(text: str) -> None:
    value = decode_json(json.dumps([text]).encode())
    assert isinstance(value, list)
    assert "\0" not in value[0].encode("utf-8").decode("utf-8")
    if text.isprintable():
        assert value == [text]


# -- the HTTP client


async def test_the_client_says_who_it_is_and_follows_nothing() -> None:
    http = create_http("https://api.example.com/v1", key=SecretStr(SECRET), key_name="K", read_seconds=9, connections=3)
    async with http:
        assert http.headers["User-Agent"].startswith("churn_radar/")
        assert http.headers["Authorization"] == f"Bearer {SECRET}"
        assert http.timeout == httpx.Timeout(9, connect=5, write=10, pool=10)
        assert not http.follow_redirects


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel", ""])
def test_a_key_that_no_header_can_carry_is_a_settings_error_without_the_key(key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        create_http("https://x.example", key=SecretStr(key), key_name="CIO_APP_KEY", read_seconds=9, connections=3)
    assert "CIO_APP_KEY" in str(caught.value)
    assert not key or key not in str(caught.value)


async def test_no_log_line_holds_an_url(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    http = create_http("https://api.example.com", key=None, key_name="K", read_seconds=9, connections=3)
    seen: Callable[[httpx.Request], httpx.Response] = lambda request: httpx.Response(200)  # noqa: E731
    async with httpx.AsyncClient(transport=httpx.MockTransport(seen)) as mocked, http:
        await mocked.get("https://api.example.com/customers/jo%40example.com/attributes")
    assert "example.com" not in caplog.text


# -- a limit that is shared with others


async def test_each_turn_is_given_back_when_its_call_is_over() -> None:
    bench = Bench(refused(500), GOOD)
    await bench.call()
    assert (bench.pace.turns, bench.pace.over) == (2, 2)


async def test_whoever_shares_the_limit_hears_of_a_hold() -> None:
    bench = Bench(refused(429, retry_after="7"), GOOD)
    await bench.call()
    assert bench.pace.stayed_away == [7.0]


async def test_an_answer_that_holds_nothing_back_is_not_told_of() -> None:
    bench = Bench(refused(500), GOOD)
    await bench.call()
    assert bench.pace.stayed_away == []


async def test_what_a_429_teaches_counts_the_calls_of_all() -> None:
    bench = Bench(refused(429), GOOD)
    bench.pace.taken = 41
    await bench.call()
    assert bench.pace.kept_to == 150, "never below a quarter of the setting at once"
    bench.pace.taken = 501
    bench.replies, bench.requests = [refused(429), GOOD], []
    bench.time.seconds += 10_000
    await bench.call()
    assert bench.pace.kept_to == 500


async def test_a_call_that_goes_out_late_counts_once_more_from_then_on() -> None:
    pace = WindowPace(3, 60.0, spread_seconds=0.5)
    first, second = await pace.wait(), await pace.wait()
    first.sent(0.2)
    assert pace._bucket.count() == 2
    second.sent(0.3)
    assert pace._bucket.count() == 3
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pace.wait(), 0.02)


async def test_in_a_window_of_a_second_answers_count_and_not_when_a_call_went_out() -> None:
    pace = WindowPace(3, 1.0, spread_seconds=0.01)
    (await pace.wait()).sent(0.3)
    assert pace._bucket.count() == 1


async def test_a_turn_hears_when_its_call_is_on_the_wire() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    clock = FakeTime()
    pace = CountingPace(10, 60.0)
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            upstream = Upstream(
                *("test", http),
                key_name="KEY",
                pace=pace,
                attempts=1,
                concurrency=1,
                max_bytes=100,
                sleep=clock.sleep,
                monotonic=clock.now,
            )
            assert await upstream.call(Request("GET", "/"), lambda answer: answer.status) == 200
    assert pace.sent == [0.0]
