"""How values are written on pages: filters of the templates. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from markupsafe import Markup, escape

from churn_radar.counts import counted
from churn_radar.triage.money import currency_mark, format_money
from churn_radar.web.masking import masked_id, masked_mail, masked_text


def moment(value: datetime | None) -> Markup | str:
    """A time: in UTC, which the browser's script shows in the reader's own zone."""
    if value is None:
        return "–"
    utc = value.astimezone(UTC)
    # Digits and names of months, all of them ours.
    return Markup(f'<time datetime="{utc:%Y-%m-%dT%H:%M:%SZ}">{utc.day} {utc:%b %Y, %H:%M} UTC</time>')  # noqa: S704


def told_moment(value: str | None) -> Markup | str:
    """A time as somebody told it: as `moment` where it is ISO 8601, else in their words."""
    try:
        told = datetime.fromisoformat(value or "")
        return moment(told) if told.tzinfo else value or "–"
    except (ValueError, OverflowError):
        return value or "–"


def ago(value: datetime | None, now: datetime) -> Markup | str:
    """How long ago a time was; the time itself is in the title."""
    if value is None:
        return "–"
    utc = value.astimezone(UTC)
    told = f'datetime="{utc:%Y-%m-%dT%H:%M:%SZ}" title="{utc.day} {utc:%b %Y, %H:%M:%S} UTC"'
    return Markup(f"<time {told} data-relative>{distance(value, now)}</time>")  # noqa: S704  as above


def distance(value: datetime, now: datetime) -> str:
    """`12 min ago`, `in 3 h`."""
    seconds = round((now - value).total_seconds())
    size = abs(seconds)
    if size < 10:
        return "just now"
    for limit, unit, name in ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h"), (float("inf"), 86_400, "d")):
        if size < limit:
            amount = f"{size // unit} {name}"
            break
    return f"{amount} ago" if seconds > 0 else f"in {amount}"


def money(value: float | Decimal | None, currency: str) -> str:
    """An amount a month to the cent (`$11,800.50`), or a dash where none is known."""
    return "–" if value is None else format_money(Decimal(str(value)), currency)


def amount(value: float, currency: str) -> str:
    """An amount a month at a glance, without cents from 100 on: `$11,800`, `$49.50`."""
    return money(round(value) if value >= 100 else value, currency)


def short_amount(value: float, currency: str) -> str:
    """An amount at the side of a plot: `$250`, `$12.5k`, `$3M`."""
    symbol = currency_mark(currency)
    for unit, size_ in (("M", 1e6), ("k", 1e3)):
        if value >= size_:
            return f"{symbol}{value / size_:.3g}{unit}"
    return f"{symbol}{value:.3g}"


def number(value: float) -> str:
    """With separators between thousands."""
    return f"{value:,.0f}"


def size(value: int) -> str:
    """Bytes in words: `12 KB`."""
    if value < 1000:
        return f"{value} B"
    for unit in ("KB", "MB", "GB"):
        value_in = value / 1000 ** ("KB", "MB", "GB").index(unit) / 1000
        if value_in < 999.5 or unit == "GB":
            break
    return f"{value_in:.0f} {unit}" if value_in >= 10 else f"{value_in:.1f} {unit}"


def lines(value: str | None) -> Markup:
    """Text with its line breaks."""
    return Markup("<br>").join(escape(line) for line in (value or "").splitlines())


def breakable(name: str) -> Markup:
    """A customer's name, to be broken behind an `@` rather than in the middle of a word where there is little room."""
    return Markup("@<wbr>").join(escape(part) for part in name.split("@"))


FILTERS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "moment": moment,
        "told_moment": told_moment,
        "ago": ago,
        "money": money,
        "amount": amount,
        "short_amount": short_amount,
        "number": number,
        "size": size,
        "masked_mail": masked_mail,
        "masked_id": masked_id,
        "masked_text": masked_text,
        "plural": counted,
        "lines": lines,
        "breakable": breakable,
    }
)
