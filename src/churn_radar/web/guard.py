"""Who looks at a page, and whether a form is our own: checked before anything of a request is read.

`Reader` and `Operator` are what a page asks for in its arguments:

    @router.get("/desk/signals", name="signals")
    async def signals(request: Request, visitor: Reader) -> HTMLResponse: ...
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request, Response
from fastapi.routing import APIRoute

from churn_radar.access import ANYONE, Who
from churn_radar.api.auth import SAFE_METHODS, limited, peer_of
from churn_radar.settings import Environment, Settings
from churn_radar.store.sessions import is_ended
from churn_radar.web.origin import comes_from_here
from churn_radar.web.session import COOKIE, Session, Sessions, csrf_token

MOST_FORM_BYTES = 256 * 1024
CSRF_FIELD, CSRF_HEADER = "csrf", "X-CSRF-Token"
FOR_OPERATORS = "only operators may do this; you are logged in as a reader"
NOT_OUR_FORM = "this did not come from a page of this log-in; open the page again and repeat it"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever looks at a page. `csrf` is what their forms carry; without a session they came by the proxy's word."""

    who: Who
    csrf: str
    session: Session | None = None


async def find_visitor(request: Request) -> Visitor | None:
    """Who asks, by the proxy's word or by their session; None for whoever has to log in."""
    if not hasattr(request.state, "visitor"):
        request.state.visitor = await _find(request)
    found: Visitor | None = request.state.visitor
    return found


async def _find(request: Request) -> Visitor | None:
    service = request.app.state.service
    named = service.proxy.user(peer_of(request), request.headers.getlist(service.proxy.user_header or ""))
    if named is not None:
        return Visitor(named, csrf_token(service.signing_key, named.name))
    if not service.keys.all:
        return Visitor(ANYONE, csrf_token(service.signing_key, ANYONE.name))
    sessions: Sessions = service.sessions
    session = sessions.read(cookie_of(request, COOKIE) or "", service.now())
    key = sessions.holder(session, service.keys) if session else None
    if session is None or key is None:
        return None
    async with service.record.read() as connection:
        if await is_ended(connection, session.id):
            return None
    return Visitor(key.who, csrf_token(service.signing_key, session.id), session)


async def require_reader(request: Request) -> Visitor:
    """Let whoever is logged in through; raises 401, which becomes the log-in page."""
    visitor = await find_visitor(request)
    if visitor is None:
        raise HTTPException(401, "log in to see this")
    return visitor


async def require_operator(visitor: Annotated[Visitor, Depends(require_reader)]) -> Visitor:
    """Let operators through, or raise 403."""
    if not visitor.who.is_operator:
        raise HTTPException(403, FOR_OPERATORS)
    return visitor


Reader = Annotated[Visitor, Depends(require_reader)]
Operator = Annotated[Visitor, Depends(require_operator)]


class PageRoute(APIRoute):
    """A route of a page: for whoever is logged in; a change is for operators, from a form of ours."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """The route's handler, behind the checks."""
        answer = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            visitor = await require_reader(request)
            if request.method not in SAFE_METHODS:
                await require_operator(visitor)
                request = limited(request, MOST_FORM_BYTES)
                await require_our_form(request, visitor.csrf)
            response = await answer(request)
            _renew(request, response, visitor)
            return response

        return guarded


class OpenRoute(APIRoute):
    """A route for everybody, such as the log-in: reads no more than a form can be."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """The route's handler, with a bound."""
        answer = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            return await answer(limited(request, MOST_FORM_BYTES))

        return bounded


async def require_our_form(request: Request, token: str) -> None:
    """Raise 403 for a change that none of our pages sends; the token comes as a field, or as htmx's header."""
    names = [request.headers.get("host", ""), urlsplit(request.app.state.service.settings.public_url or "").netloc]
    given = request.headers.get(CSRF_HEADER)
    if comes_from_here(request.headers, names) and given is None:
        # Kept by the request: FastAPI takes the fields from what has been read here.
        field = (await request.form()).get(CSRF_FIELD)
        given = field if isinstance(field, str) else None
    if given is None or not comes_from_here(request.headers, names) or not _same(given, token):
        raise HTTPException(403, NOT_OUR_FORM)


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), token.encode())


def _renew(request: Request, response: Response, visitor: Visitor) -> None:
    service = request.app.state.service
    sessions: Sessions = service.sessions
    now: datetime = service.now()
    # A page that ended the session has said so in a cookie of its own.
    is_said = any(name == b"set-cookie" for name, _ in response.raw_headers)
    if visitor.session is not None and not is_said and sessions.is_worth_renewing(visitor.session, now):
        set_session(request, response, sessions.renewed(visitor.session, now))


def set_session(request: Request, response: Response, session: Session) -> None:
    """Give the browser the session's cookie."""
    service = request.app.state.service
    set_cookie(
        request,
        response,
        COOKIE,
        service.sessions.cookie(session),
        seconds=int((service.sessions.end(session) - service.now()).total_seconds()),
    )


def set_cookie(request: Request, response: Response, name: str, value: str, *, seconds: int) -> None:
    """A cookie that no script reads and no other site's form carries; 0 seconds take it away."""
    response.set_cookie(
        cookie_name(request, name),
        value,
        max_age=seconds,
        path=_path(request),
        secure=is_secure(request.app.state.service.settings),
        httponly=True,
        # Strict would show the log-in page to whoever follows a link from a mail.
        samesite="lax",
    )


def cookie_of(request: Request, name: str) -> str | None:
    """What the browser sends back of a cookie of ours."""
    return request.cookies.get(cookie_name(request, name))


def cookie_name(request: Request, name: str) -> str:
    """The name with what browsers hold it to (RFC 6265bis, 4.1.3), as far as the deployment allows.

    `__Host-`: set by this very host, over https, for every path, so that no neighbour (another host of the domain, or
    somebody on the way who speaks plain http) can put one of theirs in its place. Below a path prefix `__Secure-`,
    which asks for https alone; over plain http browsers would take neither.
    """
    if not is_secure(request.app.state.service.settings):
        return name
    return f"{'__Host-' if _path(request) == '/' else '__Secure-'}{name}"


def _path(request: Request) -> str:
    return request.scope.get("root_path") or "/"


def is_secure(settings: Settings) -> bool:
    """Whether cookies may go over https only: always, but in development or where the public address is http."""
    if settings.environment is Environment.DEVELOPMENT:
        return False
    return not (settings.public_url or "").startswith("http://")
