"""Who asks: an API key, in `Authorization: Bearer` or `X-API-Key`, compared in constant time, and what it allows.

Reader keys may ask for everything and change nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, HTTPException, Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Message

from churn_radar.access import ANYONE, Keys, Who

bearer = HTTPBearer(
    auto_error=False, description="An API key from CHURN_RADAR_API_KEYS or CHURN_RADAR_READER_API_KEYS."
)
header = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same key, in a header of its own.")

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FOR_OPERATORS = "this key may read, and change nothing; operators' keys are in CHURN_RADAR_API_KEYS"


async def caller(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)] = None,
    key: Annotated[str | None, Security(header)] = None,
) -> Who | None:
    """Who brings a key; None for whoever brings none of ours. Either header will do: a proxy may need the other.

    Without configured keys, which only development allows and only on loopback, everybody may do everything.
    """
    keys: Keys = request.app.state.service.keys
    if not keys.all:
        return ANYONE
    # Headers come as Latin-1 text, whatever bytes were sent; a key is compared byte by byte.
    given = [text.encode("latin-1") for text in (credentials and credentials.credentials, key) if text]
    found = keys.find(given)
    return found.who if found else None


async def require_key(who: Annotated[Who | None, Depends(caller)]) -> Who:
    """Let whoever has a key through, or raise 401."""
    if who is None:
        raise HTTPException(
            401,
            "an API key is needed: Authorization: Bearer KEY, or X-API-Key: KEY",
            headers={"WWW-Authenticate": "Bearer"},
        )
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
            who = await require_key(await caller(request, await bearer(request), await header(request)))
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
