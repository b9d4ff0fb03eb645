"""A raw event as the text of one SQS message: a line of JSON that says what follows, then the body. Pure.

SQS takes text without most control characters, and counts its UTF-8 bytes
(https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html). A JSON body goes as
it is; one that SQS would refuse, or that is too long, is compressed and written in base64.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from datetime import timedelta

import orjson

from churn_radar.buffer.protocol import RawEvent
from churn_radar.errors import TooLargeToBuffer
from churn_radar.store.tables import EPOCH, to_micros

VERSION = 1
# A carriage return is allowed, but XML on the way may make a line feed of it, and bodies are kept byte for byte.
_REFUSED = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MAX_UNPACKED_BYTES = 128 * 1024 * 1024


class NotOurs(ValueError):
    """A message that no release up to this one wrote."""


def to_message(event: RawEvent, max_bytes: int) -> str:
    """The text of an event's message, of at most `max_bytes` bytes. Raises TooLargeToBuffer."""
    try:
        text = event.body.decode()
    except UnicodeDecodeError:
        text = "\0"
    if not _REFUSED.search(text):
        plain = f"{_head(event, 'text')}\n{text}"
        if len(event.body) + len(plain) - len(text) <= max_bytes:
            return plain
    # Level 1: a body of 5 MiB holds the event loop for about 0.1 s, and at level 6 for nearly twice as long.
    packed = f"{_head(event, 'zlib')}\n{base64.b64encode(zlib.compress(event.body, 1)).decode()}"
    if len(packed) > max_bytes:
        raise TooLargeToBuffer(f"an event of {len(event.body)} bytes exceeds a message of {max_bytes} bytes")
    return packed


def _head(event: RawEvent, encoding: str) -> str:
    head = {"churn_radar": VERSION, "at": to_micros(event.received_at), "source": event.source, "encoding": encoding}
    return orjson.dumps(head).decode()


def from_message(text: str) -> RawEvent:
    """The event of a message. Raises NotOurs."""
    head, _, rest = text.partition("\n")
    try:
        told = orjson.loads(head)
        if told["churn_radar"] != VERSION:
            raise NotOurs("a message of another version")
        if told["encoding"] not in ("text", "zlib"):
            raise NotOurs("a message in another encoding")
        received_at = EPOCH + timedelta(microseconds=int(told["at"]))
        body = _unpacked(rest) if told["encoding"] == "zlib" else rest.encode()
        return RawEvent(body, received_at, str(told["source"]))
    except (KeyError, TypeError, ValueError, OverflowError, zlib.error) as error:
        raise NotOurs("not a message of ours") from error


def _unpacked(text: str) -> bytes:
    try:
        packed = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise NotOurs("not base64") from error
    unpacker = zlib.decompressobj()
    body = unpacker.decompress(packed, MAX_UNPACKED_BYTES)
    if not unpacker.eof:
        raise NotOurs("cut short, or larger than any body")
    return body
