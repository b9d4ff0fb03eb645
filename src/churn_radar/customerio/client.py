"""Looks customers up in Customer.io's App API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Self
from urllib.parse import quote

import httpx

from churn_radar.customerio.profile import read_profile
from churn_radar.errors import GiveUp, RetryLater, UpstreamError
from churn_radar.settings import Settings
from churn_radar.triage.customer import CustomerRef, IdType, Profile
from churn_radar.triage.text import is_whole
from churn_radar.upstream import (
    DEADLINE_MARGIN_SECONDS,
    Answer,
    Pace,
    RateInForce,
    RateSeen,
    Request,
    Sleep,
    Upstream,
    create_http,
    per_second,
)

SERVICE = "customerio"
KEY_NAME = "CIO_APP_KEY"
MOST_IDS = 100
MOST_BYTES = 5 * 1024 * 1024
# The App API documents no such limit; at 10 calls a second this many are under way only when it has become slow.
CONCURRENCY = 20
_BAD_REQUEST, _NOT_FOUND = 400, 404
# What an App API without the bulk look-up answers to one: not found, wrong method, not implemented.
_NO_BULK = frozenset({_NOT_FOUND, 405, 501})


def app_api(settings: Settings, *, connections: int) -> httpx.AsyncClient:
    """Connections to the App API, with its key. Raises SettingsError for a key that no header can carry."""
    return create_http(
        settings.app_api_url,
        key=settings.cio_app_key,
        key_name=KEY_NAME,
        read_seconds=settings.cio_timeout_seconds,
        connections=connections,
    )


class CustomerioClient:
    """The App API, as far as this service needs it: attributes of one customer, or of up to a hundred.

    Every method raises RetryLater, GiveUp or OperatorMustAct, as in `churn_radar.errors`.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        pace: Pace,
        attempts: int,
        sleep: Sleep = asyncio.sleep,
        deadline_margin_seconds: float = DEADLINE_MARGIN_SECONDS,
    ) -> None:
        self._upstream = Upstream(
            SERVICE,
            http,
            key_name=KEY_NAME,
            pace=pace,
            attempts=attempts,
            concurrency=CONCURRENCY,
            max_bytes=MOST_BYTES,
            sleep=sleep,
            deadline_margin_seconds=deadline_margin_seconds,
        )

    @classmethod
    def create(cls, settings: Settings, *, pace: Pace | None = None) -> Self:
        """The client that the settings describe; `pace` in place of its own when the limit is shared wider."""
        http = app_api(settings, connections=CONCURRENCY)
        own = per_second(settings.cio_requests_per_second)
        return cls(http, pace=pace or own, attempts=settings.in_call_attempts)

    @property
    def rate(self) -> RateSeen | None:
        """What the last answer with rate headers said of the calls that are left."""
        return self._upstream.rate

    def rate_in_force(self) -> RateInForce:
        """How fast the service is called now, and why."""
        return self._upstream.rate_in_force()

    async def look_up(self, ref: CustomerRef) -> Profile | None:
        """The customer that `ref` names, by each of its identifiers in turn; None when none is known any more.

        A deleted customer is None, and so is one with only a mail address where the workspace does not identify
        people by mail. A merged one comes back with the identifiers of the one merged into.
        """
        return await by_each_identifier(ref, self._look_up)

    async def look_up_many(self, id_type: IdType, ids: Sequence[str]) -> dict[str, Profile]:
        """Up to 100 customers in one call, keyed by the ids as asked; those that do not exist are left out.

        A merged customer comes back under another id: it is given to the asked id when just one of each is left
        over, and otherwise left out; `look_up` finds it. Raises ValueError for more than 100 ids.
        """
        asked = [value for value in dict.fromkeys(ids) if can_exist(value)]
        if len(asked) > MOST_IDS:
            raise ValueError(f"the App API takes at most {MOST_IDS} ids in a call, not {len(asked)}")
        if not asked:
            return {}

        try:
            return await self._upstream.call(
                _many(id_type, asked),
                lambda answer: self._read_many(answer, id_type, asked),
                also=_mail_is_no_identifier(id_type),
            )
        except UpstreamError as error:
            return _passed_over(error, asked)

    async def look_up_gathered(self, id_type: IdType, take: Callable[[], Sequence[str]]) -> dict[str, Profile]:
        """As `look_up_many`, of whatever ids `take` hands over when the call's turn has come.

        `take` is called once, and hands over 1 to 100 ids. A single id is asked for by the single look-up.
        """
        asked: list[str] = []

        def request() -> Request:
            if not asked:
                asked.extend(take())
            return _one(id_type, asked[0]) if _alone(asked) else _many(id_type, asked)

        def read(answer: Answer) -> dict[str, Profile]:
            if not _alone(asked):
                return self._read_many(answer, id_type, asked)
            profile = self._read_one(answer)
            return {} if profile is None else {asked[0]: profile}

        try:
            return await self._upstream.call(request, read, also={_NOT_FOUND, *_mail_is_no_identifier(id_type)})
        except UpstreamError as error:
            return _passed_over(error, asked)

    async def aclose(self) -> None:
        """Close the connections; calls under way fail."""
        await self._upstream.http.aclose()

    async def _look_up(self, id_type: IdType, value: str) -> Profile | None:
        if not can_exist(value):
            return None
        if not _alone([value]):
            return (await self.look_up_many(id_type, [value])).get(value)

        return await self._upstream.call(
            _one(id_type, value), self._read_one, also={_NOT_FOUND, *_mail_is_no_identifier(id_type)}
        )

    def _read_one(self, answer: Answer) -> Profile | None:
        if answer.status == _NOT_FOUND and answer.is_page:
            # A web server's page, not the API's answer: taken as "no such customer" it would empty the feed.
            message = "the App API's address answers with a web page: see CHURN_RADAR_CIO_APP_URL"
            raise RetryLater(SERVICE, message, status=_NOT_FOUND)
        if answer.status in (_NOT_FOUND, _BAD_REQUEST):
            return None
        profile = read_profile(answer.payload)
        if profile is None:
            raise self._upstream.no_sense("the answer holds no customer")
        return profile

    def _read_many(self, answer: Answer, id_type: IdType, asked: Sequence[str]) -> dict[str, Profile]:
        if answer.status == _NOT_FOUND:
            raise GiveUp(SERVICE, "the App API has no bulk look-up at this address", status=_NOT_FOUND)
        if answer.status == _BAD_REQUEST:
            return {}
        match answer.payload:
            case {"customers": [*entries]}:
                profiles = [profile for entry in entries if (profile := read_profile(entry))]
                return _by_asked_id(id_type, asked, profiles)
            case _:
                raise self._upstream.no_sense("the answer holds no list of customers")


def _one(id_type: IdType, value: str) -> Request:
    path = f"customers/{quote(value, safe='')}/attributes"
    return Request("GET", path, params={"id_type": id_type.value}, sent=[value])


def _many(id_type: IdType, asked: Sequence[str]) -> Request:
    path = "customers/attributes"
    return Request("POST", path, params={"id_type": id_type.value}, body={"ids": list(asked)}, sent=asked)


def _alone(asked: Sequence[str]) -> bool:
    return len(asked) == 1 and not _is_path_step(asked)


def _is_path_step(asked: Sequence[str]) -> bool:
    # RFC 3986 lets every proxy on the way resolve `.` and `..` as path steps, percent-encoded or not.
    return len(asked) == 1 and asked[0] in {".", ".."}


def _passed_over(error: UpstreamError, asked: Sequence[str]) -> dict[str, Profile]:
    """Nobody, where one id cannot be asked for at all; raises any other error again.

    `.` and `..` go in a body only. An App API that takes none leaves the customer's other identifiers to try: a
    dead letter would be too much for an odd id.
    """
    if _is_path_step(asked) and error.status in _NO_BULK:
        return {}
    raise error


def identifiers(ref: CustomerRef) -> list[tuple[IdType, str]]:
    """What to look a customer up by, in the order to try."""
    named = ((IdType.ID, ref.id), (IdType.CIO_ID, ref.cio_id), (IdType.EMAIL, ref.email))
    return [(id_type, value) for id_type, value in named if value]


def can_exist(value: str) -> bool:
    """False for a blank, and for half of a surrogate pair, which no UTF-8 can hold: no customer has such an id."""
    return bool(value.strip()) and is_whole(value)


def _mail_is_no_identifier(id_type: IdType) -> set[int]:
    # Documented: 400 to id_type=email where the workspace does not identify people by mail address.
    return {_BAD_REQUEST} if id_type is IdType.EMAIL else set()


async def by_each_identifier(
    ref: CustomerRef, look_up: Callable[[IdType, str], Awaitable[Profile | None]]
) -> Profile | None:
    """Look a customer up by one identifier after the other, until one is known.

    An identifier that the App API does not take (400: the workspace does not identify people by it) is passed over
    for the next; only when no other finds anybody is it an error.
    """
    not_taken: GiveUp | None = None
    for id_type, value in identifiers(ref):
        if not can_exist(value):
            continue
        try:
            profile = await look_up(id_type, value)
        except GiveUp as error:
            if error.status != _BAD_REQUEST:
                raise
            not_taken = not_taken or error
            continue
        if profile is not None:
            return named(profile, id_type, value)
    if not_taken is not None:
        raise not_taken
    return None


def named(profile: Profile, id_type: IdType, value: str) -> Profile:
    """The profile under the name it was found by, where the answer does not repeat it; another id in it stays."""
    if getattr(profile.ref, id_type.value):
        return profile
    return replace(profile, ref=replace(profile.ref, **{id_type.value: value}))


def _by_asked_id(id_type: IdType, asked: Sequence[str], profiles: Sequence[Profile]) -> dict[str, Profile]:
    """Give each answer to the id that asked for it; one left over belongs to the one id without an answer."""

    def fold(value: str | None) -> str | None:
        return value.lower() if value and id_type is IdType.EMAIL else value

    answers = {fold(getattr(profile.ref, id_type.value)): profile for profile in profiles}
    found = {value: answers[fold(value)] for value in asked if fold(value) in answers}
    missing = [value for value in asked if value not in found]
    wanted = {fold(value) for value in asked}
    left_over = [profile for name, profile in answers.items() if name not in wanted]
    if len(missing) == len(left_over) == 1:
        found[missing[0]] = named(left_over[0], id_type, missing[0])
    return found
