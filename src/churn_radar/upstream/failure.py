"""What it means that no answer came: decided from the exception that the HTTP client raised. No network here."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from enum import Enum, auto

import httpx

from churn_radar.errors import GiveUp, RetryLater, UpstreamError


class Unanswered(RetryLater):
    """The request went out and nothing readable came back: what it asked for may have been done, and charged.

    `timed_out` tells an upstream that was still at work when the wait ended from one that broke off.
    """

    def __init__(self, service: str, message: str, *, status: int | None = None, timed_out: bool = False) -> None:
        super().__init__(service, message, status=status)
        self.timed_out = timed_out


class Obstacle(Enum):
    """What kept a request from being sent."""

    NAME = auto()
    CONNECTION = auto()
    TLS = auto()
    PROXY = auto()


class NotReached(RetryLater):
    """No connection was made: nothing was asked, and nothing can have been charged."""

    def __init__(self, service: str, message: str, obstacle: Obstacle) -> None:
        super().__init__(service, message)
        self.obstacle = obstacle


def failure(service: str, host: str, error: Exception) -> UpstreamError:
    """The error that stands for a failed exchange with `host`; its message quotes nothing that was sent.

    A request that was not taken cannot have been charged and is a plain RetryLater, or NotReached where there was no
    connection; once the request is out, it is Unanswered.
    """
    match error:
        case TimeoutError() | httpx.ReadTimeout():
            return Unanswered(service, f"{host} gave no whole answer in time", timed_out=True)
        case httpx.UnsupportedProtocol() | httpx.LocalProtocolError() | UnicodeError():
            return GiveUp(service, f"the request to {host} cannot be written as HTTP")
        case httpx.ConnectTimeout():
            return NotReached(service, f"{host} accepted no connection in time", Obstacle.CONNECTION)
        case httpx.PoolTimeout():
            return RetryLater(service, f"no connection to {host} came free in time")
        case httpx.ProxyError():
            return NotReached(service, f"the proxy makes no connection to {host}", Obstacle.PROXY)
        case httpx.ConnectError():
            return NotReached(service, *_connect_problem(host, error))
        case httpx.WriteTimeout() | httpx.WriteError():
            return RetryLater(service, f"{host} did not take the request")
        case _:
            return Unanswered(service, f"{host} broke its answer off")


def _connect_problem(host: str, error: BaseException) -> tuple[str, Obstacle]:
    for cause in _causes(error):
        match cause:
            case socket.gaierror():
                return f"the name {host} does not resolve", Obstacle.NAME
            case ssl.SSLCertVerificationError():
                return f"TLS with {host} failed: {cause.verify_message}", Obstacle.TLS
            case ssl.SSLError():
                reason = (cause.reason or "no reason given").replace("_", " ").lower()
                return f"TLS with {host} failed: {reason}", Obstacle.TLS
            case OSError(errno=int() as number):
                return f"no connection to {host}: {os.strerror(number).lower()}", Obstacle.CONNECTION
    return f"no connection to {host}", Obstacle.CONNECTION


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        if isinstance(error, BaseExceptionGroup):
            yield from _causes(error.exceptions[0])
        error = error.__cause__ or error.__context__
