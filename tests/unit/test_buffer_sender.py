from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from churn_radar.buffer.sender import GroupSender
from churn_radar.errors import BufferUnavailable


class Post:
    """Sends by hand: each batch waits until it is let go."""

    def __init__(self, *, lanes: int = 1, max_items: int = 3, max_bytes: int = 100, max_waiting: int = 100) -> None:
        self.batches: list[list[str]] = []
        self._gates: list[asyncio.Future[Sequence[BufferUnavailable | None]]] = []
        self.sender: GroupSender[str] = GroupSender(
            self._send, max_items=max_items, max_bytes=max_bytes, lanes=lanes, max_waiting=max_waiting
        )

    async def _send(self, batch: Sequence[str]) -> Sequence[BufferUnavailable | None]:
        self.batches.append(list(batch))
        gate: asyncio.Future[Sequence[BufferUnavailable | None]] = asyncio.get_running_loop().create_future()
        self._gates.append(gate)
        return await gate

    def add(self, *items: str) -> list[asyncio.Future[None]]:
        return [self.sender.add(item, len(item)) for item in items]

    async def arrive(self, number: int) -> None:
        self._gates[number].set_result([None] * len(self.batches[number]))
        await turn()

    async def fail(self, number: int, error: Exception) -> None:
        self._gates[number].set_exception(error)
        await turn()


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_who_come_while_one_is_under_way_go_together_in_the_next() -> None:
    post = Post()
    first = post.add("a")
    await turn()
    rest = post.add("b", "c", "d", "e")
    await turn()
    assert post.batches == [["a"]]
    await post.arrive(0)
    assert post.batches == [["a"], ["b", "c", "d"]]
    assert first[0].done()
    assert not rest[0].done()
    await post.arrive(1)
    await post.arrive(2)
    assert post.batches[2] == ["e"]
    assert all(waiting.done() for waiting in rest)


async def test_a_batch_is_no_larger_than_allowed_but_a_single_one_may_be() -> None:
    post = Post(max_bytes=10)
    post.add("x" * 6, "y" * 4, "z", "w" * 50)
    await turn()
    await post.arrive(0)
    await post.arrive(1)
    assert [len(batch) for batch in post.batches] == [2, 1, 1]


async def test_no_more_lanes_are_under_way_than_allowed() -> None:
    post = Post(lanes=2, max_items=1)
    post.add("a", "b", "c")
    await turn()
    assert post.batches == [["a"], ["b"]]
    await post.arrive(1)
    assert post.batches == [["a"], ["b"], ["c"]]


async def test_an_item_that_comes_as_the_last_lane_ends_is_not_left_behind() -> None:
    post = Post()
    first = post.add("a")[0]
    later: list[asyncio.Future[None]] = []
    # Runs between the end of the lane's work and anything that the end of its task sets off.
    first.add_done_callback(lambda _: later.extend(post.add("b")))
    await turn()
    await post.arrive(0)
    assert post.batches == [["a"], ["b"]]
    await post.arrive(1)
    assert later[0].done()


async def test_too_many_who_wait_are_refused_at_once() -> None:
    post = Post(max_waiting=2)
    post.add("a", "b")
    with pytest.raises(BufferUnavailable, match="too many"):
        post.add("c")
    await turn()
    with pytest.raises(BufferUnavailable, match="too many"):
        post.add("c")
    await post.arrive(0)
    post.add("c")


async def test_a_failure_is_told_to_all_who_wait_with_the_kind_of_a_fault_alone() -> None:
    post = Post()
    waiting = post.add("a")
    await turn()
    waiting += post.add("b")
    await post.fail(0, ValueError("jo@x.io is odd"))
    assert [str(one.exception()) for one in waiting] == ["putting into the buffer failed: ValueError"] * 2
    # The next one is tried anew.
    (again,) = post.add("c")
    await turn()
    await post.arrive(1)
    assert again.exception() is None


async def test_who_gave_up_waiting_does_not_disturb_the_others() -> None:
    post = Post()
    gone, stays = post.add("a", "b")
    await turn()
    gone.cancel()
    await post.arrive(0)
    assert stays.done()
    assert stays.exception() is None


async def test_after_closing_nothing_is_taken() -> None:
    post = Post()
    (waiting,) = post.add("a")
    closing = asyncio.ensure_future(post.sender.close())
    await turn()
    with pytest.raises(BufferUnavailable, match="closing"):
        post.add("b")
    await post.arrive(0)
    await closing
    assert waiting.done()
