"""The service as a user runs it: a process of its own, on a real port, with a record in a folder of the test's."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from churn_radar.intake.door import PATH
from churn_radar.sending import signed_headers
from churn_radar.simulator.people import PEOPLE
from tests.support import nursery

SECRET = "signing-key-of-the-tests-0451"
API_KEY = "api-key-of-the-tests-0451"
APP_KEY = "demo-app-key"
MAVERA_KEY = "mvra_live_demo"
PATIENCE = 60.0
# Nothing here speaks TLS, and each client would read the machine's certificates for it.
_TLS = ssl.create_default_context()
UNWANTED = ("CIO_APP_KEY", "CIO_WEBHOOK_SECRET", "MAVERA_API_KEY", "PYTHONDONTWRITEBYTECODE")


def clean_environment(**settings: str) -> dict[str, str]:
    """The environment of a child: this machine's, less anything that churn_radar reads, plus `settings`.

    A child keeps the bytecode that it compiles, also where the machine says otherwise: to compile everything anew takes
    three seconds of each start, and there are hundreds.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CHURN_RADAR_") and name not in UNWANTED
    }
    return {**kept, **settings}


def service_settings(folder: Path, *, customerio: str, mavera: str, **more: str) -> dict[str, str]:
    """Production settings against simulators, with a jsonl sink beside the record."""
    return {
        "CHURN_RADAR_ENVIRONMENT": "production",
        "CHURN_RADAR_HOST": "127.0.0.1",
        "CHURN_RADAR_PORT": "0",
        "CIO_APP_KEY": APP_KEY,
        "CIO_WEBHOOK_SECRET": SECRET,
        "MAVERA_API_KEY": MAVERA_KEY,
        "CHURN_RADAR_API_KEYS": API_KEY,
        "CHURN_RADAR_CIO_APP_URL": f"{customerio}/v1",
        "CHURN_RADAR_MAVERA_URL": f"{mavera}/api/v1",
        "CHURN_RADAR_DATABASE_URL": f"sqlite:///{folder / 'record.db'}",
        "CHURN_RADAR_SINKS": f"console,jsonl:{folder / 'briefs.jsonl'}",
        "CHURN_RADAR_MAVERA_REQUESTS_PER_MINUTE": "6000",
        "CHURN_RADAR_CIO_REQUESTS_PER_SECOND": "1000",
        "CHURN_RADAR_UNKNOWN_CUSTOMER_RETRY_SECONDS": "0.05",
        "CHURN_RADAR_LOG_FORMAT": "json",
        "CHURN_RADAR_LOG_LEVEL": "debug",
        **more,
    }


async def eventually(
    probe: Callable[[], Awaitable[Any]], what: str, *, patience: float = PATIENCE, every: float = 0.03
) -> Any:
    """Ask until the probe's answer is true; fails with `what` was awaited and what was seen last."""
    deadline = time.monotonic() + patience
    last: Any = None
    while time.monotonic() < deadline:
        last = await probe()
        if last:
            return last
        await asyncio.sleep(every)
    raise AssertionError(f"waited {patience:g} s in vain for {what}; last seen: {last!r}")


@dataclass
class ServiceProcess:
    """One `churn-radar serve`, its log and its output."""

    folder: Path
    settings: Mapping[str, str]
    arguments: tuple[str, ...] = ("serve",)
    process: nursery.Process | None = None
    url: str = ""
    starts: int = 0
    _files: list[Any] = field(default_factory=list)

    @property
    def log(self) -> str:
        """Everything logged so far, over all starts."""
        path = self.folder / "log.jsonl"
        return path.read_text() if path.exists() else ""

    @property
    def output(self) -> str:
        """Everything printed so far, over all starts."""
        return (self.folder / "out.txt").read_text()

    async def start(self) -> None:
        """Start, and wait until it listens."""
        already = len(self.log)
        out = (self.folder / "out.txt").open("ab")
        log = (self.folder / "log.jsonl").open("ab")
        self._files += [out, log]
        self.process = await nursery.start(
            self.arguments,
            folder=self.folder,
            env=clean_environment(**self.settings),
            stdout=out.fileno(),
            stderr=log.fileno(),
        )
        self.starts += 1

        async def listening() -> str | None:
            assert self.process is not None
            if self.process.returncode is not None:
                raise AssertionError(f"the service ended with {self.process.returncode}: {self.log[already:]}")
            return self.is_up(self.log[already:])

        self.url = await eventually(listening, "the service to listen")

    def is_up(self, log: str) -> str | None:
        """The address that its log tells, once it listens."""
        found = re.search(r'"url": ?"(http://[^"]+)"', log)
        return found.group(1) if found else None

    async def kill(self) -> None:
        """SIGKILL: no clean-up, no goodbye."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), PATIENCE)

    async def close(self) -> None:
        """End what still runs, and check what it left in the log."""
        if self.process is not None and self.process.returncode is None:
            await self.terminate()
        for file in self._files:
            file.close()
        assert_nothing_personal(self.log)

    def client(self) -> httpx.AsyncClient:
        """An API client with the key."""
        return httpx.AsyncClient(base_url=self.url, headers={"X-API-Key": API_KEY}, timeout=PATIENCE, verify=_TLS)

    async def post(self, payload: Any) -> httpx.Response:
        """One signed event at the door."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        async with httpx.AsyncClient(timeout=PATIENCE, verify=_TLS) as http:
            return await http.post(f"{self.url}{PATH}", content=body, headers=signed_headers(body, SECRET))

    async def signal(self, event_id: str) -> dict[str, Any]:
        """What became of an event."""
        async with self.client() as http:
            answer = await http.get(f"/signals/{event_id}")
        signal_: dict[str, Any] = answer.json()
        return signal_

    async def until(self, event_id: str, *statuses: str, patience: float = PATIENCE) -> dict[str, Any]:
        """Wait until an event has reached one of the statuses; returns it."""

        async def reached() -> dict[str, Any] | None:
            seen = await self.signal(event_id)
            return seen if seen.get("status") in statuses else None

        found: dict[str, Any] = await eventually(reached, f"{event_id} to be {statuses}", patience=patience)
        return found

    def delivered(self) -> list[dict[str, Any]]:
        """The briefs in the jsonl file, as a stranger would read it."""
        path = self.folder / "briefs.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@asynccontextmanager
async def serving(folder: Path, settings: Mapping[str, str], *arguments: str) -> AsyncIterator[ServiceProcess]:
    """A started service that is ended, and whose log is searched, when the block ends."""
    service = ServiceProcess(folder, settings, arguments or ("serve",))
    try:
        await service.start()
        yield service
    finally:
        await service.close()


def personal_words() -> set[str]:
    """Everything that must never be in a log: mail addresses, names, keys."""
    words = {SECRET, API_KEY, APP_KEY, MAVERA_KEY}
    for person in PEOPLE:
        words |= {word for word in (person.email,) if word}
        words |= {person.attributes[name] for name in ("last_name",) if len(person.attributes.get(name, "")) > 3}
    return words


def assert_nothing_personal(log: str) -> None:
    """Search a log for personal data, secrets, prompts and bodies."""
    lowered = log.lower()
    found = sorted(word for word in personal_words() if word.lower() in lowered)
    found += [mark for mark in ("persona type:", "churn alert", '\\"metric\\"') if mark in lowered]
    assert not found, f"the log holds {found}"
    assert not re.search(r"[\w.+-]+(@|%40)[\w-]+\.\w+", log), "the log holds a mail address"


async def run_command(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, patience: float = 60
) -> tuple[int, str, str]:
    """Run `churn-radar ...` to its end; returns exit code, output, errors."""
    code, out, err = await output_of(*arguments, cwd=cwd, env=env, patience=patience)
    return code, out.decode(), err.decode()


async def output_of(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, patience: float = 60
) -> tuple[int, bytes, bytes]:
    """As `run_command`, byte for byte."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = await nursery.start(
            arguments,
            folder=cwd,
            env=clean_environment(**(env or {})),
            stdout=out.fileno(),
            stderr=err.fileno(),
        )
        try:
            code = await asyncio.wait_for(process.wait(), patience)
        except TimeoutError:
            process.kill()
            raise
        out.seek(0)
        err.seek(0)
        return code, out.read(), err.read()
