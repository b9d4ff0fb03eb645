"""A parent for the processes under test, which has read and compiled everything that they are going to need.

To start `python -m churn_radar` takes a second, and nearly all of it is imports. A child of this parent is a process
like any other, with its own memory, arguments, environment, folder and files; it only starts where the imports end.
With CHURN_RADAR_TESTS_COLD_STARTS=1 each child is started by the interpreter, as users do. A child whose environment
has CLOCK_IS_WRONG_BY_SECONDS believes that it is so much later (not when started cold).

Between the parent and each child stands a process that waits for the child and tells how it ended: so the parent need
do nothing but read the next order.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import ssl
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import certifi

from tests.support.certificates import shared_context

COLD = "CHURN_RADAR_TESTS_COLD_STARTS"
WRONG_BY = "CLOCK_IS_WRONG_BY_SECONDS"
_LONGEST_ORDER = 1_000_000
_PID_BYTES = 4


class Child:
    """One process under test, with the part of `asyncio.subprocess.Process` that the tests need."""

    def __init__(self, pid: int, status: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(status, self._hear)

    def _hear(self) -> None:
        told = os.read(self._status, 100)
        asyncio.get_running_loop().remove_reader(self._status)
        os.close(self._status)
        # Who waited for it has been killed as well: nothing is known but that it is gone.
        self.returncode = int(told) if told else -signal.SIGKILL
        self._ended.set()

    async def wait(self) -> int:
        """Wait for its end; returns the exit code, or the signal's number below zero."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)


Process = Child | asyncio.subprocess.Process


async def start(arguments: Sequence[str], *, folder: Path, env: Mapping[str, str], stdout: int, stderr: int) -> Process:
    """Start `churn-radar ...` in a folder, with this environment and no other, writing to these descriptors."""
    if os.environ.get(COLD):
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "churn_radar", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=folder,
            env=env,
        )
    order = json.dumps({"arguments": list(arguments), "folder": str(folder), "env": dict(env)}).encode()
    status, end = os.pipe()
    try:
        socket.send_fds(_parent(), [order], [stdout, stderr, end])
    finally:
        os.close(end)
    return Child(int.from_bytes(os.read(status, _PID_BYTES)), status)


@cache
def _parent() -> socket.socket:
    """The parent's ear. It ends when this process does, which closes the other end."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there:
        subprocess.Popen(
            [sys.executable, "-m", __name__, str(there.fileno())],
            stdin=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
            pass_fds=[there.fileno()],
        )
    atexit.register(here.close)
    return here


def _read_everything() -> None:
    import churn_radar

    # Nothing of it is garbage.
    gc.disable()
    for module in pkgutil.walk_packages(churn_radar.__path__, "churn_radar."):
        if "__main__" not in module.name and ".migrations." not in module.name:
            importlib.import_module(module.name)


def _next_child(ear: socket.socket) -> list[str] | None:
    """Take orders for ever; returns in each child, with its arguments, and with None once nobody is there any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        order, files, _, _ = socket.recv_fds(ear, _LONGEST_ORDER, 3)
        if not order:
            return None
        if os.fork():
            for file in files:
                os.close(file)
            continue
        ear.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        stdout, stderr, status = files
        child = os.fork()
        if child:
            os.write(status, child.to_bytes(_PID_BYTES))
            os.close(stdout)
            os.close(stderr)
            _, ended = os.waitpid(child, 0)
            os.write(status, b"%d" % os.waitstatus_to_exitcode(ended))
            os._exit(0)
        os.close(status)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        for file in (stdout, stderr):
            os.close(file)
        told = json.loads(order)
        os.chdir(told["folder"])
        os.environ.clear()
        os.environ.update(told["env"])
        gc.enable()
        arguments: list[str] = told["arguments"]
        return arguments


def _set_clock(seconds: float) -> None:
    """Let every module of the service read a clock that is wrong by so much."""
    by = timedelta(seconds=seconds)

    class Kind(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, datetime)

    class Wrong(datetime, metaclass=Kind):
        def __new__(cls, *told: Any, **more: Any) -> datetime:  # type: ignore[misc]
            return datetime(*told, **more)  # noqa: DTZ001

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + by

    for name, module in list(sys.modules.items()):
        if name.startswith("churn_radar.") and getattr(module, "datetime", None) is datetime:
            module.datetime = Wrong  # type: ignore[attr-defined]


def _live(arguments: list[str]) -> NoReturn:
    """Be `churn-radar ...`, and end as the interpreter would, but for clearing the memory object by object."""
    sys.argv = ["churn-radar", *arguments]
    code = 0
    try:
        runpy.run_module("churn_radar", run_name="__main__")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _read_everything()
    ssl.create_default_context = shared_context  # type: ignore[assignment]
    ssl.create_default_context(cafile=certifi.where())
    # Or the first collection in each child would copy all that the imports have left in memory.
    gc.freeze()
    told = _next_child(socket.socket(fileno=int(sys.argv[1])))
    if told is not None:
        if by := os.environ.pop(WRONG_BY, ""):
            _set_clock(float(by))
        _live(told)
