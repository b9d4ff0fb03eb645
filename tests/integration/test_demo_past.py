"""The weeks before the demo's morning: enough to look at, the same each time, and in the past."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from churn_radar.demo.past import DAYS, fill, stories
from churn_radar.store.at_risk import day_of, risk_since
from churn_radar.store.brief_search import Wanted, search_briefs
from tests.support.door import house
from tests.support.work import NOON


def test_the_stories_are_the_same_each_time_and_lie_before_today() -> None:
    told = list(stories(NOON))
    assert told == list(stories(NOON))
    assert all(day_of(NOON) - DAYS <= day_of(story.at) < day_of(NOON) for story in told)
    assert len({story.email for story in told}) == len(told) >= 40
    assert any(story.outcome for story in told)
    assert any(story.outcome is None for story in told)


async def test_they_are_briefs_like_any_other(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        count = await fill(home.record, NOON, currency="USD")
        async with home.record.read() as connection:
            risk = await risk_since(connection, day_of(NOON - timedelta(days=DAYS)), currency="USD")
            found = await search_briefs(connection, Wanted(at_risk=True), after=None, limit=200)
    assert risk.total.briefs == count
    assert 0 < risk.total.open_briefs == len(found.lines) < count
    assert len(risk.days) > 15
