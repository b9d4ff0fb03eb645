"""One process of the service, to be killed and started again."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

from tests.support import nursery
from tests.support.service import clean_environment

STARTED = b"service.started"


@dataclass
class Victim:
    """`churn-radar serve` on a port that stays the same, as the address of a webhook does; without `url`, a worker."""

    folder: Path
    settings: Mapping[str, str]
    url: str
    log: IO[bytes]
    arguments: tuple[str, ...] = ("serve",)
    process: nursery.Process | None = None
    boot_seconds: float = 1.0
    logged: int = 0

    async def spawn(self) -> None:
        """Start, without waiting for anything."""
        self.logged = (self.folder / "log.jsonl").stat().st_size
        nowhere = os.open(os.devnull, os.O_WRONLY)
        self.process = await nursery.start(
            self.arguments,
            folder=self.folder,
            env=clean_environment(**self.settings),
            stdout=nowhere,
            stderr=self.log.fileno(),
        )
        os.close(nowhere)

    async def up(self, http: httpx.AsyncClient) -> None:
        """Wait until it answers; raises AssertionError when it has ended instead."""
        began = time.monotonic()
        while True:
            self.still_runs()
            with suppress(httpx.TransportError):
                if not self.url and STARTED in (self.folder / "log.jsonl").read_bytes()[self.logged :]:
                    return
                if self.url and (await http.get(f"{self.url}/healthz")).status_code == 200:
                    self.boot_seconds = time.monotonic() - began
                    return
            await asyncio.sleep(0.03)

    def still_runs(self) -> None:
        """Raises AssertionError when it has ended by itself."""
        code = self.process.returncode if self.process else None
        assert code is None, f"the service ended by itself, with {code}; see {self.folder / 'log.jsonl'}"

    async def end(self, *, kill: bool) -> int:
        """SIGKILL or SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.kill() if kill else self.process.terminate()
        return await asyncio.wait_for(self.process.wait(), 40)
