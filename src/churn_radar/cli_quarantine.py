"""`churn-radar quarantine ...`: list, show, drop, export, import."""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from churn_radar import cli_tools
from churn_radar.counts import counted
from churn_radar.settings import Settings

app = typer.Typer(
    name="quarantine",
    help="Look after the bodies that were genuine but not understood: list, show, drop, export, import.\n\n"
    "Replaying them is `churn-radar replay --quarantined`. Works beside a running service and without one.\n\n"
    "Examples: `churn-radar quarantine list`, `churn-radar quarantine show qua_1f0c`",
)

Ids = Annotated[list[str] | None, typer.Argument(help="Ids, as `list` shows them.")]
Reason = Annotated[str | None, typer.Option(help="Only where the reason holds this text.")]
Since = Annotated[str | None, typer.Option(help="Only what was received since: 2h, 7d, or 2026-11-24T10:00 (UTC).")]
Until = Annotated[str | None, typer.Option(help="Only what was received before; likewise.")]
Everything = Annotated[bool, typer.Option("--all", help="Every one.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; only say how many.")]
Url = Annotated[str | None, typer.Option(help="Where the service runs; else the port of the settings.")]


def _run(settings: Settings, url: str | None, work: Any) -> Any:
    from churn_radar.reaching import reach

    async def reached() -> Any:
        async with reach(settings, url or f"http://127.0.0.1:{settings.port}") as api:
            return await work(api)

    return cli_tools.run(reached())


@app.command("list")
def list_(limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100, url: Url = None) -> None:
    """Show what is in quarantine, newest first, and how full it is.

    Example: `churn-radar quarantine list --limit 20`
    """
    from churn_radar.quarantining import every_body

    async def work(api: Any) -> dict[str, Any]:
        async for item in every_body(api, limit):
            cli_tools.out.print(f"{item['event_id']}  {item['received_at']}  {item['reason']}", markup=False)
        state: dict[str, Any] = await api.get("/quarantine")
        return state

    state = _run(cli_tools.tool_settings(), url, work)
    bodies = counted(state["bodies"], "body", "bodies")
    cli_tools.out.print(f"{bodies}, {state['bytes'] / 2**20:.1f} of {state['max_bytes'] / 2**20:.0f} MB", markup=False)
    for name, size in state["exports"].items():
        cli_tools.out.print(f"exported earlier: {name} ({size / 2**20:.1f} MB)", markup=False)


@app.command()
def show(event_id: Annotated[str, typer.Argument(help="An id, as `list` shows it.")], url: Url = None) -> None:
    """Print one body, byte for byte as it came. It may hold personal data.

    Example: `churn-radar quarantine show qua_1f0c > body.json`
    """
    from urllib.parse import quote

    from churn_radar.quarantining import raw_body

    async def work(api: Any) -> dict[str, Any]:
        told: dict[str, Any] = await api.get(f"/signals/{quote(event_id, safe='')}")
        return told

    told = _run(cli_tools.tool_settings(), url, work)
    body = raw_body(told)
    if body is None:
        cli_tools.fail(1, f"{event_id!r} is not in quarantine: {told['status']} ({told['reason'] or 'no reason'})")
    # Past whatever would wrap it, expand its tabs, take control characters out or end its last line.
    sys.stdout.buffer.write(body + (b"\n" if sys.stdout.isatty() else b""))
    sys.stdout.buffer.flush()


@app.command()
def drop(
    ids: Ids = None,
    reason: Reason = None,
    since: Since = None,
    until: Until = None,
    everything: Everything = False,
    dry_run: DryRun = False,
    url: Url = None,
) -> None:
    """Delete bodies for good. Their events stay known, so a retry by Customer.io is a duplicate.

    Example: `churn-radar quarantine drop --reason "not valid JSON" --since 7d --dry-run`
    """
    _take_out("drop", ids, reason, since, until, everything, dry_run, url)


@app.command()
def export(
    ids: Ids = None,
    reason: Reason = None,
    since: Since = None,
    until: Until = None,
    everything: Everything = False,
    dry_run: DryRun = False,
    url: Url = None,
) -> None:
    """Move bodies to a file of JSON lines beside the record. `import` brings them back.

    Example: `churn-radar quarantine export --all`
    """
    _take_out("export", ids, reason, since, until, everything, dry_run, url)


@app.command("import")
def import_(file: Annotated[Path, typer.Argument(help="An exported file.")], url: Url = None) -> None:
    """Bring exported bodies back into quarantine; importing twice does what importing once does.

    The file has to lie in the quarantine's folder. Then `churn-radar replay --quarantined` reads them again.

    Example: `churn-radar quarantine import churn_radar-quarantine-20261124.jsonl`
    """
    from churn_radar.quarantining import bring_back, exported_name

    settings = cli_tools.tool_settings()
    name = exported_name(file, cli_tools.quarantine_folder(settings))
    done = _run(settings, url, lambda api: bring_back(api, name))
    cli_tools.out.print(
        f"{counted(done['brought_back'], 'body', 'bodies')} brought back, {done['already_here']:,} here already, "
        f"{done['kept_out']:,} about somebody who was forgotten, "
        f"{counted(done['unreadable'], 'line')} without an exported body"
    )


def _take_out(
    how: str,
    ids: list[str] | None,
    reason: str | None,
    since: str | None,
    until: str | None,
    everything: bool,
    dry_run: bool,
    url: str | None,
) -> None:
    from churn_radar.quarantining import take_out

    now = datetime.now(UTC)
    conditions: dict[str, Any] = {
        "reason": reason,
        "since": cli_tools.moment("--since", since, now),
        "until": cli_tools.moment("--until", until, now),
        "all": everything or None,
    }
    if not ids and not any(conditions.values()):
        raise typer.BadParameter("name ids, or use --reason, --since, --until or --all")

    def work(api: Any) -> Coroutine[Any, Any, Any]:
        return take_out(api, how, ids or [], conditions=conditions, dry_run=dry_run)

    done = _run(cli_tools.tool_settings(), url, work)
    told = {"drop": "dropped", "export": "exported"}[how]
    files = f" to {', '.join(done.files)}" if done.files else ""
    bodies = counted(done.count, "body", "bodies")
    cli_tools.out.print(f"{bodies} {'would be ' if dry_run else ''}{told}{files}", markup=False)
    if done.problems:
        cli_tools.fail(1, *done.problems)
