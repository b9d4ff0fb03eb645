"""`python -m benchmarks [WHICH]`: measures on this machine, sends to 127.0.0.1 only. `--help` lists which there are."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import ack, blast, cost, deliveries, drain, growth, idle, pages, postgres, report
from benchmarks.figures import Result, Results, this_machine
from benchmarks.peers import measure as peers
from benchmarks.servers import NotHere

HERE = Path(__file__).parent

Measure = Callable[[Path, Any], Coroutine[Any, Any, Result]]
BENCHMARKS: Mapping[str, tuple[Measure, Any, Any]] = {
    "ack": (ack.measure, ack.Sizes(), ack.QUICK),
    "postgres": (postgres.measure, postgres.Sizes(events=2000), postgres.QUICK),
    "peers": (peers.measure, peers.Sizes(), peers.QUICK),
    "drain": (drain.measure, drain.Sizes(), drain.QUICK),
    "idle": (idle.measure, idle.Sizes(), idle.QUICK),
    "blast": (blast.measure, blast.Sizes(), blast.QUICK),
    "growth": (growth.measure, growth.Sizes(), growth.QUICK),
    "deliveries": (deliveries.measure, deliveries.Sizes(), deliveries.QUICK),
    "pages": (pages.measure, pages.Sizes(), pages.QUICK),
    "cost": (cost.measure, cost.Sizes(), cost.QUICK),
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.add_argument("which", nargs="?", choices=[*BENCHMARKS, "all"], default="all")
    made.add_argument("--rounds", type=int, help="rounds of each (5; idle has none)")
    made.add_argument(
        "--quick",
        action="store_true",
        help="about two minutes in all, small; prints the report, and writes it only where --into says",
    )
    made.add_argument("--into", type=Path, help="folder of results.json, RESULTS.md and plots/ (benchmarks)")
    return made


def sizes_of(which: str, *, quick: bool, rounds: int | None) -> Any:
    """The sizes of a run."""
    _, full, small = BENCHMARKS[which]
    sizes = small if quick else full
    return replace(sizes, rounds=rounds) if rounds and hasattr(sizes, "rounds") else sizes


def main(arguments: list[str]) -> int:
    """Run what was asked for; each result is written as soon as it is there."""
    told = parser().parse_args(arguments)
    into = told.into or (None if told.quick else HERE)
    results = report.read(into) if into else Results()
    for which in BENCHMARKS if told.which == "all" else [told.which]:
        print(f"{which} ...", file=sys.stderr, flush=True)
        try:
            result = run(which, sizes_of(which, quick=told.quick, rounds=told.rounds), arguments, quick=told.quick)
        except NotHere as missing:
            print(f"{which}: left out: {missing}", file=sys.stderr)
            continue
        results = results.model_copy(update={"benchmarks": {**results.benchmarks, which: result}})
        if into:
            report.write(into, results)
    print(report.markdown(results))
    return 0


def run(which: str, sizes: Any, arguments: list[str], *, quick: bool) -> Result:
    """Run one benchmark in a folder of its own that is removed afterwards."""
    measure, _, _ = BENCHMARKS[which]
    with tempfile.TemporaryDirectory(prefix="churn-radar-bench-") as name:
        folder = Path(name)
        machine = this_machine(folder)
        began = time.monotonic()
        result = uvloop.run(measure(folder, sizes))
    return result.model_copy(
        update={
            "command": " ".join(("python -m benchmarks", *arguments)),
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "seconds": round(time.monotonic() - began, 1),
            "quick": quick,
            "machine": machine,
        }
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
