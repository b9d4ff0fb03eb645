"""The commands of whoever runs the service: `copy-record`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from churn_radar import cli_tools

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
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{table}: {there:,} of {total:,} rows\033[K\r")
            sys.stderr.flush()

    def tell(each: Sum) -> None:
        cli_tools.out.print(f"{each.table}: {each.rows:,} rows, checksum {each.checksum}", markup=False)

    sums, unfinished = cli_tools.run(copy(source, target, progress=progress, tell=tell))
    rows = sum(each.rows for each in sums)
    cli_tools.out.print(f"{rows:,} rows in {len(sums)} tables, the same on both sides", markup=False)
    if is_postgres(target):
        cli_tools.out.print(f"{unfinished:,} pieces of unfinished work go on there", markup=False)
    cli_tools.out.print(
        "next: set CHURN_RADAR_DATABASE_URL to what you gave as --to, and start `churn-radar serve`. "
        f"{name_of(source)} is unchanged: keep it until you are content, and start nothing on it again",
        markup=False,
    )


def _database(option: str, url: str | None) -> str | None:
    """A URL from the command line; wrong usage when it names no database we know."""
    from churn_radar.settings import require_database_url

    try:
        return None if url is None else require_database_url(url)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}") from None
