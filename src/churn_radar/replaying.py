"""`churn-radar replay`: through the running service when there is one, else straight in the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from churn_radar.app import running_service
from churn_radar.errors import RecordLocked, StartError
from churn_radar.settings import Settings
from churn_radar.store.schema import SchemaState, inspect_record, sqlite_path
from churn_radar.store.signals import find_signal, signals_with_status
from churn_radar.store.tables import Status


async def replay(
    settings: Settings, event_ids: Sequence[str], statuses: Sequence[Status], *, force: bool, url: str
) -> dict[str, Any]:
    """Replay stored signals; returns `{"replayed": [{"event_id", "status", "effect"}], "unknown": [...]}`.

    While a service runs it owns the record's file, so it is asked through its API, with the first API key of
    the settings; without one, the work starts when the service does. Raises StartError.
    """
    if inspect_record(sqlite_path(settings.database_url)) is SchemaState.EMPTY:
        raise StartError(f"there is no record yet at {settings.database_url}; nothing to replay")
    try:
        return await _in_record(settings, event_ids, statuses, force=force)
    except RecordLocked:
        return await _through_api(settings, event_ids, statuses, force=force, url=url)


async def _in_record(
    settings: Settings, event_ids: Sequence[str], statuses: Sequence[Status], *, force: bool
) -> dict[str, Any]:
    replayed, unknown = [], []
    async with running_service(settings, with_worker=False) as service:
        async with service.record.read() as connection:
            named = [(event_id, await find_signal(connection, event_id)) for event_id in event_ids]
        found = [signal for _, signal in named if signal]
        unknown = [event_id for event_id, signal in named if not signal]
        for status in statuses:
            after = 0
            while True:
                async with service.record.read() as connection:
                    page = await signals_with_status(connection, status, after=after, limit=500)
                if not page:
                    break
                after = page[-1].seq
                found += page
        for signal in found:
            done = await service.replay(signal, force=force)
            replayed.append({"event_id": signal.public_id, "status": done.status.value, "effect": done.effect})
    return {"replayed": replayed, "unknown": unknown}


async def _through_api(
    settings: Settings, event_ids: Sequence[str], statuses: Sequence[Status], *, force: bool, url: str
) -> dict[str, Any]:
    headers = {"X-API-Key": settings.api_keys[0].get_secret_value()} if settings.api_keys else {}
    requests: list[dict[str, Any]] = [{"status": status.value, "force": force} for status in statuses]
    if event_ids:
        requests.append({"event_ids": list(event_ids), "force": force})
    answers: dict[str, Any] = {"replayed": [], "unknown": []}
    try:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as http:
            for request in requests:
                answer = await http.post("/signals/replay", json=request)
                if answer.status_code != 202:
                    raise StartError(f"the service at {url} answered {answer.status_code}: {_detail(answer)}")
                for part, lines in answers.items():
                    lines.extend(answer.json()[part])
    except httpx.HTTPError as error:
        raise StartError(
            f"the record is in use, but no service answers at {url} ({type(error).__name__}); see --url"
        ) from None
    return answers


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return "no problem document"
