"""Writes to Customer.io's Track API: attributes and events of people who are known to exist."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import quote

import httpx

from churn_radar.errors import SettingsError
from churn_radar.settings import Settings
from churn_radar.triage.customer import CustomerRef
from churn_radar.upstream import Answer, Pace, Request, Upstream, create_http, per_second

SERVICE = "customerio_track"
KEY_NAME = "CHURN_RADAR_CIO_SITE_ID and CHURN_RADAR_CIO_TRACK_KEY"
MOST_BYTES = 64 * 1024
CONCURRENCY = 8


class TrackClient:
    """The Track API, as far as the write-back needs it. Every method raises RetryLater, GiveUp or OperatorMustAct."""

    def __init__(self, http: httpx.AsyncClient, *, pace: Pace, attempts: int) -> None:
        self._upstream = Upstream(
            SERVICE,
            http,
            key_name=KEY_NAME,
            pace=pace,
            attempts=attempts,
            concurrency=CONCURRENCY,
            max_bytes=MOST_BYTES,
            empty_is_success=True,
        )

    @classmethod
    def create(cls, settings: Settings, *, pace: Pace | None = None) -> Self:
        """The client that the settings describe. Raises SettingsError without a site id and a key."""
        if settings.cio_site_id is None or settings.cio_track_key is None:
            raise SettingsError(
                [f"the customerio sink needs {KEY_NAME}: Customer.io, Account Settings, API Credentials"]
            )
        http = create_http(
            settings.track_api_url,
            key=None,
            key_name=KEY_NAME,
            read_seconds=settings.cio_timeout_seconds,
            connections=CONCURRENCY,
        )
        pair = f"{settings.cio_site_id.get_secret_value()}:{settings.cio_track_key.get_secret_value()}"
        http.headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        own = per_second(settings.cio_track_requests_per_second)
        return cls(http, pace=pace or own, attempts=settings.in_call_attempts)

    async def update(self, person: CustomerRef, attributes: Mapping[str, Any]) -> None:
        """Set attributes of somebody who exists; `_update` keeps the API from making a person should they be gone."""
        path = f"customers/{_name(person)}"
        await self._call(Request("PUT", path, body={**attributes, "_update": True}, sent=_names(person)))

    async def event(self, person: CustomerRef, event: Mapping[str, Any]) -> None:
        """Tell of something that happened to somebody who exists."""
        await self._call(Request("POST", f"customers/{_name(person)}/events", body=event, sent=_names(person)))

    async def check(self) -> None:
        """Prove that the site id and the key are taken; changes nothing."""
        await self._call(Request("GET", "accounts/region"))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._upstream.http.aclose()

    async def _call(self, request: Request) -> None:
        def nothing(answer: Answer) -> None:
            return

        await self._upstream.call(request, nothing)


def _name(person: CustomerRef) -> str:
    """Somebody in a path. By cio_id where it is known: what is sent to one who was deleted since is dropped then."""
    return quote(f"cio_{person.cio_id}" if person.cio_id else person.id or person.email or "", safe="")


def _names(person: CustomerRef) -> list[str]:
    return [name for name in (person.id, person.cio_id, person.email) if name]
