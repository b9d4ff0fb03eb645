"""Processes under measurement: started here, ended here, never anybody else's."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tests.support.service import API_KEY, SECRET, clean_environment, eventually, service_settings

from benchmarks.standins import CALLS

PATIENCE_SECONDS = 60.0

__all__ = [
    "API_KEY",
    "SECRET",
    "Call",
    "Peer",
    "Service",
    "StandIns",
    "eventually",
    "peer",
    "reference",
    "service",
    "standins",
    "worker",
]


@dataclass(frozen=True, slots=True)
class Call:
    """One call as a stand-in saw it: monotonic seconds, and the status of the answer."""

    began: float
    answered: float
    status: int


@dataclass(frozen=True, slots=True)
class StandIns:
    """The base URLs of both stand-ins, and what they saw."""

    customerio: str
    mavera: str

    async def look_ups(self) -> list[Call]:
        """The calls to the App API, in the order of their arrival."""
        return await self._calls(self.customerio)

    async def researches(self) -> list[Call]:
        """The calls to Mavera, in the order of their arrival."""
        return await self._calls(self.mavera)

    async def mavera_state(self) -> dict[str, Any]:
        """Credits charged, and the messages that research was done for, in order."""
        found: dict[str, Any] = await _get(f"{self.mavera}/_simulator/state")
        return found

    async def _calls(self, url: str) -> list[Call]:
        return [Call(began, answered, int(status)) for began, answered, status in await _get(f"{url}{CALLS}")]


async def _get(url: str) -> Any:
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        return (await http.get(url)).raise_for_status().json()


@dataclass(frozen=True, slots=True)
class Peer:
    """A running program that does our job with another tool."""

    port: int
    pid: int


@dataclass(frozen=True, slots=True)
class Service:
    """A running `churn-radar serve`. `spawned` is in monotonic seconds."""

    port: int
    pid: int
    folder: Path
    spawned: float

    @property
    def record(self) -> Path:
        """Its SQLite file."""
        return self.folder / "record.db"

    def resident_bytes(self) -> int:
        """Memory in use, as the kernel counts it (Linux only)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[0]) * 1024


@asynccontextmanager
async def _child(module: str, *arguments: str) -> AsyncIterator[asyncio.StreamReader]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdout=PIPE, env=clean_environment()
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _line(said: asyncio.StreamReader) -> str:
    line = (await asyncio.wait_for(said.readline(), PATIENCE_SECONDS)).decode().strip()
    if not line:
        raise RuntimeError("a process of the benchmark ended before it was ready")
    return line


@asynccontextmanager
async def reference(*options: str) -> AsyncIterator[int]:
    """The no-op reference; yields its port. `options` as in `benchmarks.reference`."""
    async with _child("benchmarks.reference", *options) as said:
        yield int(await _line(said))


@asynccontextmanager
async def peer(module: str, *arguments: str) -> AsyncIterator[Peer]:
    """A program of `benchmarks.peers` that prints its port, killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdout=PIPE, stderr=DEVNULL, env=clean_environment()
    )
    assert process.stdout is not None
    try:
        yield Peer(int(await _line(process.stdout)), process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@asynccontextmanager
async def standins(**options: object) -> AsyncIterator[StandIns]:
    """Both stand-ins; `people=100` becomes `--people=100` and so on, see `benchmarks.standins`."""
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    async with _child("benchmarks.standins", *arguments) as said:
        yield StandIns(await _line(said), await _line(said))


@asynccontextmanager
async def service(folder: Path, upstreams: StandIns, *arguments: str, **more: str) -> AsyncIterator[Service]:
    """The service as `churn-radar serve` runs it, with its default limits; `folder` may hold a record already."""
    async with _ours(folder, upstreams, "serve", *arguments, ready=r'"url": ?"http://127.0.0.1:(\d+)"', **more) as (
        process,
        spawned,
        port,
    ):
        yield Service(int(port), process.pid, folder, spawned)


@asynccontextmanager
async def worker(folder: Path, upstreams: StandIns, **more: str) -> AsyncIterator[int]:
    """A `churn-radar worker` with default limits on the record that `more` names; yields its process id."""
    async with _ours(folder, upstreams, "worker", ready=r"(service\.started)", **more) as (process, _, _):
        yield process.pid


@asynccontextmanager
async def _ours(
    folder: Path, upstreams: StandIns, *arguments: str, ready: str, **more: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, float, str]]:
    """One of our commands, once `ready` is found in its log: the process, when it was begun, and what `ready` found."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    settings = service_settings(
        folder,
        customerio=upstreams.customerio,
        mavera=upstreams.mavera,
        **{
            "CHURN_RADAR_SINKS": f"jsonl:{folder / 'briefs.jsonl'}",
            "CHURN_RADAR_LOG_LEVEL": "info",
            "CHURN_RADAR_CIO_REQUESTS_PER_SECOND": "10",
            "CHURN_RADAR_MAVERA_REQUESTS_PER_MINUTE": "60",
            **more,
        },
    )
    path = folder / "log.jsonl"
    with path.open("wb") as log:
        spawned = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "churn_radar", *arguments),
            stdout=DEVNULL,
            stderr=log,
            cwd=folder,
            env=clean_environment(**settings),
        )
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not (found := re.search(ready, path.read_text())):
                    if process.returncode is not None:
                        raise RuntimeError(f"the service ended: {path.read_text()}")
                    await asyncio.sleep(0.005)
            yield process, spawned, found[1]
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
