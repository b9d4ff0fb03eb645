"""Errors as `application/problem+json` (RFC 9457), one shape for every route."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

PROBLEM_JSON = "application/problem+json"


class Problem(BaseModel):
    """What went wrong, for programs and people (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field("about:blank", description="A URI that names the kind of problem.")
    title: str = Field(description="The kind of problem in words.")
    status: int = Field(description="The HTTP status.")
    detail: str | None = Field(None, description="What is wrong here, and what to do.")
    errors: list[dict[str, Any]] | None = Field(None, description="Of validation: each wrong field.")


def problem_dict(status: int, detail: str, **more: Any) -> dict[str, Any]:
    """The problem as plain JSON values."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **more,
    }


def problem_body(status: int, detail: str, **more: Any) -> bytes:
    """The problem as JSON bytes."""
    return orjson.dumps(problem_dict(status, detail, **more))
