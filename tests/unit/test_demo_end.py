"""How the demo ends: with somewhere to look."""

from __future__ import annotations

from datetime import UTC, datetime

from churn_radar.demo.stage import look_around
from churn_radar.sinks.sample import sample_brief

NOW = datetime(2026, 11, 24, tzinfo=UTC)
URL = "http://127.0.0.1:8080"


def test_it_names_today_a_brief_the_key_and_how_to_stop() -> None:
    brief = sample_brief(NOW)
    shown = look_around(URL, "demo-key", [brief, brief.model_copy(update={"id": "janes", "email": "jane@acme.co"})])
    for said in (f"{URL}/desk/today", f"{URL}/desk/briefs/janes", "demo-key", f"{URL}/docs", "Ctrl-C"):
        assert said in shown


def test_without_janes_brief_it_links_to_another_or_to_all_of_them() -> None:
    brief = sample_brief(NOW)
    assert f"{URL}/desk/briefs/{brief.id}[/]" in look_around(URL, "k", [brief])
    assert f"{URL}/desk/briefs[/]" in look_around(URL, "k", [])
