"""How a command reaches the record: through the running service when there is one, else straight, in this process.

Either way it talks to the same API, so a command does the same beside a service and without one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx

from churn_radar.app import create_app, running_service
from churn_radar.errors import RecordLocked, StartError
from churn_radar.settings import Settings
from churn_radar.sinks.protocol import Outlets, Sink
from churn_radar.store.postgres import is_postgres
from churn_radar.store.schema import SchemaState, inspect_record, sqlite_path

_HERE = "http://127.0.0.1"
TIMEOUT_SECONDS = 120


class Api:
    """The API of whoever owns the record."""

    def __init__(self, http: httpx.AsyncClient, url: str | None) -> None:
        self._http = http
        self._url = url

    async def get(self, path: str, **params: Any) -> dict[str, Any]:
        """The answer to a GET; raises StartError for anything but success."""
        return await self._ask("GET", path, params={k: v for k, v in params.items() if v is not None})

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a POST; raises StartError for anything but success."""
        return await self._ask("POST", path, json={k: v for k, v in body.items() if v is not None})

    async def delete(self, path: str, **params: Any) -> dict[str, Any]:
        """The answer to a DELETE; raises StartError for anything but success."""
        return await self._ask("DELETE", path, params=params)

    async def _ask(self, method: str, path: str, **parts: Any) -> dict[str, Any]:
        try:
            answer = await self._http.request(method, path, **parts)
        except httpx.HTTPError as error:
            raise StartError(
                f"the record is in use, but no service answers at {self._url} ({type(error).__name__}); see --url"
            ) from None
        if not answer.is_success:
            who = f"the service at {self._url} answered {answer.status_code}: " if self._url else ""
            raise StartError(f"{who}{_detail(answer)}")
        told: dict[str, Any] = answer.json()
        return told


@asynccontextmanager
async def reach(settings: Settings, url: str, *, sinks: Sequence[Sink] | Outlets = ()) -> AsyncIterator[Api]:
    """The API, for as long as the context lasts; `url` is where a running service answers.

    While a service runs it owns the record's file, so it is asked, with the first API key of the settings. Without
    one, and on Postgres always, the record is opened here and no work is done: what is started waits for a worker.
    `sinks` are those that such a service tells of.
    Raises StartError.
    """
    if not is_postgres(settings.database_url) and (
        inspect_record(sqlite_path(settings.database_url)) is SchemaState.EMPTY
    ):
        raise StartError(f"there is no record yet at {settings.database_url}; nothing to do")
    headers = {"User-Agent": "churn-radar"}
    if settings.api_keys:
        headers["X-API-Key"] = settings.api_keys[0].get_secret_value()
    async with AsyncExitStack() as stack:
        told_url: str | None = url
        transport: httpx.ASGITransport | None = None
        try:
            service = await stack.enter_async_context(running_service(settings, with_worker=False, sinks=sinks))
        except RecordLocked:
            pass
        else:
            service.is_command = True
            told_url, transport = None, httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
        http = httpx.AsyncClient(
            base_url=url if transport is None else _HERE, headers=headers, timeout=TIMEOUT_SECONDS, transport=transport
        )
        yield Api(await stack.enter_async_context(http), told_url)


def _detail(answer: httpx.Response) -> str:
    try:
        told = answer.json()
        wrong = "; ".join(f"{e['where']}: {e['what']}" for e in told.get("errors", []))
        return wrong or str(told["detail"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{answer.status_code} and no problem document"
