"""`churn-radar doctor`: is everything there that the service needs, and what to do if not.

Each check looks and changes nothing, and none of them costs credits. What it tells names no secret and no customer.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.request import getproxies, proxy_bypass

import httpx

from churn_radar.advice import Place, advice
from churn_radar.app import opened_buffer
from churn_radar.buffer.open import VARIABLE
from churn_radar.counts import counted
from churn_radar.customerio.client import KEY_NAME as CIO_KEY
from churn_radar.customerio.client import CustomerioClient
from churn_radar.customerio.track import KEY_NAME as TRACK_KEY
from churn_radar.customerio.track import SERVICE as TRACK
from churn_radar.errors import BufferUnavailable, ChurnRadarError, RecordLocked, SettingsError, UpstreamError
from churn_radar.migrating import inspect, name_of
from churn_radar.research.mave import KEY_NAME as MAVERA_KEY
from churn_radar.research.mave import MaveClient
from churn_radar.settings import Settings, load_settings
from churn_radar.sinks.protocol import Checks, Parts, create_sinks, opened, shown
from churn_radar.store.postgres import is_postgres
from churn_radar.store.record import lock_record
from churn_radar.store.schema import SchemaState, sqlite_path
from churn_radar.store.schema_postgres import MIGRATE
from churn_radar.triage.customer import CustomerRef
from churn_radar.upstream import create_http, per_minute, per_second

# Signatures are dated, and so are retries and budgets; NTP keeps a clock within a fraction of this.
CLOCK_TOLERANCE = timedelta(seconds=30)
PATIENCE_SECONDS = 20.0
# Nobody: looking up who does not exist proves as much as looking up a customer.
NOBODY = CustomerRef("churn-radar-doctor")
CIO_CREDENTIALS = "Customer.io: Account Settings > API Credentials"

_STATES = {
    SchemaState.OLDER: f"of an older release; run `{MIGRATE}`",
    SchemaState.NEWER: "of a newer release; run that release, or a newer one",
    SchemaState.FOREIGN: "a database of another program; choose another in CHURN_RADAR_DATABASE_URL",
    SchemaState.COPYING: "an unfinished copy; run the same `churn-radar copy-record` again",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, whether it is fine, and what to know of it or to do."""

    subject: str
    fine: bool
    told: str


def wrong_settings() -> list[Finding]:
    """What a start in earnest would stop at."""
    try:
        settings = load_settings()
    except SettingsError as error:
        return [Finding("settings", False, problem) for problem in error.problems]
    return [Finding("settings", True, f"{settings.environment.value}")]


async def examine(settings: Settings) -> list[Finding]:
    """Everything else, in the order in which an event meets it; never raises, and takes 20 seconds at most."""
    clocks: list[timedelta] = []
    checks: list[tuple[str, Callable[[], Awaitable[str]]]] = [
        ("record", lambda: _record(settings)),
        ("buffer", lambda: _buffer(settings)),
        ("customerio", lambda: _customerio(settings, clocks)),
        ("mavera", lambda: _mavera(settings, clocks)),
        ("sinks", lambda: _sinks(settings)),
    ]
    *before, sinks = await asyncio.gather(*(_look(*check) for check in checks))
    return [*itertools.chain(*before), _clock(clocks), *sinks]


async def _look(subject: str, check: Callable[[], Awaitable[str]]) -> list[Finding]:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return [Finding(subject, True, await check())]
    except ChurnRadarError as error:
        return [Finding(subject, False, line) for line in str(error).splitlines()]
    except TimeoutError:
        told = f"no answer within {PATIENCE_SECONDS:g} seconds; see that it runs, and what stands between (a firewall?)"
        return [Finding(subject, False, told)]
    except Exception as error:
        # Its text may quote a URL with a password.
        told = f"{type(error).__name__}; start `churn-radar serve`, and report what its log says of it"
        return [Finding(subject, False, told)]


class _Wrong(ChurnRadarError):
    """Something to do; each line of the message says what."""


async def _record(settings: Settings) -> str:
    url = settings.database_url
    state, name = await inspect(url), name_of(url)
    if is_postgres(url):
        if state is SchemaState.EMPTY:
            raise _Wrong(f"there is no record yet at {name}; run `{MIGRATE}`")
    elif state in (SchemaState.EMPTY, SchemaState.OLDER):
        return f"{name} ({state.value}; `churn-radar serve` makes it current)"
    if state is not SchemaState.CURRENT:
        raise _Wrong(f"{name} is {_STATES[state]}")
    if is_postgres(url):
        return name
    try:
        lock_record(sqlite_path(url)).release()
    except RecordLocked:
        return f"{name}, in use by a running service"
    return name


async def _buffer(settings: Settings) -> str:
    async with opened_buffer(settings) as buffer:
        if buffer is None:
            return "none is set"
        try:
            if problems := await buffer.check():
                raise _Wrong("\n".join(problems))
            return f"{buffer.name}, {counted(await buffer.length(), 'event')}"
        except BufferUnavailable as error:
            raise _Wrong(
                f"{error}; see that it runs, that {VARIABLE} is right (host, port, user, password), "
                "and that no firewall stands between"
            ) from None


async def _customerio(settings: Settings, clocks: list[timedelta]) -> str:
    if settings.cio_app_key is None:
        raise _Wrong(f"{CIO_KEY} is missing; set it to the workspace's App API key ({CIO_CREDENTIALS} > App API Keys)")
    http = create_http(settings.app_api_url, key=settings.cio_app_key, key_name=CIO_KEY, read_seconds=10, connections=1)
    _note_dates(http, clocks)
    client = CustomerioClient(http, pace=per_second(settings.cio_requests_per_second), attempts=1)
    setting = "CHURN_RADAR_CIO_APP_URL" if settings.cio_app_url else "CHURN_RADAR_CIO_REGION"
    try:
        with _advised(_place(settings.app_api_url, setting, CIO_KEY, f"{CIO_CREDENTIALS} > App API Keys")):
            await client.look_up(NOBODY)
    finally:
        await client.aclose()
    return f"{http.base_url.host} takes the key"


async def _mavera(settings: Settings, clocks: list[timedelta]) -> str:
    if settings.mavera_api_key is None:
        raise _Wrong(f"{MAVERA_KEY} is missing; set it to a key of your account at Mavera")
    http = create_http(
        settings.mavera_url, key=settings.mavera_api_key, key_name=MAVERA_KEY, read_seconds=10, connections=1
    )
    _note_dates(http, clocks)
    client = MaveClient(http, pace=per_minute(settings.mavera_requests_per_minute), attempts=1)
    try:
        with _advised(_place(settings.mavera_url, "CHURN_RADAR_MAVERA_URL", MAVERA_KEY, "your account at Mavera")):
            await client.check()
    finally:
        await client.aclose()
    return f"{http.base_url.host} takes the key"


async def _sinks(settings: Settings) -> str:
    sinks = create_sinks(settings)
    setting = "CHURN_RADAR_CIO_TRACK_URL" if settings.cio_track_url else "CHURN_RADAR_CIO_REGION"
    track = _place(settings.track_api_url, setting, TRACK_KEY, CIO_CREDENTIALS)
    problems: list[str] = []
    async with opened(sinks, Parts()):
        for sink in sinks:
            if isinstance(sink, Checks):
                try:
                    await sink.check()
                except ChurnRadarError as error:
                    what = f"try it with `churn-radar sinks test {shown(sink.name)}`"
                    if isinstance(error, UpstreamError) and error.service == TRACK:
                        what = advice(error, track)
                    problems.append(f"{shown(sink.name)}: {error}; {what}")
    if problems:
        raise _Wrong("\n".join(problems))
    return ", ".join(shown(sink.name) for sink in sinks)


def _place(url: str, setting: str, key: str, key_from: str) -> Place:
    parts = httpx.URL(url)
    is_proxied = bool({parts.scheme, "all"} & getproxies().keys()) and not proxy_bypass(parts.host)
    return Place(parts.host, setting, key, key_from, is_proxied)


@contextmanager
def _advised(place: Place) -> Iterator[None]:
    """Say what to do about what a service answers, or does not."""
    try:
        yield
    except UpstreamError as error:
        raise _Wrong(f"{error}; {advice(error, place)}") from error


def _note_dates(http: httpx.AsyncClient, clocks: list[timedelta]) -> None:
    async def note(response: httpx.Response) -> None:
        if (ahead := clock_ahead(response.headers.get("date"), datetime.now(UTC))) is not None:
            clocks.append(ahead)

    http.event_hooks["response"] = [note]


def clock_ahead(date: str | None, now: datetime) -> timedelta | None:
    """How far this machine's clock is ahead of an answer's `Date` (RFC 9110); None when that is not there or odd."""
    try:
        told = parsedate_to_datetime(date or "")
    except ValueError:
        return None
    return now - (told if told.tzinfo else told.replace(tzinfo=UTC))


def _clock(clocks: list[timedelta]) -> Finding:
    if not clocks:
        return Finding("clock", True, "nobody told the time")
    off = min(clocks, key=abs)
    if abs(off) > CLOCK_TOLERANCE:
        way = "ahead of" if off > timedelta() else "behind"
        told = f"{abs(off).total_seconds():.0f} seconds {way} the upstream services'; set it, for instance by NTP"
        return Finding("clock", False, told)
    return Finding("clock", True, f"within {CLOCK_TOLERANCE.total_seconds():g} seconds of the upstream services'")
