"""Who may read: an API key, in `Authorization: Bearer` or `X-API-Key`, compared in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, HTTPException, Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Message

bearer = HTTPBearer(auto_error=False, description="An API key from CHURN_RADAR_API_KEYS.")
header = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same key, in a header of its own.")


async def brings_key(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)] = None,
    key: Annotated[str | None, Security(header)] = None,
) -> bool:
    """Whether the request brings a key. Either header will do, so that a proxy may use the other for itself.

    Without configured keys, which only development allows and only on loopback, everybody may read.
    """
    keys: tuple[bytes, ...] = request.app.state.service.api_keys
    if not keys:
        return True
    # Headers come as Latin-1 text, whatever bytes were sent; a key is compared byte by byte.
    given = [text.encode("latin-1") for text in (credentials and credentials.credentials, key) if text]
    matched = False
    for known in keys:
        for one in given:
            # No early exit: the time taken does not tell which key matched.
            matched |= hmac.compare_digest(known, one)
    return matched


async def require_key(keyed: Annotated[bool, Depends(brings_key)]) -> None:
    """Let a request with a key through, or raise 401."""
    if not keyed:
        raise HTTPException(
            401,
            "an API key is needed: Authorization: Bearer KEY, or X-API-Key: KEY",
            headers={"WWW-Authenticate": "Bearer"},
        )


class KeyedRoute(APIRoute):
    """A route that asks for the key before it reads the body, and reads no more of the body than the limit.

    FastAPI itself reads and parses the whole body before it looks at any dependency.
    """

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """The route's handler, behind both checks."""
        answer = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            await require_key(await brings_key(request, await bearer(request), await header(request)))
            return await answer(_limited(request, request.app.state.service.settings.max_body_bytes))

        return guarded


def _limited(request: Request, most_bytes: int) -> Request:
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
