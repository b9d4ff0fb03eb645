"""The workspace's own affairs in the App API: its reporting webhooks, and the list of its messages."""

from __future__ import annotations

from datetime import datetime
from typing import Self
from urllib.parse import quote

import httpx

from churn_radar.customerio.client import KEY_NAME, MOST_BYTES, SERVICE, app_api
from churn_radar.customerio.messages import Page, read_page
from churn_radar.customerio.webhooks import Webhook, read_webhooks
from churn_radar.settings import Settings
from churn_radar.upstream import Answer, Pace, Request, Upstream, per_second

MOST_MESSAGES = 1000


class Workspace:
    """Every method raises RetryLater, GiveUp or OperatorMustAct, as in `churn_radar.errors`."""

    def __init__(self, http: httpx.AsyncClient, *, pace: Pace, attempts: int) -> None:
        self._upstream = Upstream(
            SERVICE,
            http,
            key_name=KEY_NAME,
            pace=pace,
            attempts=attempts,
            concurrency=1,
            max_bytes=MOST_BYTES,
            # What a change is answered with is not documented to hold anything.
            empty_is_success=True,
        )

    @classmethod
    def create(cls, settings: Settings, *, pace: Pace | None = None) -> Self:
        """The workspace that the settings name; `pace` where its calls count together with others'."""
        http = app_api(settings, connections=1)
        own = per_second(settings.cio_requests_per_second)
        return cls(http, pace=pace or own, attempts=settings.in_call_attempts)

    async def webhooks(self) -> list[Webhook]:
        """Every reporting webhook of the workspace."""

        def read(answer: Answer) -> list[Webhook]:
            webhooks = read_webhooks(answer.payload)
            if webhooks is None:
                raise self._upstream.no_sense("the answer holds no list of reporting webhooks")
            return webhooks

        return await self._upstream.call(Request("GET", "reporting_webhooks"), read)

    async def save(self, webhook: Webhook) -> None:
        """Create a webhook, or change the one with its id."""
        where = "reporting_webhooks" if webhook.id is None else f"reporting_webhooks/{quote(webhook.id, safe='')}"
        method = "POST" if webhook.id is None else "PUT"
        await self._upstream.call(Request(method, where, body=webhook.as_body()), lambda answer: None)

    async def messages(self, metric: str, *, start: datetime, end: datetime, after: str | None = None) -> Page:
        """Mails with this metric that were made between the two moments, one page of up to 1,000."""

        def read(answer: Answer) -> Page:
            page = read_page(answer.payload)
            if page is None:
                raise self._upstream.no_sense("the answer holds no list of messages")
            return page

        bounds = {"start_ts": str(int(start.timestamp())), "end_ts": str(int(end.timestamp()))}
        params = {"type": "email", "metric": metric, "limit": str(MOST_MESSAGES), **bounds}
        if after is not None:
            params["start"] = after
        return await self._upstream.call(Request("GET", "messages", params=params), read)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._upstream.http.aclose()
