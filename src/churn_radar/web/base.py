"""What every page is made with: the templates, links that keep the path prefix, and `page()`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from churn_radar import __version__
from churn_radar.web import masking, words
from churn_radar.web.guard import Visitor
from churn_radar.web.static_files import static_files


@dataclass(frozen=True, slots=True)
class Place:
    """An entry of the navigation: the route's name, the word that is shown, the icon beside it."""

    route: str
    word: str
    icon: str
    for_operators: bool = False


# In the order in which they are shown; a page belongs to the entry that it names as `place`.
NAVIGATION = (
    Place("today", "Today", "today"),
    Place("briefs", "Briefs", "brief"),
    Place("outcomes", "Outcomes", "outcome"),
    Place("signals", "Signals", "signal"),
    Place("dead_letters", "Dead letters", "dead"),
    Place("quarantine", "Quarantine", "quarantine"),
    Place("health", "Health", "health"),
    Place("personal", "Personal data", "person", for_operators=True),
    Place("audit", "Audit trail", "audit", for_operators=True),
    Place("welcome", "First steps", "welcome"),
)

templates = Environment(
    loader=PackageLoader("churn_radar.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
templates.filters |= words.FILTERS
templates.globals["masks"] = masking.MASKS


def url(request: Request, name: str, /, **values: Any) -> str:
    """The address of a page by its route's name, below the prefix; what is not part of the path becomes the query.

    Values that are None are left out. Raises KeyError for a route that is not there.
    """
    parts: dict[str, str] = request.app.state.routes
    path: str = parts[name]
    query: dict[str, Any] = {}
    for key, value in values.items():
        for slot in (f"{{{key}}}", f"{{{key}:path}}"):
            if slot in path:
                path = path.replace(slot, quote(str(value), safe=""))
                break
        else:
            if value is not None:
                query[key] = value
    prefix: str = request.scope.get("root_path", "")
    return prefix + path + (f"?{urlencode(query, doseq=True)}" if query else "")


def page(
    request: Request,
    template: str,
    /,
    *,
    visitor: Visitor | None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> HTMLResponse:
    """Render a template of this package; besides `values` it has what `base.html` needs.

    `url(name, ...)` and `static(name)` make addresses, `visitor` is who looks (None: nobody yet), `now` the time.
    """
    return HTMLResponse(fragment(request, template, visitor=visitor, **values), status, headers=headers)


def fragment(request: Request, template: str, /, *, visitor: Visitor | None, **values: Any) -> str:
    """The same as text: for a part of a page, whose template extends none."""
    service = request.app.state.service
    link: Callable[..., str] = lambda name, /, **parts: url(request, name, **parts)  # noqa: E731
    return templates.get_template(template).render(
        **values,
        url=link,
        # A page names the file of the icons some hundred times.
        static=cache(lambda name: link("static", digest=static_files()[name].digest, name=name)),
        visitor=visitor,
        csrf=visitor.csrf if visitor else None,
        places=[p for p in NAVIGATION if visitor and (visitor.who.is_operator or not p.for_operators)],
        now=service.now(),
        is_development=service.settings.environment == "development",
        version=__version__,
    )


def go_to(request: Request, name: str, /, **values: Any) -> RedirectResponse:
    """After a change: show this page, so that reloading repeats nothing."""
    return RedirectResponse(url(request, name, **values), 303)
