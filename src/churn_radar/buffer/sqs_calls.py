"""How SQS is called: by which client, in which portions, and what an error is called."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from churn_radar.buffer.url import SqsPlace
from churn_radar.errors import BufferUnavailable

MAX_ITEMS = 10


def where(place: SqsPlace, read_timeout: float, *, connections: int, attempts: int) -> dict[str, Any]:
    """What a client is made with; `read_timeout` in seconds."""
    return {
        "region_name": place.region,
        "endpoint_url": place.endpoint,
        "config": AioConfig(
            connect_timeout=min(read_timeout, 3.0),
            read_timeout=read_timeout,
            max_pool_connections=connections,
            retries={"total_max_attempts": attempts, "mode": "standard"},
        ),
    }


@contextlib.contextmanager
def unavailable(doing: str) -> Iterator[None]:
    """Name an error by its code alone: the rest may quote what was sent."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown")).rpartition(".")[2]
        raise BufferUnavailable(f"SQS {doing}: {code}") from error
    except (BotoCoreError, OSError) as error:
        raise BufferUnavailable(f"SQS {doing}: {type(error).__name__}") from error


def status(error: ClientError) -> int:
    """The HTTP status that an error came with, or 0."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def check_failed(failed: Sequence[Mapping[str, Any]], doing: str) -> None:
    """Raise for entries that may succeed another time; a receipt that has lapsed never will, and needs nothing."""
    codes = sorted({str(one.get("Code", "unknown")) for one in failed if not one.get("SenderFault")})
    if codes:
        raise BufferUnavailable(f"SQS {doing}: {', '.join(codes)}")


def tens(tokens: Sequence[str]) -> Iterator[Sequence[str]]:
    """Portions of as many as one call takes."""
    for start in range(0, len(tokens), MAX_ITEMS):
        yield tokens[start : start + MAX_ITEMS]
