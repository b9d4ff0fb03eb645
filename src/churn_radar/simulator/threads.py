"""Mave's conversations: what a call asks, and what a thread remembers of it. No I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from churn_radar.simulator.refusals import Refused


@dataclass(frozen=True, slots=True)
class Ask:
    """The body of a valid `POST /mave/chat`."""

    message: str
    thread_id: str | None = None
    workspace_id: str | None = None


@dataclass(slots=True)
class Thread:
    """One conversation. `topic` is the message that opened it; times are ISO 8601."""

    id: str
    topic: str
    workspace_id: str
    created_at: str
    updated_at: str
    credits_used: int = 0
    asked_back: bool = False
    messages: list[dict[str, object]] = field(default_factory=list)
    sources: list[dict[str, object]] = field(default_factory=list)
    personas_used: list[dict[str, str]] = field(default_factory=list)

    def remember(
        self,
        asked: str,
        said: dict[str, object],
        sources: list[dict[str, object]],
        personas_used: list[dict[str, str]],
        credits_used: int,
    ) -> None:
        """Add one question and its answer (a message as the reference shows one)."""
        self.messages += [{**said, "id": f"{said['id']}_asked", "role": "user", "content": asked}, said]
        self.sources += sources
        self.personas_used += [persona for persona in personas_used if persona not in self.personas_used]
        self.credits_used += credits_used
        self.updated_at = str(said["created_at"])

    def summary(self) -> dict[str, object]:
        """The thread as the list of threads shows it."""
        return {
            "id": self.id,
            "object": "mave_thread",
            "title": self.topic.strip().splitlines()[0][:80],
            "current_phase": "TRIAGE" if self.asked_back and len(self.messages) == 2 else "VALIDATION",
            "complexity": "COMPLEX",
            "credits_used": self.credits_used,
            "workspace_id": self.workspace_id,
            "message_count": len(self.messages),
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }

    def details(self) -> dict[str, object]:
        """The thread with everything that was said in it."""
        return {
            **self.summary(),
            "messages": self.messages,
            "sources": self.sources,
            "personas_used": self.personas_used,
        }


def read_ask(body: bytes) -> Ask:
    """What the body asks. Raises Refused (400, `missing_field` or `invalid_field`) when it breaks the reference."""
    try:
        parsed = json.loads(body)
    except ValueError:
        raise Refused(400, "invalid_field", "The request body is not valid JSON.") from None
    if not isinstance(parsed, dict):
        raise Refused(400, "invalid_field", "The request body must be a JSON object.")
    if parsed.get("message") is None:
        raise Refused(400, "missing_field", "Missing required field: message.", "message")
    message = _text(parsed, "message")
    if message is None or not message.strip():
        raise Refused(400, "invalid_field", "message must not be empty.", "message")
    stream = parsed.get("stream", False)
    if stream is not False:
        said = "Streaming is not available here." if stream is True else "stream must be true or false."
        raise Refused(400, "invalid_field", said, "stream")
    return Ask(message, _text(parsed, "thread_id"), _text(parsed, "workspace_id"))


def _text(parsed: dict[str, object], name: str) -> str | None:
    value = parsed.get(name)
    if value is not None and not isinstance(value, str):
        raise Refused(400, "invalid_field", f"{name} must be a string.", name)
    return value
