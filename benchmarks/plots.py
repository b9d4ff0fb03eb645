"""Plots as SVG, by hand: two kinds, readable on a light and on a dark page, the same bytes for the same figures.

A library would be a dependency for two pictures; those that were looked at write scripts of another host, or ids
that change with each run, into the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from benchmarks.figures import Course, Figure

WIDTH = 760
LEFT = 310
RIGHT = 84
ROW = 30
TOP = 62
HEIGHT = 340

_STYLE = """
    .ground { fill: #ffffff; } .title { fill: #16202c; font-size: 16px; font-weight: 600; }
    .says { fill: #3c4856; font-size: 12px; } .grid { stroke: #dde3ea; } .spread { stroke: #16202c; stroke-width: 1.5; }
    .bar { fill: #2f6fab; } .goal { stroke: #b3541e; stroke-width: 2; stroke-dasharray: 4 3; }
    .line { fill: none; stroke-width: 2; }
    .c0 { stroke: #2f6fab; } .c1 { stroke: #3a8047; } .c2 { stroke: #b3541e; } .c3 { stroke: #7a4ea3; }
    @media (prefers-color-scheme: dark) {
      .ground { fill: #0f151c; } .title { fill: #eef3f8; } .says { fill: #b9c5d2; } .grid { stroke: #2a3440; }
      .spread { stroke: #eef3f8; } .bar { fill: #4c8dc9; } .goal { stroke: #e8925c; }
      .c0 { stroke: #6aa9e0; } .c1 { stroke: #6fbf7e; } .c2 { stroke: #e8925c; } .c3 { stroke: #b794dc; }
    }"""


def bars(title: str, figures: Sequence[Figure]) -> str:
    """Medians as bars from zero, least to most as a thin line across the end, a goal as a dashed mark."""
    most = max(max([*figure.samples, figure.goal or 0]) for figure in figures)
    ticks = ticks_up_to(most)
    right = WIDTH - RIGHT
    height = TOP + ROW * len(figures) + 34

    def x(value: float) -> float:
        return LEFT + (right - LEFT) * value / ticks[-1]

    def parts() -> Iterator[str]:
        foot = TOP + ROW * len(figures)
        unit = f" {figures[0].unit}" if figures[0].unit else ""
        for tick in ticks:
            yield f'<line class="grid" x1="{x(tick):.1f}" y1="{TOP - 10}" x2="{x(tick):.1f}" y2="{foot}"/>'
            yield _text(x(tick), foot + 18, f"{tick:,g}{unit}", "middle")
        for place, figure in enumerate(figures):
            y = TOP + ROW * place
            middle = y + ROW / 2 - 5
            end = x(max(figure.samples))
            yield _text(LEFT - 10, middle + 4, figure.name, "end")
            yield f'<rect class="bar" x="{LEFT}" y="{y}" width="{x(figure.median) - LEFT:.1f}" height="{ROW - 10}"/>'
            yield f'<path class="spread" d="M{x(min(figure.samples)):.1f} {middle}H{end:.1f}"/>'
            if figure.goal is not None:
                goal = x(figure.goal)
                yield f'<line class="goal" x1="{goal:.1f}" y1="{y - 4}" x2="{goal:.1f}" y2="{y + ROW - 6}"/>'
            yield _text(max(end, x(figure.goal or 0)) + 6, middle + 4, f"{figure.median:,.3g}", "start")

    notes = "bar: median; thin line: least to most"
    if any(figure.goal is not None for figure in figures):
        notes += "; dashed: wanted"
    return _page(title, notes, height, parts())


def lines(title: str, course: Course) -> str:
    """Named lines over time."""
    points = [point for line in course.lines.values() for point in line]
    across, up = ticks_up_to(max(x for x, _ in points)), ticks_up_to(max(y for _, y in points))
    left, right, foot = 76, WIDTH - 130, HEIGHT - 52

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return left + (right - left) * point[0] / across[-1], foot - (foot - TOP) * point[1] / up[-1]

    def parts() -> Iterator[str]:
        for tick in up:
            _, y = at((0, tick))
            yield f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
            yield _text(left - 8, y + 4, f"{tick:,g}", "end")
        for tick in across:
            yield _text(at((tick, 0))[0], foot + 18, f"{tick:,g}", "middle")
        yield _text((left + right) / 2, foot + 38, course.x, "middle")
        lowest = math.inf
        # The names stand at the lines' ends, from the top down, never on top of each other.
        for place, (name, line) in sorted(enumerate(course.lines.items()), key=lambda each: at(each[1][1][-1])[1]):
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in map(at, line))
            yield f'<path class="line c{place % 4}" d="M{path}"/>'
            x, y = at(line[-1])
            y = y if lowest == math.inf else max(y, lowest + 16)
            lowest = y
            yield f'<path class="line c{place % 4}" d="M{x + 4:.1f} {y:.1f}h12"/>'
            yield _text(x + 20, y + 4, name, "start")

    return _page(title, course.y, HEIGHT, parts())


def ticks_up_to(most: float) -> list[float]:
    """Round numbers from zero to the first that is no less than `most`: four to nine steps."""
    if not most > 0:
        return [0.0, 1.0]
    rough = most / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    return [round(number * step, 10) for number in range(math.ceil(round(most / step, 6)) + 1)]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="says" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _page(title: str, notes: str, height: int, parts: Iterator[str]) -> str:
    inside = "\n  ".join(parts)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" \
aria-labelledby="title" font-family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif">
  <title id="title">{escape(title)}</title>
  <style>{_STYLE}
  </style>
  <rect class="ground" width="{WIDTH}" height="{height}" rx="12"/>
  <text class="title" x="20" y="28">{escape(title)}</text>
  {_text(20, 46, notes, "start")}
  {inside}
</svg>
"""
