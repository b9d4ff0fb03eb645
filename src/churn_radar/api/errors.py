"""Every error of every route as problem+json; what is unexpected is logged in full and told in general."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from churn_radar.api.auth import FOR_OPERATORS, NO_KEY, TOO_MANY
from churn_radar.errors import RecordUnavailable
from churn_radar.problems import PROBLEM_JSON, Problem, problem_body, problem_dict

log = structlog.get_logger(__name__)


def _respond(status: int, detail: str, headers: Any = None, **more: Any) -> Response:
    return Response(problem_body(status, detail, **more), status, headers=headers, media_type=PROBLEM_JSON)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  registered for this type only
    return _respond(error.status_code, str(error.detail), error.headers)


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  registered for this type only
    # Without the inputs: what was sent may be personal.
    wrong = [
        {"where": ".".join(str(part) for part in e["loc"]), "what": e["msg"].removeprefix("Value error, ")}
        for e in error.errors()
    ]
    return _respond(422, "the request does not fit; see errors", errors=wrong)


async def _unavailable(request: Request, error: Exception) -> Response:
    return _respond(503, f"{error}; try again", {"Retry-After": "1"})


async def _unexpected(request: Request, error: Exception) -> Response:
    # The trace says where; the message of a foreign exception may quote data, so it stays out of the answer.
    log.error("api.unexpected", method=request.method, route=_route(request), error=type(error).__name__)
    return _respond(500, "something unexpected happened; the log of the service has the trace")


def _route(request: Request) -> str:
    route = request.scope.get("route")
    return str(getattr(route, "path", "unknown"))


def install(app: FastAPI) -> None:
    """Register the handlers."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(RecordUnavailable, _unavailable)
    app.add_exception_handler(Exception, _unexpected)


PROBLEM_SCHEMA = {"$ref": f"#/components/schemas/{Problem.__name__}"}


def documented(*statuses: int, not_found: str = "nothing is known of this customer") -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for the errors that a route can answer, each with an example.

    `churn_radar.api.openapi` puts the schema they refer to among the components; given as FastAPI's `model` it
    would be documented as plain JSON.
    """
    details = {**{status: detail for status, (_, detail) in _MEANING.items()}, 404: not_found}
    return {
        status: {
            "description": _MEANING[status][0],
            "content": {
                PROBLEM_JSON: {
                    "schema": PROBLEM_SCHEMA,
                    "example": problem_dict(status, details[status]) | {"title": _MEANING[status][0]},
                }
            },
        }
        # Wherever a key is asked for, too many wrong ones cost time.
        for status in (*statuses, *((429,) if 401 in statuses else ()))
    }


_MEANING = {
    400: ("Bad Request", "the cursor is not one that this service gave out"),
    401: ("Unauthorized", NO_KEY),
    403: ("Forbidden", FOR_OPERATORS),
    404: ("Not Found", "nothing is known of this customer"),
    405: ("Method Not Allowed", "the webhook takes POST only"),
    408: ("Request Timeout", "the body did not arrive in time"),
    409: ("Conflict", "2 customers share this address; name one by its id: cust_1, cust_2"),
    413: ("Content Too Large", "the body is larger than 5242880 bytes"),
    415: ("Unsupported Media Type", "the webhook takes application/json only"),
    422: ("Unprocessable Content", "the request does not fit; see errors"),
    429: ("Too Many Requests", TOO_MANY),
    503: ("Service Unavailable", "the record cannot commit: disk I/O error; try again"),
}
