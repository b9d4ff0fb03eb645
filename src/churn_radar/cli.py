"""The commands. Each is a few lines: read the settings, call the room that does the work, tell the outcome.

Exit codes: 0 fine, 1 failed, 2 wrong usage or settings. Errors are one line each on standard error.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from churn_radar import __version__, cli_operating, cli_personal, cli_quarantine, cli_sinks
from churn_radar.cli_tools import fail, moment, out, read_settings, run, tell_progress, tool_settings
from churn_radar.counts import counted
from churn_radar.errors import ChurnRadarError, SettingsError

app = typer.Typer(
    name="churn-radar",
    help="Turns Customer.io churn signals into retention research briefs.\n\n"
    "Start with `churn-radar demo`. Then: copy .env.example to .env, fill it in, and run `churn-radar serve`.",
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.add_typer(cli_quarantine.app)
app.add_typer(cli_sinks.app)
app.add_typer(cli_operating.app)


def _show_version(wanted: bool) -> None:
    if wanted:
        out.print(f"churn-radar {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        out.print(context.get_help())


@app.command()
def serve(
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Only the door, the API and the pages; nothing is researched.")
    ] = False,
    host: Annotated[str | None, typer.Option(help="Address to listen on; else CHURN_RADAR_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; else CHURN_RADAR_PORT.")] = None,
) -> None:
    """Run the service: the door, the API, and the worker inside.

    Settings come from the environment and from .env (see `churn-radar settings`). SIGTERM stops it gracefully:
    it accepts nothing more, lets running research finish, and exits 0. What is unfinished is taken up at the
    next start.

    Example: `CHURN_RADAR_ENVIRONMENT=development churn-radar serve`
    """
    from churn_radar.serving import serve as serve_all

    settings = read_settings(host=host, port=port)
    run(serve_all(settings, with_worker=not no_worker), fast_loop=True)


@app.command()
def worker() -> None:
    """Run the worker alone: it researches and delivers what the doors of other processes have taken.

    For a record on Postgres, beside `serve` or `serve --no-worker`; start as many as you like. They keep to the limits
    of both upstream services together. SIGTERM stops it gracefully; one that is killed is taken over from.

    Example: `CHURN_RADAR_DATABASE_URL=postgresql://user@host/churn_radar churn-radar worker`
    """
    from churn_radar.serving import work

    run(work(read_settings()), fast_loop=True)


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End after the last brief, also in a terminal (so does ONCE=1).")
    ] = False,
) -> None:
    """Play a morning's webhooks through the whole service, with both upstream services simulated. Needs no keys.

    In a terminal it goes on serving afterwards and says where. Exits 0 when every brief came in, 1 when one is
    missing.

    Example: `churn-radar demo --once`
    """
    from churn_radar.demo.stage import in_terminal, play

    stay = in_terminal() and not once and os.environ.get("ONCE", "") in ("", "0")
    if not run(play(stay=stay)):
        fail(1, "the demo did not come out as its story says; see above")


@app.command()
def send(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Event files: one JSON document each, sent byte for byte, or JSON lines."),
    ] = None,
    sample: Annotated[
        list[str] | None, typer.Option(help="A built-in sample event; may be repeated; `all` sends every kind.")
    ] = None,
    customer: Annotated[str | None, typer.Option(help="The customer id that samples are about.")] = None,
    url: Annotated[str | None, typer.Option(help="Where the door is; else the port of the settings.")] = None,
    older_scheme: Annotated[bool, typer.Option("--older-scheme", help="Sign the body alone, no timestamp.")] = False,
    same: Annotated[bool, typer.Option("--same", help="Send samples with their fixed ids: a retry, not news.")] = False,
) -> None:
    """Sign events as Customer.io does and post them to a running door: a webhook tester.

    The key is the first of CIO_WEBHOOK_SECRET; without one the events go out unsigned. Exits 1 when the door
    refuses one.

    Examples: `churn-radar send event.json`, `churn-radar send --sample bounced --customer 42`
    """
    from churn_radar import sending
    from churn_radar.intake.samples import SAMPLES

    kinds = [kind for wanted in sample or [] for kind in (SAMPLES if wanted == "all" else (wanted,))]
    if not files and not kinds:
        raise typer.BadParameter(f"name event files, or --sample with one of: {', '.join(SAMPLES)}, all")
    settings = tool_settings()
    secrets = settings.cio_webhook_secret

    def batch() -> Iterator[sending.Letter]:
        for path in files or []:
            yield from sending.from_file(path)
        for kind in kinds:
            yield sending.sample(kind, fresh=not same, customer=customer)

    all_well = sending.post_all(
        batch(),
        url=url or f"http://127.0.0.1:{settings.port}",
        secret=secrets[0].get_secret_value() if secrets else None,
        older_scheme=older_scheme,
        tell=lambda reply: out.print(f"{reply.label}: {reply.status} {reply.said}", markup=False),
    )
    if not all_well:
        fail(1, "the door did not take every event; see above")


class Upstream(StrEnum):
    """What a dead letter can have died of."""

    CUSTOMERIO = "customerio"
    MAVERA = "mavera"


@app.command()
def replay(
    event_ids: Annotated[list[str] | None, typer.Argument(help="Customer.io's event ids, or ours.")] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Every dead letter, or those that fit the options.")] = False,
    quarantined: Annotated[
        bool, typer.Option("--quarantined", help="Every quarantined body, or those that fit the options.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Only where the reason holds this text.")] = None,
    failed_service: Annotated[
        Upstream | None, typer.Option(help="Only dead letters that died of this service.")
    ] = None,
    failed_status: Annotated[
        str | None, typer.Option(help="Only dead letters whose service answered this last: 503, 5xx or none.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only what was received since: 2h, 7d, or 2026-11-24T10:00 (UTC).")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only what was received before; likewise.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; only say what would be done.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Research anew even where a brief is there.")] = False,
    url: Annotated[str | None, typer.Option(help="Where the service runs; else the port of the settings.")] = None,
) -> None:
    """Start the work on stored signals again: dead letters, quarantined bodies, or signals by their ids.

    Works beside a running service (through its API) and without one (the work starts when the service does).
    Replaying twice does what replaying once does.

    Examples: `churn-radar replay --dead --failed-service mavera --failed-status 5xx --since 2h --dry-run`,
    `churn-radar replay 01E4C4CT6YDC7Y5M7FE1GWWPQJ`
    """
    from churn_radar import replaying
    from churn_radar.reaching import reach
    from churn_radar.store.tables import Status
    from churn_radar.work.selection import STATUS_PATTERN

    if failed_status is not None and not re.fullmatch(STATUS_PATTERN, failed_status):
        raise typer.BadParameter("--failed-status takes a status like 503, a class like 5xx, or none")
    statuses = [s for s, wanted in ((Status.DEAD, dead), (Status.QUARANTINED, quarantined)) if wanted]
    now = datetime.now(UTC)
    conditions = {
        "reason": reason,
        "failed_service": failed_service,
        "failed_status": failed_status,
        "since": moment("--since", since, now),
        "until": moment("--until", until, now),
    }
    if not statuses and (not event_ids or any(conditions.values())):
        raise typer.BadParameter("name event ids, or use --dead or --quarantined")
    settings = tool_settings()

    def progress(replayed: int) -> None:
        tell_progress(f"{counted(replayed, 'signal')} so far")

    async def work() -> replaying.Total:
        async with reach(settings, url or f"http://127.0.0.1:{settings.port}") as api:
            return await replaying.replay(
                api,
                event_ids or [],
                statuses,
                conditions=conditions,
                force=force,
                dry_run=dry_run,
                tell=lambda line: out.print(f"{line['event_id']}: {line['status']} ({line['effect']})", markup=False),
                progress=progress,
            )

    done = run(work())
    for (status, effect, help_), count in done.counts.most_common():
        why = f"; why they died, and what to do first: {help_}" if help_ and dry_run else ""
        out.print(f"{count} x {status} ({effect}){why}", markup=False)
    out.print(f"{counted(done.replayed, 'signal')} {'would be ' if dry_run else ''}replayed")
    if done.unknown:
        fail(1, *(f"nothing is known of the event {event_id!r}" for event_id in done.unknown))


@app.command()
def migrate(
    check: Annotated[bool, typer.Option("--check", help="Only say whether a migration is due; exit 1 if so.")] = False,
) -> None:
    """Create the record, or bring it to this release's schema. `serve` does this by itself on SQLite.

    On Postgres run it once before the first start, and at each upgrade before the new release's processes start.

    Example: `churn-radar migrate --check`
    """
    from churn_radar import migrating
    from churn_radar.store.schema import SchemaState

    url = tool_settings().database_url
    state = run(migrating.inspect(url) if check else migrating.upgrade(url))
    done = {SchemaState.EMPTY: "created", SchemaState.CURRENT: "already current"}
    out.print(f"{migrating.name_of(url)}: {state.value if check else done.get(state, 'upgraded')}", markup=False)
    if check and state is not SchemaState.CURRENT:
        raise SystemExit(1)


@app.command()
def simulate(
    customerio_port: Annotated[int, typer.Option(help="Port of the App API stand-in.")] = 9101,
    mavera_port: Annotated[int, typer.Option(help="Port of the Mavera stand-in.")] = 9102,
    track_port: Annotated[int, typer.Option(help="Port of the stand-in for Customer.io's Track API.")] = 9103,
    time_scale: Annotated[
        float, typer.Option(min=0, help="Mave takes 5 to 90 seconds, times this; 0 answers at once.")
    ] = 0.1,
    requests_per_minute: Annotated[int, typer.Option(min=1, help="Mavera's rate limit.")] = 60,
    mavera_credits: Annotated[int | None, typer.Option(min=0, help="Mavera's balance; else endless.")] = None,
    customerio_fault: Annotated[
        list[str] | None, typer.Option(help="A fault of the App API: NAME or NAMExTIMES, as below.")
    ] = None,
    mavera_fault: Annotated[list[str] | None, typer.Option(help="A fault of Mavera, likewise.")] = None,
) -> None:
    """Run the stand-ins of the upstream services alone, and print the settings that point a service at them.

    Faults: status:500, status:503, status:429, status:401, status:402, hang, cut, html, empty, question, garbage,
    slow; `xN` after it for N calls, else until cleared. They can also be switched while it runs: POST
    /_simulator/faults `{"fault": "hang", "times": 2}`.

    Example: `churn-radar simulate --mavera-fault status:429x3`
    """
    from churn_radar.simulating import simulate as stand_in

    run(
        stand_in(
            customerio_port=customerio_port,
            mavera_port=mavera_port,
            track_port=track_port,
            time_scale=time_scale,
            requests_per_minute=requests_per_minute,
            mavera_credits=mavera_credits,
            customerio_faults=customerio_fault or [],
            mavera_faults=mavera_fault or [],
            tell=lambda line: out.print(line, markup=False),
        )
    )


app.command()(cli_personal.forget)
app.command()(cli_personal.export)


class SettingsFormat(StrEnum):
    """How the settings are printed."""

    TEXT = "text"
    MARKDOWN = "markdown"
    ENV = "env"


@app.command()
def settings(
    format_: Annotated[SettingsFormat, typer.Option("--format", help="How to print them.")] = SettingsFormat.TEXT,
) -> None:
    """Show every setting with its type, default and description.

    Example: `churn-radar settings --format env > .env`
    """
    from churn_radar import settings_text

    match format_:
        case SettingsFormat.MARKDOWN:
            sys.stdout.write(settings_text.as_markdown())
        case SettingsFormat.ENV:
            sys.stdout.write(settings_text.as_env())
        case SettingsFormat.TEXT:
            table = Table("setting", "type", "default", "what it does", show_lines=True)
            for line in settings_text.lines():
                table.add_row(line.name, line.kind, line.default or "none", line.description)
            out.print(table)


def main() -> None:
    """Run the command line; every error ends as one line and an exit code."""
    try:
        code = app(standalone_mode=False)
    except SettingsError as error:
        fail(2, *error.problems)
    except ChurnRadarError as error:
        fail(1, str(error))
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "churn-radar"
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        fail(2, f"{' '.join(message.split()).rstrip('.')}; see `{command} --help`")
    except (typer.Abort, KeyboardInterrupt):
        raise SystemExit(130) from None
    except BrokenPipeError:
        # Whoever read our output has gone; that is no failure of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    raise SystemExit(code if isinstance(code, int) else 0)
