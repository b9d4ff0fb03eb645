"""Monthly recurring revenue: read from whatever the attribute holds, and written for people."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

ZERO = Decimal("0.00")
CENT = Decimal("0.01")
LARGEST = Decimal(10**9)

ABSENT = "mrr is absent"
NOT_A_NUMBER = "mrr is not a number"
NEGATIVE = "mrr is negative"
CAPPED = "mrr is implausibly large"

_SYMBOLS = {"USD": "$", "EUR": "€"}

# Longest text worth reading: grouped, signed and with a currency on both sides, an amount fits twice.
_MAX_CHARACTERS = 64
# Beyond this power of ten a 64-bit float is infinite, and so is the sender's number, most likely.
_LARGEST_EXPONENT = 308

_CODES = (
    "AED|ARS|AUD|BRL|CAD|CHF|CLP|CNY|COP|CZK|DKK|EUR|GBP|HKD|HUF|IDR|ILS|INR|JPY|KRW"
    "|MXN|MYR|NGN|NOK|NZD|PHP|PLN|RON|SAR|SEK|SGD|THB|TRY|TWD|UAH|USD|VND|ZAR"
)
_CURRENCY = rf"(?:(?:US|AU|CA|NZ|HK|[AC])?\$|[€£¥₹₩₪₫₴₦₺฿]|(?:{_CODES})(?![A-Z]))"
_AMOUNT = re.compile(
    rf"(?P<sign>[+-]?) ?(?:{_CURRENCY} ?)?(?P<inner>[+-]?)"
    rf"(?P<number>[0-9.,' ]*[0-9.](?:e[+-]?[0-9]{{1,10}})?) ?(?:{_CURRENCY})?",
    re.IGNORECASE,
)
_POINT_DECIMAL = re.compile(
    r"(?:[0-9]+|[0-9]{1,3}(?:(?P<gap>[,' ])[0-9]{3})(?:(?P=gap)[0-9]{3})*)(?:\.[0-9]*)?|\.[0-9]+"
)
_COMMA_DECIMAL = re.compile(r"(?:[0-9]+|[0-9]{1,3}(?:(?P<gap>[.' ])[0-9]{3})(?:(?P=gap)[0-9]{3})*),[0-9]{1,2}")
_POINT_GROUPS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{3}){2,}")
_SCIENTIFIC = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)e[+-]?[0-9]+", re.IGNORECASE)
_SPELLINGS = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u2019": "'", "\u2212": "-"})


@dataclass(frozen=True, slots=True)
class Mrr:
    """Revenue a month in whole cents, 0 to 10**9, and why it is not what the attribute said, if so."""

    amount: Decimal
    note: str | None = None


def parse_mrr(value: object) -> Mrr:
    """Read an MRR attribute; any object at all gives an amount, and none takes long.

    The App API turns every attribute into a string, so text is the common case: `850`, `850.00`, `$1,200`,
    `€ 950`, `1200 USD`, `1'200.50`, `1 200`. Exactly one mark followed by three digits is read the English
    way (`1,200` is twelve hundred, `1.200` one and a fifth); where only the continental way makes sense it
    is read so (`1.200,50`, `850,50`, `1.200.000`). The currency's name is not looked at.

    Absent or blank gives 0 noted as absent; negative gives 0; more than 10**9 is capped; everything that is
    no finite number gives 0; each with a note.
    """
    if value is None or (isinstance(value, str) and (not value or value.isspace())):
        return Mrr(ZERO, ABSENT)
    number = _number(value)
    if number is None or not number.is_finite() or (number and number.adjusted() > _LARGEST_EXPONENT):
        return Mrr(ZERO, NOT_A_NUMBER)
    if number < 0:
        return Mrr(ZERO, NEGATIVE)
    if number > LARGEST:
        return Mrr(LARGEST.quantize(CENT), CAPPED)
    return Mrr(number.quantize(CENT, rounding=ROUND_HALF_UP).copy_abs())


def format_money(amount: Decimal, currency: str) -> str:
    """An amount for people, here and nowhere else: `$850`, `$11,800.50`, `€1,200`, and `CHF 850` for other codes.

    Whole amounts lose their cents. Everything that we write is English, and so are the separators; `parse_mrr` reads
    what this writes.
    """
    return f"{currency_mark(currency)}{f'{amount:,.2f}'.removesuffix('.00')}"


def currency_mark(currency: str) -> str:
    """What is written before an amount: `$`, `€`, and for every other code itself and a space."""
    code = currency.upper()
    return _SYMBOLS.get(code, f"{code} ")


def _number(value: object) -> Decimal | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        # Clamped before it is converted: Decimal takes long over an integer of a million digits.
        return Decimal(max(min(value, 10**400), -(10**400)))
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, Decimal):
        return value
    return _number_in(value) if isinstance(value, str) else None


def _number_in(text: str) -> Decimal | None:
    if len(text) > _MAX_CHARACTERS:
        return None
    found = _AMOUNT.fullmatch(text.translate(_SPELLINGS).strip())
    if found is None or (found["sign"] and found["inner"]):
        return None
    number = found["number"].strip()
    if _POINT_DECIMAL.fullmatch(number):
        plain = re.sub(r"[,' ]", "", number)
    elif _COMMA_DECIMAL.fullmatch(number):
        plain = re.sub(r"[.' ]", "", number).replace(",", ".")
    elif _POINT_GROUPS.fullmatch(number):
        plain = number.replace(".", "")
    elif _SCIENTIFIC.fullmatch(number):
        plain = number
    else:
        return None
    return Decimal(f"{found['sign'] or found['inner']}{plain}")
