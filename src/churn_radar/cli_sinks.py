"""`churn-radar sinks ...`: list, test, replay, resume."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from churn_radar import cli_tools
from churn_radar.counts import counted
from churn_radar.settings import Settings

app = typer.Typer(
    name="sinks",
    invoke_without_command=True,
    help="Look after the places where briefs go: how each stands, a sample, what was given up.\n\n"
    "Without a command it lists them, with the last delivery of each. Works beside a running service and without.\n\n"
    "Examples: `churn-radar sinks`, `churn-radar sinks test sales`",
)

Url = Annotated[str | None, typer.Option(help="Where the service runs; else the port of the settings.")]
Name = Annotated[str, typer.Argument(help="The sink's name, or its kind where that is the only one.")]


def _where(settings: Settings, url: str | None) -> str:
    return url or f"http://127.0.0.1:{settings.port}"


@app.callback()
def list_(context: typer.Context, url: Url = None) -> None:
    """List the sinks."""
    if context.invoked_subcommand is not None:
        return
    from rich.table import Table

    from churn_radar.sinks.protocol import create_outlets
    from churn_radar.trying import sinks_in_words

    settings = cli_tools.tool_settings()
    lines = cli_tools.run(sinks_in_words(settings, create_outlets(settings), _where(settings, url)))
    table = Table("sink", "last delivery (UTC)", "waiting", "dead", "how it stands")
    for line in lines:
        table.add_row(line.name, line.last, line.waiting, line.dead, line.state)
    cli_tools.out.print(table)
    if any(line.dead != "0" for line in lines):
        cli_tools.out.print("Dead deliveries start again with `churn-radar sinks replay NAME`.", markup=False)


@app.command()
def test(name: Name) -> None:
    """Send a sample brief, about nobody, to one sink. Needs no running service, and touches no record.

    Example: `churn-radar sinks test sales`
    """
    from churn_radar.sinks.protocol import create_outlets, shown
    from churn_radar.trying import choose, try_sink

    settings = cli_tools.tool_settings()
    sink = choose(create_outlets(settings).sinks, name)
    came_of_it = cli_tools.run(try_sink(settings, sink, datetime.now(UTC)))
    cli_tools.out.print(f"{shown(sink.name)} {came_of_it}", markup=False)


@app.command()
def replay(
    name: Annotated[str | None, typer.Argument(help="The sink's name; else --all.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Those of every sink.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; only say how many.")] = False,
    url: Url = None,
) -> None:
    """Start the dead deliveries of a sink again. Replaying twice does what replaying once does.

    Examples: `churn-radar sinks replay sales --dry-run`, `churn-radar sinks replay --all`
    """
    from churn_radar.reaching import reach

    if (name is None) != everything:
        raise typer.BadParameter("name a sink, or use --all")
    settings = cli_tools.tool_settings()
    wanted: dict[str, Any] = {"all": True} if name is None else {"sink": name}

    async def work() -> int:
        count = 0
        cursor: str | None = None
        async with reach(settings, _where(settings, url)) as api:
            while True:
                answer = await api.post("/deliveries/replay", {**wanted, "cursor": cursor, "dry_run": dry_run})
                count += int(answer["count"])
                if (cursor := answer["cursor"]) is None:
                    return count

    count: int = cli_tools.run(work())
    again = "would start again" if dry_run else "starts again" if count == 1 else "start again"
    cli_tools.out.print(f"{counted(count, 'delivery', 'deliveries')} {again}")


@app.command()
def resume(name: Annotated[str, typer.Argument(help="The sink's name.")], url: Url = None) -> None:
    """Let a sink get briefs again that was stopped because it answered 410 (Gone).

    Example: `churn-radar sinks resume crm`
    """
    from churn_radar.reaching import reach

    settings = cli_tools.tool_settings()

    async def work() -> dict[str, Any]:
        async with reach(settings, _where(settings, url)) as api:
            return await api.post("/sinks/resume", {"name": name})

    done = cli_tools.run(work())
    cli_tools.out.print(f"{name}: {'gets briefs again' if done['was_stopped'] else 'was not stopped'}", markup=False)
    if done["dead"]:
        cli_tools.out.print(
            f"given up meanwhile: {done['dead']}; start again with: churn-radar sinks replay {name}", markup=False
        )
