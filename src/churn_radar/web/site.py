"""The pages as one application: a list of rooms behind one guard, apart from the API. Neither slows the other."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp

from churn_radar.web import (
    audit,
    brief,
    briefs,
    dead_letters,
    failures,
    health,
    help,
    home,
    login,
    outcome_link,
    outcomes,
    personal,
    quarantine,
    replay,
    signals,
    static_files,
    today,
    welcome,
)
from churn_radar.web.headers import PageHeaders

# What comes before the prefix of a path decides who answers: these are the pages', everything else is the API's.
ROOT, BELOW = "/", "/desk"

ROOMS = (
    login,
    home,
    welcome,
    today,
    briefs,
    brief,
    outcomes,
    outcome_link,
    signals,
    dead_letters,
    quarantine,
    replay,
    health,
    help,
    personal,
    audit,
    static_files,
)


def is_page(path: str) -> bool:
    """Whether a path (without the prefix that a proxy adds) is one of the pages'."""
    return path in (ROOT, "", BELOW) or path.startswith(BELOW + "/")


def create_pages(service: Any) -> ASGIApp:
    """The pages of a running service."""
    pages = FastAPI(title="churn_radar", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    pages.state.service = service
    for room in ROOMS:
        pages.include_router(room.router)
    pages.state.routes = {
        route.name: route.path for room in ROOMS for route in room.router.routes if isinstance(route, APIRoute)
    }
    failures.install(pages)
    return PageHeaders(pages)
