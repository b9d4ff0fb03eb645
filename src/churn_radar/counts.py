"""How many of what, in words: for people, wherever they read it. Pure."""

from __future__ import annotations


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 signal`, `12 signals`, `1,200 bodies`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
