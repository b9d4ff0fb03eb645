"""A Postgres server of a test's own, which may be stopped, killed and frozen without anybody else noticing."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from tests.support.servers import free_port, missing

START_SECONDS = 60


def _binary(name: str) -> str | None:
    """Where a program of the server lies: on the PATH, or where Debian and Ubuntu put it."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


@dataclass
class OwnPostgres:
    """The server; its disk is forced as in production, for that is what a stop is about."""

    folder: Path
    port: int
    user: str | None

    @property
    def url(self) -> str:
        """Its database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    async def create(self) -> None:
        """Make the cluster."""
        await self._run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")

    async def start(self) -> None:
        """Start, and return when it takes connections."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c max_connections=200"
        log = str(self.folder / "log")
        await self._run("pg_ctl", "--wait", f"--timeout={START_SECONDS}", f"--log={log}", f"-o {options}", "start")

    async def stop(self, mode: str = "immediate") -> None:
        """Stop; `immediate` is what a crash leaves behind, `fast` ends sessions in good order."""
        await self._run("pg_ctl", "--wait", f"--mode={mode}", "stop")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Nobody gets an answer while the block runs, and no connection breaks: as by a network that swallows."""
        everybody = [self._pid, *self._children()]
        _signal(everybody, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(everybody, signal.SIGCONT)

    async def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        connection = await asyncpg.connect(self.url, timeout=10)
        try:
            return [tuple(row) for row in await connection.fetch(statement, *values)]
        finally:
            await connection.close()

    async def end_connections(self) -> int:
        """End all connections as an administrator would; returns how many."""
        [(ended,)] = await self.rows(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return int(ended)

    @property
    def _pid(self) -> int:
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])

    def _children(self) -> list[int]:
        told = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text()
        return [int(pid) for pid in told.split()]

    async def _run(self, program: str, *arguments: str) -> None:
        binary = _binary(program)
        assert binary is not None
        done = await asyncio.to_thread(
            subprocess.run,
            [binary, "-D", str(self.folder / "data"), *arguments],
            cwd=self.folder,
            user=self.user,
            # Its own output would be held open by the server that it leaves running.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=START_SECONDS + 10,
            check=False,
        )
        assert done.returncode == 0, f"{program} ended with {done.returncode}; see {self.folder / 'log'}"


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # a session that has just ended
            os.kill(pid, number)


@asynccontextmanager
async def own_postgres() -> AsyncIterator[OwnPostgres]:
    """A running server; skips where the server's programs are not installed."""
    if _binary("initdb") is None or _binary("pg_ctl") is None:
        missing("initdb and pg_ctl")
    # The server refuses to run as root. Its folder's path must be short: a socket lies in it.
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="churn-radar-pg-") as name:
        folder = Path(name)
        if user is not None:
            shutil.chown(folder, user)
        server = OwnPostgres(folder, free_port(), user)
        await server.create()
        await server.start()
        try:
            yield server
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                await server.stop()
