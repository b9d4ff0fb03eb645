"""Servers that the buffers are tested against: a Redis that is there, one of the test's own, and a stand-in for SQS."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

REDIS_URL_VARIABLE = "CHURN_RADAR_TEST_REDIS_URL"
REQUIRE_VARIABLE = "CHURN_RADAR_TESTS_REQUIRE_SERVERS"
PASSWORD = "a-redis-password-of-the-tests"


def missing(server: str) -> None:
    """Skip the test for want of a server; where all servers are promised, fail it."""
    if os.environ.get(REQUIRE_VARIABLE):
        pytest.fail(f"{REQUIRE_VARIABLE} is set, but there is no {server}")
    pytest.skip(f"no {server}; {REQUIRE_VARIABLE}=1 makes this a failure")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def redis_url() -> str:
    """The Redis that tests share; skips when it does not answer."""
    url = os.environ.get(REDIS_URL_VARIABLE, "redis://127.0.0.1:6379")
    try:
        with Redis.from_url(url, socket_connect_timeout=2) as client:
            client.ping()
    except RedisError:
        missing(f"Redis at {REDIS_URL_VARIABLE} (default redis://127.0.0.1:6379)")
    return url


@contextmanager
def redis_stream(url: str) -> Iterator[str]:
    """The name of a stream that nobody else has; it is gone afterwards."""
    name = f"churn_radar:tests:{uuid.uuid4().hex}"
    try:
        yield name
    finally:
        with Redis.from_url(url) as client:
            client.delete(name)


@dataclass
class OwnRedis:
    """A Redis server that a test may stop and start; it writes everything to disk before it answers."""

    folder: Path
    port: int
    more: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """With the password."""
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Start, and wait until it answers."""
        self.process = subprocess.Popen(  # noqa: ASYNC220  its end is awaited elsewhere
            [
                *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
                *("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--requirepass", PASSWORD),
                *("--repl-diskless-sync-delay", "0"),
                *self.more,
            ],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
        )
        for _ in range(500):
            try:
                with Redis.from_url(self.url) as client:
                    client.ping()
                return
            except RedisError:
                await asyncio.sleep(0.01)
        raise AssertionError("redis-server did not start")

    async def kill(self) -> None:
        """As a crash does."""
        if self.process is not None:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
            self.process = None


@asynccontextmanager
async def own_redis(folder: Path, *more: str) -> AsyncIterator[OwnRedis]:
    """A running server of the test's own; skips where redis-server is not installed."""
    if shutil.which("redis-server") is None:
        missing("redis-server on the PATH")
    server = OwnRedis(folder, free_port(), more)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()


@contextmanager
def moto_server() -> Iterator[str]:
    """A stand-in for SQS in a process of its own; yields its `host:port`."""
    address = f"127.0.0.1:{free_port()}"
    host, _, port = address.partition(":")
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", host, "-p", port],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "moto's server did not start"
                assert process.poll() is None, "moto's server ended at once"
                time.sleep(0.05)
        yield address
    finally:
        process.kill()
        process.wait()
