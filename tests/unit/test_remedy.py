from __future__ import annotations

from pathlib import Path

import pytest

from churn_radar.settings import Settings
from churn_radar.work.remedy import link, section, sections
from churn_radar.work.steps import HELP_URL
from tests.unit.test_house import ROOT, slugs

PAGE = ROOT / "docs" / "what-to-do.md"


@pytest.mark.parametrize(
    ("service", "status", "anchor"),
    [
        ("mavera", 402, "mavera-402"),
        ("mavera", 422, "mavera-4xx"),
        ("mavera", 503, "mavera-5xx"),
        ("mavera", 599, "mavera-5xx"),
        ("mavera", 408, "mavera-5xx"),
        ("mavera", None, "mavera-no-answer"),
        ("mavera", 200, "mavera-answer-makes-no-sense"),
        ("mavera", 307, "mavera-3xx"),
        ("customerio", 401, "customerio-401"),
        ("customerio", 402, "customerio-4xx"),
        (None, None, "anything-else"),
        (None, 503, "anything-else"),
        ("a-sink", 503, "anything-else"),
    ],
)
def test_what_mends_it_decides_the_section(service: str | None, status: int | None, anchor: str) -> None:
    assert section(service, status) == anchor


def test_every_cause_has_its_section_and_every_section_its_cause() -> None:
    written = {slug for slug in slugs(PAGE) if slug != "what-to-do-about-a-dead-letter"}

    # "Customer.io" loses its dot in an anchor.
    assert written == sections()


def test_the_link_leads_to_the_section_wherever_the_page_lies() -> None:
    assert link("docs/what-to-do.md", "mavera", 402) == "docs/what-to-do.md#mavera-402"
    assert link("https://wiki.example/x", None, None) == "https://wiki.example/x#anything-else"


def test_by_default_the_page_is_that_of_the_repository() -> None:
    assert Settings.model_fields["help_url"].default == HELP_URL
    assert Path(ROOT, HELP_URL) == PAGE
