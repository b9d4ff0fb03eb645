"""The door's side of a buffer: the buffer first, the record where that cannot be."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from churn_radar.buffer import front
from churn_radar.buffer.front import BufferFirst
from churn_radar.buffer.open import open_buffer
from churn_radar.buffer.protocol import BufferOptions, RawEvent
from churn_radar.errors import BufferUnavailable, RecordUnavailable
from churn_radar.intake.events import to_quarantine
from churn_radar.store.arrivals import Arrival, Verdict
from tests.support.buffers import CAME_AT, draining, raw, read, sqs_bench, take_all, until
from tests.support.door import House, house, stuck
from tests.support.servers import free_port, redis_stream, redis_url


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as home:
        yield home


def understood(event: RawEvent) -> Arrival:
    arrival = read(event.body, event.received_at)
    assert arrival is not None
    return arrival


async def test_with_a_buffer_the_record_may_be_away_and_gets_everything_once_when_it_is_back(home: House) -> None:
    url = redis_url()
    with redis_stream(url) as stream:
        async with open_buffer(url, BufferOptions(stream=stream)) as buffer, draining(buffer, home):
            door = BufferFirst(buffer, home.record.accept_soon)
            with stuck(home.record):
                for name in ("a", "b", "a"):
                    accepted = await door.accept(raw(name).body, understood(raw(name)))
                    # Nobody knows yet that the third is the first again.
                    assert (accepted.verdict, accepted.public_id) == (Verdict.ACCEPTED, name)
                odd = to_quarantine(b"odd", "no JSON", received_at=CAME_AT, event_id=None)
                assert (await door.accept(b"odd", odd)).verdict is Verdict.QUARANTINED

            async def arrived() -> bool:
                return len(await home.signals()) == 3

            await until(arrived)


async def test_while_the_buffer_is_away_events_go_straight_into_the_record(home: House) -> None:
    async with open_buffer(f"redis://127.0.0.1:{free_port()}", BufferOptions()) as buffer:
        door = BufferFirst(buffer, home.record.accept_soon)
        fates = [await door.accept(raw(name).body, understood(raw(name))) for name in ("a", "b", "a")]
    assert [fate.verdict for fate in fates] == [Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.DUPLICATE]
    assert len(await home.signals()) == 2


async def test_a_buffer_that_is_back_is_used_again(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "AWAY_SECONDS", 0.0)
    url = redis_url()
    with redis_stream(url) as stream:
        async with open_buffer(url, BufferOptions(stream=stream, max_length=1)) as buffer:
            door = BufferFirst(buffer, home.record.accept_soon)
            for name in ("a", "b"):
                await door.accept(raw(name).body, understood(raw(name)))
            (taken,) = await take_all(buffer, 1)
            await buffer.done([taken.token])
            await door.accept(raw("c").body, understood(raw("c")))
            (taken,) = await take_all(buffer, 1)
            assert taken.event == raw("c")
    assert [signal.event_id for signal in await home.signals()] == ["b"]


async def test_a_silent_buffer_costs_one_request_its_wait_and_not_every_one(home: House) -> None:
    asked = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    options = BufferOptions(put_timeout_seconds=0.2)
    async with server, open_buffer(f"redis://127.0.0.1:{port}", options) as buffer:
        door = BufferFirst(buffer, home.record.accept_soon)
        clock = asyncio.get_running_loop().time
        began = clock()
        for number in range(20):
            await door.accept(raw(str(number)).body, understood(raw(str(number))))
        assert timedelta(seconds=clock() - began) < timedelta(seconds=20 * options.put_timeout_seconds / 2)
    assert len(await home.signals()) == 20


async def test_when_neither_can_hold_it_the_door_is_told_so(home: House) -> None:
    async with open_buffer(f"redis://127.0.0.1:{free_port()}", BufferOptions()) as buffer:
        with stuck(home.record), pytest.raises(RecordUnavailable):
            await BufferFirst(buffer, home.record.accept_soon).accept(raw("a").body, understood(raw("a")))
        with pytest.raises(BufferUnavailable):
            await BufferFirst(buffer, None).accept(raw("a").body, understood(raw("a")))


@pytest.mark.usefixtures("aws_keys")
async def test_what_is_too_large_for_the_buffer_passes_it_by_and_its_neighbours_do_not(home: House, moto: str) -> None:
    large = os.urandom(1024 * 1024)
    async with sqs_bench(moto).open() as buffer:
        door = BufferFirst(buffer, home.record.accept_soon)
        quarantined = to_quarantine(large, "no JSON", received_at=CAME_AT, event_id=None)
        assert (await door.accept(large, quarantined)).verdict is Verdict.QUARANTINED
        await door.accept(raw("a").body, understood(raw("a")))
        assert await buffer.length() == 1
    (signal,) = await home.signals()
    assert await home.kept_body(signal) == large
