from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given

from churn_radar.triage.account import Account, Rules, read_account
from churn_radar.triage.persona import name_persona, title_case
from tests.unit.test_account import ATTRIBUTES

RULES = Rules()


@pytest.mark.parametrize(
    ("attributes", "persona"),
    [
        ({"mrr": "850", "plan_type": "pro", "industry": "fintech"}, "High-MRR Fintech (Pro plan)"),
        ({"mrr": "500.01", "plan_type": "pro", "industry": "fintech"}, "High-MRR Fintech (Pro plan)"),
        (
            {"mrr": "$1,200", "plan_type": "ENTERPRISE", "industry": "e-commerce"},
            "High-MRR E-Commerce (Enterprise plan)",
        ),
        ({"mrr": "900"}, "High-MRR General (Free plan)"),
        ({"mrr": "500", "plan_type": "enterprise", "industry": "saas"}, "Enterprise Saas (low usage)"),
        ({"plan_type": "Business", "usage_tier": "HIGH"}, "Enterprise General (high usage)"),
        ({"mrr": "N/A", "plan_type": "business", "industry": "real estate"}, "Enterprise Real Estate (low usage)"),
        ({"mrr": "500", "plan_type": "pro", "industry": "fintech"}, "Pro Fintech User"),
        ({"mrr": "99", "plan_type": "pro"}, "Pro General User"),
        ({}, "Free General User"),
    ],
)
def test_the_first_rule_that_fits_names_the_persona(attributes: dict[str, object], persona: str) -> None:
    assert name_persona(read_account(attributes, RULES), RULES) == persona


def test_exactly_the_threshold_is_not_above_it() -> None:
    rules = Rules(high_mrr=Decimal(1000))
    assert name_persona(Account("pro", Decimal(1000)), rules) == "Pro General User"
    assert name_persona(Account("pro", Decimal("1000.01")), rules) == "High-MRR General (Pro plan)"


def test_the_default_industry_comes_from_the_rules() -> None:
    assert name_persona(Account("pro", Decimal(0)), Rules(default_industry="b2b software")) == "Pro B2B Software User"


@pytest.mark.parametrize(
    ("text", "titled"),
    [
        ("fintech", "Fintech"),
        ("FINTECH", "Fintech"),
        ("e-commerce", "E-Commerce"),
        ("real estate", "Real Estate"),
        ("women's health", "Women's Health"),
        ("women’s health", "Women’s Health"),
        ("b2b & law/tax", "B2B & Law/Tax"),
        ("école", "École"),
        ("", ""),
    ],
)
def test_words_are_title_cased(text: str, titled: str) -> None:
    assert title_case(text) == titled


@given(ATTRIBUTES)
def test_any_attributes_name_a_persona_on_one_line(attributes: dict[str, object]) -> None:
    persona = name_persona(read_account(attributes, RULES), RULES)
    assert persona.startswith(("High-MRR ", "Enterprise ")) or persona.endswith(" User")
    assert persona.splitlines() == [persona]
