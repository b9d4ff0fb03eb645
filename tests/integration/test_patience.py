from __future__ import annotations

import asyncio

import pytest

from churn_radar.intake.patience import Patience


async def wait_for(patience: Patience, event: asyncio.Event) -> str:
    """What the door does while it waits for a body."""
    waiting = patience.begin()
    try:
        await event.wait()
        return "came"
    except asyncio.CancelledError:
        if patience.is_up(waiting):
            return "too late"
        raise
    finally:
        patience.end(waiting)


async def test_who_waits_too_long_is_told_and_nobody_else() -> None:
    patience = Patience(0.05)
    never, soon = asyncio.Event(), asyncio.Event()
    slow = [asyncio.create_task(wait_for(patience, never)) for _ in range(3)]
    quick = asyncio.create_task(wait_for(patience, soon))
    await asyncio.sleep(0)
    soon.set()
    assert await quick == "came"
    async with asyncio.timeout(30):
        assert await asyncio.gather(*slow) == ["too late"] * 3


async def test_the_task_goes_on_as_if_it_had_not_been_cancelled() -> None:
    patience = Patience(0.01)

    async def go_on() -> str:
        told = await wait_for(patience, asyncio.Event())
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return f"{told}, {task.cancelling()}"

    async with asyncio.timeout(30):
        assert await asyncio.create_task(go_on()) == "too late, 0"


async def test_a_task_that_somebody_else_cancels_is_cancelled() -> None:
    task = asyncio.create_task(wait_for(Patience(60), asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_clock_of_a_connection_starts_anew_with_each_request() -> None:
    patience = Patience(0.05)
    event = asyncio.Event()
    event.set()
    for _ in range(3):
        assert await wait_for(patience, event) == "came"
    async with asyncio.timeout(30):
        assert await wait_for(patience, asyncio.Event()) == "too late"
