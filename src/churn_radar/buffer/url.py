"""CHURN_RADAR_BUFFER_URL, read: which buffer, and where. Pure; nothing is imported that an extra brings.

redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]        rediss:// for TLS
sqs://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE          the queue's own URL, with sqs in place of https
sqs://HOST[:PORT]/ACCOUNT/QUEUE?region=REGION         another endpoint; &tls=off for a stand-in on this machine
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, urlsplit

SHAPES = "redis://HOST:6379/0, rediss://HOST:6380/0 or sqs://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE"
_AWS_HOST = re.compile(r"sqs(?:-fips)?\.([a-z]{2}(?:-[a-z0-9]+)+-\d+)\.(?:amazonaws\.com(?:\.cn)?|api\.aws)")


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """A Redis server; `url` may hold a password, `name` never does."""

    url: str = field(repr=False)
    name: str


@dataclass(frozen=True, slots=True)
class SqsPlace:
    """An SQS queue."""

    endpoint: str
    queue_url: str
    region: str
    name: str

    @property
    def is_fifo(self) -> bool:
        """Whether the queue keeps an order and knows repetitions; SQS tells by the name."""
        return self.queue_url.endswith(".fifo")


def read_buffer_url(url: str) -> RedisPlace | SqsPlace:
    """Which buffer a URL means. Raises ValueError whose text quotes nothing of the URL, for it may hold a password."""
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"not a URL; give {SHAPES}") from None
    if parts.scheme not in ("redis", "rediss", "sqs"):
        raise ValueError(f"not a buffer this release knows: give {SHAPES}")
    if not host:
        raise ValueError(f"the URL names no host; give {SHAPES}")
    address = f"[{host}]" if ":" in host else host
    if port is not None:
        address = f"{address}:{port}"
    return _sqs(parts, host, address) if parts.scheme == "sqs" else _redis(parts, url.strip(), address)


def _redis(parts: SplitResult, url: str, address: str) -> RedisPlace:
    database = parts.path.strip("/")
    if database and not database.isdecimal():
        raise ValueError("the part after the host is the number of a Redis database, as in redis://HOST:6379/0")
    if parts.query or parts.fragment:
        raise ValueError("a Redis URL takes no options after the database; for TLS give rediss://HOST:6380/0")
    return RedisPlace(url, f"{parts.scheme}://{address}/{database or 0}")


def _sqs(parts: SplitResult, host: str, address: str) -> SqsPlace:
    if "@" in parts.netloc:
        raise ValueError("an SQS URL holds no keys; they come from AWS_ACCESS_KEY_ID, a profile or the machine's role")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if options.keys() - {"region", "tls"} or options.get("tls", "on") not in ("on", "off"):
        raise ValueError("an SQS URL takes the options region=REGION and tls=off, nothing else")
    path = parts.path.strip("/")
    if not re.fullmatch(r"[\w-]+/[\w-]+(\.fifo)?", path):
        raise ValueError("an SQS URL ends in the account's number and the queue's name, as in sqs://HOST/ACCOUNT/QUEUE")
    known = _AWS_HOST.fullmatch(host)
    region = options.get("region") or (known.group(1) if known else "")
    if not region:
        raise ValueError("the host names no AWS region; add it, as in sqs://HOST/ACCOUNT/QUEUE?region=eu-west-1")
    endpoint = f"{'http' if options.get('tls') == 'off' else 'https'}://{address}"
    return SqsPlace(endpoint, f"{endpoint}/{path}", region, f"sqs://{address}/{path}")
