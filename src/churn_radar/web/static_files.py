"""Stylesheet, scripts and icons: read once, named by what they contain, kept by browsers for a year."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from fastapi import APIRouter, HTTPException, Request, Response

router = APIRouter()

TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
FOR_A_YEAR = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file as it is sent."""

    body: bytes
    zipped: bytes
    media_type: str
    digest: str


@cache
def static_files() -> Mapping[str, StaticFile]:
    """Every file, by the name that templates use: `desk.css`, `htmx.min.js`."""
    folder = resources.files("churn_radar.web") / "static"
    found: dict[str, StaticFile] = {}
    for entry in [*folder.iterdir(), *(folder / "vendor").iterdir()]:
        kind = entry.name.rpartition(".")[2]
        if kind in TYPES:
            body = entry.read_bytes()
            digest = hashlib.sha256(body).hexdigest()[:12]
            found[entry.name] = StaticFile(body, gzip.compress(body, mtime=0), TYPES[kind], digest)
    return found


@router.get("/desk/static/{digest}/{name}", name="static")
async def read_static(request: Request, digest: str, name: str) -> Response:
    """One file. An old name is gone for good: the page that had it has a newer one."""
    file = static_files().get(name)
    if file is None or digest != file.digest:
        raise HTTPException(404, "there is no such file")
    headers = {"Cache-Control": FOR_A_YEAR, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.zipped, headers=headers | {"Content-Encoding": "gzip"}, media_type=file.media_type)
    return Response(file.body, headers=headers, media_type=file.media_type)
