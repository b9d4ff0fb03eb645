"""Opaque cursors for lists that are read newest first."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from fastapi import HTTPException, Query

Limit = Annotated[int, Query(ge=1, le=200, description="How many to answer at most.")]
Cursor = Annotated[
    str | None, Query(description="From the previous answer: continues where that one ended.", max_length=100)
]


def cursor_of(seq: int) -> str:
    """The cursor that continues after a row."""
    return base64.urlsafe_b64encode(b"v1:%d" % seq).decode().rstrip("=")


def read_cursor(cursor: str | None) -> int | None:
    """The row a cursor continues after; raises 400 for what is none of ours."""
    if cursor is None:
        return None
    try:
        version, _, seq = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).partition(b":")
        if version != b"v1" or not 0 < int(seq) < 2**63:
            raise ValueError
        return int(seq)
    except (ValueError, binascii.Error):
        raise HTTPException(400, "the cursor is not one that this service gave out") from None
