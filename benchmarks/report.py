"""`results.json`, and what is made from it: `RESULTS.md` and the plots."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks import plots
from benchmarks.figures import Figure, Machine, Result, Results

ORDER = ("ack", "postgres", "peers", "drain", "idle", "blast", "growth", "deliveries", "cost")


def read(folder: Path) -> Results:
    """The results kept in a folder; none when there are none yet."""
    path = folder / "results.json"
    return Results.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else Results()


def write(folder: Path, results: Results) -> None:
    """Write `results.json`, `RESULTS.md` and `plots/*.svg`; plots of no result any more are removed."""
    drawn = folder / "plots"
    drawn.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(results.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (folder / "RESULTS.md").write_text(markdown(results), encoding="utf-8")
    pictures = {name: svg for result in in_order(results) for name, _, svg in pictures_of(result)}
    for stale in drawn.glob("*.svg"):
        if stale.name not in pictures:
            stale.unlink()
    for name, svg in pictures.items():
        (drawn / name).write_text(svg, encoding="utf-8")


def in_order(results: Results) -> Iterator[Result]:
    """The results there are, in the order of the work; then the others."""
    others = [name for name in results.benchmarks if name not in ORDER]
    return (results.benchmarks[name] for name in (*ORDER, *others) if name in results.benchmarks)


def pictures_of(result: Result) -> Iterator[tuple[str, str, str]]:
    """The plots of a result, as (file name, title, SVG)."""
    for name, figures in result.plots.items():
        title = f"{result.title}: {name}"
        yield f"{result.name}-{_slug(name)}.svg", title, plots.bars(title, figures)
    for course in result.courses:
        title = f"{result.title}: {course.title.lower()}"
        yield f"{result.name}-{_slug(course.title)}.svg", title, plots.lines(title, course)


def _slug(text: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def markdown(results: Results) -> str:
    """The report."""
    parts = [
        "# Benchmarks",
        "",
        "Made by `python -m benchmarks` (`make bench`) from `results.json`; do not edit. Medians, and the least and "
        "the most that was seen. Ratios are against a reference that ran in turn with what is measured.",
        "",
    ]
    for result in in_order(results):
        parts += _section(result)
    return "\n".join(parts)


def _section(result: Result) -> Iterable[str]:
    yield from (f"## {result.title}", "", result.about, "")
    yield "| figure | median | least to most | wanted |"
    yield "| --- | ---: | ---: | --- |"
    for figure in result.figures:
        yield _row(figure)
    yield ""
    for name, title, _ in pictures_of(result):
        yield from (f"![{title}](plots/{name})", "")
    for note in result.notes:
        yield f"* {note}"
    yield f"* `{result.command}`, {result.date}, {result.seconds:.0f} s in all{_quick(result)}."
    if result.machine:
        yield f"* {_machine(result.machine)}"
    yield ""


def _quick(result: Result) -> str:
    return "; a quick run: read it as orders, not as digits" if result.quick else ""


def _row(figure: Figure) -> str:
    unit = f" {figure.unit}" if figure.unit else ""
    low, high = (show(value) for value in (min(figure.samples), max(figure.samples)))
    return f"| {figure.name} | {show(figure.median)}{unit} | {low} to {high} | {figure.wanted or ''} |"


def _machine(machine: Machine) -> str:
    return (
        f"{machine.cores} cores ({machine.architecture}, {machine.system}), Python {machine.python}, "
        f"SQLite {machine.sqlite}; syncing 4 KiB to its disk takes {machine.sync_milliseconds:g} ms."
    )


def show(value: float) -> str:
    """A number with as many digits as mean something: `0.87`, `12.3`, `4,071`."""
    if value == 0 or (value == round(value) and abs(value) < 1000):
        return f"{value:.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 3)}f}"
