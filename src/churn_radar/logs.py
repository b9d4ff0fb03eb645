"""Logging: one line an event with ids and outcome, on standard error, for people or for collectors.

Personal data and secrets stay out by construction: our own lines carry ids only, libraries that would log
addresses (httpx logs URLs, and a URL may hold a mail address) are held back to warnings, and traces show where
something was raised and of what type, but not its message, since foreign messages quote values. For the same
reason a library's own line is its first line without the values it was to be filled with.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, TextIO

import structlog

from churn_radar.settings import Settings
from churn_radar.triage.text import terminal_safe

_CHATTY = (
    *("httpx", "httpcore", "aiosqlite", "pyrate_limiter", "asyncio"),
    *("alembic", "pgqueuer", "filelock", "markdown_it"),
)

Event = MutableMapping[str, Any]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def _trace(logger: Any, method: str, event: Event) -> Event:
    """Replace exception info by its type and the places it passed, innermost last; no message, no values."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    if isinstance(info, BaseException):
        info = (type(info), info, info.__traceback__)
    if isinstance(info, tuple) and info[0] is not None:
        event["error"] = info[0].__name__
        frames = traceback.extract_tb(info[2])
        event["trace"] = " < ".join(
            f"{f.filename.rpartition('site-packages/')[2]}:{f.lineno}" for f in reversed(frames)
        )
    return event


def _without_values(logger: Any, method: str, event: Event) -> Event:
    """Of a library's line, what its authors wrote: asyncio and others put whole exceptions into the rest."""
    event["event"] = str(event["_record"].msg).partition("\n")[0]
    event["logger"] = event["_record"].name
    event.pop("stack_info", None)
    return event


def _printable(logger: Any, method: str, event: Event) -> Event:
    """Ids come from outside, and whoever reads the log must not have their terminal steered by one."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = terminal_safe(value)
    return event


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Set logging up for this process; `stream` is standard error unless told."""
    stream = stream or sys.stderr
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _trace,
        _printable,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=stream.isatty())
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_without_values, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
        logger.setLevel(max(level, logging.WARNING))
