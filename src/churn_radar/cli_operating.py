"""The commands of whoever runs the service: `doctor`, `connect`, `backfill`, `copy-record`."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated

import typer

from churn_radar import cli_tools
from churn_radar.counts import counted
from churn_radar.errors import SettingsError
from churn_radar.settings import Settings

app = typer.Typer()


@app.command("copy-record")
def copy_record(
    to: Annotated[str, typer.Option(help="Where to: postgresql://USER@HOST/DATABASE, or sqlite:///FILE.")],
    from_: Annotated[
        str | None, typer.Option("--from", help="The record to copy; else CHURN_RADAR_DATABASE_URL.")
    ] = None,
) -> None:
    """Copy the whole record into another database, an empty one; broken off, the same command goes on.

    Stop every `serve` and `worker` first: the source is held, and only read. The target's tables are created, and
    compared with the source's at the end, by count and checksum; until then nothing starts on it. The password may
    come from PGPASSWORD or a password file instead of the URL.

    Example: `churn-radar copy-record --to postgresql://user@host/churn_radar`
    """
    from churn_radar.migrating import name_of
    from churn_radar.moving import copy_record as copy
    from churn_radar.store.copying import Sum
    from churn_radar.store.postgres import is_postgres

    settings = cli_tools.tool_settings()
    source = _database("--from", from_) or settings.database_url
    target = _database("--to", to) or ""
    cli_tools.out.print(f"copying {name_of(source)} to {name_of(target)}", markup=False)

    def progress(table: str, there: int, total: int) -> None:
        cli_tools.tell_progress(f"{table}: {there:,} of {counted(total, 'row')}")

    def tell(each: Sum) -> None:
        cli_tools.out.print(f"{each.table}: {counted(each.rows, 'row')}, checksum {each.checksum}", markup=False)

    sums, unfinished = cli_tools.run(copy(source, target, progress=progress, tell=tell))
    rows = sum(each.rows for each in sums)
    cli_tools.out.print(
        f"{counted(rows, 'row')} in {counted(len(sums), 'table')}, the same on both sides", markup=False
    )
    if is_postgres(target):
        cli_tools.out.print(f"pieces of unfinished work that go on there: {unfinished:,}", markup=False)
    cli_tools.out.print(
        "next: set CHURN_RADAR_DATABASE_URL to what you gave as --to, and start `churn-radar serve`. "
        f"{name_of(source)} is unchanged: keep it until you are content, and start nothing on it again",
        markup=False,
    )


@app.command()
def doctor() -> None:
    """Check settings, record, buffer, both upstream services, the clock and the sinks; one line each.

    `fine`, or what to do. Nothing is changed, no credits are spent, no secret is shown. Works beside a running service.
    Exits 1 when something is wrong.

    Example: `churn-radar doctor`
    """
    from churn_radar.doctor import examine, wrong_settings

    findings = wrong_settings()
    settings = cli_tools.tool_settings()
    findings += cli_tools.run(examine(settings))
    for finding in findings:
        cli_tools.out.print(f"{finding.subject}: {'fine' if finding.fine else 'WRONG'}: {finding.told}", markup=False)
    if not all(finding.fine for finding in findings):
        raise SystemExit(1)


@app.command()
def connect(
    url: Annotated[
        str | None, typer.Option(help="Public address of the door, https://HOST; else CHURN_RADAR_PUBLIC_URL.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; only say what would be done.")] = False,
) -> None:
    """Create or update the reporting webhook in Customer.io, so that it posts churn signals to the door.

    One that posts there already is switched on and given the events of CHURN_RADAR_ALERT_EVENTS; whatever else was
    ticked stays. A second one is never made.

    Example: `churn-radar connect --url https://hooks.example.com --dry-run`
    """
    from churn_radar import connecting
    from churn_radar.customerio.workspace import Workspace

    settings = cli_tools.tool_settings()
    _require_app_key(settings)
    endpoint = connecting.endpoint_of(url, settings)

    async def work() -> connecting.Connected:
        workspace = Workspace.create(settings)
        try:
            return await connecting.connect(workspace, endpoint, settings, dry_run=dry_run)
        finally:
            await workspace.aclose()

    done = cli_tools.run(work())
    cli_tools.out.print(f"the reporting webhook for {endpoint} {done.change}", markup=False)
    cli_tools.out.print(f"events: {', '.join(done.webhook.events)}", markup=False)
    if done.others:
        cli_tools.out.print(
            f"webhooks that post to the same address as well: {done.others}; every event comes as often: delete them"
        )
    if done.change == "created":
        cli_tools.out.print(
            "next: put its signing key, from its page in Customer.io, into CIO_WEBHOOK_SECRET, and restart"
        )


@app.command()
def backfill(
    since: Annotated[str, typer.Option(help="What happened since: 12h, 7d, or 2026-11-24T10:00 (UTC).")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; only say how many.")] = False,
    url: Annotated[str | None, typer.Option(help="Where the service runs; else the port of the settings.")] = None,
) -> None:
    """Ask Customer.io for signals the door never saw, and feed them in.

    Goes through the mails that bounced, were complained of or unsubscribed from. What the record has already is not fed
    in again, so running it twice does what running it once does. Works beside a running service, within the App API's
    rate limit together with it, and without one (the work then starts when the service does).

    Example: `churn-radar backfill --since 7d --dry-run`
    """
    from churn_radar import backfilling
    from churn_radar.reaching import reach

    settings = cli_tools.tool_settings()
    _require_app_key(settings)
    moment = cli_tools.moment("--since", since, datetime.now(UTC))

    def progress(metric: str, counts: Counter[str]) -> None:
        cli_tools.tell_progress(f"{metric}: {counted(counts.total(), 'event')} so far")

    async def work() -> dict[str, Counter[str]]:
        async with reach(settings, url or f"http://127.0.0.1:{settings.port}") as api:
            return await backfilling.backfill(
                api, settings.alert_events, since=moment or "", dry_run=dry_run, progress=progress
            )

    fed_in = "would be fed in" if dry_run else "fed in"
    for metric, counts in cli_tools.run(work()).items():
        rare = {"kept_out": "about people who were forgotten", "not_understood": "not understood"}
        others = "".join(f", {counts[name]:,} {words}" for name, words in rare.items() if counts[name])
        cli_tools.out.print(
            f"{metric}: {counts['fed_in']:,} {fed_in}, {counts['known']:,} known already{others}", markup=False
        )


def _require_app_key(settings: Settings) -> None:
    if settings.cio_app_key is None:
        raise SettingsError(
            ["CIO_APP_KEY: missing; the App API is asked with it (example: CIO_APP_KEY=your-app-api-key)"]
        )


def _database(option: str, url: str | None) -> str | None:
    """A URL from the command line; wrong usage when it names no database we know."""
    from churn_radar.settings import require_database_url

    try:
        return None if url is None else require_database_url(url)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}") from None
