"""Look-ups that wait at the same time share one call.

The App API allows ten calls a second, and one bulk call names up to a hundred customers: gathered, a blast of
5,000 events is looked up in seconds instead of minutes. A look-up that is alone goes out at once, as a single one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from churn_radar.customerio.client import MOST_IDS, by_each_identifier
from churn_radar.errors import GiveUp, UpstreamError
from churn_radar.triage.customer import CustomerRef, IdType, Profile

# Long enough for the events of one commit to come together, too short to be noticed.
LINGER_SECONDS = 0.005
# What an App API without the bulk look-up answers to one: not found, wrong method, not implemented.
_NO_BULK = (404, 405, 501)


class AsksGathered(Protocol):
    """The client's bulk look-up, of ids that are handed over when its turn has come."""

    async def look_up_gathered(self, id_type: IdType, take: Take) -> dict[str, Profile]:
        """Profiles by the ids as asked; raises UpstreamError."""
        ...


class Take(Protocol):
    """Hands over the ids of a call, once."""

    def __call__(self) -> Sequence[str]:
        """1 to 100 ids."""
        ...


class GatheredLookUps:
    """Looks customers up through `client`, many in a call. Safe to use from any number of tasks of one loop."""

    def __init__(self, client: AsksGathered, *, linger_seconds: float = LINGER_SECONDS) -> None:
        self._client = client
        self._linger = linger_seconds
        self._most_ids = MOST_IDS
        self._waiting: dict[IdType, dict[str, asyncio.Future[Profile | None]]] = {kind: {} for kind in IdType}
        self._about_to_ask: dict[IdType, asyncio.Task[None]] = {}
        self._calls: set[asyncio.Task[None]] = set()

    async def look_up(self, ref: CustomerRef) -> Profile | None:
        """The customer that `ref` names, by each of its identifiers in turn; None when there is no such one.

        Raises UpstreamError, as the client does.
        """

        async def answer(id_type: IdType, value: str) -> Profile | None:
            # Shared with others who ask for the same: one that is cancelled must not take it from them.
            return await asyncio.shield(self._answer(id_type, value))

        return await by_each_identifier(ref, answer)

    def _answer(self, id_type: IdType, value: str) -> asyncio.Future[Profile | None]:
        waiting = self._waiting[id_type]
        if value not in waiting:
            waiting[value] = asyncio.get_running_loop().create_future()
            self._see_to(id_type)
        return waiting[value]

    def _see_to(self, id_type: IdType) -> None:
        """One call at a time waits for its turn; until it comes, everything that arrives goes with it."""
        if self._waiting[id_type] and id_type not in self._about_to_ask:
            call = asyncio.create_task(self._ask(id_type), name=f"look-up by {id_type}")
            self._about_to_ask[id_type] = call
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _ask(self, id_type: IdType) -> None:
        batch: dict[str, asyncio.Future[Profile | None]] = {}

        def take() -> Sequence[str]:
            waiting = self._waiting[id_type]
            for value in list(waiting)[: self._most_ids]:
                batch[value] = waiting.pop(value)
            self._about_to_ask.pop(id_type, None)
            self._see_to(id_type)
            return list(batch)

        await asyncio.sleep(self._linger)
        try:
            found = await self._client.look_up_gathered(id_type, take)
        except UpstreamError as error:
            if len(batch) > 1 and error.status in _NO_BULK:
                self._most_ids = 1
            # One bad id must not take the other ninety-nine with it: ask for each by itself.
            if len(batch) > 1 and (isinstance(error, GiveUp) or error.status in _NO_BULK):
                await asyncio.gather(*(self._ask_for_one(id_type, value, batch[value]) for value in batch))
            else:
                _fail(batch, error)
        except Exception as error:
            _fail(batch, error)
        else:
            for value, answer in batch.items():
                if not answer.done():
                    answer.set_result(found.get(value))
        finally:
            if not batch:
                # The call came to nothing before its turn: whoever waits is told, rather than left to wait.
                self._about_to_ask.pop(id_type, None)
                _fail(self._waiting[id_type], UpstreamError("customerio", "the look-up was not made"))
                self._waiting[id_type].clear()

    async def _ask_for_one(self, id_type: IdType, value: str, answer: asyncio.Future[Profile | None]) -> None:
        try:
            found = await self._client.look_up_gathered(id_type, lambda: [value])
        except Exception as error:
            _fail({value: answer}, error)
        else:
            if not answer.done():
                answer.set_result(found.get(value))


def _fail(batch: dict[str, asyncio.Future[Profile | None]], error: Exception) -> None:
    for answer in batch.values():
        if not answer.done():
            answer.set_exception(error)
            # Nobody may be left to hear it, after a stop for instance; that is no fault.
            answer.exception()
