"""What passes where: `python -m tests.acceptance.table RUN.xml` writes docs/tested.md from a run's results.

`RUN.xml` is what pytest writes with `--junitxml`. Exits 1 when a test did not pass.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.support.place import Kind

TESTED = Path(__file__).resolve().parents[2] / "docs" / "tested.md"
TITLES = {
    Kind.SQLITE: "SQLite",
    Kind.POSTGRES: "Postgres",
    Kind.REDIS: "Postgres, Redis buffer",
    Kind.SQS: "Postgres, SQS buffer",
}
HEAD = """# What is tested where

The tests of the whole service start it as its users do, in processes of its own on real sockets, and kill it. The same
tests run with the record in a SQLite file, on Postgres, and on Postgres with either buffer before it; where the service
keeps what it takes in is said in one place, `tests/acceptance/conftest.py`. SQS is played by moto's server.

`make acceptance` runs them all and makes this page; `make test` leaves much of the last two columns out. A number
is how many cases of a test passed.

"""


@dataclass(frozen=True)
class Case:
    """One case of a test in one place: `outcome` is passed, failed or skipped; `why` says why it runs in no other."""

    file: str
    test: str
    kind: Kind
    outcome: str
    why: str = ""


def read(text: str) -> list[Case]:
    """The cases of a run's results that ran in a place of their own."""
    found = []
    for case in ElementTree.fromstring(text).iter("testcase"):  # noqa: S314  it is pytest's own
        name, _, parameters = case.get("name", "").partition("[")
        kinds = [Kind(part) for part in parameters.rstrip("]").split("-") if part in list(Kind)]
        if kinds:
            whys = [each.get("value", "") for each in case.iter("property") if each.get("name") == "only_on"]
            file = case.get("classname", "").rpartition(".")[2]
            found.append(Case(file, name, kinds[0], _outcome(case), "".join(whys)))
    return found


def _outcome(case: ElementTree.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "passed" if case.find("skipped") is None else "skipped"


def markdown(cases: Iterable[Case]) -> str:
    """The page."""
    rows: dict[tuple[str, str], dict[Kind, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    whys: dict[str, int] = {}
    remarks: dict[tuple[str, str], int] = {}
    totals: Counter[Kind] = Counter()
    for case in cases:
        rows[case.file, case.test][case.kind][case.outcome] += 1
        totals[case.kind] += case.outcome == "passed"
        if case.why:
            remarks[case.file, case.test] = whys.setdefault(case.why, len(whys) + 1)
    lines = ["| | " + " | ".join(TITLES[kind] for kind in Kind) + " |", "| --- |" + " ---: |" * len(Kind)]
    lines.append("| **passed** | " + " | ".join(f"**{totals[kind]}**" for kind in Kind) + " |")
    for row, seen in rows.items():
        cells = [_cell(seen[kind], remarks.get(row)) for kind in Kind]
        lines.append(f"| {_sentence(row[1])} | " + " | ".join(cells) + " |")
    notes = [f"{number}. {why[0].upper()}{why[1:]}." for why, number in whys.items()]
    return HEAD + "\n".join(lines) + "\n\n" + "\n".join(notes) + "\n"


def _cell(seen: Counter[str], remark: int | None) -> str:
    if not seen:
        return f"({remark})" if remark else "-"
    return ", ".join(f"{count}" if outcome == "passed" else f"{count} {outcome}" for outcome, count in seen.items())


def _sentence(name: str) -> str:
    return re.sub("^test ", "", name.replace("_", " "))


def main() -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.table", description=__doc__)
    parser.add_argument("results", type=Path)
    cases = read(parser.parse_args().results.read_text(encoding="utf-8"))
    TESTED.write_text(markdown(cases), encoding="utf-8")
    return int(any(case.outcome == "failed" for case in cases))


if __name__ == "__main__":
    sys.exit(main())
