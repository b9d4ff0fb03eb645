"""The senders of the crash tests: each letter goes out until it is acknowledged, and some once more later."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from churn_radar.intake.door import PATH
from tests.torture.letters import Letter, Said

SENDERS = 12


@dataclass
class Mailroom:
    """`doors` are the addresses that letters go to, each at random: the one that refused is not always asked again."""

    http: httpx.AsyncClient
    doors: Sequence[str]
    dice: random.Random
    letters: list[Letter] = field(default_factory=list)
    again: list[Letter] = field(default_factory=list)
    outbox: asyncio.Queue[Letter] = field(default_factory=asyncio.Queue)
    acks: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    _senders: list[asyncio.Task[None]] = field(default_factory=list)

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Send what is posted for as long as the block runs."""
        self._senders = [asyncio.create_task(self._send()) for _ in range(SENDERS)]
        try:
            yield
        finally:
            for sender in self._senders:
                sender.cancel()
            await asyncio.gather(*self._senders, return_exceptions=True)

    def post_soon(self, fresh: Sequence[Letter]) -> None:
        """Give the senders fresh letters, and those that are to be repeated."""
        self.letters += fresh
        again, self.again = self.again, []
        for letter in (*fresh, *again):
            self.outbox.put_nowait(letter)

    async def all_sent(self) -> None:
        """Wait until everything is acknowledged; raises what a sender failed with."""
        await _first_of(self._senders, self.outbox.join())

    async def _send(self) -> None:
        """Post letters, each until it is acknowledged; some once more later, as by a sender who missed the answer."""
        while True:
            letter = await self.outbox.get()
            wanted = len(letter.said) + 1
            while len(letter.said) < wanted:
                if await self._post(letter):
                    self.acks += 1
                else:
                    await asyncio.sleep(0.05)
            if wanted == 1 and self.dice.random() < 0.1:
                self.again.append(letter)
            self.outbox.task_done()

    async def _post(self, letter: Letter) -> bool:
        door = f"{self.dice.choice(self.doors)}{PATH}"
        try:
            answer = await self.http.post(door, content=letter.body, headers=letter.headers)
        except httpx.TransportError as error:
            self.refusals[type(error).__name__] += 1
            return False
        if answer.status_code == 503:
            self.refusals["503"] += 1
            return False
        assert answer.status_code == 200, f"the door answered {answer.status_code}: {answer.text}"
        told = answer.json()
        letter.said.append(Said(told["status"], told["event_id"]))
        return True


async def _first_of(senders: list[asyncio.Task[None]], done: Awaitable[None]) -> None:
    """Wait until everything is sent; a sender that failed ends the wait with its error."""
    waiting = asyncio.ensure_future(done)
    try:
        finished, _ = await asyncio.wait({waiting, *senders}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    for task in finished:
        task.result()
