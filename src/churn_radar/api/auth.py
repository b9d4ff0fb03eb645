"""Who asks: an API key, in `Authorization: Bearer` or `X-API-Key`, compared in constant time, and what it allows.

Reader keys may ask for everything and change nothing. Guessing is slowed as on the log-in page, see
`churn_radar.throttle`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import Annotated

import structlog
from fastapi import Depends, HTTPException, Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Message

from churn_radar.access import ANYONE, Keys, Who
from churn_radar.throttle import Throttle

log = structlog.get_logger(__name__)

bearer = HTTPBearer(
    auto_error=False, description="An API key from CHURN_RADAR_API_KEYS or CHURN_RADAR_READER_API_KEYS."
)
header = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same key, in a header of its own.")

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
TOO_MANY = "too many wrong API keys from this address; wait, then try again"
NO_KEY = "an API key is needed: Authorization: Bearer KEY, or X-API-Key: KEY"
WRONG_KEY = "this API key is not one of CHURN_RADAR_API_KEYS or CHURN_RADAR_READER_API_KEYS"
FOR_OPERATORS = "this key may read, and change nothing; operators' keys are in CHURN_RADAR_API_KEYS"


def peer_of(request: Request) -> str | None:
    """The address at the other end of the connection: that of whoever asks, or of the proxy."""
    return request.client.host if request.client else None


def address_of(request: Request) -> str | None:
    """The address of whoever asks."""
    proxy = request.app.state.service.proxy
    address: str | None = proxy.client(peer_of(request), request.headers.getlist("x-forwarded-for"))
    return address


async def caller(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)] = None,
    key: Annotated[str | None, Security(header)] = None,
) -> Who | None:
    """Who brings a key; None for whoever brings none of ours. Either header will do: a proxy may need the other.

    After too many wrong ones from an address its keys are not looked at for a while; `require_key` says so. Where no
    key is needed it counts as if none had been brought: a probe with an old key is no reason to be unready.

    Without configured keys, which only development allows and only on loopback, everybody may do everything.
    """
    keys: Keys = request.app.state.service.keys
    if not keys.all:
        return ANYONE
    # Headers come as Latin-1 text, whatever bytes were sent; a key is compared byte by byte.
    given = [text.encode("latin-1") for text in (credentials and credentials.credentials, key) if text]
    return _looked_up(request, keys, given) if given else None


def _looked_up(request: Request, keys: Keys, given: list[bytes]) -> Who | None:
    throttle, address, now = request.app.state.service.throttle, address_of(request), time.monotonic()
    assert isinstance(throttle, Throttle)  # noqa: S101  the service's own
    waits = {key: throttle.wait_seconds(address, key, now) for key in given}
    may_try = [key for key, wait in waits.items() if wait == 0]
    found = keys.find(may_try)
    if found is not None:
        throttle.succeeded(address, found.value)
        return found.who
    request.state.key_wait = max(waits.values())
    for key in may_try:
        if throttle.failed(address, key, now):
            log.warning("api.key_refused", route=request.scope["route"].path)
    return None


async def require_key(request: Request, who: Annotated[Who | None, Depends(caller)]) -> Who:
    """Let whoever has a key through, or raise 401, and 429 where keys are not looked at."""
    wait = math.ceil(getattr(request.state, "key_wait", 0.0))
    if who is None and wait:
        raise HTTPException(429, TOO_MANY, headers={"Retry-After": str(wait)})
    if who is None:
        detail = WRONG_KEY if hasattr(request.state, "key_wait") else NO_KEY
        raise HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})
    return who


async def require_operator(who: Annotated[Who, Depends(require_key)]) -> Who:
    """Let whoever may change things through, or raise 403."""
    if not who.is_operator:
        raise HTTPException(403, FOR_OPERATORS)
    return who


Caller = Annotated[Who, Depends(require_key)]
Operator = Annotated[Who, Depends(require_operator)]


class KeyedRoute(APIRoute):
    """A route that asks for the key before it reads the body, and reads no more of the body than the limit.

    FastAPI itself reads and parses the whole body before it looks at any dependency. Whatever is not a mere question
    is for operators.
    """

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """The route's handler, behind the checks."""
        answer = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            who = await require_key(request, await caller(request, await bearer(request), await header(request)))
            if request.method not in SAFE_METHODS:
                await require_operator(who)
            response = await answer(limited(request, request.app.state.service.settings.max_body_bytes))
            # Most answers hold personal data, and X-API-Key, unlike Authorization, tells no cache to keep off.
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        return guarded


def limited(request: Request, most_bytes: int) -> Request:
    """The same request; reading more of its body than this raises 413."""
    size = 0

    async def receive() -> Message:
        nonlocal size
        message = await request.receive()
        size += len(message.get("body", b""))
        if size > most_bytes:
            # The connection stays: the server drops the rest, where closing would cut the answer off.
            raise HTTPException(413, f"the body is larger than {most_bytes} bytes")
        return message

    return Request(request.scope, receive)
