"""`python -m tests.torture --kills 25 --seed 1 [--replicas ...]`: exits 1 when anything is wrong."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.torture.driver import torture
from tests.torture.replicas import ReplicasPlan, torture_replicas

SHOWN = 40


def main() -> int:
    """Run the crash test and tell how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=25, help="how often to kill the service (25)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of letters and moments (the time)")
    parser.add_argument("--letters", type=int, default=60, help="new events for each kill (60)")
    parser.add_argument("--minutes", type=float, default=10, help="give up after so many minutes (10)")
    parser.add_argument("--keep", type=Path, help="an empty folder for record, log and sink file, which are kept")
    parser.add_argument("--replicas", action="store_true", help="three replicas on Postgres in place of one on a file")
    parser.add_argument("--buffer", choices=["redis"], help="with --replicas: a buffer in front of the record")
    parser.add_argument("--trouble", action="store_true", help="with --replicas: stop Postgres and Redis as well")
    told = parser.parse_args()
    if not told.replicas and (told.buffer or told.trouble):
        parser.error("--buffer and --trouble need --replicas")
    began = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {line}", flush=True)

    plan = ReplicasPlan(
        kills=told.kills,
        seed=told.seed,
        letters_per_round=told.letters,
        patience_seconds=told.minutes * 60,
        buffer=told.buffer is not None,
        trouble=told.trouble,
    )
    run = torture_replicas if told.replicas else torture
    tell(f"seed {plan.seed}, {plan.kills} kills, {plan.letters_per_round} events for each")
    with tempfile.TemporaryDirectory(prefix="churn-radar-torture-") as folder:
        kept = told.keep or Path(folder)
        kept.mkdir(parents=True, exist_ok=True)
        complaints = asyncio.run(run(plan, kept, tell=tell))
    for line in complaints[:SHOWN]:
        tell(f"WRONG: {line}")
    if len(complaints) > SHOWN:
        tell(f"... and {len(complaints) - SHOWN} more")
    tell("failed" if complaints else "nothing lost, nothing doubled")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
