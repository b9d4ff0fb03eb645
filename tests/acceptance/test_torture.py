"""The crash tests, short: killed at a few bad moments under load; `make torture` does it for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.driver import Plan, torture
from tests.torture.replicas import ReplicasPlan, torture_replicas

pytestmark = pytest.mark.acceptance


async def test_whatever_moment_it_is_killed_at_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path) -> None:
    told: list[str] = []
    plan = Plan(kills=4, seed=20, letters_per_round=30, research_seconds=(0.05, 0.4), patience_seconds=180)
    complaints = await torture(plan, tmp_path, tell=told.append)
    assert complaints == [], "\n".join((*told, *complaints))


async def test_of_three_replicas_each_may_be_killed_under_load_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    told: list[str] = []
    plan = ReplicasPlan(kills=3, seed=4, letters_per_round=20, research_seconds=(0.05, 0.4), patience_seconds=180)
    complaints = await torture_replicas(plan, tmp_path, tell=told.append)
    assert complaints == [], "\n".join((*told, *complaints))
