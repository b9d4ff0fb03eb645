"""The App API's errors, as its reference words them."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

MESSAGES = {
    400: "malformed request",
    401: "Unauthorized request",
    403: "this key may not use this endpoint",
    404: "no such resource",
    405: "method not allowed",
    429: "too many requests",
    503: "service unavailable",
}


def refuse(status: int, detail: str | None = None) -> Response:
    """An error as the App API words it."""
    return JSONResponse({"errors": [{"detail": detail or MESSAGES.get(status, "internal error")}]}, status)
