"""What may still be sent to a person: the strictest of all that is known, and never more than before."""

from __future__ import annotations

from itertools import product

import pytest

from churn_radar.triage.consent import Given, MayMail, consent

COMPLAINED = ("complained", "email")
UNSUBSCRIBED = ("unsubscribed", "customer")
BOUNCED = ("bounced", "email")
PUSH_BOUNCED = ("bounced", "push")


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ([], MayMail.ANYTHING),
        ([COMPLAINED], MayMail.NOTHING),
        ([UNSUBSCRIBED], MayMail.NO_MARKETING),
        ([("unsubscribed", "email")], MayMail.NO_MARKETING),
        ([BOUNCED], MayMail.OTHER_ADDRESS),
        ([("bounced", None)], MayMail.OTHER_ADDRESS),
        ([("bounced", " Email ")], MayMail.OTHER_ADDRESS),
        ([PUSH_BOUNCED], MayMail.ANYTHING),
        ([("paused", "customer")], MayMail.ANYTHING),
        ([(None, None)], MayMail.ANYTHING),
        ([BOUNCED, UNSUBSCRIBED], MayMail.NO_MARKETING),
        ([BOUNCED, UNSUBSCRIBED, COMPLAINED], MayMail.NOTHING),
    ],
)
def test_the_strictest_of_all_signals_decides_whatever_their_order(given: list[Given], left: MayMail) -> None:
    assert consent(given).may_mail is left
    assert consent(reversed(given)) == consent(given)


def test_a_profile_that_says_unsubscribed_counts_as_the_signal_does_and_one_that_says_no_takes_nothing_back() -> None:
    assert consent([BOUNCED], unsubscribed=True).may_mail is MayMail.NO_MARKETING
    assert consent([COMPLAINED], unsubscribed=False).may_mail is MayMail.NOTHING
    assert consent([UNSUBSCRIBED], unsubscribed=False) == consent([UNSUBSCRIBED])


def test_each_restriction_tells_why_the_strictest_first_and_what_to_do_instead() -> None:
    told = consent([PUSH_BOUNCED, BOUNCED, COMPLAINED])

    assert [line.split(":")[0] for line in told.why] == ["complained", "bounced", "bounced"]
    assert "push" in told.why[-1]
    assert "no mail at all" in told.mark
    assert any("in-app" in way for way in told.instead)
    assert any("call" in way for way in told.instead)
    assert consent([]).why == consent([]).instead == []


def test_nobody_is_sent_to_an_address_that_fails() -> None:
    both = consent([UNSUBSCRIBED, BOUNCED])
    assert "comes back" in both.mark
    assert len(both.instead) == len(consent([UNSUBSCRIBED]).instead) - 1


def test_one_more_signal_never_allows_more() -> None:
    signals = [COMPLAINED, UNSUBSCRIBED, BOUNCED, PUSH_BOUNCED]
    order = list(MayMail)
    for chosen, more in product(product(signals, repeat=2), signals):
        assert order.index(consent([*chosen, more]).may_mail) <= order.index(consent(chosen).may_mail)
