from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message
from structlog.testing import capture_logs

from churn_radar import metrics
from churn_radar.app import Front
from churn_radar.intake import door as intake_door
from churn_radar.intake import reading
from churn_radar.intake.door import PATH, Door
from churn_radar.intake.samples import SAMPLES
from churn_radar.intake.signature import Refusal, sign
from churn_radar.problems import PROBLEM_JSON
from churn_radar.simulator.server import running
from churn_radar.store.signals import find_signal
from churn_radar.store.tables import Status
from tests.support.door import (
    ALERTS,
    SECRET,
    Answer,
    Headers,
    House,
    answer,
    as_body,
    door_of,
    empty_disk,
    event,
    fill_disk,
    held,
    house,
    knock,
    signed_headers,
    stuck,
    unstorable,
)

VERDICTS = {"accepted", "duplicate", "ignored", "quarantined"}


def counted(said: str) -> float:
    """How often the door has given an answer, by its own count."""
    return metrics.registry.get_sample_value("churn_radar_door_answers_total", {"answer": said}) or 0.0


def problem(said: Answer, status: int) -> dict[str, Any]:
    """The problem document of a refusal."""
    assert said.status == status
    assert said.headers[b"content-type"] == PROBLEM_JSON.encode()
    assert said.json["status"] == status
    return dict(said.json)


# -- what is understood


async def test_a_signed_churn_event_is_accepted_and_in_the_record_when_the_answer_is_out(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        before = counted("accepted")
        said = await answer(home.door, as_body(event()))
        assert said.json == {"status": "accepted", "event_id": "01E4C4CT6YDC7Y5M7FE1GWWPQJ"}
        assert said.headers[b"content-type"] == b"application/json"
        [signal] = await home.signals()
        assert (signal.event_id, signal.kind, signal.status) == (
            "01E4C4CT6YDC7Y5M7FE1GWWPQJ",
            "bounced",
            Status.RECEIVED,
        )
        assert signal.source == "webhook"
        assert counted("accepted") == before + 1


async def test_the_older_signature_opens_as_well(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        body = as_body(event())
        said = await answer(home.door, body, headers=[(b"x-cio-signature", sign(SECRET, body, None).encode())])
        assert said.verdict == "accepted"


@pytest.mark.parametrize("name", SAMPLES)
async def test_every_sample_is_answered_as_it_says(tmp_path: Path, name: str) -> None:
    async with house(tmp_path) as home:
        said = await answer(home.door, as_body(SAMPLES[name].payload))
        assert said.verdict == ("ignored" if name == "opened" else "accepted")
        assert len(await home.signals()) == (0 if name == "opened" else 1)


@pytest.mark.parametrize(
    "payload",
    [
        event(metric="opened"),
        event(metric="clicked", data={"link_id": 7, "href": "https://x.io"}),
        event(metric="sent", data={"content": "a" * 100_000}),
        event(metric="opened", data="not even an object", timestamp="soon"),
        event(metric="teleported"),
        event(object_type="whatsapp"),
        event(event_type="whatsapp_bounced", metric=...),
        event(metric="cio_subscription_preferences_changed", data={"customer_id": "42", "content": '{"a":true}'}),
    ],
)
async def test_what_is_no_churn_signal_is_ignored_and_leaves_no_trace(tmp_path: Path, payload: dict[str, Any]) -> None:
    async with house(tmp_path) as home:
        said = await answer(home.door, as_body(payload))
        assert said.json == {"status": "ignored", "event_id": "01E4C4CT6YDC7Y5M7FE1GWWPQJ"}
        assert await home.signals() == []
        assert home.commits == []


@pytest.mark.parametrize("event_id", [..., None, "", " ", True, [], {}, "a\0b", "a" * 600, 10**600])
async def test_an_ignored_event_without_a_usable_id_is_ignored_all_the_same(tmp_path: Path, event_id: object) -> None:
    async with house(tmp_path) as home:
        said = await answer(home.door, as_body(event(metric="opened", event_id=event_id)))
        assert said.json == {"status": "ignored", "event_id": None}


# -- one event, once


async def test_a_retry_is_a_duplicate_for_good(tmp_path: Path) -> None:
    body = as_body(event())
    async with house(tmp_path) as home:
        assert (await answer(home.door, body)).verdict == "accepted"
        assert (await answer(home.door, body)).verdict == "duplicate"
        fresh = signed_headers(body, timestamp=b"1799999999")
        assert (await answer(home.door, body, headers=fresh)).verdict == "duplicate"
    async with house(tmp_path) as home:
        assert (await answer(home.door, body)).json == {"status": "duplicate", "event_id": "01E4C4CT6YDC7Y5M7FE1GWWPQJ"}
        assert len(await home.signals()) == 1


async def test_a_hundred_identical_requests_at_once_are_one_event(tmp_path: Path) -> None:
    body = as_body(event())
    async with house(tmp_path) as home:
        verdicts = [said.verdict for said in await asyncio.gather(*(answer(home.door, body) for _ in range(100)))]
        assert (verdicts.count("accepted"), verdicts.count("duplicate")) == (1, 99)
        assert len(await home.signals()) == 1


async def test_the_same_event_in_another_form_is_a_duplicate(tmp_path: Path) -> None:
    older = {"event_type": "email_bounced", "event_id": "01E4C4CT6YDC7Y5M7FE1GWWPQJ", "customer_id": 42}
    async with house(tmp_path) as home:
        assert (await answer(home.door, as_body(event()))).verdict == "accepted"
        assert (await answer(home.door, as_body(older))).verdict == "duplicate"


async def test_kinds_that_share_an_event_id_are_different_signals(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        for metric in ("bounced", "unsubscribed", "spammed"):
            assert (await answer(home.door, as_body(event(metric=metric)))).verdict == "accepted"
            assert (await answer(home.door, as_body(event(metric=metric)))).verdict == "duplicate"
        assert [signal.kind for signal in await home.signals()] == ["bounced", "unsubscribed", "complained"]


async def test_without_an_id_of_its_own_a_byte_identical_retry_is_a_duplicate(tmp_path: Path) -> None:
    body = as_body(event(event_id=...))
    async with house(tmp_path) as home:
        first, second = await answer(home.door, body), await answer(home.door, body)
        assert (first.verdict, second.verdict) == ("accepted", "duplicate")
        assert first.json["event_id"] == second.json["event_id"] == (await home.signals())[0].signal_id


# -- genuine, but not understood

NESTED = b"[" * 100_000
NOT_UNDERSTOOD: dict[str, bytes] = {
    "nothing": b"",
    "blank": b" \n",
    "no JSON": b"metric=bounced",
    "half a JSON": as_body(event())[:-2],
    "two": as_body(event()) * 2,
    "a list": as_body([event()]),
    "a list under events": as_body({"events": [event()]}),
    "text": as_body("bounced"),
    "null": b"null",
    "nested": NESTED,
    "nested objects": b'{"a":' * 100_000,
    "nested inside": as_body(event()).replace(b'"bounced"', b"[" * 50_000 + b"]" * 50_000),
    "half of a surrogate pair": as_body(event(data={"customer_id": "\ud83d"})),
    "raw half of a surrogate pair": b'{"metric": "bounced", "customer_id": "\xed\xa0\xbd"}',
    "NUL": b'{"metric": "bounced", "customer_id": "4\x002"}',
    "escaped NUL in the id": as_body(event(data={"customer_id": "4\x002"})),
    "escaped NUL in the event id": as_body(event(event_id="a\x00")),
    "escaped NUL in the name": as_body(event(metric="bounced\x00")),
    "NaN": as_body(event(timestamp=float("nan"))),
    "Infinity": as_body(event(timestamp=float("inf"))),
    "a BOM": b"\xef\xbb\xbf" + as_body(event()),
    "UTF-16": as_body(event()).decode().encode("utf-16"),
    "no UTF-8": as_body(event()).replace(b"jo@x.io", b"j\xf6@x.io"),
    "no name": as_body(event(metric=...)),
    "a number for a name": as_body(event(metric=7)),
    "a list for a name": as_body(event(metric=["bounced"])),
    "a name without end": as_body(event(metric="bounced" * 1000)),
    "a list for an id": as_body(event(event_id=["01E4"])),
    "true for an id": as_body(event(event_id=True)),
    "an id without end": as_body(event(event_id="a" * 100_000)),
    "a huge number for an id": as_body(event(event_id=10**4000)),
    "a number beyond reading": b'{"metric": "bounced", "customer_id": ' + b"9" * 100_000 + b"}",
    "text for data": as_body(event(data="customer 42")),
    "a list for data": as_body(event(data=[])),
    "a list for identifiers": as_body(event(data={"identifiers": ["42"]})),
    "an object for a customer": as_body(event(data={"customer_id": {"id": "42"}})),
    "an object for an address": as_body(event(data={"customer_id": "42", "recipient": {}})),
    "nobody": as_body(event(data={})),
    "nobody at all": as_body(event(data=...)),
    "before 1970": as_body(event(timestamp=-1)),
    "milliseconds": as_body(event(timestamp=1_795_500_000_000)),
    "no time ever": as_body(event()).replace(b"1795500000", b"1e400"),
    "yesterday": as_body(event(timestamp="yesterday")),
    "a list for a time": as_body(event(timestamp=[])),
    "preferences in pieces": as_body(
        event(metric="cio_subscription_preferences_changed", data={"customer_id": "42", "content": "{"})
    ),
    "preferences of nothing": as_body(
        event(metric="cio_subscription_preferences_changed", data={"customer_id": "42", "content": "{}"})
    ),
    "a campaign's own webhook": as_body({"customer": {"id": 42, "plan": "pro"}, "text": "left us"}),
    "a campaign's own list": as_body([1, 2, 3]),
    "a campaign's own empty object": b"{}",
    "a campaign's Slack text": as_body({"text": "Somebody *bounced*", "channel": "#churn"}),
}


@pytest.mark.parametrize("body", NOT_UNDERSTOOD.values(), ids=NOT_UNDERSTOOD)
async def test_what_is_genuine_but_not_understood_is_kept_byte_for_byte_and_once(tmp_path: Path, body: bytes) -> None:
    async with house(tmp_path) as home:
        first, second = await answer(home.door, body), await answer(home.door, body)
        assert first.verdict == second.verdict == "quarantined"
        assert first.json == second.json
        [signal] = await home.signals()
        assert signal.status is Status.QUARANTINED
        assert signal.reason
        assert first.json["event_id"] in (signal.event_id, signal.signal_id)
        assert await home.kept_body(signal) == body


async def test_megabytes_of_junk_are_kept_as_well(tmp_path: Path) -> None:
    junk = random.Random(0).randbytes(4 * 1024 * 1024)
    async with house(tmp_path) as home:
        assert (await answer(home.door, junk)).verdict == "quarantined"
        [signal] = await home.signals()
        assert await home.kept_body(signal) == junk


async def test_a_quarantined_event_keeps_its_id_where_it_has_a_usable_one(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        for event_id, told in (("01E4", "01E4"), (7, "7"), (["01E4"], None)):
            said = await answer(home.door, as_body(event(event_id=event_id, data={})))
            [*_, newest] = await home.signals()
            assert newest.event_id == told
            assert said.json["event_id"] == told or (told is None and said.json["event_id"] == newest.signal_id)


@pytest.mark.parametrize("content", [2**70, [2**100], {"a": -(2**64)}, "a\0b", [[[[]]]], 1e300])
async def test_content_of_any_kind_in_an_event_without_an_id_is_no_obstacle(tmp_path: Path, content: object) -> None:
    async with house(tmp_path) as home:
        body = as_body(event(event_id=..., data={"customer_id": "42", "content": content}))
        assert (await answer(home.door, body)).verdict == "accepted"


async def test_a_fault_of_ours_in_reading_keeps_the_body_and_does_not_block_the_feed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("customer 42")

    monkeypatch.setattr(reading, "understand", broken)
    async with house(tmp_path) as home:
        with capture_logs() as lines:
            assert (await answer(home.door, as_body(event()))).verdict == "quarantined"
        [signal] = await home.signals()
        assert signal.reason == "reading it failed: ZeroDivisionError"
        assert signal.event_id == "01E4C4CT6YDC7Y5M7FE1GWWPQJ"
        assert await home.kept_body(signal) == as_body(event())
        assert "door.reading_failed" in [line["event"] for line in lines]


@pytest.mark.usefixtures("everywhere")
async def test_what_the_record_would_never_take_is_kept_as_a_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "to_arrival", lambda *_, **__: unstorable("odd"))
    async with house(tmp_path) as home:
        assert (await answer(home.door, as_body(event()))).verdict == "quarantined"
        [signal] = await home.signals()
        assert signal.reason == "the record would not take it"
        assert await home.kept_body(signal) == as_body(event())


# -- refused


def forged(body: bytes) -> Headers:
    return signed_headers(body, secret=b"a guess")


REFUSED: dict[str, tuple[Callable[[bytes], Headers], Refusal]] = {
    "unsigned": (lambda body: [(b"content-type", b"application/json")], Refusal.NO_HEADER),
    "another key": (forged, Refusal.KEY_OR_BODY),
    "another body": (lambda body: signed_headers(body + b" "), Refusal.KEY_OR_BODY),
    "signed twice": (lambda body: [*signed_headers(body), (b"x-cio-signature", b"0" * 64)], Refusal.REPEATED_HEADER),
    "dated twice": (lambda body: [*signed_headers(body), (b"x-cio-timestamp", b"1")], Refusal.REPEATED_HEADER),
    "no hex": (lambda body: [(b"x-cio-signature", b"\xff\x00\xfe")], Refusal.NOT_HEX),
    "older scheme with a date": (
        lambda body: [(b"x-cio-timestamp", b"1795500000"), (b"x-cio-signature", sign(SECRET, body, None).encode())],
        Refusal.OLDER_SCHEME,
    ),
}


@pytest.mark.parametrize("why", REFUSED)
async def test_what_is_not_genuine_is_refused_counted_and_not_kept(tmp_path: Path, why: str) -> None:
    headers_of, cause = REFUSED[why]
    body = as_body(event())
    async with house(tmp_path) as home:
        before = counted("refused")
        with capture_logs() as lines:
            said = await answer(home.door, body, headers=headers_of(body))
        assert problem(said, 401)["detail"] == "the signature is missing or wrong"
        assert await home.signals() == []
        assert counted("refused") == before + 1
        # The operator is told the likely cause; the caller is not, and nobody is told what was sent.
        assert [line["likely_cause"] for line in lines] == [cause.value]
        assert "jo@x.io" not in repr(lines)
        assert cause.value not in said.body.decode()


async def test_a_valid_signature_does_not_open_for_a_body_moved_into_the_older_scheme(tmp_path: Path) -> None:
    body = as_body(event())
    carried = b"v0:1795500000:" + body
    async with house(tmp_path) as home:
        said = await answer(
            home.door, carried, headers=[(b"x-cio-signature", sign(SECRET, body, b"1795500000").encode())]
        )
        problem(said, 401)


async def test_while_a_key_is_rotated_both_open_and_afterwards_only_the_new_one(tmp_path: Path) -> None:
    old, new = b"the old key", b"the new key"
    body = as_body(event())
    async with house(tmp_path) as home:
        both, one = door_of(home.record, secrets=(old, new)), door_of(home.record, secrets=(new,))
        assert (await answer(both, body, headers=signed_headers(body, secret=old))).verdict == "accepted"
        assert (await answer(both, body, headers=signed_headers(body, secret=new))).verdict == "duplicate"
        problem(await answer(one, body, headers=signed_headers(body, secret=old)), 401)


async def test_an_event_of_years_ago_is_accepted_when_its_signature_is_right(tmp_path: Path) -> None:
    body = as_body(event())
    async with house(tmp_path) as home:
        assert (
            await answer(home.door, body, headers=signed_headers(body, timestamp=b"946684800"))
        ).verdict == "accepted"


async def test_with_no_key_at_all_every_body_counts_as_signed(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        assert (await answer(door_of(home.record, secrets=()), as_body(event()), headers=[])).verdict == "accepted"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
async def test_other_methods_are_told_which_one_is_right(tmp_path: Path, method: str) -> None:
    async with house(tmp_path) as home:
        said = await answer(home.door, as_body(event()), method=method)
        problem(said, 405)
        assert said.headers[b"allow"] == b"POST"
        assert await home.signals() == []


@pytest.mark.parametrize(
    "kind", [b"text/plain", b"application/x-www-form-urlencoded", b"application/jsonp", b"json", b"\xff"]
)
async def test_other_types_are_refused_and_the_operator_hears_of_it(tmp_path: Path, kind: bytes) -> None:
    body = as_body(event())
    headers = [(name, kind if name == b"content-type" else value) for name, value in signed_headers(body)]
    async with house(tmp_path) as home:
        with capture_logs() as lines:
            problem(await answer(home.door, body, headers=headers), 415)
        assert [line["event"] for line in lines] == ["door.wrong_type"]
        assert await home.signals() == []


@pytest.mark.parametrize(
    "kind",
    [
        None,
        b"",
        b"application/json",
        b"Application/JSON; charset=UTF-8",
        b"application/json;charset=utf-8",
        b" application/json ",
        b"application/vnd.customerio+json",
    ],
)
async def test_every_way_to_say_json_or_nothing_is_accepted(tmp_path: Path, kind: bytes | None) -> None:
    body = as_body(event())
    headers = [(name, value) for name, value in signed_headers(body) if name != b"content-type"]
    if kind is not None:
        headers.append((b"content-type", kind))
    async with house(tmp_path) as home:
        assert (await answer(home.door, body, headers=headers)).verdict == "accepted"


@pytest.mark.parametrize("length", [b"", b"abc", b"-5", b"1_0", b"0x10", b"9" * 5000, "²".encode(), b"+5", b" 5"])
async def test_a_content_length_that_cannot_be_read_does_no_harm(tmp_path: Path, length: bytes) -> None:
    body = as_body(event())
    headers = [(name, length if name == b"content-length" else value) for name, value in signed_headers(body)]
    async with house(tmp_path) as home:
        assert (await answer(home.door, body, headers=headers)).verdict == "accepted"


# -- size and pace

LIMIT = 1024


def sized(size: int) -> bytes:
    """A churn event of so many bytes."""
    bare = as_body(event(padding=""))
    return as_body(event(padding="a" * (size - len(bare))))


def in_pieces(body: bytes, size: int) -> list[Message]:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, 1)
    ]


def undeclared(body: bytes) -> Headers:
    return [(name, value) for name, value in signed_headers(body) if name != b"content-length"]


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT])
async def test_a_body_up_to_the_limit_is_accepted_declared_or_not(tmp_path: Path, size: int) -> None:
    body = sized(size)
    assert len(body) == size
    async with house(tmp_path) as home:
        door = door_of(home.record, max_body_bytes=LIMIT)
        assert (await answer(door, body)).verdict == "accepted"
        for piece in (1, 7, 500, size):
            said = await answer(door, body, headers=undeclared(body), messages=in_pieces(body, piece))
            assert said.verdict == "duplicate"


async def test_one_byte_more_is_refused_declared_or_not_and_the_operator_hears_of_it(tmp_path: Path) -> None:
    body = sized(LIMIT + 1)
    async with house(tmp_path) as home:
        door = door_of(home.record, max_body_bytes=LIMIT)
        for messages in (None, in_pieces(body, 1), in_pieces(body, 500), in_pieces(body, LIMIT)):
            for headers in (signed_headers(body), undeclared(body)):
                with capture_logs() as lines:
                    said = await answer(door, body, headers=headers, messages=messages)
                assert problem(said, 413)["detail"] == f"the body is larger than {LIMIT} bytes"
                assert said.headers[b"connection"] == b"close"
                assert [line["event"] for line in lines] == ["door.too_large"]
        assert await home.signals() == []


async def test_a_body_that_is_declared_too_large_is_refused_before_a_byte_of_it_is_read(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        # The sender says nothing more, so reading would never end.
        said = await answer(home.door, headers=[(b"content-length", b"%d" % 10**12)], messages=[])
        problem(said, 413)


async def test_a_body_without_end_is_read_no_further_than_the_limit(tmp_path: Path) -> None:
    asked = 0

    def for_ever() -> Iterator[Message]:
        nonlocal asked
        while True:
            asked += 1
            yield {"type": "http.request", "body": b"[" * 100, "more_body": True}

    async with house(tmp_path) as home:
        door = door_of(home.record, max_body_bytes=LIMIT)
        problem(await answer(door, headers=[], messages=for_ever()), 413)
        assert asked == LIMIT // 100 + 1


@pytest.mark.parametrize("said_so_far", [0, 1, 2])
async def test_a_sender_who_falls_silent_does_not_hold_the_door_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said_so_far: int
) -> None:
    monkeypatch.setattr(intake_door, "BODY_TIMEOUT_SECONDS", 0.02)
    body = as_body(event())
    async with house(tmp_path) as home:
        async with asyncio.timeout(30):
            said = await answer(
                home.door, body, headers=signed_headers(body), messages=in_pieces(body, len(body) // 3)[:said_so_far]
            )
        problem(said, 408)
        assert await home.signals() == []


@pytest.mark.parametrize("said_so_far", [0, 1, 3])
async def test_a_sender_who_leaves_in_the_middle_is_not_answered_and_nothing_is_kept(
    tmp_path: Path, said_so_far: int
) -> None:
    body = as_body(event())
    messages = [*in_pieces(body, 10)[:said_so_far], {"type": "http.disconnect"}]
    async with house(tmp_path) as home:
        assert await knock(home.door, body, headers=signed_headers(body), messages=messages) is None
        assert await home.signals() == []


# -- bodies under way

ROOM = 100_000


def half_of(size: int) -> list[Message]:
    """So much of a body, and then silence."""
    return [{"type": "http.request", "body": b"[" * size, "more_body": True}]


@contextlib.asynccontextmanager
async def under_way(door: Door, *sizes: int) -> AsyncIterator[list[asyncio.Task[Answer | None]]]:
    """Senders that have sent so many bytes and hold the rest back."""
    senders = [asyncio.create_task(knock(door, headers=[], messages=half_of(size))) for size in sizes]
    await asyncio.sleep(0)
    try:
        yield senders
    finally:
        for sender in senders:
            sender.cancel()
        await asyncio.wait(senders)


async def test_bodies_under_way_have_a_bound_together_and_the_one_beyond_it_is_to_come_again(tmp_path: Path) -> None:
    body = sized(40_000)
    async with house(tmp_path) as home:
        before, door = counted("no_room"), door_of(home.record, max_bodies_bytes=ROOM, max_body_bytes=ROOM)
        async with under_way(door, 40_000, 40_000):
            with capture_logs() as lines:
                said = await answer(door, body, messages=in_pieces(body, 30_000))
            assert problem(said, 503)["detail"] == "too many large bodies are under way; send it again"
            assert said.headers[b"retry-after"] == b"1"
            # The server drops the rest; a connection that was closed would take the answer with it.
            assert b"connection" not in said.headers
            assert [line["event"] for line in lines] == ["door.no_room"]
            assert counted("no_room") == before + 1
            assert (await answer(door, body, messages=in_pieces(body, 20_000))).verdict == "accepted"
        assert await home.signals() != []


@pytest.mark.parametrize("size", [1_000, 8_192])
async def test_however_much_is_under_way_events_of_the_usual_size_and_whole_bodies_are_taken(
    tmp_path: Path, size: int
) -> None:
    small, whole = sized(size), as_body(event(event_id="whole", padding="a" * 90_000))
    async with house(tmp_path) as home:
        door = door_of(home.record, max_bodies_bytes=ROOM, max_body_bytes=ROOM)
        async with under_way(door, ROOM):
            for piece in (1, 100, size // 2 + 1):
                said = await answer(door, small, messages=in_pieces(small, piece))
                assert said.verdict in ("accepted", "duplicate")
            assert (await answer(door, whole)).verdict == "accepted"
            problem(await answer(door, whole, messages=in_pieces(whole, 10_000)), 503)


@pytest.mark.parametrize("end", ["whole", "unsigned", "leaves", "too large", "silent", "cancelled", "no room"])
async def test_however_a_body_ends_its_room_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    if end == "silent":
        monkeypatch.setattr(intake_door, "BODY_TIMEOUT_SECONDS", 0.02)
    body = sized(ROOM)
    pieces = in_pieces(body, 30_000)
    async with house(tmp_path) as home:
        door = door_of(home.record, max_bodies_bytes=1, max_body_bytes=ROOM)
        for _ in range(3):
            match end:
                case "whole":
                    assert (await answer(door, body, messages=pieces)).status == 200
                case "unsigned":
                    problem(await answer(door, body, headers=[], messages=pieces), 401)
                case "leaves":
                    assert await knock(door, body, messages=[*pieces[:2], {"type": "http.disconnect"}]) is None
                case "too large":
                    problem(await answer(door, body, headers=[], messages=[*pieces[:-1], *pieces]), 413)
                case "silent":
                    problem(await answer(door, body, messages=pieces[:2]), 408)
                case "cancelled":
                    async with under_way(door, ROOM):
                        pass
                case "no room":
                    async with under_way(door, ROOM - 1):
                        problem(await answer(door, body, messages=pieces), 503)
            assert door._room.taken == 0
        # There is always room for one, whatever the settings say.
        assert (await answer(door, body, messages=pieces)).status == 200


async def test_over_a_socket_a_body_without_room_is_answered_and_the_connection_goes_on(tmp_path: Path) -> None:
    body = sized(300_000)
    head = "\r\n".join(f"{name.decode()}: {value.decode()}" for name, value in signed_headers(body))
    async with house(tmp_path) as home:
        door = door_of(home.record, max_bodies_bytes=350_000, max_body_bytes=350_000)
        async with running(Front(elsewhere, door, elsewhere)) as url, under_way(door, 340_000):  # type: ignore[arg-type]
            reader, writer = await asyncio.open_connection(httpx.URL(url).host, httpx.URL(url).port)
            async with asyncio.timeout(30):
                writer.write(request(head, body[:200_000]))
                assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 503 ")
                await reader.readuntil(b'send it again"}')
                small = as_body(event())
                small_head = "\r\n".join(f"{name.decode()}: {value.decode()}" for name, value in signed_headers(small))
                writer.write(body[200_000:] + request(small_head, small))
                assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
            writer.close()


# -- when the record cannot commit


async def unavailable(door: Door, body: bytes) -> None:
    said = await answer(door, body)
    problem(said, 503)
    assert said.headers[b"retry-after"] == b"1"


async def test_while_another_program_holds_the_database_the_door_says_503_and_then_takes_the_retry(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, commit_timeout_seconds=3) as home:
        before = counted("unavailable")
        with held(home.path):
            async with asyncio.timeout(3.9):
                await asyncio.gather(unavailable(home.door, as_body(event())), unavailable(home.door, b"{"))
            # What need not be stored is answered all the same.
            assert (await answer(home.door, as_body(event(metric="opened")))).verdict == "ignored"
        assert counted("unavailable") == before + 2
        assert await home.signals() == []
        assert (await answer(home.door, as_body(event()))).verdict == "accepted"
        assert (await answer(home.door, b"{")).verdict == "quarantined"


async def test_when_a_commit_takes_too_long_the_retry_finds_a_duplicate(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        with stuck(home.record):
            await unavailable(home.door, as_body(event()))
        assert (await answer(home.door, as_body(event()))).verdict == "duplicate"


async def test_on_a_full_disk_the_door_says_503_until_there_is_room(tmp_path: Path) -> None:
    junk = b"[" * 1_000_000
    async with house(tmp_path) as home:
        await fill_disk(home.record)
        await unavailable(home.door, junk)
        await empty_disk(home.record)
        assert (await answer(home.door, junk)).verdict == "quarantined"
        [signal] = await home.signals()
        assert await home.kept_body(signal) == junk


async def test_with_too_many_waiting_the_door_says_503_at_once(tmp_path: Path) -> None:
    async with house(tmp_path, max_waiting=2) as home:
        with held(home.path):
            waiting = [asyncio.create_task(answer(home.door, as_body(event(event_id=f"{i}")))) for i in (1, 2)]
            await asyncio.sleep(0)
            await unavailable(home.door, as_body(event(event_id="3")))
            assert not any(each.done() for each in waiting)
        assert [(await each).verdict for each in waiting] == ["accepted", "accepted"]


async def test_once_the_record_is_closed_the_door_says_503(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        pass
    await unavailable(home.door, as_body(event()))
    await unavailable(home.door, b"{")


async def test_the_logs_never_quote_what_came(tmp_path: Path) -> None:
    secretive = "jane@acme.co"
    bodies = [
        as_body(event(data={"identifiers": {"email": secretive}})),
        as_body(event(data={"identifiers": {"email": [secretive]}})),
        as_body(event(data={"customer_id": secretive * 100})),
        as_body(event(timestamp=secretive)),
        as_body(event(metric=secretive)),
        as_body(secretive),
        secretive.encode(),
    ]
    async with house(tmp_path, max_waiting=1) as home:
        with capture_logs() as lines:
            for body in bodies:
                await answer(home.door, body)
                await answer(home.door, body, headers=forged(body))
            await fill_disk(home.record)
            await asyncio.gather(*(answer(home.door, body * 1000) for body in bodies))
        assert len(lines) > len(bodies) * 2
        assert secretive not in repr(lines)


# -- on the wire


async def elsewhere(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("only the door is knocked at")


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def wired(tmp_path: Path) -> Any:
    """The door behind the real server, on a real socket."""
    async with AsyncExitStack() as stack:
        home = await stack.enter_async_context(house(tmp_path))
        url = await stack.enter_async_context(running(Front(elsewhere, home.door, elsewhere)))  # type: ignore[arg-type]
        yield home, httpx.URL(url)


def request(head: str, body: bytes = b"") -> bytes:
    return f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + body


async def spoken(url: httpx.URL, *said: bytes) -> bytes:
    """Say exactly this, and hear everything until the server closes."""
    reader, writer = await asyncio.open_connection(url.host, url.port)
    for part in said:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0)
    async with asyncio.timeout(30):
        heard = await reader.read()
    writer.close()
    return heard


async def test_over_a_socket_an_event_is_accepted_in_one_piece_and_in_chunks(wired: tuple[House, httpx.URL]) -> None:
    home, url = wired
    body = as_body(event())
    headers = {name.decode(): value.decode() for name, value in undeclared(body)}

    async def chunks() -> Any:
        for start in range(0, len(body), 16):
            yield body[start : start + 16]

    async with httpx.AsyncClient(base_url=url) as client:
        whole = await client.post(PATH, content=body, headers=headers)
        chunked = await client.post(PATH, content=chunks(), headers=headers)
        assert (await client.get(PATH)).status_code == 405
    assert (whole.status_code, whole.json()["status"]) == (200, "accepted")
    assert (chunked.status_code, chunked.json()["status"]) == (200, "duplicate")
    assert len(await home.signals()) == 1


async def test_over_a_socket_too_large_a_body_is_refused_with_an_answer(wired: tuple[House, httpx.URL]) -> None:
    home, url = wired
    declared = await spoken(url, request("Content-Length: 99999999"))
    assert declared.startswith(b"HTTP/1.1 413 ")
    chunk = b"%x\r\n" % 65536 + b"[" * 65536 + b"\r\n"
    chunked = await spoken(url, request("Transfer-Encoding: chunked"), *[chunk] * 81)
    assert chunked.startswith(b"HTTP/1.1 413 ")
    assert await home.signals() == []


async def test_over_a_socket_a_client_that_leaves_in_the_middle_leaves_nothing(wired: tuple[House, httpx.URL]) -> None:
    home, url = wired
    body = as_body(event())
    head = "\r\n".join(f"{name.decode()}: {value.decode()}" for name, value in signed_headers(body))
    for part in (0, 1, len(body) - 1):
        _, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(request(head, body[:part]))
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.transport.abort()
    async with httpx.AsyncClient(base_url=url) as client:
        headers = {name.decode(): value.decode() for name, value in signed_headers(body)}
        assert (await client.post(PATH, content=body, headers=headers)).json()["status"] == "accepted"
    assert len(await home.signals()) == 1


async def test_over_a_socket_a_malformed_length_is_no_500(wired: tuple[House, httpx.URL]) -> None:
    home, url = wired
    for length in ("abc", "-1", "1_0", "9" * 400):
        heard = await spoken(url, request(f"Content-Length: {length}\r\nConnection: close", b"{}"))
        assert heard.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 ")), heard[:40]
    assert await home.signals() == []


# -- anything at all


class Doorstep:
    """One record for a thousand examples, and the loop it lives in."""

    def __init__(self, folder: Path) -> None:
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._stack = AsyncExitStack()
        self.home: House = self._runner.run(self._stack.enter_async_context(house(folder)))

    def close(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    def knock(self, body: bytes) -> None:
        """Whatever the body is: 200, one of four verdicts, and in the record unless ignored."""
        self._runner.run(self._knock(body))

    async def _knock(self, body: bytes) -> None:
        said = await answer(self.home.door, body)
        assert said.status == 200
        assert said.json.keys() == {"status", "event_id"}
        assert said.verdict in VERDICTS
        if said.verdict == "ignored":
            return
        async with self.home.record.read() as connection:
            signal = await find_signal(connection, said.json["event_id"])
        assert signal is not None
        # The net under faults of ours is there to be never used.
        assert not (signal.reason or "").startswith("reading it failed")
        if said.verdict == "quarantined":
            mine = [each for each in await self.home.signals() if each.public_id == said.json["event_id"]]
            assert body in [await self.home.kept_body(each) for each in mine]
        assert (await answer(self.home.door, body)).verdict == (
            "quarantined" if said.verdict == "quarantined" else "duplicate"
        )


@pytest.fixture(scope="module")
def doorstep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doorstep]:
    step = Doorstep(tmp_path_factory.mktemp("doorstep"))
    yield step
    step.close()


_text = st.text(st.characters(), max_size=12)
_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | _text
    | st.integers(2**62, 2**80)
    | st.sampled_from(
        [*ALERTS, "spammed", "email_bounced", "42", "jo@x.io", 1_795_500_000, '{"a":false}', "a\0b", "\ud800", ""]
    )
)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3), max_leaves=5
)
_places = st.sampled_from(
    [
        ("event_id",),
        ("object_type",),
        ("metric",),
        ("event_type",),
        ("timestamp",),
        ("customer_id",),
        ("identifiers",),
        ("data",),
        ("data", "customer_id"),
        ("data", "identifiers"),
        ("data", "identifiers", "id"),
        ("data", "identifiers", "email"),
        ("data", "content"),
        ("data", "subject"),
        ("data", "recipient"),
        ("data", "campaign_id"),
    ]
)


@st.composite
def _mutilated(draw: st.DrawFn) -> dict[str, Any]:
    """A documented event with anything at all in up to four of its places."""
    sample = draw(st.sampled_from(sorted(SAMPLES)))
    payload: dict[str, Any] = json.loads(json.dumps(SAMPLES[sample].payload))
    for _ in range(draw(st.integers(1, 4))):
        inner = payload
        *way, last = draw(_places)
        for key in way:
            inner = inner[key] if isinstance(inner.get(key), dict) else inner.setdefault(f"_{key}", {})
        inner[last] = draw(_values)
    return payload


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=st.binary())
def test_any_signed_bytes_at_all_are_answered_200_and_kept(doorstep: Doorstep, body: bytes) -> None:
    doorstep.knock(body)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=_values)
def test_any_signed_json_at_all_is_answered_200_and_kept_unless_ignored(doorstep: Doorstep, value: object) -> None:
    doorstep.knock(as_body(value))


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(payload=_mutilated())
def test_any_signed_event_however_mutilated_is_answered_200_and_kept_unless_ignored(
    doorstep: Doorstep, payload: dict[str, Any]
) -> None:
    doorstep.knock(as_body(payload))
