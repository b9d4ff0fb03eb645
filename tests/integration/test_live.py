"""Watching: one reading for all who watch, news at once, nothing twice, and nobody holds up the stop."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import pytest

from churn_radar.errors import RecordUnavailable
from churn_radar.work.live import SUMS_AT_LEAST_EVERY, Live, LoggedOut, State


@dataclass
class Book:
    """What is read, how often it was, and when the reader may read on."""

    signals_: tuple[str, ...] = ("one",)
    sums_: int = 0
    read: int = 0
    added_up: int = 0
    fails: bool = False
    logged_out: set[str] = field(default_factory=set)
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def signals(self) -> Sequence[str]:
        self.read += 1
        if self.fails:
            raise RecordUnavailable("away")
        return self.signals_

    async def sums(self) -> int:
        self.added_up += 1
        return self.sums_

    async def ended(self, sessions: Collection[str]) -> set[str]:
        return self.logged_out & set(sessions)

    async def sleep(self, seconds: float) -> None:
        await self.turns.acquire()

    async def turn(self) -> None:
        """Let the reader read once more."""
        before = self.read
        self.turns.release()
        while self.read == before:  # noqa: ASYNC110  the reader needs nothing but its turn
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)


def live_on(book: Book, most_viewers: int = 3) -> Live:
    return Live(book, sleep=book.sleep, most_viewers=most_viewers)


async def next_of(watching: object) -> State:
    async with asyncio.timeout(30):
        state: State = await anext(watching)  # type: ignore[call-overload]
        return state


async def test_all_who_watch_are_told_by_one_reading() -> None:
    book = Book()
    live = live_on(book)
    watching = [live.watch() for _ in range(3)]
    first = await asyncio.gather(*(next_of(each) for each in watching))
    assert {state.version for state in first} == {first[0].version}
    assert (book.read, live.viewers) == (1, 3)
    book.signals_ = ("one", "two")
    news = [asyncio.create_task(next_of(each)) for each in watching]
    await book.turn()
    assert [list(state.signals) for state in await asyncio.gather(*news)] == [["one", "two"]] * 3
    assert book.read == 2
    live.close()


async def test_who_comes_back_with_what_they_have_seen_is_told_of_news_only() -> None:
    book = Book()
    live = live_on(book)
    seen = (await next_of(live.watch())).version
    again = asyncio.create_task(next_of(live.watch(seen)))
    await book.turn()
    assert not again.done()
    book.signals_ = ("two",)
    await book.turn()
    assert list((await again).signals) == ["two"]
    live.close()


async def test_the_sums_are_added_up_when_signals_change_and_from_time_to_time() -> None:
    book = Book()
    live = live_on(book)
    watching = live.watch()
    await next_of(watching)
    for _ in range(SUMS_AT_LEAST_EVERY - 1):
        await book.turn()
    assert book.added_up == 1
    book.sums_ = 7
    await book.turn()
    assert (await next_of(watching)).sums == 7
    live.close()


async def test_a_record_that_is_away_ends_nothing() -> None:
    book = Book(fails=True)
    live = live_on(book)
    told = asyncio.create_task(next_of(live.watch()))
    for _ in range(3):
        await asyncio.sleep(0)
    book.fails = False
    await book.turn()
    assert list((await told).signals) == ["one"]
    live.close()


async def test_who_logs_out_here_or_elsewhere_is_told_nothing_more_and_others_go_on() -> None:
    book = Book()
    live = live_on(book)
    here, elsewhere, stays = (live.watch(session=name) for name in ("here", "elsewhere", "stays"))
    for each in (here, elsewhere, stays):
        await next_of(each)
    ends = [asyncio.create_task(next_of(each)) for each in (here, elsewhere)]
    await asyncio.sleep(0)
    live.log_out("here")
    with pytest.raises(LoggedOut):
        await ends[0]
    # Of another replica it is read, before the news of that moment is shown.
    book.logged_out, book.signals_ = {"elsewhere"}, ("two",)
    await book.turn()
    with pytest.raises(LoggedOut):
        await ends[1]
    assert list((await next_of(stays)).signals) == ["two"]
    assert live.viewers == 1
    live.close()


async def test_nobody_watches_longer_than_their_log_in_can_last() -> None:
    live = live_on(Book())
    watching = live.watch(session="one", longest=0)
    with pytest.raises(StopAsyncIteration):
        await next_of(watching)
    live.close()


async def test_nothing_is_read_when_nobody_watches() -> None:
    book = Book()
    live = live_on(book)
    watching = live.watch()
    await next_of(watching)
    await watching.aclose()  # type: ignore[attr-defined]
    book.turns.release()
    for _ in range(20):
        await asyncio.sleep(0)
    assert (book.read, live.viewers, live._task) == (1, 0, None)


async def test_no_more_may_watch_than_there_is_room_for_and_none_after_the_end() -> None:
    live = live_on(Book(), most_viewers=1)
    watching = live.watch()
    await next_of(watching)
    assert live.is_full
    live.close()
    with pytest.raises(StopAsyncIteration):
        await next_of(watching)
    assert live.viewers == 0
    assert live.is_full
