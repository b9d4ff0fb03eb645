from __future__ import annotations

import pytest
from markupsafe import Markup

from churn_radar.web.words import breakable, told_moment


def test_a_time_that_was_told_in_iso_8601_is_shown_in_the_readers_zone() -> None:
    shown = told_moment("2026-11-20T05:00:00+02:00")

    assert isinstance(shown, Markup)
    assert shown == '<time datetime="2026-11-20T03:00:00Z">20 Nov 2026, 03:00 UTC</time>'


@pytest.mark.parametrize("told", ["2026-11-20", "last week", "<b>now</b>", "0001-01-01T00:00:00+14:00"])
def test_any_other_words_stay_as_they_are_and_are_no_markup(told: str) -> None:
    shown = told_moment(told)

    assert shown == told
    assert not isinstance(shown, Markup)


@pytest.mark.parametrize("told", [None, ""])
def test_where_nothing_was_told_there_is_a_dash(told: str | None) -> None:
    assert told_moment(told) == "–"


def test_an_address_is_broken_behind_its_sign_and_harmless() -> None:
    assert breakable("jane@acme.co") == "jane@<wbr>acme.co"
    assert breakable("<b>@x") == "&lt;b&gt;@<wbr>x"
