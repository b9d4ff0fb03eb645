"""Certificates that are read once, and not for each HTTP client: reading all of a machine's takes ten milliseconds."""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any

_create = ssl.create_default_context


@cache
def _of_file(cafile: str) -> ssl.SSLContext:
    return _create(cafile=cafile)


def shared_context(*told: Any, cafile: str | None = None, **more: Any) -> ssl.SSLContext:
    """As ssl.create_default_context; but who trusts one file of certificates shares what was made of it."""
    return _of_file(cafile) if cafile and not told and not more else _create(*told, cafile=cafile, **more)
