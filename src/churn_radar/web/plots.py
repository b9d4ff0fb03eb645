"""Plots drawn by the server, as figures that a template turns into SVG: no script, no style. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

WIDTH, HEIGHT = 640, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 4, 10, 20
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Bar:
    """One day: where its bar stands, how high all of it and the open part of it are, and what it says."""

    x: float
    width: float
    came_y: float
    came_height: float
    open_y: float
    open_height: float
    day: date
    came: float
    open: float
    label: str | None


@dataclass(frozen=True, slots=True)
class Plot:
    """Bars by day above a base line, and lines with their amounts."""

    bars: Sequence[Bar]
    lines: Sequence[tuple[float, float]]
    base: float
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT


def day_plot(days: Mapping[int, tuple[float, float]], *, first: int, last: int) -> Plot:
    """Amounts by day (days since 1970), each as (all, the open part); days without any are empty."""
    most = max((came for came, _ in days.values()), default=0.0)
    lines = nice_lines(most)
    top = lines[-1] if lines else 1.0
    room = HEIGHT - _TOP - _BOTTOM
    step = (WIDTH - _LEFT - _RIGHT) / (last - first + 1)
    every = max(1, round((last - first + 1) / 6))
    base = HEIGHT - _BOTTOM

    def up(amount: float) -> float:
        return round(room * amount / top, 1)

    bars = []
    for number, day in enumerate(range(first, last + 1)):
        came, left = days.get(day, (0.0, 0.0))
        shown = _EPOCH + timedelta(days=day)
        is_named = (last - day) % every == 0
        bars.append(
            Bar(
                x=round(_LEFT + number * step + step * 0.15, 1),
                width=round(step * 0.7, 1),
                came_y=base - up(came),
                came_height=up(came),
                open_y=base - up(left),
                open_height=up(left),
                day=shown,
                came=came,
                open=left,
                label=f"{shown:%d %b}".lstrip("0") if is_named else None,
            )
        )
    return Plot(bars, [(base - up(amount), amount) for amount in lines], base)


def nice_lines(most: float) -> list[float]:
    """Up to four round amounts, of which the last is at least `most`."""
    if most <= 0:
        return []
    step = 1.0
    while step * 4 < most:
        step *= 10
    for finer in (0.1, 0.2, 0.25, 0.5):
        if step * finer * 4 >= most:
            step *= finer
            break
    return [step * number for number in range(1, 5) if step * (number - 1) < most]


@dataclass(frozen=True, slots=True)
class Rank:
    """One line of a ranking: its share of the greatest, in hundredths."""

    name: str
    amount: float
    count: int
    share: int


def ranking(amounts: Mapping[str, tuple[float, int]], *, most: int) -> list[Rank]:
    """The greatest first, and what is left over as one line of its own."""
    ordered = sorted(((name, *told) for name, told in amounts.items() if told[1]), key=lambda each: (-each[1], each[0]))
    shown, rest = ordered[:most], ordered[most:]
    if len(rest) == 1:
        shown, rest = ordered, []
    if rest:
        shown.append((f"{len(rest)} others", sum(each[1] for each in rest), sum(each[2] for each in rest)))
    greatest = max((amount for _, amount, _ in shown), default=0) or 1
    return [Rank(name, amount, count, round(100 * amount / greatest)) for name, amount, count in shown]
