"""Processes under measurement: started here, ended here, never anybody else's."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.service import clean_environment, service_settings

SECRET = "signing-key-of-the-tests-0451"


@asynccontextmanager
async def reference() -> AsyncIterator[int]:
    """The no-op reference; yields its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.reference", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield int(await asyncio.wait_for(process.stdout.readline(), 30))
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def simulators(*arguments: str) -> AsyncIterator[Mapping[str, str]]:
    """Both stand-ins in a process of their own; yields the settings that point at them."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "churn_radar",
        "simulate",
        "--customerio-port=0",
        "--mavera-port=0",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        env=clean_environment(),
    )
    assert process.stdout is not None
    found: dict[str, str] = {}
    try:
        while "CHURN_RADAR_MAVERA_URL" not in found:
            line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()
            name, _, value = line.partition("=")
            if value:
                found[name] = value
        yield found
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def service(folder: Path, upstreams: Mapping[str, str], **more: str) -> AsyncIterator[tuple[int, int]]:
    """The service as `churn-radar serve` runs it; yields its port and process id."""
    settings = service_settings(
        folder,
        customerio=upstreams["CHURN_RADAR_CIO_APP_URL"].removesuffix("/v1"),
        mavera=upstreams["CHURN_RADAR_MAVERA_URL"].removesuffix("/api/v1"),
        **{
            "CHURN_RADAR_SINKS": f"jsonl:{folder / 'briefs.jsonl'}",
            "CHURN_RADAR_LOG_LEVEL": "info",
            "CHURN_RADAR_CIO_REQUESTS_PER_SECOND": "10",
            "CHURN_RADAR_MAVERA_REQUESTS_PER_MINUTE": "60",
            **more,
        },
    )
    with (folder / "log.jsonl").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "churn_radar",
            "serve",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=log,
            cwd=folder,
            env=clean_environment(**settings),
        )
        try:
            while not (found := re.search(r'"url": ?"http://127.0.0.1:(\d+)"', (folder / "log.jsonl").read_text())):
                if process.returncode is not None:
                    raise RuntimeError((folder / "log.jsonl").read_text())
                await asyncio.sleep(0.02)
            yield int(found.group(1)), process.pid
        finally:
            process.kill()
            await process.wait()
