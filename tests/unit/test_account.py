from __future__ import annotations

import time
import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_radar.triage.account import AttributeNames, Rules, read_account
from churn_radar.triage.text import clean_text, hide_mail, terminal_safe

RULES = Rules()
ZERO = Decimal(0)
HUGE = pytest.param(10**5000, id="huge")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["plan_type", "mrr", "industry", "usage_tier", "tenure_days", "last_active_at", "other"])
ATTRIBUTES = st.dictionaries(NAMES, JSON)


def test_attributes_as_the_app_api_sends_them_are_read() -> None:
    account = read_account(
        {
            "plan_type": "Pro",
            "mrr": "850",
            "industry": "Fintech",
            "usage_tier": "High",
            "tenure_days": "342",
            "last_active_at": "1767323045",
        },
        RULES,
    )
    assert (account.plan, account.mrr, account.industry, account.usage) == ("pro", Decimal(850), "Fintech", "high")
    assert (account.tenure_days, account.last_active_at) == (342, "2026-01-02T03:04:05Z")
    assert account.notes == ()
    assert account.mrr_is_known


def test_absent_attributes_get_their_defaults() -> None:
    account = read_account({}, RULES)
    assert (account.plan, account.mrr, account.industry, account.usage) == ("free", ZERO, None, "low")
    assert (account.tenure_days, account.last_active_at) == (None, None)
    assert account.industry_or("general") == "general"
    assert not account.mrr_is_known


@pytest.mark.parametrize("blank", ["", "  ", "\n", "\u200b", "\u3164", None])
def test_a_blank_attribute_is_an_absent_one(blank: object) -> None:
    account = read_account(
        {"plan_type": blank, "industry": blank, "usage_tier": blank, "tenure_days": blank, "last_active_at": None},
        RULES,
    )
    assert (account.plan, account.industry, account.usage, account.tenure_days) == ("free", None, "low", None)


def test_defaults_and_names_come_from_the_rules() -> None:
    names = AttributeNames(plan="tier", mrr="revenue", industry="sector", usage="use", tenure="age", last_active="seen")
    rules = Rules(attributes=names, default_plan="Trial", default_usage="None")
    account = read_account({"revenue": 7, "sector": "law", "age": "3", "seen": "yesterday", "plan_type": "pro"}, rules)
    assert (account.plan, account.mrr, account.industry, account.usage) == ("trial", Decimal(7), "law", "none")
    assert (account.tenure_days, account.last_active_at) == (3, "yesterday")


@pytest.mark.parametrize(
    ("value", "days"), [("342", 342), ("342.0", 342), (342, 342), (342.9, 342), (" 7 ", 7), ("0", 0), (-0.0, 0)]
)
def test_tenure_is_whole_days(value: object, days: int) -> None:
    assert read_account({"tenure_days": value}, RULES).tenure_days == days


@pytest.mark.parametrize(
    "value", ["a year", "N/A", "NaN", "inf", "-1", "1_0", "１２", 1767312245, float("nan"), True, [342], {}, HUGE]
)
def test_a_junk_tenure_is_absent_and_noted(value: object) -> None:
    account = read_account({"tenure_days": value}, RULES)
    assert account.tenure_days is None
    assert "tenure is not a number of days" in account.notes


@pytest.mark.parametrize("value", ["1767323045", 1767323045, 1767323045.9, "1767323045000", 1767323045999])
def test_a_unix_time_is_written_as_iso_8601(value: object) -> None:
    assert read_account({"last_active_at": value}, RULES).last_active_at == "2026-01-02T03:04:05Z"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("2026-01-02", "2026-01-02"),
        ("2026-01-02T03:04:05+01:00", "2026-01-02T03:04:05+01:00"),
        ("last\nweek", "last week"),
        ("20260102", "20260102"),
        ("1e300", "1e300"),
        (99999999, "99999999"),
    ],
)
def test_what_is_no_unix_time_stays_text(value: object, text: str) -> None:
    assert read_account({"last_active_at": value}, RULES).last_active_at == text


@pytest.mark.parametrize("value", [0, "0", -5, "-1", "NaN", "Infinity", [], {}, True, float("nan")])
def test_a_time_that_means_never_is_absent_and_noted(value: object) -> None:
    account = read_account({"last_active_at": value}, RULES)
    assert account.last_active_at is None
    assert "last active is not a time" in account.notes


def test_junk_is_noted_without_its_value() -> None:
    account = read_account(
        {"plan_type": ["secret"], "industry": {"secret": 1}, "usage_tier": True, "mrr": "secret"}, RULES
    )
    assert account.notes == ("plan is not text", "industry is not text", "usage is not text", "mrr is not a number")
    assert (account.plan, account.industry, account.usage, account.mrr) == ("free", None, "low", ZERO)
    assert not account.mrr_is_known


def test_a_negative_mrr_is_known_to_be_nothing() -> None:
    assert read_account({"mrr": "-5"}, RULES).mrr_is_known


@given(ATTRIBUTES)
def test_any_map_is_read(attributes: dict[str, object]) -> None:
    account = read_account(attributes, RULES)
    assert account.plan == account.plan.lower()
    assert account.plan
    assert account.usage
    assert account.mrr >= 0
    assert account.tenure_days is None or account.tenure_days >= 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("  real\t\r\n estate ", "real estate"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07bar", "bar"),
        ("\x9b2Jclear", "clear"),
        ("a\u202eb\u2066c\u200fd", "abcd"),
        ("ze\u200bro\u00adwi\ufeffdth", "zerowidth"),
        ("tag\U000e0041\U000e007f", "tag"),
        ("line\u2028para\u2029next\x85end", "line para next end"),
        ("lone\ud800", "lone"),
        ("nul\0bell\x07", "nulbell"),
        ("e\u0301cole", "école"),
        (850, "850"),
        (8.5, "8.5"),
        (Decimal("8.50"), "8.50"),
    ],
)
def test_text_is_cleaned_to_one_visible_line(value: object, text: str) -> None:
    assert clean_text(value) == text


@pytest.mark.parametrize(
    "value",
    [None, "", " \n", "\u200b\u2060", "\x1b[0m", "\ud800", True, [], {}, b"x", float("nan"), float("inf"), HUGE],
)
def test_what_holds_no_text_is_none(value: object) -> None:
    assert clean_text(value) is None


def test_a_heap_of_accents_takes_no_time() -> None:
    started = time.process_time()
    assert clean_text("a" + "\u0301\u0316" * 20_000)
    assert time.process_time() - started < 0.1


def test_text_is_cut_to_its_limit() -> None:
    assert clean_text("x" * 1_000_000) == "x" * 120
    assert clean_text("ab cd", limit=3) == "ab"
    assert clean_text("\n" * 1000 + "x") == "x"


@given(st.text() | st.from_regex(r"[\x1b\x9b\[\]0-9;mJ\x07a\u202e\r\n ]{0,40}", fullmatch=True), st.integers(1, 50))
def test_cleaned_text_holds_no_control_and_no_break(value: str, limit: int) -> None:
    text = clean_text(value, limit)
    if text is not None:
        assert 0 < len(text) <= limit
        assert text == text.strip()
        assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text)


@given(st.text() | st.from_regex(r"[\x1b\x9b\[\]0-9;mJ\x07a\u202e\r\n\t ]{0,40}", fullmatch=True))
def test_terminal_safe_text_keeps_lines_and_tabs_but_no_controls(value: str) -> None:
    text = terminal_safe(value)
    assert not any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in text)


def test_plain_text_is_already_terminal_safe() -> None:
    text = "## Why\n\n\tThey [leave] – 30 % of «users», 日本語 👩\u200d💻\n"
    assert terminal_safe(text) == text


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("fintech jane@acme.co", "fintech [removed]"),
        ("<jane.doe+x@acme.co>", "<[removed]>"),
        ("jane%40acme.co", "[removed]"),
        ("jane @ acme.co, law", "[removed], law"),
        ("jane＠acme.co", "[removed]"),
        ("at scale", "at scale"),
        ("@", "@"),
    ],
)
def test_mail_addresses_are_hidden(text: str, hidden: str) -> None:
    assert hide_mail(text) == hidden
