"""Development's guard: nobody but this machine's user gets in, not even by way of their browser.

Without keys, a web page that rebinds its own name to 127.0.0.1 could read everything (told by the Host header),
and any page could post events, each of which costs research (told by the Origin header).
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from churn_radar.problems import PROBLEM_JSON, problem_body

NAMES = frozenset({"127.0.0.1", "localhost", "[::1]", "testserver"})


class LoopbackOnly:
    """Refuses HTTP requests that were not meant for this machine, or come from another site's page."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Dispatch one connection."""
        if scope["type"] == "http" and not _is_ours(Headers(scope=scope)):
            detail = "development mode answers requests from this machine only; see CHURN_RADAR_ENVIRONMENT"
            refusal = Response(problem_body(403, detail), 403, media_type=PROBLEM_JSON)
            await refusal(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _is_ours(headers: Headers) -> bool:
    hosts = [headers.get("host", "")]
    if "origin" in headers:
        hosts.append(headers["origin"].lower().removeprefix("http://"))
    return all(re.sub(r":[0-9]*$", "", host).lower() in NAMES for host in hosts)
