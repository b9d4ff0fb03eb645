"""Plots: every figure is where its amount puts it, and none stands outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_radar.web.plots import HEIGHT, WIDTH, Rank, day_plot, nice_lines, ranking
from churn_radar.web.words import amount, short_amount


@given(st.floats(min_value=0.01, max_value=1e12))
def test_lines_are_few_and_reach_above_the_most(most: float) -> None:
    lines = nice_lines(most)
    assert 1 <= len(lines) <= 4
    assert lines[-1] >= most * 0.999


def test_without_amounts_there_are_no_lines_and_bars_are_flat() -> None:
    plot = day_plot({}, first=20_000, last=20_029)
    assert plot.lines == []
    assert len(plot.bars) == 30
    assert all(bar.came_height == bar.open_height == 0 for bar in plot.bars)


@given(st.dictionaries(st.integers(20_000, 20_029), st.floats(0, 1e9).map(lambda came: (came, came / 2))))
def test_bars_stay_inside_the_plot_and_the_open_part_inside_its_bar(days: dict[int, tuple[float, float]]) -> None:
    plot = day_plot(days, first=20_000, last=20_029)
    for bar in plot.bars:
        assert 0 <= bar.came_y <= bar.open_y <= plot.base < HEIGHT
        assert bar.open_height <= bar.came_height
        assert 0 < bar.x < bar.x + bar.width < WIDTH


def test_a_ranking_is_cut_and_what_is_left_over_is_added_up() -> None:
    amounts = {"a": (10.0, 1), "b": (40.0, 2), "c": (20.0, 1), "d": (5.0, 3), "gone": (0.0, 0)}
    assert ranking(amounts, most=2) == [Rank("b", 40.0, 2, 100), Rank("c", 20.0, 1, 50), Rank("2 others", 15.0, 4, 38)]
    assert [rank.name for rank in ranking(amounts, most=3)] == ["b", "c", "a", "d"]
    assert ranking({}, most=3) == []


@pytest.mark.parametrize(
    ("value", "shown", "short"),
    [(0, "$0", "$0"), (49.5, "$49.50", "$49.5"), (11_800, "$11,800", "$11.8k"), (3e6, "$3,000,000", "$3M")],
)
def test_amounts_are_shown_as_people_write_them(value: float, shown: str, short: str) -> None:
    assert (amount(value, "USD"), short_amount(value, "USD")) == (shown, short)
    assert amount(5, "CHF") == "CHF 5"
