"""One attempt at a step: whatever it meets, an outcome comes of it, and how soon it is tried again fits what it was."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from churn_radar.errors import RecordUnavailable
from churn_radar.work.attempt import FAULT_DELAY, RECORD_DELAY, attempt
from churn_radar.work.tasks import Again, Outcome, Step


@pytest.mark.parametrize(
    ("error", "outcome", "line"),
    [
        (RecordUnavailable("it is being upgraded"), Again(RECORD_DELAY), "work.waits_for_the_record"),
        (ZeroDivisionError("a fault of ours"), Again(FAULT_DELAY), "work.step_failed"),
    ],
)
async def test_a_record_that_is_away_is_no_fault_and_asked_again_sooner(
    error: Exception, outcome: Outcome, line: str
) -> None:
    async def step(seqs: Sequence[int]) -> Sequence[Outcome]:
        raise error

    with capture_logs() as logged:
        assert await attempt(Step.TRIAGE, [1, 2], step, None) == [outcome, outcome]
    assert [entry["event"] for entry in logged] == [line]
    assert RECORD_DELAY < FAULT_DELAY
