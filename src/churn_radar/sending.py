"""Our own webhook tester: signs event files as Customer.io does, and posts them to a running door."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from churn_radar.errors import StartError
from churn_radar.intake.door import PATH
from churn_radar.intake.samples import SAMPLES
from churn_radar.intake.signature import sign


@dataclass(frozen=True, slots=True)
class Letter:
    """A body to send, and what to call it when telling of it."""

    label: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What the door said."""

    label: str
    status: int
    said: str

    @property
    def went_well(self) -> bool:
        """Whether the door took it."""
        return 200 <= self.status < 300


def signed_headers(body: bytes, secret: str | None, *, older_scheme: bool = False) -> dict[str, str]:
    """The headers of a reporting webhook; without a secret it goes out unsigned."""
    headers = {"Content-Type": "application/json", "User-Agent": "Customer.io Webhooks (churn-radar send)"}
    if secret is not None and older_scheme:
        headers["X-CIO-Signature"] = sign(secret.encode(), body, None)
    elif secret is not None:
        timestamp = str(int(time.time()))
        headers["X-CIO-Timestamp"] = timestamp
        headers["X-CIO-Signature"] = sign(secret.encode(), body, timestamp.encode())
    return headers


def from_file(path: Path) -> Iterator[Letter]:
    """The events of a file: one JSON document, sent byte for byte, or JSON lines.

    Raises StartError for a file that cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StartError(f"cannot read {str(path)!r}: {error.strerror}") from None
    yield from letters(content, str(path))


def letters(content: bytes, label: str) -> Iterator[Letter]:
    """Split a file's bytes: JSON lines when every line is a document of its own, else one body as it is."""
    rows = [row for row in content.splitlines() if row.strip()]
    if len(rows) > 1 and all(_is_json(row) for row in rows):
        for number, row in enumerate(rows, 1):
            yield Letter(f"{label}:{number}", row)
    else:
        yield Letter(label, content)


def _is_json(row: bytes) -> bool:
    try:
        json.loads(row)
    except ValueError:
        return False
    return True


def sample(kind: str, *, fresh: bool = True, customer: str | None = None) -> Letter:
    """A built-in sample; fresh ones get an id and a time of their own, so that each counts as a new event.

    Raises StartError for an unknown kind.
    """
    if kind not in SAMPLES:
        raise StartError(f"there is no sample {kind!r}; there are {', '.join(SAMPLES)}")
    payload = json.loads(json.dumps(dict(SAMPLES[kind].payload)))
    if fresh:
        payload["timestamp"] = int(time.time())
        if "event_id" in payload:
            payload["event_id"] = f"01SAMPLE{secrets.token_hex(9).upper()}"
    if customer is not None:
        if "data" in payload:
            payload["data"]["customer_id"] = customer
            payload["data"]["identifiers"] = {"id": customer, "email": None, "cio_id": None}
            payload["data"].pop("email_address", None)
            payload["data"].pop("recipient", None)
        else:
            payload["customer_id"] = customer
    return Letter(kind, json.dumps(payload).encode())


def post_all(
    batch: Iterator[Letter],
    *,
    url: str,
    secret: str | None,
    older_scheme: bool,
    tell: Callable[[Reply], None],
) -> bool:
    """Send every letter in turn; returns whether the door took all. Raises StartError when nobody answers."""
    all_well = True
    with httpx.Client(timeout=10) as http:
        for letter in batch:
            try:
                answer = http.post(
                    f"{url.rstrip('/')}{PATH}",
                    content=letter.body,
                    headers=signed_headers(letter.body, secret, older_scheme=older_scheme),
                )
            except httpx.InvalidURL:
                raise StartError(f"{url!r} is not a URL (example: http://127.0.0.1:8080)") from None
            except httpx.HTTPError as error:
                raise StartError(
                    f"no answer from {url} ({type(error).__name__}); is `churn-radar serve` running there? see --url"
                ) from None
            reply = Reply(letter.label, answer.status_code, answer.text.strip())
            tell(reply)
            all_well = all_well and reply.went_well
    return all_well
