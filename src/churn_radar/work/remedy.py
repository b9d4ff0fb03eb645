"""What to do about a failure: which section of docs/what-to-do.md tells. Pure.

The sections are one for each thing that a person can do about it, not one for each status: whatever is not told apart
here is mended in the same way.
"""

from __future__ import annotations

SERVICES = ("customerio", "mavera")
OTHERWISE = "anything-else"

# Statuses with a remedy of their own; every other one goes by its class.
_ALONE = {
    "customerio": (401, 403, 404, 429),
    "mavera": (401, 402, 403, 404, 429),
}
_UNREADABLE = "answer-makes-no-sense"
_SILENT = "no-answer"


def section(service: str | None, status: int | None) -> str:
    """The heading's anchor, as code hosts make it.

    `service` is None for a fault of ours, or what an older release buried; `status` is None when no answer came.
    """
    if service not in SERVICES:
        return OTHERWISE
    if status is None:
        return f"{service}-{_SILENT}"
    if status in _ALONE[service]:
        return f"{service}-{status}"
    if status < 300:
        return f"{service}-{_UNREADABLE}"
    # 408 says that the server gave up waiting: nothing is wrong with what was asked.
    return f"{service}-5xx" if status >= 500 or status == 408 else f"{service}-{status // 100}xx"


def sections() -> frozenset[str]:
    """Every section that there has to be."""
    statuses = (None, 200, 302, *range(400, 600))
    return frozenset(section(service, status) for service in (*SERVICES, None) for status in statuses)


def link(base: str, service: str | None, status: int | None) -> str:
    """Where to read what to do; `base` is the address of the page without an anchor."""
    return f"{base}#{section(service, status)}"
