"""What both clients share: one HTTP client for the life of the process, and one way to call.

A call takes a free connection, waits its turn (see `pace`), goes out, is read within bounds of size and time, and
comes back as a value or as an UpstreamError that says what to do. Blips are repeated here, within seconds; what
lasts longer is left to the delays of the job that called.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import httpx
import structlog
from pydantic import SecretStr
from tenacity import AsyncRetrying, RetryCallState, stop_after_attempt, wait_exponential_jitter

from churn_radar import __version__, metrics
from churn_radar.errors import GiveUp, RetryLater, SettingsError
from churn_radar.upstream.decode import decode_json
from churn_radar.upstream.failure import Unanswered, failure
from churn_radar.upstream.pace import Pace, Turn
from churn_radar.upstream.rate import RateInForce, RateSeen, Throttle, read_rate
from churn_radar.upstream.refusal import TOO_MANY, read_retry_after, refusal

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 5.0
WRITE_SECONDS = 10.0
POOL_SECONDS = 10.0
DEADLINE_MARGIN_SECONDS = 15.0
MAX_IN_CALL_WAIT_SECONDS = 20.0
ERROR_BODY_BYTES = 64 * 1024
ROOM_STEP_SECONDS = 0.02

Sleep = Callable[[float], Awaitable[None]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be sent. `sent` are its private values, kept out of error texts."""

    method: str
    path: str
    params: Mapping[str, str] | None = None
    body: Mapping[str, object] | None = None
    sent: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A success, or a status that the caller asked to see. `payload` is decoded JSON, None when it was none."""

    status: int
    payload: object
    is_page: bool = False


def create_http(
    base_url: str,
    *,
    key: SecretStr | None,
    key_name: str,
    read_seconds: float,
    connections: int,
    trust_env: bool = True,
) -> httpx.AsyncClient:
    """Make the one HTTP client of a service; close it when the process ends.

    Proxies and certificate stores of the environment are honoured (`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`,
    `SSL_CERT_DIR`): a service behind a corporate proxy needs them. Redirects are not followed, since one would
    carry the key and the customer's data to wherever it points.

    Raises SettingsError when the key holds characters that an HTTP header cannot carry.
    """
    # At INFO httpx logs each URL, and the App API's URLs hold customers' ids and mail addresses.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    headers = {"User-Agent": f"churn_radar/{__version__}", "Accept": "application/json"}
    if key is not None:
        token = key.get_secret_value()
        if not re.fullmatch(r"[!-~]+", token):
            raise SettingsError([f"{key_name}: holds spaces or characters outside ASCII; copy it again"])
        headers["Authorization"] = f"Bearer {token}"
    return httpx.AsyncClient(
        base_url=base_url,
        headers=headers,
        timeout=httpx.Timeout(read_seconds, connect=CONNECT_SECONDS, write=WRITE_SECONDS, pool=POOL_SECONDS),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        follow_redirects=False,
        trust_env=trust_env,
    )


class Upstream:
    """Calls one service. Safe to use from any number of tasks of one event loop.

    `concurrency` bounds the calls under way, `attempts` those within one call; `max_bytes` bounds an answer. With
    `charges`, a call that may have been paid for is repeated here at most once, and never after a timeout; with
    `empty_is_success` a success need not hold anything.
    """

    def __init__(
        self,
        service: str,
        http: httpx.AsyncClient,
        *,
        key_name: str,
        pace: Pace,
        attempts: int,
        concurrency: int,
        max_bytes: int,
        charges: bool = False,
        empty_is_success: bool = False,
        sleep: Sleep = asyncio.sleep,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        deadline_margin_seconds: float = DEADLINE_MARGIN_SECONDS,
    ) -> None:
        self.service = service
        self.http = http
        self.rate: RateSeen | None = None
        self.unanswered = 0
        self.too_many = 0
        self._told_at: datetime | None = None
        self._in_flight = 0
        self._key_name = key_name
        self._pace = pace
        self._throttle = Throttle(pace.calls, pace.seconds)
        self._kept_to = pace.calls
        self._next = asyncio.Lock()
        self._concurrency = concurrency
        self._slots = asyncio.Semaphore(concurrency)
        self._max_bytes = max_bytes
        self._charges = charges
        self._empty_is_success = empty_is_success
        self._sleep = sleep
        self._now = now
        # Holds are kept by a clock that nobody sets: one that jumps back would hold every call for as long.
        self._monotonic = monotonic
        # httpx bounds the wait for each chunk; an answer that drips for ever needs a bound as a whole.
        read_seconds = http.timeout.read
        self._deadline_seconds = None if read_seconds is None else read_seconds + deadline_margin_seconds
        self._attempts = attempts
        self._backoff = wait_exponential_jitter(multiplier=0.5, max=8, jitter=0.5)

    async def call(
        self,
        request: Request | Callable[[], Request],
        read: Callable[[Answer], T],
        *,
        also: Collection[int] = (),
        on_unanswered: Callable[[Unanswered], None] = lambda error: None,
    ) -> T:
        """Send `request` below the base URL and return what `read` makes of the answer.

        A request that is a function is made up when its turn has come, anew for each attempt: it can hold what
        has gathered until then. `read` sees successes and the statuses in `also`, and raises Unanswered for an
        answer without sense. `on_unanswered` hears of each attempt that came to that, also when a later one is
        answered. Raises RetryLater, GiveUp, OperatorMustAct.
        """

        async def attempt() -> T:
            async with self._slots:
                left_at, turn = await self._turn()
                self._in_flight += 1
                try:
                    wanted = request() if callable(request) else request
                    made = self._request(wanted)
                    made.extensions["trace"] = self._on_the_wire(turn, left_at)
                    return read(await self._exchange(made, wanted.sent, also, left_at))
                except Unanswered as error:
                    self.unanswered += 1
                    on_unanswered(error)
                    raise
                finally:
                    self._in_flight -= 1
                    self._throttle.ended(left_at, self._monotonic())
                    turn.over()

        retrying = AsyncRetrying(
            sleep=self._sleep,
            stop=stop_after_attempt(self._attempts),
            wait=self._wait,
            retry=self._is_worth_repeating,
            reraise=True,
        )
        return await retrying(attempt)

    def no_sense(self, message: str) -> Unanswered:
        """The error for a success whose body does not hold what it should."""
        return Unanswered(self.service, message, status=200)

    def rate_in_force(self) -> RateInForce:
        """How fast the service is called now, and why; cheap."""
        now = self._monotonic()
        return RateInForce(
            service=self.service,
            limit=self._pace.calls,
            window_seconds=self._pace.seconds,
            in_force=self._throttle.in_force(now),
            told=self.rate,
            told_at=self._told_at,
            held_seconds=max(0.0, self._throttle.hold_until - now),
            in_flight=self._in_flight,
            concurrency=self._concurrency,
            too_many=self.too_many,
        )

    async def _turn(self) -> tuple[float, Turn]:
        """Return when a call may leave: when that was, and the turn that is over when the call is.

        One waits at a time, in order of asking: a turn that a hold came in between is lost, and ten of those would
        be a good part of a window.
        """
        async with self._next:
            heeded = -math.inf
            while True:
                while (until := self._throttle.hold_until) > heeded:
                    heeded = until
                    if (wait := until - self._monotonic()) > 0:
                        await self._sleep(wait)
                self._keep_pace()
                turn = await self._pace.wait()
                try:
                    # In small steps: an answer that comes meanwhile makes room sooner.
                    while (room := self._throttle.room_at(self._monotonic()) - self._monotonic()) > 0:
                        await self._sleep(min(room, ROOM_STEP_SECONDS))
                except BaseException:
                    turn.over()
                    raise
                if self._throttle.hold_until <= heeded:
                    left_at = self._monotonic()
                    self._throttle.leave(left_at)
                    return left_at, turn
                turn.over()

    def _keep_pace(self) -> None:
        before, calls = self._kept_to, self._throttle.in_force(self._monotonic())
        if calls == before:
            return
        self._kept_to = calls
        self._pace.keep_to(calls)
        about = {"service": self.service, "calls": calls, "seconds": self._pace.seconds, "setting": self._pace.calls}
        if calls < before:
            log.warning("upstream.slowed_down", **about)
        elif calls == self._pace.calls:
            log.info("upstream.at_full_rate", **about)

    def _on_the_wire(self, turn: Turn, left_at: float) -> Callable[[str, object], Awaitable[None]]:
        """Tells the turn when the connection stands and the request is about to be written to it."""

        async def trace(event: str, _: object) -> None:
            if event.endswith(".send_request_headers.started"):
                turn.sent(self._monotonic() - left_at)

        return trace

    def _request(self, wanted: Request) -> httpx.Request:
        try:
            return self.http.build_request(wanted.method, wanted.path, params=wanted.params, json=wanted.body)
        except (httpx.InvalidURL, UnicodeError):
            raise GiveUp(self.service, "the request cannot be written as HTTP") from None

    async def _exchange(
        self, request: httpx.Request, sent: Collection[str], also: Collection[int], left_at: float
    ) -> Answer:
        try:
            async with asyncio.timeout(self._deadline_seconds):
                response = await self.http.send(request, stream=True)
                try:
                    raw = await self._body(response)
                finally:
                    await response.aclose()
        except (httpx.HTTPError, OSError, UnicodeError) as error:
            # `from None`: the causes quote headers and URLs, and those hold the key and customers' ids.
            raise failure(self.service, request.url.host, error) from None
        retry_after = self._note(response, left_at)
        payload = decode_json(raw)
        if response.is_success and payload is None and (raw or not self._empty_is_success):
            raise Unanswered(self.service, f"{request.url.host} answered no JSON", status=response.status_code)
        if response.is_success or response.status_code in also:
            page = "html" in response.headers.get("content-type", "").lower()
            return Answer(response.status_code, payload, is_page=page)
        raise refusal(
            self.service,
            request.url.host,
            response.status_code,
            payload=payload,
            retry_after=retry_after,
            key_name=self._key_name,
            sent=(*sent, self.http.headers.get("authorization", "").removeprefix("Bearer ")),
        )

    async def _body(self, response: httpx.Response) -> bytes:
        limit = self._max_bytes if response.is_success else ERROR_BODY_BYTES
        body = bytearray()
        try:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > limit:
                    break
        except httpx.HTTPError:
            if response.is_success:
                raise
        if response.is_success and len(body) > limit:
            message = f"{response.request.url.host}: answer too large (more than {limit} bytes)"
            raise Unanswered(self.service, message, status=response.status_code)
        return bytes(body)

    def _note(self, response: httpx.Response, left_at: float) -> timedelta | None:
        """Keep what the answer says about later calls, and return what it asks this one to wait."""
        unix, now = self._now(), self._monotonic()
        rate = read_rate(response.headers)
        if rate is not None:
            self.rate, self._told_at = rate, datetime.fromtimestamp(unix, UTC)
        reset_in = 0.0 if rate is None else rate.reset_in(unix)
        asked = None if response.is_success else read_retry_after(response.headers.get("retry-after"), now=unix)
        held_until = self._throttle.hold_until
        wait = None if asked is None else asked.total_seconds()
        if response.status_code == TOO_MANY:
            self.too_many += 1
            metrics.too_many(self.service)
            self._throttle.refused(left_at, now, rate, reset_in=reset_in, wait=wait, shared=self._pace.taken)
        else:
            self._throttle.answered(left_at, now, rate, reset_in=reset_in, shared=self._pace.taken)
            self._throttle.stay_away(now, wait or 0.0)
        if self._throttle.hold_until > max(held_until, now):
            self._pace.stay_away(self._throttle.hold_until - now)
        self._keep_pace()
        return asked

    def _is_worth_repeating(self, state: RetryCallState) -> bool:
        match state.outcome and state.outcome.exception():
            case Unanswered() as error if self._charges:
                return not error.timed_out and state.attempt_number == 1
            case RetryLater(retry_after=timedelta() as asked):
                return asked.total_seconds() <= MAX_IN_CALL_WAIT_SECONDS
            case RetryLater():
                return True
            case _:
                return False

    def _wait(self, state: RetryCallState) -> float:
        backoff = self._backoff(state)
        match state.outcome and state.outcome.exception():
            case RetryLater(retry_after=timedelta() as asked):
                return max(asked.total_seconds(), backoff)
            case _:
                return backoff
