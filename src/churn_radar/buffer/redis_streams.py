"""A Redis stream as the buffer: one consumer group, entries deleted once they are in the record.

A write survives a crash of the Redis server only with `appendonly yes` and `appendfsync always`: then Redis answers
after the fsync (https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/). `check` says so when the
server works otherwise. The stream is never trimmed: above its length it refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import socket
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import structlog
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    NoScriptError,
    RedisError,
    ResponseError,
)

from churn_radar.buffer.protocol import BufferOptions, RawEvent, Taken
from churn_radar.buffer.redis_answers import durability, pairs, streams, taken_of, text_of
from churn_radar.buffer.redis_calls import calling, client_of
from churn_radar.buffer.sender import GroupSender
from churn_radar.buffer.url import RedisPlace
from churn_radar.counts import counted
from churn_radar.errors import BufferUnavailable, SettingsError
from churn_radar.store.tables import to_micros

log = structlog.get_logger(__name__)

MAX_ITEMS = 128
MAX_BYTES = 8 * 1024 * 1024
LONGEST_BLOCK_SECONDS = 5.0
CLAIM_EVERY_SECONDS = 5.0

# One call for a whole batch: a pipeline of single XADDs costs this process several times the time (decision 20), and
# here the bound is exact, however many doors write at once.
_PUT = """
local room = tonumber(ARGV[1]) - redis.call('XLEN', KEYS[1])
local held = 0
for i = 2, #ARGV, 3 do
  if held >= room then break end
  redis.call('XADD', KEYS[1], '*', 'body', ARGV[i], 'received_at', ARGV[i + 1], 'source', ARGV[i + 2])
  held = held + 1
end
return held
"""


class RedisBuffer:
    """One process's access to the stream. Made by `create`, closed by `aclose`."""

    def __init__(self, place: RedisPlace, options: BufferOptions) -> None:
        self.name = place.name
        self._options = options
        self._stream, self._group = options.stream, options.group
        # Unique for each process that ever was: an entry of a dead one must not look like ours.
        self._consumer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._hold_ms = int(options.hold_seconds * 1000)
        self._putting = client_of(place.url, options.put_timeout_seconds)
        self._taking = client_of(place.url, LONGEST_BLOCK_SECONDS + 5)
        self._sender = GroupSender(
            self._put, max_items=MAX_ITEMS, max_bytes=MAX_BYTES, lanes=1, max_waiting=options.max_waiting
        )
        self._script = ""
        self._grouped = False
        self._claim_at = 0.0
        self._claim_from: bytes | str = "0-0"

    @classmethod
    async def create(cls, place: RedisPlace, options: BufferOptions) -> RedisBuffer:
        """Connect, if the server is there: one that is away now is waited for.

        Raises SettingsError when the server is there and refuses the user or the password.
        """
        buffer = cls(place, options)
        try:
            for line in await buffer.check():
                log.warning("buffer.not_durable", buffer=place.name, problem=line)
        except BufferUnavailable as error:
            if isinstance(error.__cause__, AuthenticationError | NoPermissionError):
                await buffer.aclose()
                raise SettingsError(
                    [f"CHURN_RADAR_BUFFER_URL: {place.name} refuses the user or password ({error})"]
                ) from None
            log.warning("buffer.unavailable", buffer=place.name, cause=str(error))
        return buffer

    def put(self, event: RawEvent) -> asyncio.Future[None]:
        """See Buffer."""
        return self._sender.add(event, len(event.body))

    async def _put(self, batch: Sequence[RawEvent]) -> list[BufferUnavailable | None]:
        room: list[bytes | str | int] = [self._options.max_length]
        for event in batch:
            room += (event.body, to_micros(event.received_at), event.source)
        async with calling(self._putting, "cannot hold the event"):
            async with asyncio.timeout(self._options.put_timeout_seconds):
                held = await self._run_put(room)
        full = BufferUnavailable(f"the buffer is full: it holds {counted(self._options.max_length, 'event')}")
        return [None if number < held else full for number in range(len(batch))]

    async def _run_put(self, arguments: Sequence[bytes | str | int]) -> int:
        """Run the script; returns how many entries it added. Raises BufferUnavailable when replicas are missing."""
        for _ in range(2):
            if not self._script:
                self._script = await self._putting.script_load(_PUT)
            pipeline = self._putting.pipeline(transaction=False)
            pipeline.execute_command("EVALSHA", self._script, 1, self._stream, *arguments)
            if self._options.replicas:
                # On the same connection, since WAIT is about what that one has written.
                patience = int(self._options.put_timeout_seconds * 600)
                pipeline.execute_command("WAIT", self._options.replicas, patience)
            held, *confirmed = await pipeline.execute(raise_on_error=False)
            if isinstance(held, NoScriptError):
                # The server was started anew, or another one took its place.
                self._script = ""
                continue
            for answer in (held, *confirmed):
                if isinstance(answer, Exception):
                    raise answer
            if confirmed and confirmed[0] < self._options.replicas:
                raise BufferUnavailable(f"{confirmed[0]} of {self._options.replicas} replicas confirmed the event")
            return int(held)
        raise BufferUnavailable("Redis forgets the script between two calls")

    async def take(self, limit: int, wait: timedelta) -> list[Taken]:
        """See Buffer. Entries of workers that were silent for longer than the hold come first."""
        async with calling(self._taking, "cannot be read"):
            try:
                await self._join_group()
                return await self._claim(limit) or await self._read(limit, wait)
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                # Somebody deleted the stream, or the server came back empty.
                self._grouped = False
                return []

    async def _join_group(self) -> None:
        if self._grouped:
            return
        try:
            await self._taking.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        self._grouped = True

    async def _read(self, limit: int, wait: timedelta) -> list[Taken]:
        block = min(wait.total_seconds(), LONGEST_BLOCK_SECONDS)
        answer = await self._taking.xreadgroup(
            self._group,
            self._consumer,
            {self._stream: ">"},
            count=limit,
            block=math.ceil(block * 1000) if block > 0 else None,
        )
        entries = [entry for _, found in streams(answer) for entry in found]
        return [taken_of(entry, 1) for entry in entries]

    async def _claim(self, limit: int) -> list[Taken]:
        """What workers left behind that are silent for longer than the hold; looked for every few seconds."""
        clock = asyncio.get_running_loop().time
        if clock() < self._claim_at:
            return []
        answer: Any = await self._taking.xautoclaim(
            self._stream, self._group, self._consumer, self._hold_ms, start_id=self._claim_from, count=limit
        )
        self._claim_from, entries = answer[0], pairs(answer[1])
        if not entries:
            if self._claim_from in (b"0-0", "0-0"):
                self._claim_at = clock() + min(CLAIM_EVERY_SECONDS, self._options.hold_seconds / 2)
            return []
        log.warning("buffer.claimed", buffer=self.name, events=len(entries), hint="their worker has been silent")
        counts = await self._taking.xpending_range(
            self._stream, self._group, min=entries[0][0], max=entries[-1][0], count=10 * limit,
            consumername=self._consumer,
        )  # fmt: skip
        deliveries = {one["message_id"]: int(one["times_delivered"]) for one in counts}
        return [taken_of(entry, deliveries.get(entry[0], 1)) for entry in entries]

    async def done(self, tokens: Sequence[str]) -> None:
        """See Buffer."""
        if not tokens:
            return
        async with calling(self._taking, "cannot delete what is done"):
            pipeline = self._taking.pipeline(transaction=True)
            pipeline.xack(self._stream, self._group, *tokens)
            pipeline.xdel(self._stream, *tokens)
            await pipeline.execute()

    async def hold(self, tokens: Sequence[str]) -> None:
        """See Buffer."""
        await self._set_idle(tokens, 0)

    async def release(self, tokens: Sequence[str]) -> None:
        """See Buffer."""
        await self._set_idle(tokens, self._hold_ms)

    async def _set_idle(self, tokens: Sequence[str], idle_ms: int) -> None:
        if tokens:
            async with calling(self._taking, "cannot keep the events"):
                # JUSTID leaves the count of deliveries alone.
                await self._taking.xclaim(
                    self._stream, self._group, self._consumer, 0, list(tokens), idle=idle_ms, justid=True
                )

    async def length(self) -> int:
        """See Buffer."""
        async with calling(self._putting, "cannot be asked"):
            return int(await self._putting.xlen(self._stream))

    async def check(self) -> list[str]:
        """See Buffer."""
        async with calling(self._putting, "does not answer"):
            await self._putting.ping()
            try:
                # Two calls: servers before 7.0 take one pattern at a time.
                said = await self._putting.config_get("append*")
                said |= await self._putting.config_get("maxmemory-policy")
            except ResponseError:
                return ["the server hides its configuration (CONFIG GET): see to appendonly yes, appendfsync always"]
        return durability({text_of(name): text_of(value) for name, value in said.items()})

    async def aclose(self) -> None:
        """Send what waits, leave the group, and hang up."""
        await self._sender.close()
        with contextlib.suppress(RedisError, OSError):
            async with asyncio.timeout(self._options.put_timeout_seconds):
                await self._leave_group()
        await self._putting.aclose()
        await self._taking.aclose()

    async def _leave_group(self) -> None:
        """Take our name off the list, unless entries are on it: with the name they would be forgotten."""
        if self._grouped and not await self._taking.xpending_range(
            self._stream, self._group, min="-", max="+", count=1, consumername=self._consumer
        ):
            await self._taking.xgroup_delconsumer(self._stream, self._group, self._consumer)
