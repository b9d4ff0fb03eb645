"""Over a real socket: what came whole is answered as what came in pieces is, and nothing else notices the short way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from churn_radar.app import Front
from churn_radar.errors import NotStorable, RecordUnavailable
from churn_radar.intake.door import PATH, Door
from churn_radar.serving import Server, listening, server_for
from churn_radar.short_way import ShortWayProtocol
from churn_radar.sockets import bind
from churn_radar.store.arrivals import Accepted, Arrival, Verdict
from tests.support.door import ALERTS, SECRET, as_body, event, signed_headers
from tests.support.work import until as until_answered


async def until(probe: Callable[[], bool]) -> None:
    """Waits for a condition, between turns of the loop."""

    async def answer() -> bool:
        return probe()

    await until_answered(answer, "what the test is about")


class CountingDoor(Door):
    """Counts the requests that came the long way."""

    long_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.long_way += 1
        await super().__call__(scope, receive, send)


@dataclass
class Place:
    """A door behind a real server, and what decides when its events are kept."""

    door: CountingDoor
    port: int
    server: Server
    kept: list[tuple[Arrival, asyncio.Future[Accepted]]] = field(default_factory=list)

    async def next_kept(self, number: int = 0) -> asyncio.Future[Accepted]:
        await until(lambda: len(self.kept) > number)
        return self.kept[number][1]


def accepted(arrival: Arrival) -> Accepted:
    return Accepted(Verdict.ACCEPTED, arrival.public_id, 1)


@contextlib.asynccontextmanager
async def place(
    *, at_once: bool = True, failing: Exception | None = None, idle_seconds: float = 60
) -> AsyncIterator[Place]:
    def keep(body: bytes, arrival: Arrival) -> asyncio.Future[Accepted]:
        done: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        here.kept.append((arrival, done))
        if failing is not None and len(here.kept) == 1:
            done.set_exception(failing)
        elif at_once or failing is not None:
            done.set_result(accepted(arrival))
        return done

    door = CountingDoor(keep, secrets=[SECRET], alert_events=ALERTS, max_body_bytes=100_000)
    with contextlib.closing(bind("127.0.0.1", 0)) as listener:
        server = server_for(Front(app := FastAPI(), door, app))
        server.config.timeout_keep_alive = idle_seconds  # type: ignore[assignment]
        here = Place(door, listener.getsockname()[1], server)
        async with listening(server, listener):
            await until(lambda: server.started)
            yield here


def request(body: bytes, *more: bytes, version: bytes = b"1.1", path: bytes = PATH.encode()) -> bytes:
    lines = [b"%s: %s" % header for header in signed_headers(body)]
    return b"\r\n".join([b"POST %s HTTP/%s" % (path, version), b"Host: here", *lines, *more, b"", body])


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in head[1:] if line)
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers[b"content-length"]))


@contextlib.asynccontextmanager
async def connection(here: Place) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
    try:
        async with asyncio.timeout(30):
            yield reader, writer
    finally:
        writer.close()


CHURN = as_body(event())
IGNORED = as_body(event(metric="opened"))
REFUSED = request(CHURN).replace(b"x-cio-signature: ", b"x-cio-signature: 00")
WRONG_TYPE = request(CHURN).replace(b"application/json", b"text/plain")


@pytest.mark.parametrize(
    ("whole", "status"),
    [
        (request(CHURN), 200),
        (request(IGNORED), 200),
        (request(b"not json"), 200),
        (REFUSED, 401),
        (WRONG_TYPE, 415),
    ],
    ids=["accepted", "ignored", "quarantined", "refused", "wrong type"],
)
async def test_whole_or_in_pieces_the_answer_is_the_same(whole: bytes, status: int) -> None:
    async with place() as here, connection(here) as (reader, writer):
        writer.write(whole)
        at_once = await answer(reader)
        assert here.door.long_way == 0
        writer.write(whole[:-5])
        await until(lambda: here.door.long_way == 1)
        writer.write(whole[-5:])
        assert await answer(reader) == at_once
        assert at_once[0] == status


async def test_a_body_in_chunks_that_came_whole_is_taken() -> None:
    head, _, body = request(CHURN).partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"content-length")]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:9], body[9:])) + b"0\r\n\r\n"
    async with place() as here, connection(here) as (reader, writer):
        writer.write(b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", chunks]))
        status, _, said = await answer(reader)
        assert (status, b"accepted" in said, here.door.long_way) == (200, True, 0)


async def test_the_answer_waits_for_the_record_and_for_nobody_else() -> None:
    async with (
        place(at_once=False) as here,
        connection(here) as (reader, writer),
        connection(here) as (other_reader, other_writer),
    ):
        writer.write(request(CHURN))
        kept = await here.next_kept()
        other_writer.write(request(IGNORED))
        assert (await answer(other_reader))[0] == 200
        reading = asyncio.create_task(answer(reader))
        assert not reading.done()
        kept.set_result(accepted(here.kept[0][0]))
        assert b"accepted" in (await reading)[2]


async def test_a_connection_is_closed_once_nothing_more_came_for_as_long_as_it_may() -> None:
    async with place(idle_seconds=0.05) as here, connection(here) as (reader, writer):
        writer.write(request(CHURN))
        assert (await answer(reader))[0] == 200
        assert await reader.read() == b""


async def test_a_connection_whose_last_answer_is_not_old_enough_stays_for_the_rest_of_its_time() -> None:
    async with place() as here, connection(here) as (reader, writer):
        writer.write(request(CHURN))
        await answer(reader)
        protocol = only_connection(here)
        first = protocol._idle_timer
        protocol._look_whether_idle()
        assert not protocol.transport.is_closing()
        assert protocol._idle_timer not in (None, first)


async def test_a_connection_whose_event_waits_for_the_record_is_not_idle() -> None:
    async with place(at_once=False, idle_seconds=0.05) as here, connection(here) as (reader, writer):
        writer.write(request(CHURN))
        (await here.next_kept()).set_result(accepted(here.kept[0][0]))
        await answer(reader)
        writer.write(request(CHURN))
        second = await here.next_kept(1)
        await until(lambda: only_connection(here)._idle_timer is None)
        second.set_result(accepted(here.kept[1][0]))
        assert (await answer(reader))[0] == 200


async def test_a_connection_is_not_idle_while_what_came_right_behind_an_answered_request_waits() -> None:
    async with place(at_once=False, idle_seconds=0.05) as here, connection(here) as (reader, writer):
        writer.write(request(IGNORED) + request(CHURN))
        second = await here.next_kept()
        await until(lambda: only_connection(here)._idle_timer is None)
        second.set_result(accepted(here.kept[0][0]))
        assert [(await answer(reader))[0] for _ in range(2)] == [200, 200]


def only_connection(here: Place) -> ShortWayProtocol:
    [protocol] = here.server.server_state.connections
    assert isinstance(protocol, ShortWayProtocol)
    return protocol


async def test_requests_behind_one_that_waits_are_answered_after_it_in_their_order() -> None:
    async with place(at_once=False) as here, connection(here) as (reader, writer):
        writer.write(request(CHURN) + request(IGNORED) + request(as_body(event(event_id="second"))))
        (await here.next_kept()).set_result(accepted(here.kept[0][0]))
        first, second = await answer(reader), await answer(reader)
        (await here.next_kept(1)).set_result(accepted(here.kept[1][0]))
        said = [first[2], second[2], (await answer(reader))[2]]
        assert [b"accepted" in each for each in said] == [True, False, True]
        assert b"second" in said[2]


@pytest.mark.parametrize(
    ("failing", "status"),
    [(RecordUnavailable("away"), 503), (NotStorable("odd"), 200), (ValueError("a fault"), 500)],
)
async def test_what_the_record_does_not_take_is_answered_as_the_table_says(failing: Exception, status: int) -> None:
    async with place(failing=failing) as here, connection(here) as (reader, writer):
        writer.write(request(CHURN))
        assert (await answer(reader))[0] == status
        assert here.door.long_way == 0
        # Not storable: the raw body is kept in its place.
        assert [arrival.body for arrival, _ in here.kept[1:]] == ([CHURN] if status == 200 else [])


async def test_a_fault_of_ours_is_no_malformed_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a fault")

    async with place() as here, connection(here) as (reader, writer):
        monkeypatch.setattr(here.door, "take", broken)
        writer.write(request(CHURN))
        status, headers, _ = await answer(reader)
        assert (status, headers[b"connection"]) == (500, b"close")
        assert await reader.read() == b""


@pytest.mark.parametrize("whole", [request(CHURN, b"Connection: close"), request(CHURN, version=b"1.0")])
async def test_a_sender_that_wants_one_answer_only_gets_it_and_the_end(whole: bytes) -> None:
    async with place() as here, connection(here) as (reader, writer):
        writer.write(whole)
        status, headers, _ = await answer(reader)
        assert (status, headers[b"connection"], here.door.long_way) == (200, b"close", 0)
        assert await reader.read() == b""


async def test_too_large_a_body_is_refused_and_the_connection_closed() -> None:
    async with place() as here, connection(here) as (reader, writer):
        writer.write(request(b"x" * 100_001))
        status, headers, _ = await answer(reader)
        assert (status, headers[b"connection"]) == (413, b"close")


async def test_who_asks_to_continue_is_told_to() -> None:
    head, _, body = request(CHURN, b"Expect: 100-continue").partition(b"\r\n\r\n")
    async with place() as here, connection(here) as (reader, writer):
        writer.write(head + b"\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(body)
        assert ((await answer(reader))[0], here.door.long_way) == (200, 1)


@pytest.mark.parametrize("path", [PATH.encode() + b"/", PATH.encode() + b"?x=1"])
async def test_the_doors_other_spellings_go_the_long_way(path: bytes) -> None:
    async with place() as here, connection(here) as (reader, writer):
        writer.write(request(CHURN, path=path))
        assert ((await answer(reader))[0], here.door.long_way) == (200, 1)


async def test_other_routes_are_the_applications() -> None:
    async with place() as here, connection(here) as (reader, writer):
        writer.write(request(CHURN, path=b"/elsewhere"))
        assert ((await answer(reader))[0], here.kept) == (404, [])


async def test_rubbish_behind_a_head_closes_the_connection_and_keeps_nothing() -> None:
    head, _, _ = request(CHURN).partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"content-length")]
    async with place() as here, connection(here) as (reader, writer):
        writer.write(b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", b"this is no chunk\r\n"]))
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
        assert (await reader.read()).endswith(b"Invalid HTTP request received.")
        assert (here.kept, here.door.long_way) == ([], 0)


async def test_a_stop_lets_an_answer_out_that_waits_for_the_record() -> None:
    async with place(at_once=False) as here, connection(here) as (reader, writer):
        writer.write(request(CHURN))
        kept = await here.next_kept()
        here.server.should_exit = True
        await until(lambda: not any(server.is_serving() for server in here.server.servers))
        kept.set_result(accepted(here.kept[0][0]))
        status, headers, _ = await answer(reader)
        assert (status, headers[b"connection"]) == (200, b"close")


async def test_a_sender_that_leaves_while_the_record_commits_harms_nobody() -> None:
    async with place(at_once=False) as here:
        async with connection(here) as (_, writer):
            writer.write(request(CHURN))
            kept = await here.next_kept()
        await until(lambda: not here.server.server_state.connections)
        kept.set_result(accepted(here.kept[0][0]))
        async with connection(here) as (reader, writer):
            writer.write(request(IGNORED))
            assert (await answer(reader))[0] == 200
