"""How many of what, in words."""

from __future__ import annotations

import pytest

from churn_radar.counts import counted


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 bodies"), (1, "1 body"), (2, "2 bodies"), (1200, "1,200 bodies"), (-1, "-1 bodies")]
)
def test_one_is_one_and_everything_else_is_many(count: int, words: str) -> None:
    assert counted(count, "body", "bodies") == words


def test_most_words_only_need_an_s() -> None:
    assert [counted(count, "signal") for count in (1, 2)] == ["1 signal", "2 signals"]
