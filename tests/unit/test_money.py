from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_radar.triage.money import ABSENT, CAPPED, NEGATIVE, NOT_A_NUMBER, Mrr, format_money, parse_mrr


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        ("850", "850.00"),
        ("850.00", "850.00"),
        (" 850 ", "850.00"),
        ("850.", "850.00"),
        (".5", "0.50"),
        ("+850", "850.00"),
        ("$850", "850.00"),
        ("$1,200", "1200.00"),
        ("US$ 1,200.50", "1200.50"),
        ("1,200", "1200.00"),
        ("1,234,567.89", "1234567.89"),
        ("€ 950", "950.00"),
        ("950€", "950.00"),
        ("950\u00a0€", "950.00"),
        ("£950", "950.00"),
        ("1200 USD", "1200.00"),
        ("usd 1200", "1200.00"),
        ("GBP1,200.00", "1200.00"),
        ("$850 USD", "850.00"),
        ("1 200", "1200.00"),
        ("1\u202f200,50 €", "1200.50"),
        ("1'200.50", "1200.50"),
        ("CHF 1’200", "1200.00"),
        ("1e+06", "1000000.00"),
        ("8.5e2", "850.00"),
        ("1e-999999999", "0.00"),
        ("0", "0.00"),
        ("-0", "0.00"),
        ("0.005", "0.01"),
        (850, "850.00"),
        (850.5, "850.50"),
        (0.1 + 0.2, "0.30"),
        (Decimal("850.499"), "850.50"),
    ],
)
def test_an_amount_is_read_in_every_usual_spelling(value: object, amount: str) -> None:
    mrr = parse_mrr(value)
    assert (str(mrr.amount), mrr.note) == (amount, None)


@pytest.mark.parametrize(
    ("value", "amount"),
    [("1.200,50", "1200.50"), ("850,50", "850.50"), ("1.200.000", "1200000.00"), ("1,2", "1.20")],
)
def test_a_continental_amount_is_read_where_nothing_else_makes_sense(value: str, amount: str) -> None:
    assert str(parse_mrr(value).amount) == amount


def test_a_single_point_is_a_decimal_point_and_a_single_comma_before_three_digits_is_not() -> None:
    assert parse_mrr("1.200").amount == Decimal("1.20")
    assert parse_mrr("1,200").amount == Decimal("1200.00")


@pytest.mark.parametrize("value", [None, "", "   ", "\t\n"])
def test_an_absent_amount_is_zero_and_noted_as_absent(value: object) -> None:
    assert parse_mrr(value) == Mrr(Decimal(0), ABSENT)


@pytest.mark.parametrize(
    "value",
    [
        "N/A",
        "n/a",
        "null",
        "None",
        "NaN",
        "nan",
        "Infinity",
        "-inf",
        "$",
        "USD",
        ".",
        ",",
        "1.2.3",
        "1,,200",
        "1,20,0",
        "1200,500",
        "1_000",
        "0x10",
        "--5",
        "-$-5",
        "12 months",
        "about 500",
        "500-600",
        "１２",
        "²",
        "1e400",
        "1e999999999",
        "1e99999999999",
        "-1e400",
        "sNaN",
        "usdd 5",
        "850 USD USD",
        float("nan"),
        float("inf"),
        float("-inf"),
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        Decimal("1e999999"),
        10**5000,
        -(10**5000),
        True,
        False,
        [],
        ["850"],
        {},
        {"amount": 850},
        b"850",
        object(),
        1j,
    ],
    ids=lambda value: type(value).__name__,
)
def test_junk_is_zero_with_a_note(value: object) -> None:
    mrr = parse_mrr(value)
    assert (str(mrr.amount), mrr.note) == ("0.00", NOT_A_NUMBER)


@pytest.mark.parametrize("value", ["-50", "-$50", "$-50", "- 50", "−50", -50, -0.01, "-1e9"])
def test_a_negative_amount_is_zero_with_a_note(value: object) -> None:
    mrr = parse_mrr(value)
    assert (str(mrr.amount), mrr.note) == ("0.00", NEGATIVE)


@pytest.mark.parametrize("value", ["1000000000.01", "9" * 60, 10**12, 1e300, "1e12"])
def test_an_absurd_amount_is_capped_with_a_note(value: object) -> None:
    mrr = parse_mrr(value)
    assert (str(mrr.amount), mrr.note) == ("1000000000.00", CAPPED)


def test_the_cap_itself_is_an_amount() -> None:
    assert parse_mrr("1,000,000,000").note is None


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("9" * 1_000_000, id="digits"),
        pytest.param("1," * 500_000, id="groups"),
        pytest.param(" " * 1_000_000 + "x", id="blanks"),
        pytest.param("$" * 1_000_000, id="symbols"),
        pytest.param("1e" + "9" * 1_000_000, id="exponent"),
        pytest.param(10**1_000_000, id="integer"),
    ],
)
def test_a_megabyte_of_digits_takes_no_time(value: object) -> None:
    started = time.process_time()
    parse_mrr(value)
    assert time.process_time() - started < 0.1


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text()
    | st.binary()
    | st.complex_numbers()
)
AMOUNTS = st.from_regex(r"[-+$€ ]{0,3}[0-9.,' e]{1,30}( ?(USD|EUR|€))?", fullmatch=True)


@given(SCALARS | AMOUNTS | st.lists(SCALARS) | st.dictionaries(st.text(), SCALARS))
def test_any_object_gives_whole_cents_between_nothing_and_the_cap(value: object) -> None:
    amount = parse_mrr(value).amount
    assert 0 <= amount <= 10**9
    assert amount.as_tuple().exponent == -2


@given(st.decimals(min_value=0, max_value=10**9, places=2))
def test_an_amount_survives_being_written_and_read(amount: Decimal) -> None:
    assert parse_mrr(str(amount)).amount == amount
    assert parse_mrr(f"{amount:,}").amount == amount
    assert parse_mrr(format_money(amount, "USD")).amount == amount
    assert parse_mrr(format_money(amount, "CHF")).amount == amount


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("850", "USD", "$850"),
        ("850.00", "USD", "$850"),
        ("850.50", "USD", "$850.50"),
        ("1200", "EUR", "€1,200"),
        ("11800.50", "USD", "$11,800.50"),
        ("850.5", "CHF", "CHF 850.50"),
        ("1E+9", "usd", "$1,000,000,000"),
        ("0.00", "GBP", "GBP 0"),
        ("100.00", "USD", "$100"),
    ],
)
def test_money_is_written_for_people(amount: str, currency: str, text: str) -> None:
    assert format_money(Decimal(amount), currency) == text
