"""The workspace's own affairs in the stand-in for the App API: reporting webhooks, and the list of messages.

Follows the public reference: a webhook has an endpoint and at least one event; messages come newest first, up to 1,000
a page, with `next` where there are more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from churn_radar.simulator.app_errors import refuse


class WebhookBody(BaseModel):
    """Body of `POST` and `PUT /reporting_webhooks`."""

    model_config = ConfigDict(strict=True)

    name: str = Field(min_length=1)
    endpoint: str = Field(pattern=r"^https?://")
    events: list[str] = Field(min_length=1)
    disabled: bool = False
    full_resolution: bool = False
    with_content: bool = False


@dataclass(slots=True)
class WorkspaceRoutes:
    """The handlers. `webhooks` are by id; `messages` as the list shows them."""

    messages: Sequence[Mapping[str, Any]] = ()
    webhooks: dict[int, dict[str, Any]] = field(default_factory=dict)

    async def list_webhooks(self, request: Request) -> Response:
        """`GET /reporting_webhooks`."""
        return JSONResponse({"reporting_webhooks": list(self.webhooks.values())})

    async def create_webhook(self, request: Request) -> Response:
        """`POST /reporting_webhooks`."""
        return await self._save(request, max(self.webhooks, default=0) + 1)

    async def update_webhook(self, request: Request) -> Response:
        """`PUT /reporting_webhooks/{id}`."""
        number = int(request.path_params["id"])
        return await self._save(request, number) if number in self.webhooks else refuse(404)

    async def _save(self, request: Request, number: int) -> Response:
        try:
            body = WebhookBody.model_validate_json(await request.body())
        except ValidationError as error:
            return refuse(400, f"{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}")
        self.webhooks[number] = {"id": number, **body.model_dump()}
        return JSONResponse(self.webhooks[number])

    async def list_messages(self, request: Request) -> Response:
        """`GET /messages`."""
        asked = request.query_params
        try:
            limit, first = int(asked.get("limit", "50")), int(asked.get("start", "0"))
            start, end = int(asked.get("start_ts", "0")), int(asked.get("end_ts", "4102444800"))
        except ValueError:
            return refuse(400)
        if not 1 <= limit <= 1000:
            return refuse(400, "limit: between 1 and 1000")
        found = [
            message
            for message in self.messages
            if message["type"] == asked.get("type", message["type"])
            and start <= message["created"] <= end
            and asked.get("metric") in (None, *message["metrics"])
        ]
        more = str(first + limit) if len(found) > first + limit else None
        return JSONResponse({"messages": found[first : first + limit], "next": more})
