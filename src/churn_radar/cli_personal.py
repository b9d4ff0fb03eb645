"""`churn-radar forget` and `churn-radar export`: what a person may ask of whoever holds data on them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from churn_radar import cli_tools
from churn_radar.counts import counted

Customer = Annotated[str, typer.Argument(help="The workspace's id, the cio_id or the mail address.")]
Url = Annotated[str | None, typer.Option(help="Where the service runs; else the port of the settings.")]

_LINES = (
    ("signals", "signals, with their history"),
    ("briefs", "briefs"),
    ("deliveries", "deliveries"),
    ("notes", "lines about outcomes, owners and snoozes"),
    ("hints", "hints"),
    ("quarantined_bodies", "quarantined bodies that name this person"),
)


def forget(
    customer: Customer,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this, only tell what would be erased.")] = False,
    let_in: Annotated[
        bool, typer.Option("--let-in", help="Take the tombstone away again, for somebody who is a customer once more.")
    ] = False,
    url: Url = None,
) -> None:
    """Erase a person from the record, and keep late events about them out.

    Without --yes nothing is changed. Works beside a running service (through its API) and without one. Files of the
    jsonl sink, and whatever other sinks were given, are yours to clear.

    Examples: `churn-radar forget jane@acme.co`, `churn-radar forget cust_1001 --yes`
    """
    path = f"/customers/{quote(customer, safe='')}"

    async def work(api: Any) -> dict[str, Any]:
        if let_in:
            lifted: dict[str, Any] = await api.post(f"{path}/let-in", {})
            return lifted
        told: dict[str, Any] = await api.delete(path, dry_run="false" if yes else "true")
        return told

    told = _run(url, work)
    if let_in:
        cli_tools.out.print("let in again: events about this person are kept from now on")
        return
    if not told["known"]:
        cli_tools.out.print("nothing is held on this person")
    for name, words in _LINES:
        if told[name]:
            cli_tools.out.print(f"{words}: {told[name]}", markup=False)
    if told["under_way"] or told["to_deliver"]:
        cli_tools.out.print(
            f"still under way: {counted(told['under_way'], 'signal')}, "
            f"{counted(told['to_deliver'], 'delivery', 'deliveries')}; "
            "a call that is being made is finished"
        )
    if told["exported_files"]:
        cli_tools.out.print(
            f"exported from the quarantine earlier, for you to look through: {', '.join(told['exported_files'])}",
            markup=False,
        )
    for line in told["stays"]:
        cli_tools.out.print(f"stays: {line}", markup=False)
    if not yes:
        cli_tools.out.print("nothing was changed; repeat with --yes to erase all this for good")
    elif told["scrubbed"]:
        cli_tools.out.print("forgotten; events about this person are kept out from now on")
    else:
        cli_tools.fail(1, "forgotten, but a backup was reading the record's files; run it once more when that is done")


def export(
    customer: Customer,
    output: Annotated[Path | None, typer.Option(help="File to write; else standard output.")] = None,
    url: Url = None,
) -> None:
    """Write down all that the record holds on a person, as JSON: to hand over to whoever asks for their data.

    Example: `churn-radar export jane@acme.co --output jane.json`
    """

    async def work(api: Any) -> dict[str, Any]:
        told: dict[str, Any] = await api.get(f"/customers/{quote(customer, safe='')}")
        return told

    text = json.dumps(_run(url, work), indent=2, ensure_ascii=False) + "\n"
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        cli_tools.fail(1, f"{str(output)!r} cannot be written: {error.strerror}")
    cli_tools.out.print(f"written to {output}", markup=False)


def _run(url: str | None, work: Any) -> Any:
    from churn_radar.reaching import reach

    settings = cli_tools.tool_settings()

    async def reached() -> Any:
        async with reach(settings, url or f"http://127.0.0.1:{settings.port}") as api:
            return await work(api)

    return cli_tools.run(reached())
