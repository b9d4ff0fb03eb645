"""The shape of a reporting webhook, as Customer.io documents it and as older senders write it.

Everything is optional, because everything is in practice; ids come as text or numbers; unknown keys are let
through unread. Names and identifiers of a wrong type are an error: the caller quarantines the event. Of the mere
particulars what is odd is left out.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetPydanticSchema,
    Strict,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, from_json
from pydantic_core.core_schema import custom_error_schema

from churn_radar.errors import NotUnderstood

MAX_ID_CHARACTERS = 512
MAX_TEXT_CHARACTERS = 2000
MAX_NAME_CHARACTERS = 200
# 1970 to 2100: outside, a "unix timestamp" is milliseconds or junk.
EARLIEST, LATEST = 0, 4_102_444_800


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


def _from_number(number: int) -> str:
    text = str(number)
    if len(text) > MAX_ID_CHARACTERS:
        raise ValueError("an identifier is too long")
    return text


# Checked by pydantic itself rather than by functions of ours, which the door would pay for at every field. NUL is the
# one character that no database keeps as text; half a surrogate pair is no text to pydantic either. Blanks become "".
Text = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^\x00]*$")]
_TextId = Annotated[Text, StringConstraints(max_length=MAX_ID_CHARACTERS)]
# A fractional number is no identifier: it is one that has lost its last digits on the way.
_NumberId = Annotated[int, Strict(), AfterValidator(_from_number)]


def _identifier(_: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    either = Annotated[_TextId | _NumberId, Field(union_mode="left_to_right")]
    return custom_error_schema(
        handler(either),
        custom_error_type="identifier",
        custom_error_message=f"an identifier is text or a whole number, of at most {MAX_ID_CHARACTERS} characters",
    )


# It leaves as text either way.
Identifier = Annotated[str, GetPydanticSchema(_identifier)]
UnixTime = Annotated[datetime | None, BeforeValidator(_instant)]
# Not worth a quarantine, whatever they hold: what cannot be kept is left out (`particular`).
Particular = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]})]


def particular(value: object) -> str | None:
    """A particular as short text that any database keeps; None for what is blank, or neither text nor number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        text = str(value)
    except ValueError:  # an integer of thousands of digits
        return None
    if not text.isascii() or "\0" in text:
        text = text.encode(errors="replace").decode().replace("\0", "")
    return text.strip()[:MAX_TEXT_CHARACTERS] or None


class Identifiers(BaseModel):
    """The names that an event gives its customer; each may be absent, null or blank."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: Identifier | None = None
    cio_id: Identifier | None = None
    email: Identifier | None = None


class EventData(BaseModel):
    """`data`: the customer, and the particulars that the record keeps. Message bodies are not among them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    customer_id: Identifier | None = None
    identifiers: Identifiers | None = None
    email_address: Identifier | None = None
    recipient: Identifier | None = None
    delivery_id: Particular = None
    action_id: Particular = None
    campaign_id: Particular = None
    broadcast_id: Particular = None
    newsletter_id: Particular = None
    transactional_message_id: Particular = None
    trigger_id: Particular = None
    trigger_event_id: Particular = None
    template_id: Particular = None
    subject: Particular = None
    failure_message: Particular = None
    content: Any = Field(None, description="Of preference changes: a JSON string of switches.")


class Event(BaseModel):
    """One reporting webhook event, in the current form or an older one."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        title="CustomerioEvent",
    )

    event_id: Identifier | None = Field(None, description="Customer.io's id of the event; retries repeat it.")
    object_type: Text | None = Field(
        None, description="customer, email, push, sms, in_app, slack, webhook; may be absent."
    )
    metric: Text | None = Field(None, description="What happened: unsubscribed, bounced, spammed, opened, ...")
    event_type: Text | None = Field(None, description="Older name of `metric`, often prefixed: email_bounced.")
    timestamp: UnixTime = Field(None, description="When it happened, in unix seconds.")
    customer_id: Identifier | None = Field(None, description="Older place of the customer's id.")
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
