"""Listening sockets, bound before anything else starts, so that a port in use is told as what it is."""

from __future__ import annotations

import socket

from churn_radar.errors import StartError

BACKLOG = 2048


def bind(host: str, port: int, *, advice: str = "") -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises StartError with one line, which ends with `advice`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named outright, since asyncio sets TCP_NODELAY only on sockets that say they are TCP: 40 ms an answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except (OSError, UnicodeError) as error:
        listener.close()
        cause = getattr(error, "strerror", None) or str(error)
        raise StartError(f"cannot listen on {host} port {port}: {cause}{advice}") from None
    return listener
