"""The pages: what people look at and press, without a build step and without anything from other hosts.

How a page is added:

1. A module here with `router = APIRouter(route_class=PageRoute)`, and a route below `/desk/` with a `name`:

       @router.get("/desk/outcomes", name="outcomes")
       async def show_outcomes(request: Request, visitor: Reader) -> HTMLResponse:
           return page(request, "outcomes.html", visitor=visitor, ...)

   `PageRoute` (guard.py) lets nobody in who is not logged in; whatever is not a GET is for operators, and has to come
   from a form of ours. `Operator` in place of `Reader` makes a GET for operators alone. Query and path parameters are
   FastAPI's.
2. A template in templates/ that extends `base.html`, sets `place` and fills the blocks `title` and `main`. Macros are
   in `parts.html` (`parts.icon("brief")`, `parts.status("waiting")`, `parts.csrf_field()` in every form with
   method="post", `parts.notice`, `parts.pager`, ...), filters in words.py (`|moment`, `|ago(now)`, `|money(currency)`,
   `|masked_mail`, ...), classes in static/desk.css. Addresses come from `url("name", part=..., query=...)` and
   `static("file.css")`, which keep the path prefix; a link that is written out breaks behind a proxy.
3. The module's name in `ROOMS` (site.py), and an entry in `NAVIGATION` (base.py) if it is to have one.

After a change: `note(...)` (api/audit.py, `via="page"`) before it is done, and `go_to(request, "name")` afterwards.

The policy that headers.py sends allows no inline script and no inline style: scripts are files in static/, what they
need is in `data-` attributes, and htmx (vendored, with its extension for server-sent events) works by `hx-` attributes
without `hx-on` and without filters in `hx-trigger`. A page works without scripts.
"""
