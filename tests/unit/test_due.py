from __future__ import annotations

from datetime import timedelta

from churn_radar.store.due import Due
from churn_radar.work.due import PROBES, to_let_go
from churn_radar.work.troubles import Trouble
from tests.support.work import NOON

TROUBLE = Trouble("mavera", "credits are spent", NOON, NOON + timedelta(minutes=1))
BEFORE, AT_THE_PROBE = NOON + timedelta(seconds=59), NOON + timedelta(seconds=60)


def held(seq: int, priority: int = 0) -> Due:
    return Due(seq, priority, TROUBLE.reason)


def test_before_the_probe_what_waits_for_the_troubles_end_stays() -> None:
    assert to_let_go([held(1), held(2, 900)], TROUBLE, BEFORE) == []


def test_when_the_probe_is_due_a_few_of_them_go_the_dearest() -> None:
    crowd = [held(seq, seq * 37 % 100) for seq in range(100)]
    assert [each.priority for each in to_let_go(crowd, TROUBLE, AT_THE_PROBE)] == [99, 98, 97][:PROBES]


def test_who_waits_for_something_else_goes_on_and_finds_out() -> None:
    others = [
        Due(1, 0, None),
        Due(2, 0, "mavera (503): busy"),
        Due(3, 0, "waits for the operator: the key was refused"),
    ]
    for now in (BEFORE, AT_THE_PROBE):
        assert to_let_go(others, TROUBLE, now) == others


def test_nothing_due_is_nothing_to_let_go() -> None:
    assert to_let_go([], TROUBLE, AT_THE_PROBE) == []
