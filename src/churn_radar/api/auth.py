"""Who may read: an API key, in `Authorization: Bearer` or `X-API-Key`, compared in constant time."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import HTTPException, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

bearer = HTTPBearer(auto_error=False, description="An API key from CHURN_RADAR_API_KEYS.")
header = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same key, in a header of its own.")


async def require_key(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)] = None,
    key: Annotated[str | None, Security(header)] = None,
) -> None:
    """Let the request through, or raise 401.

    Without configured keys, which only development allows and only on loopback, everybody may read.
    """
    keys: tuple[bytes, ...] = request.app.state.service.api_keys
    if not keys:
        return
    given = (credentials.credentials if credentials else key or "").encode()
    matched = False
    for known in keys:
        # No early exit: the time taken does not tell which key matched.
        matched |= hmac.compare_digest(known, given)
    if not matched:
        raise HTTPException(
            401,
            "an API key is needed: Authorization: Bearer KEY, or X-API-Key: KEY",
            headers={"WWW-Authenticate": "Bearer"},
        )
