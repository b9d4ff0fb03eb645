"""Asks Mave, Mavera's research agent."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import httpx

from churn_radar.errors import UpstreamError
from churn_radar.research.answer import is_clarifying_question
from churn_radar.research.prompt import CLARIFICATION_REPLY
from churn_radar.settings import Settings
from churn_radar.upstream import (
    DEADLINE_MARGIN_SECONDS,
    Answer,
    Pace,
    RateInForce,
    RateSeen,
    Request,
    Sleep,
    Unanswered,
    Upstream,
    create_http,
    per_minute,
)

SERVICE = "mavera"
KEY_NAME = "MAVERA_API_KEY"
MOST_BYTES = 10 * 1024 * 1024
# Documented: at most so many `/mave/chat` requests under way for one key.
CONCURRENCY = 10
_READ = frozenset({"id", "thread_id", "content", "sources", "validation"})


@dataclass(frozen=True, slots=True)
class MaveAnswer:
    """What Mave said. Only `content` is sure to be there; `sources` and `validation` are claims, as they came.

    `credits_used` is 0 when the answer does not tell. `extra` holds every other key of the answer. `clarified`
    marks an answer that came only after Mave's own question was answered; its credits are those of both.
    `credits_lost` and `unanswered` are what was spent on the way and brought nothing, as in UpstreamError.
    """

    content: str
    sources: object = ()
    validation: Mapping[str, object] = field(default_factory=dict)
    credits_used: int = 0
    thread_id: str | None = None
    message_id: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    clarified: bool = False
    credits_lost: int = 0
    unanswered: int = 0


def read_answer(payload: object) -> MaveAnswer | None:
    """Read the documented `mave_message`; None when it holds no content, and so no brief."""
    match payload:
        case {"content": str(content), **rest} if content.strip():
            validation = rest.get("validation")
            return MaveAnswer(
                content=content,
                sources=rest.get("sources") or (),
                validation=validation if isinstance(validation, Mapping) else {},
                credits_used=credits_of(payload),
                thread_id=_name(rest.get("thread_id")),
                message_id=_name(rest.get("id")),
                extra={str(key): value for key, value in rest.items() if key not in _READ},
            )
        case _:
            return None


def credits_of(payload: object) -> int:
    """The credits that an answer says it cost; 0 when it does not say."""
    match payload:
        case {"usage": {"credits_used": bool()}}:
            return 0
        case {"usage": {"credits_used": int() | float() as credits_used}} if 0 < credits_used < math.inf:
            return round(credits_used)
        case _:
            return 0


class MaveClient:
    """Mavera's `POST /mave/chat`. Every method raises RetryLater, GiveUp or OperatorMustAct.

    No idempotency key is documented, so a call whose answer is lost may have been charged: it is repeated here
    at most once, never after a timeout, and counted in `charged_unknown`.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        pace: Pace,
        attempts: int,
        workspace_id: str | None = None,
        concurrency: int = CONCURRENCY,
        sleep: Sleep = asyncio.sleep,
        deadline_margin_seconds: float = DEADLINE_MARGIN_SECONDS,
    ) -> None:
        self.credits_lost = 0
        self._workspace = {} if workspace_id is None else {"workspace_id": workspace_id}
        self._upstream = Upstream(
            SERVICE,
            http,
            key_name=KEY_NAME,
            pace=pace,
            attempts=attempts,
            concurrency=concurrency,
            max_bytes=MOST_BYTES,
            charges=True,
            sleep=sleep,
            deadline_margin_seconds=deadline_margin_seconds,
        )

    @classmethod
    def create(cls, settings: Settings, *, pace: Pace | None = None) -> Self:
        """The client that the settings describe; `pace` in place of its own when the limit is shared wider."""
        http = create_http(
            settings.mavera_url,
            key=settings.mavera_api_key,
            key_name=KEY_NAME,
            read_seconds=settings.mavera_timeout_seconds,
            connections=settings.mavera_concurrency,
        )
        return cls(
            http,
            pace=pace or per_minute(settings.mavera_requests_per_minute),
            attempts=settings.in_call_attempts,
            workspace_id=settings.mavera_workspace_id,
            concurrency=settings.mavera_concurrency,
        )

    @property
    def rate(self) -> RateSeen | None:
        """What the last answer with rate headers said of the calls that are left."""
        return self._upstream.rate

    def rate_in_force(self) -> RateInForce:
        """How fast the service is called now, and why."""
        return self._upstream.rate_in_force()

    @property
    def charged_unknown(self) -> int:
        """How many calls so far went out without a readable answer, and may have been charged."""
        return self._upstream.unanswered

    async def ask(self, message: str) -> MaveAnswer:
        """Have `message` researched, in a new thread.

        Documented: Mave may ask a clarifying question in place of the research. It is answered once, in its
        thread, and what comes then is taken. Credits spent on a question without research are added to
        `credits_lost`.
        """
        return await self._clarified(message, await self._say({"message": message}))

    async def follow_up(self, message: str, thread_id: str) -> MaveAnswer:
        """Have `message` researched in a thread that exists; the answer's thread is that one unless it names another.

        A question is answered as by `ask`. GiveUp may mean that the thread exists no more.
        """
        return await self._clarified(message, await self._go_on(message, thread_id))

    async def _clarified(self, message: str, first: MaveAnswer) -> MaveAnswer:
        if not is_clarifying_question(first.content):
            return first
        try:
            if first.thread_id is None:
                # Without a thread to answer in, question and reply go as one new message, once.
                second = await self._say({"message": f"{message}\n\n{CLARIFICATION_REPLY}"})
            else:
                second = await self._go_on(CLARIFICATION_REPLY, first.thread_id)
        except UpstreamError as error:
            self.credits_lost += first.credits_used
            error.credits_lost += first.credits_used + first.credits_lost
            error.unanswered += first.unanswered
            raise
        return replace(
            second,
            clarified=True,
            credits_used=first.credits_used + second.credits_used,
            credits_lost=first.credits_lost + second.credits_lost,
            unanswered=first.unanswered + second.unanswered,
        )

    async def _go_on(self, message: str, thread_id: str) -> MaveAnswer:
        answer = await self._say({"message": message, "thread_id": thread_id})
        return answer if answer.thread_id else replace(answer, thread_id=thread_id)

    async def check(self) -> None:
        """Prove that the key is let in, by the list of threads: it costs no credits."""
        await self._upstream.call(Request("GET", "mave/threads"), lambda answer: None)

    async def aclose(self) -> None:
        """Close the connections; calls under way fail."""
        await self._upstream.http.aclose()

    async def _say(self, body: Mapping[str, str]) -> MaveAnswer:
        lost = unanswered = 0

        def read(answer: Answer) -> MaveAnswer:
            said = read_answer(answer.payload)
            if said is None:
                error = self._upstream.no_sense("answer has no content")
                error.credits_lost = credits_of(answer.payload)
                self.credits_lost += error.credits_lost
                raise error
            return said

        def count(error: Unanswered) -> None:
            nonlocal lost, unanswered
            lost += error.credits_lost
            # An answer that told its price leaves nothing to guess.
            unanswered += error.credits_lost == 0

        whole = {**body, **self._workspace, "stream": False}
        request = Request("POST", "mave/chat", body=whole, sent=list(body.values()))
        try:
            said = await self._upstream.call(request, read, on_unanswered=count)
        except UpstreamError as error:
            error.credits_lost, error.unanswered = lost, unanswered
            raise
        return replace(said, credits_lost=lost, unanswered=unanswered)


def _name(value: object) -> str | None:
    """An identifier as text; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).strip() or None
