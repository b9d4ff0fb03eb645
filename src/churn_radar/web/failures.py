"""Errors as pages, for people: what happened, what to do, and nothing that came from outside."""

from __future__ import annotations

from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.sse import format_sse_event
from starlette.exceptions import HTTPException

from churn_radar.errors import RecordUnavailable
from churn_radar.web.base import page, url

log = structlog.get_logger(__name__)

HTMX_HEADER = "HX-Request"
EVENT_STREAM = "text/event-stream"
NO_SUCH_PAGE = "there is no such page here; the link is wrong, or older than this version"
# The event that tells a page its log-in is over: it asks no more, and says so.
ENDED = "ended"


def failure(request: Request, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """A page that tells of an error. Nobody is looked up for it: the record may be what failed."""
    visitor = getattr(request.state, "visitor", None)
    title = HTTPStatus(status).phrase
    return page(
        request,
        "failure.html",
        visitor=visitor,
        status=status,
        headers=headers,
        title=title,
        code=status,
        detail=detail,
    )


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  registered for this type only
    if error.status_code != 401:
        # Where no route of ours has said what is missing, the framework repeats the status in words.
        is_said = error.status_code != 404 or error.detail != HTTPStatus.NOT_FOUND.phrase
        detail = str(error.detail) if is_said else NO_SUCH_PAGE
        return failure(request, error.status_code, detail, dict(error.headers or {}))
    here = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    if query := request.scope["query_string"].decode("latin-1"):
        here = f"{here}?{query}"
    login = url(request, "login", next=here if request.method == "GET" and here != "/" else None)
    if request.headers.get(HTMX_HEADER):
        # A part of a page: the log-in belongs into the whole window.
        return Response(status_code=401, headers={"HX-Redirect": url(request, "login")})
    if EVENT_STREAM in request.headers.get("accept", ""):
        # Any other answer a browser would ask for again and again.
        return Response(format_sse_event(event=ENDED, data_str=""), media_type=EVENT_STREAM)
    return Response(status_code=303, headers={"Location": login})


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  registered for this type only
    # Without the inputs: what was sent may be personal.
    fields = ", ".join(sorted({str(e["loc"][-1]) for e in error.errors()}))
    return failure(request, 422, f"the request does not fit: {fields}")


async def _unavailable(request: Request, error: Exception) -> Response:
    return failure(request, 503, f"{error}; try again", {"Retry-After": "1"})


async def _unexpected(request: Request, error: Exception) -> Response:
    route = str(getattr(request.scope.get("route"), "path", "unknown"))
    log.error("web.unexpected", method=request.method, route=route, error=type(error).__name__)
    return failure(request, 500, "something unexpected happened; the log of the service has the trace")


def install(pages: FastAPI) -> None:
    """Register the handlers."""
    pages.add_exception_handler(HTTPException, _http)
    pages.add_exception_handler(RequestValidationError, _validation)
    pages.add_exception_handler(RecordUnavailable, _unavailable)
    pages.add_exception_handler(Exception, _unexpected)
