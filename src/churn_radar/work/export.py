"""One line of an exported quarantine: a body with its arrival, as JSON that a person can read. Pure."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from churn_radar.store.arrivals import Arrival
from churn_radar.store.quarantine import KeptBody

_Key = Annotated[str, Field(min_length=1, max_length=80)]


class NotALine(ValueError):
    """The line is none that was exported: cut short by a crash, or of another file."""


class ExportedBody(BaseModel):
    """What a line holds; a body that is no UTF-8 comes as base64."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    event_key: _Key
    signal_id: Annotated[str, Field(min_length=1, max_length=40)]
    event_id: str | None = None
    received_at: AwareDatetime
    source: Annotated[str, Field(max_length=16)] = "webhook"
    reason: str | None = None
    body: str | None = None
    body_base64: str | None = None

    @property
    def raw(self) -> bytes:
        """The body, byte for byte as it came; raises NotALine where there is none."""
        if self.body_base64 is not None:
            return base64.b64decode(self.body_base64, validate=True)
        if self.body is None:
            raise NotALine
        return self.body.encode()


def to_line(kept: KeptBody, now: datetime) -> bytes:
    """A body as one line of JSON."""
    try:
        body = {"body": kept.body.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": base64.b64encode(kept.body).decode()}
    return (
        orjson.dumps(
            {
                "event_key": kept.event_key,
                "signal_id": kept.signal_id,
                "event_id": kept.event_id,
                "received_at": kept.received_at,
                "source": kept.source,
                "reason": kept.reason,
                "exported_at": now,
                **body,
            }
        )
        + b"\n"
    )


def from_line(line: bytes) -> Arrival:
    """The arrival that a line holds, with its body; raises NotALine."""
    try:
        told = ExportedBody.model_validate_json(line)
        body = told.raw
    except (ValidationError, binascii.Error, UnicodeEncodeError):
        raise NotALine from None
    return Arrival(
        event_key=told.event_key,
        signal_id=told.signal_id,
        received_at=told.received_at,
        source=told.source,
        event_id=told.event_id,
        reason=told.reason,
        body=body,
    )
