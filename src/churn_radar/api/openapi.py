"""The OpenAPI document: FastAPI's own, with the webhook route written in, since the door is plain ASGI."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from churn_radar.api.errors import documented
from churn_radar.api.events import EXAMPLES, EventAnswer
from churn_radar.intake.door import PATH
from churn_radar.intake.payload import Event
from churn_radar.problems import Problem

DESCRIPTION = """
Turns Customer.io churn signals into research briefs on how to keep that kind of customer.

* **events** come in by webhook (signed) or by hand (with an API key);
* **signals** tell what became of each;
* **briefs** are what the research found.

Errors are `application/problem+json` (RFC 9457). Press *Authorize* and paste an API key to try things out.
"""

_REFUSALS = {
    401: "The signature is missing or wrong; nothing is kept.",
    405: "Wrong method.",
    408: "The body did not arrive in time.",
    413: "The body is over the limit.",
    415: "Not JSON.",
    503: "The event cannot be stored right now; Customer.io sends it again.",
}


def install(app: FastAPI) -> None:
    """Make `/openapi.json` tell of the webhook too."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            schema["paths"] = {PATH: {"post": _webhook()}, **schema["paths"]}
            schema["components"]["schemas"][Problem.__name__] = Problem.model_json_schema()
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _webhook() -> dict[str, Any]:
    errors = documented(*_REFUSALS)
    return {
        "tags": ["webhook"],
        "summary": "Customer.io's reporting webhook",
        "description": (
            "One event a request. Genuine is what carries `X-CIO-Signature`: the hex HMAC-SHA256, under the "
            "webhook's signing key, of `v0:<X-CIO-Timestamp>:<raw body>` (or, where no timestamp header is sent, "
            "of the raw body alone). The answer comes after the event is on disk. To try things out by hand, use "
            "`POST /events`, which takes the same event unsigned."
        ),
        "operationId": "customerio_webhook",
        "parameters": [
            {
                "name": "X-CIO-Signature",
                "in": "header",
                "required": True,
                "schema": {"type": "string"},
                "description": "64 hex digits, optionally after `v0=`.",
            },
            {
                "name": "X-CIO-Timestamp",
                "in": "header",
                "required": False,
                "schema": {"type": "string"},
                "description": "Unix seconds; part of what is signed.",
            },
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": f"#/components/schemas/{Event.__name__}"},
                    "examples": EXAMPLES,
                }
            },
        },
        "responses": {
            "200": {
                "description": (
                    "accepted (a churn signal, stored), duplicate (stored before), ignored (no churn signal), "
                    "quarantined (genuine but not understood; kept, visible, replayable)."
                ),
                "content": {
                    "application/json": {
                        "schema": {"$ref": f"#/components/schemas/{EventAnswer.__name__}"},
                        "example": {"status": "accepted", "event_id": "01E4C4CT6YDC7Y5M7FE1GWWPQJ"},
                    }
                },
            },
            **{
                str(status): {
                    "description": meaning,
                    "content": errors[status]["content"],
                }
                for status, meaning in _REFUSALS.items()
            },
        },
    }
