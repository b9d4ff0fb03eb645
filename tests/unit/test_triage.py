from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given

from churn_radar.triage.account import Rules
from churn_radar.triage.decision import Research, Skip, triage
from tests.unit.test_account import ATTRIBUTES

RULES = Rules()


@pytest.mark.parametrize("plan", ["pro", "enterprise", "business", "PRO", " Pro "])
def test_a_customer_on_a_researched_plan_is_worth_a_brief(plan: str) -> None:
    decision = triage({"plan_type": plan, "mrr": "850.50", "industry": "fintech"}, RULES)
    assert isinstance(decision, Research)
    assert decision.persona.startswith("High-MRR Fintech (")
    assert decision.account.mrr == Decimal("850.50")


@pytest.mark.parametrize("attributes", [{}, {"plan_type": ""}, {"plan_type": "free"}, {"plan_type": ["pro"]}])
def test_a_customer_on_another_plan_is_skipped_with_the_reason(attributes: dict[str, object]) -> None:
    decision = triage({**attributes, "mrr": "9000"}, RULES)
    assert isinstance(decision, Skip)
    assert decision.reason == 'plan "free" is not researched (business, enterprise, pro are)'
    assert decision.account is not None
    assert decision.account.mrr == 9000


def test_the_researched_plans_come_from_the_rules() -> None:
    rules = Rules(research_plans=frozenset({"starter"}))
    assert isinstance(triage({"plan_type": "Starter"}, rules), Research)
    assert isinstance(triage({"plan_type": "pro"}, rules), Skip)


def test_a_skip_reason_shows_no_mail_address_and_no_long_text() -> None:
    decision = triage({"plan_type": "jane@acme.co " + "x" * 500}, RULES)
    assert isinstance(decision, Skip)
    assert "acme" not in decision.reason
    assert len(decision.reason) < 120


@given(ATTRIBUTES)
def test_any_attributes_give_a_decision(attributes: dict[str, object]) -> None:
    decision = triage(attributes, RULES)
    if isinstance(decision, Research):
        assert decision.account.plan in RULES.research_plans
    else:
        assert decision.reason
