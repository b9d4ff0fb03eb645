"""Logging in with an API key, and out again."""

from __future__ import annotations

import math
import secrets
import time
from typing import Annotated

import structlog
from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from churn_radar.access import Keys
from churn_radar.api.audit import note
from churn_radar.api.auth import address_of
from churn_radar.counts import counted
from churn_radar.store.sessions import end_session
from churn_radar.throttle import Throttle
from churn_radar.web.base import go_to, page
from churn_radar.web.guard import (
    OpenRoute,
    Visitor,
    cookie_of,
    find_visitor,
    require_our_form,
    set_cookie,
    set_session,
)
from churn_radar.web.origin import next_page
from churn_radar.web.session import COOKIE, LOGIN_COOKIE, LOGIN_COOKIE_SECONDS, csrf_token

router = APIRouter(route_class=OpenRoute)
log = structlog.get_logger(__name__)

LONGEST_KEY = 1024
WRONG = "This key is not one of ours."
NO_COOKIE = (
    "Your browser did not send back the cookie of this page. Cookies go over https only: if the pages are reached by "
    "plain http, set CHURN_RADAR_PUBLIC_URL to that address."
)


def _form(
    request: Request, status: int = 200, problem: str | None = None, wait: float = 0.0, to: str = "/"
) -> Response:
    """The log-in page, with a cookie that its form has to come back with."""
    token = cookie_of(request, LOGIN_COOKIE) or secrets.token_urlsafe(18)
    seconds = math.ceil(wait)
    response = page(
        request,
        "login.html",
        visitor=None,
        status=status,
        headers={"Retry-After": str(seconds)} if seconds else None,
        token=csrf_token(request.app.state.service.signing_key, f"log-in {token}"),
        problem=problem,
        to=to,
        users=request.app.state.service.proxy.user_header is not None,
    )
    set_cookie(request, response, LOGIN_COOKIE, token, seconds=LOGIN_COOKIE_SECONDS)
    return response


def _told(wait: float) -> str:
    seconds = math.ceil(wait)
    amount = counted(seconds, "second") if seconds < 120 else counted(math.ceil(seconds / 60), "minute")
    return f"Too many wrong keys. Wait {amount}, then try again."


@router.get("/desk/login", name="login")
async def show_login(request: Request, next: str | None = None) -> Response:
    """The form, or straight on for whoever is logged in."""
    if await find_visitor(request) is not None:
        return RedirectResponse(request.scope.get("root_path", "") + next_page(next), 303)
    return _form(request, to=next_page(next))


@router.post("/desk/login", name="log_in")
async def log_in(
    request: Request,
    key: Annotated[str, Form(max_length=LONGEST_KEY)] = "",
    next: Annotated[str | None, Form(max_length=2000)] = None,
) -> Response:
    """Begin a session. Wrong keys cost time, and the page says how much."""
    service = request.app.state.service
    to, throttle, address = next_page(next), service.throttle, address_of(request)
    token = cookie_of(request, LOGIN_COOKIE)
    if token is None:
        return _form(request, 400, NO_COOKIE, to=to)
    await require_our_form(request, csrf_token(service.signing_key, f"log-in {token}"))
    assert isinstance(throttle, Throttle)  # noqa: S101  the service's own
    # No await from here to the verdict: attempts cannot overtake the count of those before them.
    given = key.strip().encode()
    if (wait := throttle.wait_to_log_in(address, given, time.monotonic())) > 0:
        return _form(request, 429, _told(wait), wait, to)
    keys: Keys = service.keys
    found = keys.find([given])
    if found is None:
        throttle.failed(address, given, time.monotonic())
        log.warning("web.login_refused")
        return _form(request, 403, WRONG, to=to)
    throttle.succeeded(address, given)
    session = service.sessions.begin(found, service.now())
    await note(request, found.who, "log in", via="page")
    response = RedirectResponse(request.scope.get("root_path", "") + to, 303)
    set_session(request, response, session)
    set_cookie(request, response, LOGIN_COOKIE, "", seconds=0)
    return response


@router.post("/desk/logout", name="log_out")
async def log_out(request: Request) -> Response:
    """End the session, for good: its cookie counts no more, wherever it has got to. Readers may as well."""
    visitor: Visitor | None = await find_visitor(request)
    response = go_to(request, "login")
    if visitor is not None:
        await require_our_form(request, visitor.csrf)
        if visitor.session is not None:
            service, session = request.app.state.service, visitor.session
            now, until = service.now(), session.began + service.sessions.longest
            await service.record.write(lambda c: end_session(c, session.id, now=now, until=until))
            service.live.log_out(session.id)
    set_cookie(request, response, COOKIE, "", seconds=0)
    return response
