"""What the commands share: how they read settings, run, and end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.console import Console

from churn_radar import logs
from churn_radar.settings import Environment, Settings, load_settings, unknown_variables, variables_in_force

out = Console(highlight=False, soft_wrap=True)


def fail(code: int, *lines: str) -> NoReturn:
    """End with one line on standard error for each problem."""
    for line in lines:
        sys.stderr.write(f"churn-radar: {line}\n")
    raise SystemExit(code)


def tell_progress(words: str) -> None:
    """Show how far long work has come, in one line that the next one replaces; nothing where nobody watches."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{words}\033[K\r")
        sys.stderr.flush()


def read_settings(**overrides: Any) -> Settings:
    """The settings of this process, with what the command line says put over them; sets logging up."""
    for line in unknown_variables(variables_in_force()):
        sys.stderr.write(f"churn-radar: warning: {line}\n")
    settings = load_settings(**{name: value for name, value in overrides.items() if value is not None})
    logs.configure(settings)
    return settings


def tool_settings() -> Settings:
    """Settings for commands that need no upstream service: production's demands are set aside."""
    return read_settings(environment=Environment.DEVELOPMENT, log_level="error")


def run(work: Coroutine[Any, Any, Any], *, fast_loop: bool = False) -> Any:
    """Run to the end; with `fast_loop` on uvloop where it is installed."""
    factory = None
    if fast_loop:
        try:
            import uvloop

            factory = uvloop.new_event_loop
        except ImportError:
            pass  # the standard loop does the same work, more slowly
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


def moment(option: str, text: str | None, now: datetime) -> str | None:
    """An option's moment in ISO 8601; wrong usage when it is none."""
    from churn_radar.work.selection import read_moment

    if text is None:
        return None
    try:
        return read_moment(text, now).isoformat()
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}") from None


def quarantine_folder(settings: Settings) -> Path:
    """Where exported bodies lie."""
    from churn_radar.store.postgres import is_postgres
    from churn_radar.store.schema import sqlite_path

    if settings.quarantine_folder is not None:
        return settings.quarantine_folder
    return Path() if is_postgres(settings.database_url) else sqlite_path(settings.database_url).parent
