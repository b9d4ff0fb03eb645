from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from churn_radar.research.brief import AttributesSource
from churn_radar.triage.account import Account, Rules, read_account
from churn_radar.triage.persona import name_persona
from churn_radar.work.triaged import Triaged

SEEN = datetime(2026, 11, 24, 7, 30, 15, 123456, tzinfo=UTC)


def through_the_record(triaged: Triaged) -> Triaged:
    return Triaged.model_validate(orjson.loads(orjson.dumps(triaged.as_record())))


def test_what_triage_found_comes_back_from_the_record_as_it_was() -> None:
    triaged = Triaged(
        account=Account(
            plan="pro",
            mrr=Decimal("850.50"),
            industry="fintech",
            usage="high",
            tenure_days=342,
            last_active_at="2026-11-18T08:00:00Z",
            notes=("tenure is not a number of days", "mrr is negative"),
        ),
        persona="High-MRR Fintech (Pro plan)",
        attributes_source=AttributesSource.CACHED,
        attributes_seen_at=SEEN,
    )

    assert through_the_record(triaged) == triaged


def test_money_is_no_float_on_its_way_through_the_record() -> None:
    account = Account(plan="pro", mrr=Decimal("0.10"))

    back = through_the_record(Triaged(account=account)).account

    assert back is not None
    assert back.mrr == Decimal("0.10")
    assert isinstance(back.mrr, Decimal)
    assert Triaged(account=account).as_record()["account"]["mrr"] == "0.10"


def test_nothing_found_is_nothing_after_the_record_too() -> None:
    back = through_the_record(Triaged())

    assert back == Triaged(account=None, persona=None, attributes_source=AttributesSource.NONE, attributes_seen_at=None)


def test_the_time_keeps_its_zone_and_its_microseconds() -> None:
    back = through_the_record(Triaged(attributes_seen_at=SEEN))

    assert back.attributes_seen_at == SEEN
    assert back.attributes_seen_at is not None
    assert back.attributes_seen_at.tzinfo is not None


def test_a_record_that_is_none_of_ours_is_refused_not_guessed() -> None:
    with pytest.raises(ValidationError):
        Triaged.model_validate({"account": {"plan": "pro", "mrr": "a lot"}})


@given(st.dictionaries(st.sampled_from(["plan_type", "mrr", "industry", "usage_tier", "tenure_days"]), st.text()))
def test_whatever_the_attributes_were_the_account_survives_the_record(attributes: dict[str, object]) -> None:
    account = read_account(attributes, Rules())
    triaged = Triaged(account=account, persona=name_persona(account, Rules()), attributes_source=AttributesSource.LIVE)

    assert through_the_record(triaged) == triaged
