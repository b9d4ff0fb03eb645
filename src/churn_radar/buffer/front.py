"""The door's side of a buffer: the raw event goes into the buffer first, and into the record where that cannot be."""

from __future__ import annotations

import asyncio
import math

import structlog

from churn_radar import metrics
from churn_radar.buffer.drain import Accept
from churn_radar.buffer.protocol import Buffer, RawEvent
from churn_radar.errors import BufferUnavailable, RecordUnavailable, TooLargeToBuffer
from churn_radar.store.arrivals import Accepted, Arrival, Verdict

log = structlog.get_logger(__name__)

FALL_BACK_SECONDS = 2.0
AWAY_SECONDS = 1.0


class BufferFirst:
    """Accepts what the door understood, by way of the buffer.

    `fall_back` is the record's own way of accepting: events too large for the buffer take it, and all of them while the
    buffer is away or full, so that the door refuses only when neither can hold an event. With None, it refuses.
    """

    def __init__(self, buffer: Buffer, fall_back: Accept | None) -> None:
        self._buffer = buffer
        self._fall_back = fall_back
        self._away_until = -math.inf

    async def accept(self, body: bytes, arrival: Arrival) -> Accepted:
        """Hold an event durably, somewhere. Raises RecordUnavailable when neither can.

        Whether a buffered event is a duplicate shows only at the record: the answer is `accepted` then, too.
        """
        clock = asyncio.get_running_loop().time
        if self._fall_back is not None and clock() < self._away_until:
            return await self._into_record(arrival, self._fall_back)
        try:
            await self._buffer.put(RawEvent(body, arrival.received_at, arrival.source))
        except BufferUnavailable as error:
            if self._fall_back is None:
                raise
            if isinstance(error, TooLargeToBuffer):
                log.info("buffer.passed_by", cause=str(error))
            else:
                log.warning("buffer.passed_by", cause=str(error))
                # Or each request would first wait for a buffer that does not answer.
                self._away_until = clock() + AWAY_SECONDS
            return await self._into_record(arrival, self._fall_back)
        verdict = Verdict.ACCEPTED if arrival.body is None else Verdict.QUARANTINED
        return Accepted(verdict, arrival.public_id)

    async def _into_record(self, arrival: Arrival, accept: Accept) -> Accepted:
        metrics.passed_by()
        # The buffer may have used up its own time already, and the sender waits four seconds in all.
        try:
            async with asyncio.timeout(FALL_BACK_SECONDS):
                return await accept(arrival)
        except TimeoutError:
            raise RecordUnavailable("the commit took too long") from None
