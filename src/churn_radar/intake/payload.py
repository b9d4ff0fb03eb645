"""The shape of a reporting webhook, as Customer.io documents it and as older senders write it.

Everything is optional, because everything is in practice; ids come as text or numbers; unknown keys are let
through unread. What is present but of a wrong type is an error: the caller quarantines it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from churn_radar.errors import NotUnderstood

MAX_ID_CHARACTERS = 512
MAX_TEXT_CHARACTERS = 2000
MAX_NAME_CHARACTERS = 200
# 1970 to 2100: outside, a "unix timestamp" is milliseconds or junk.
EARLIEST, LATEST = 0, 4_102_444_800


def _storable(text: str) -> None:
    """Refuse what no database keeps as text: NUL characters and lone surrogates."""
    if "\0" in text:
        raise ValueError("text holds a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("text holds half of a surrogate pair") from None


def _identifier(value: object) -> object:
    if value is None:
        return None
    if type(value) is str and len(value) <= MAX_ID_CHARACTERS and value.isascii() and "\0" not in value:
        return value.strip() or None  # nearly all there is, at a third of the cost
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise ValueError("an identifier is text or a whole number")
    text = str(value).strip() if value is not None else ""
    if len(text) > MAX_ID_CHARACTERS:
        raise ValueError("an identifier is too long")
    _storable(text)
    return text or None


def _text(value: object) -> object:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise ValueError("text was expected")
    text = str(value) if value is not None else ""
    _storable(text)
    return text[:MAX_TEXT_CHARACTERS].strip() or None


def _word(value: object) -> object:
    if value is not None and not isinstance(value, str):
        raise ValueError("text was expected")
    return _text(value)


def _instant(value: object) -> object:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if type(value) is int and EARLIEST <= value <= LATEST:
        return datetime.fromtimestamp(value, UTC)
    if isinstance(value, bool):
        raise ValueError("a timestamp is a number")
    if isinstance(value, str) and not value.strip().isdecimal():
        try:
            parsed = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError("the timestamp is neither unix seconds nor ISO 8601") from None
        seconds = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    elif isinstance(value, str | int | float):
        seconds = float(value) if len(str(value)) < 30 else float("inf")
    else:
        raise ValueError("a timestamp is a number")
    if not EARLIEST <= seconds <= LATEST:
        raise ValueError("the timestamp is out of range")
    return datetime.fromtimestamp(seconds, UTC)


Identifier = Annotated[str | None, BeforeValidator(_identifier)]
ShortText = Annotated[str | None, BeforeValidator(_text)]
Word = Annotated[str | None, BeforeValidator(_word)]
UnixTime = Annotated[datetime | None, BeforeValidator(_instant)]


class Identifiers(BaseModel):
    """The names that an event gives its customer; each may be absent, null or blank."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: Identifier = None
    cio_id: Identifier = None
    email: Identifier = None


class EventData(BaseModel):
    """`data`: the customer, and the particulars that the record keeps. Message bodies are not among them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    customer_id: Identifier = None
    identifiers: Identifiers | None = None
    email_address: Identifier = None
    recipient: Identifier = None
    delivery_id: Identifier = None
    action_id: Identifier = None
    campaign_id: Identifier = None
    broadcast_id: Identifier = None
    newsletter_id: Identifier = None
    transactional_message_id: Identifier = None
    trigger_id: Identifier = None
    trigger_event_id: Identifier = None
    template_id: Identifier = None
    subject: ShortText = None
    failure_message: ShortText = None
    content: Any = Field(None, description="Of preference changes: a JSON string of switches.")


class Event(BaseModel):
    """One reporting webhook event, in the current form or an older one."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        title="CustomerioEvent",
    )

    event_id: Identifier = Field(None, description="Customer.io's id of the event; retries repeat it.")
    object_type: Word = Field(None, description="customer, email, push, sms, in_app, slack, webhook; may be absent.")
    metric: Word = Field(None, description="What happened: unsubscribed, bounced, spammed, opened, ...")
    event_type: Word = Field(None, description="Older name of `metric`, often prefixed: email_bounced.")
    timestamp: UnixTime = Field(None, description="When it happened, in unix seconds.")
    customer_id: Identifier = Field(None, description="Older place of the customer's id.")
    identifiers: Identifiers | None = Field(None, description="Older place of the customer's identifiers.")
    data: EventData | None = None


def decode(body: bytes) -> dict[str, Any]:
    """The body as a JSON object, strictly: no NaN or Infinity, no lone surrogates, no absurd nesting.

    Raises NotUnderstood, with a reason that quotes nothing of the body.
    """
    try:
        decoded = from_json(body, allow_inf_nan=False)
    except ValueError:
        raise NotUnderstood("the body is not valid JSON") from None
    if not isinstance(decoded, dict):
        raise NotUnderstood("the body is not a JSON object")
    return decoded


def read_name(decoded: dict[str, Any]) -> str:
    """The event's name as it came: `metric`, or `event_type` of older senders.

    Most traffic is told apart by its name alone, so this is read before anything else is looked at. Raises
    NotUnderstood when there is no name or it is not text.
    """
    for field in ("metric", "event_type"):
        name = decoded.get(field)
        if name is None or (isinstance(name, str) and not name.strip()):
            continue
        if not isinstance(name, str) or len(name) > MAX_NAME_CHARACTERS or "\0" in name:
            raise NotUnderstood("the event's name is not text")
        return name
    raise NotUnderstood("neither metric nor event_type names the event")


def read_event(decoded: dict[str, Any]) -> Event:
    """The typed event. Raises NotUnderstood with a reason that quotes no value."""
    try:
        return Event.model_validate(decoded)
    except ValidationError as error:
        raise NotUnderstood(describe(error)) from None


def describe(error: ValidationError) -> str:
    """The first problem as `where: what`, without the value that caused it."""
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in problem["loc"]) or "the body"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}"[:200]
