"""Logging: one line an event with ids and outcome, on standard error, for people or for collectors.

Personal data and secrets stay out by construction: our own lines carry ids only, libraries that would log
addresses (httpx logs URLs, and a URL may hold a mail address) are held back to warnings, and traces show where
something was raised and of what type, but not its message, since foreign messages quote values. For the same
reason a library's own line is its first line without the values it was to be filled with.

What cannot be written is lost, and nothing else is: whoever tells of a commit must not fail for it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, TextIO, cast

import structlog

from churn_radar.settings import Settings
from churn_radar.triage.text import terminal_safe

_CHATTY = (
    *("httpx", "httpcore", "aiosqlite", "pyrate_limiter", "asyncio"),
    *("alembic", "apprise", "pgqueuer", "filelock", "markdown_it"),
    # At debug, botocore writes out every request: bodies, and signatures of keys.
    *("aiobotocore", "botocore", "redis"),
)

Event = MutableMapping[str, Any]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class LossyStream:
    """A stream that loses what it cannot write, because a collector has died or the disk is full, and never raises.

    To the process's own standard error text goes straight, past Python's buffer: a line that failed would stay there,
    come out before a later one, and fail once more at the end of the process, which makes its exit code 120.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        own = sys.__stderr__
        self._descriptor = own.fileno() if own is not None and own is stream else None

    def write(self, text: str) -> None:
        """Write, or lose it."""
        with contextlib.suppress(OSError, ValueError):
            if self._descriptor is None:
                self._stream.write(text)
                return
            left = memoryview(text.encode(self._stream.encoding, "backslashreplace"))
            while left:
                left = left[os.write(self._descriptor, left) :]

    def flush(self) -> None:
        """Flush, or lose what was left."""
        if self._descriptor is None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.flush()

    def isatty(self) -> bool:
        """Whether somebody watches."""
        return self._stream.isatty()


def _nowhere() -> TextIO:
    """In place of a standard error that the process was started without.

    Nothing else may get its number: uvloop ends the process when it is to close a connection of that number.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 2:
        pass
    return os.fdopen(descriptor, "w")


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
    sys.stderr = sys.stderr or _nowhere()
    out = cast("TextIO", LossyStream(stream or sys.stderr))
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
        else structlog.dev.ConsoleRenderer(colors=out.isatty())
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
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
