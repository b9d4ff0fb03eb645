"""Faults made to happen for real, and what each does to the service: work waits, and nothing acknowledged is lost.

How the clients name each trouble of the network is tested with them; here it is the whole service that lives
through it. In the end the crash test's verifier counts every event, with the standard library only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from churn_radar.customerio.client import CustomerioClient
from churn_radar.intake import door
from churn_radar.research.mave import MaveClient
from churn_radar.sending import signed_headers
from churn_radar.simulator.mavera import CHAT
from churn_radar.simulator.people import PEOPLE
from churn_radar.sinks.jsonl import JsonlSink
from churn_radar.sockets import bind
from tests.acceptance.conftest import Upstreams
from tests.integration.wire import drip, flooding, hang, wire
from tests.support import work
from tests.support.door import held
from tests.support.place import Place
from tests.support.service import SECRET, ServiceProcess, clean_environment, eventually, run_command, serving
from tests.torture.letters import Expected, Letter, Said, write_letters
from tests.torture.reading import FileReading, Reading
from tests.torture.verifier import Evidence, unfinished, verify

pytestmark = pytest.mark.acceptance

OF_A_FILE = pytest.mark.only_on("sqlite", why="about the record's own file and its disk; Postgres looks after its own")
PRESSED = 4.0  # seconds that Customer.io waits for an answer


@dataclass
class Sender:
    """Customer.io: holds on to each letter until the door has acknowledged it."""

    service: ServiceProcess
    http: httpx.AsyncClient
    letters: list[Letter] = field(default_factory=list)
    _stream: Iterator[Letter] = field(default_factory=lambda: write_letters(PEOPLE, random.Random(1)))

    def write(self, count: int, *, only: Expected | None = None) -> list[Letter]:
        """New letters, of one kind when asked."""
        fresh = list(islice((each for each in self._stream if only in (None, each.expected)), count))
        self.letters += fresh
        return fresh

    async def send(self, letter: Letter) -> int | None:
        """Send one letter, once; returns the status, None when the connection broke."""
        try:
            answer = await self.http.post(f"{self.service.url}{door.PATH}", content=letter.body, headers=letter.headers)
        except httpx.TransportError:
            return None
        if answer.status_code == 200:
            letter.said.append(Said(answer.json()["status"], answer.json()["event_id"]))
        else:
            assert answer.status_code == 503, answer.text
            assert answer.headers["retry-after"] == "1"
        return answer.status_code

    async def repeat(self) -> None:
        """Send what is not acknowledged again, byte for byte, until it is."""

        async def acknowledged() -> bool:
            for letter in self.letters:
                if not letter.acknowledged:
                    await self.send(letter)
            return all(letter.acknowledged for letter in self.letters)

        await eventually(acknowledged, "the door to take everything")

    async def all_is_well(self, record: Reading, upstreams: Upstreams, *, kills: int = 0) -> None:
        """Wait until all work is done, stop the service, and count every event."""

        # One that nobody listens to is in none of them.
        kept = {each.said[0].event_id for each in self.letters if each.expected is not Expected.NOISE}

        async def done() -> bool:
            return unfinished(record) == 0 and kept <= ids_in(record)

        await eventually(done, "all work to be done")
        assert await self.service.terminate() == 0
        sink = self.service.folder / "briefs.jsonl"
        calls, again = len(upstreams.asked), upstreams.place.repeated
        assert verify(Evidence(self.letters, record, sink, calls, kills, concurrency=10, repeated=again)) == []


@contextlib.asynccontextmanager
async def started(folder: Path, settings: Mapping[str, str], *arguments: str) -> AsyncIterator[Sender]:
    """A service as a process of its own, and Customer.io in front of it."""
    async with httpx.AsyncClient(timeout=10, trust_env=False) as http, serving(folder, settings, *arguments) as service:
        yield Sender(service, http)


def as_root(*command: str | Path) -> None:
    """Run a command that only root may; skips the test, saying why, where that cannot be done."""
    if os.geteuid() != 0:
        pytest.skip(f"{command[0]} needs root")
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip(f"there is no {command[0]} here")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{command[0]} failed: {error.stderr.strip()}")


@contextlib.contextmanager
def locked(place: Place, folder: Path) -> Iterator[None]:
    """Another program holds what the door wants to write to."""
    with held(folder / "record.db") if place.database is None else place.database.locked("signals"):
        yield


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MiB, unmounted in the end."""
    folder = tmp_path / "disk"
    folder.mkdir()
    as_root("mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder)
    try:
        yield folder
    finally:
        if subprocess.run(["umount", folder], check=False, capture_output=True).returncode:
            subprocess.run(["umount", "--lazy", folder], check=True)
        assert not folder.is_mount()


@pytest.fixture
def real_disk() -> Iterator[Path]:
    """A folder that does not lie in memory, where a file that is open already may be written to whatever its flags."""
    with tempfile.TemporaryDirectory(prefix="churn-radar-") as folder:
        yield Path(folder)


# -- the disk and the file


@OF_A_FILE
async def test_on_a_full_disk_the_door_says_503_and_with_room_again_everything_is_made_good(
    tmp_path: Path, upstreams: Upstreams, small_disk: Path
) -> None:
    record, ballast = small_disk / "record.db", small_disk / "ballast"
    settings = upstreams.settings(tmp_path, CHURN_RADAR_DATABASE_URL=f"sqlite:///{record}")
    async with started(tmp_path, settings) as sender:
        for letter in sender.write(10):
            assert await sender.send(letter) == 200
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"0" * 4096)
        huge = b'{"event_id": "01HUGE", "what": "%s"}' % (b"x" * 4_000_000)
        sender.letters.append(Letter(huge, signed_headers(huge, SECRET), Expected.JUNK, "", False))
        assert await sender.send(sender.letters[-1]) == 503
        for letter in sender.write(40):
            assert await sender.send(letter) in (200, 503)
        async with sender.service.client() as http:
            assert (await http.get("/readyz")).status_code == 503
        ballast.unlink()
        await sender.repeat()
        await sender.all_is_well(FileReading(record), upstreams)


@OF_A_FILE
async def test_a_database_that_becomes_read_only_is_503_and_goes_on_when_it_is_writable_again(
    tmp_path: Path, upstreams: Upstreams, real_disk: Path
) -> None:
    record = real_disk / "record.db"
    settings = upstreams.settings(tmp_path, CHURN_RADAR_DATABASE_URL=f"sqlite:///{record}")
    async with started(tmp_path, settings) as sender:
        [first] = sender.write(1, only=Expected.CHURN)
        assert await sender.send(first) == 200
        files = [str(path) for path in real_disk.glob("record.db*") if path.suffix in (".db", ".db-wal")]
        assert len(files) == 2
        # Not even root writes to an immutable file, and not by a handle that is open already.
        as_root("chattr", "+i", *files)
        try:
            said = [await sender.send(letter) for letter in sender.write(6, only=Expected.CHURN)]
            async with sender.service.client() as http:
                assert (await http.get(f"/signals/{first.said[0].event_id}")).status_code == 200
                assert (await http.get("/readyz")).status_code == 503
        finally:
            as_root("chattr", "-i", *files)
        assert said == [503] * 6
        await sender.repeat()
        await sender.all_is_well(FileReading(record), upstreams)


@OF_A_FILE
async def test_on_a_disk_that_came_back_read_only_the_start_says_so_and_the_next_one_loses_nothing(
    tmp_path: Path, upstreams: Upstreams, small_disk: Path
) -> None:
    record = small_disk / "record.db"
    settings = upstreams.settings(tmp_path, CHURN_RADAR_DATABASE_URL=f"sqlite:///{record}")
    async with started(tmp_path, settings, "serve", "--no-worker") as sender:
        for letter in sender.write(15):
            assert await sender.send(letter) == 200
        await sender.service.kill()
        as_root("mount", "-o", "remount,ro", small_disk)
        code, _, err = await run_command("serve", cwd=tmp_path, env=settings)
        as_root("mount", "-o", "remount,rw", small_disk)
        assert code == 1
        [line] = err.strip().splitlines()
        assert "record.db" in line
        sender.service.arguments = ("serve",)
        await sender.service.start()
        await sender.all_is_well(FileReading(record), upstreams)


@pytest.fixture
def mave_seconds() -> tuple[float, float]:
    return (0.1, 0.6)


@pytest.mark.only_on("sqlite", "postgres", why="with a buffer the door goes on, which the tests of the buffers show")
async def test_while_another_program_locks_the_database_the_door_says_503_in_time_and_no_research_is_paid_twice(
    tmp_path: Path, upstreams: Upstreams
) -> None:
    async with started(tmp_path, upstreams.settings(tmp_path)) as sender:
        for letter in sender.write(12):
            assert await sender.send(letter) == 200

        async def under_way() -> bool:
            return bool(upstreams.mavera.in_flight[CHAT] > 2)

        await eventually(under_way, "research to be under way", every=0.005)
        began = time.monotonic()
        with locked(upstreams.place, tmp_path):
            refused = sender.write(5, only=Expected.CHURN)
            assert await asyncio.gather(*map(sender.send, refused)) == [503] * 5
            assert time.monotonic() - began < PRESSED
            # Longer than the door waits; and Mave's answers come in meanwhile.
            await asyncio.sleep(max(0.0, began + 3.2 - time.monotonic()))
        await sender.repeat()
        # One that was being committed when its time was up may have been kept after all; never twice.
        assert {letter.said[0].verdict for letter in refused} <= {"accepted", "duplicate"}
        await sender.all_is_well(upstreams.place.reading(tmp_path), upstreams)


def uncommitted_tail(record: Path) -> None:
    """Another program dies in the middle of a commit that had outgrown its memory: frames without an end."""
    script = (
        "import os, signal, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA cache_size = 1')\n"
        "c.execute('BEGIN IMMEDIATE')\n"
        "c.execute(\"UPDATE signals SET reason = hex(randomblob(20000)), status = 'skipped'\")\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    wal = record.with_name("record.db-wal")
    before = wal.stat().st_size
    subprocess.run([sys.executable, "-c", script, record], check=False)
    assert wal.stat().st_size > before + 8192


def cut_in_a_frame(record: Path) -> None:
    """As above, and of the last frame only a part has reached the disk."""
    uncommitted_tail(record)
    wal = record.with_name("record.db-wal")
    os.truncate(wal, wal.stat().st_size - 1500)


def garbage(record: Path) -> None:
    """The file system kept the length of a write and not its content."""
    with record.with_name("record.db-wal").open("ab") as file:
        file.write(random.Random(1).randbytes(2 * 4120 - 900))


def a_frame_with_a_broken_checksum(record: Path) -> None:
    """The last committed frame once more, marked as a commit, with one bit of its page flipped."""
    wal = record.with_name("record.db-wal")
    content = bytearray(wal.read_bytes())
    [page_size] = struct.unpack(">I", content[8:12])
    frame = content[-(page_size + 24) :]
    frame[100] ^= 1
    wal.write_bytes(content + frame)


@OF_A_FILE
async def test_a_half_written_end_of_the_log_costs_no_committed_row(tmp_path: Path, upstreams: Upstreams) -> None:
    async with started(tmp_path, upstreams.settings(tmp_path), "serve", "--no-worker") as sender:
        assert await asyncio.gather(*map(sender.send, sender.write(20))) == [200] * 20
        await sender.service.kill()
    for damage in (uncommitted_tail, cut_in_a_frame, garbage, a_frame_with_a_broken_checksum):
        folder = tmp_path / damage.__name__
        folder.mkdir()
        for name in ("record.db", "record.db-wal"):
            shutil.copy(tmp_path / name, folder / name)
        # All of it stands in the log alone: the database itself has hardly been written to.
        assert (folder / "record.db-wal").stat().st_size > 20 * 512
        damage(folder / "record.db")
        sink = folder / "briefs.jsonl"
        async with work.service(folder, sinks=[JsonlSink("jsonl", sink, max_bytes=10_000_000)]) as live:
            for letter in sender.letters:
                if letter.expected is Expected.CHURN:
                    await live.becomes(str(letter.said[0].event_id), "briefed", "joined", "skipped")

            async def done() -> bool:
                return unfinished(FileReading(folder / "record.db")) == 0  # noqa: B023  awaited inside the loop

            await eventually(done, "all work to be done")
            calls = len(live.mavera.messages)
        evidence = Evidence(sender.letters, FileReading(folder / "record.db"), sink, calls, kills=0, concurrency=10)
        assert verify(evidence) == [], damage.__name__


async def test_sigterm_in_a_burst_of_commits_keeps_what_was_acknowledged_and_the_rest_is_taken_at_the_next_start(
    tmp_path: Path, upstreams: Upstreams
) -> None:
    record = upstreams.place.reading(tmp_path)
    async with started(tmp_path, upstreams.settings(tmp_path)) as sender:

        async def send_on() -> None:
            while await sender.send(*sender.write(1)) is not None:
                pass

        burst = [asyncio.create_task(send_on()) for _ in range(20)]

        async def well_under_way() -> bool:
            return sum(letter.acknowledged for letter in sender.letters) > 40

        await eventually(well_under_way, "the first acknowledgements", every=0.001)
        assert await sender.service.terminate() == 0
        await asyncio.gather(*burst)
        kept = {each.said[0].event_id for each in sender.letters if each.said and each.expected is not Expected.NOISE}
        assert kept <= ids_in(record) or upstreams.place.buffer
        assert not all(letter.acknowledged for letter in sender.letters)
        await sender.service.start()
        await sender.repeat()
        await sender.all_is_well(record, upstreams)


def ids_in(record: Reading) -> set[str]:
    return {row["id"] for row in record.rows("SELECT coalesce(event_id, signal_id) AS id FROM signals")}


# -- the log


@contextlib.asynccontextmanager
async def without_a_log(folder: Path, settings: Mapping[str, str], to: str) -> AsyncIterator[Sender]:
    """A service whose standard error is a full disk, a pipe that loses its reader, or missing from the start."""
    with contextlib.closing(bind("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    reader, writer = os.pipe()
    stderr = writer if to == "a pipe" else os.open("/dev/full", os.O_WRONLY)
    redirected = "2>&-" if to == "nothing" else ""
    env = clean_environment(**settings, CHURN_RADAR_PORT=url.rpartition(":")[2])
    # With it Python keeps nothing that could not be written, and the exit code is right by itself.
    env.pop("PYTHONUNBUFFERED", None)
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, "-m", "churn_radar", "serve"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=stderr,
        cwd=folder,
        env=env,
    )
    for descriptor in {writer, stderr}:
        os.close(descriptor)
    service = ServiceProcess(folder, settings, process=process, url=url)
    async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
        sender = Sender(service, http)
        try:

            async def acknowledged() -> bool:
                return await sender.send(first) == 200

            [first] = sender.write(1)
            await eventually(acknowledged, "the service to listen")
            if to == "a pipe":
                assert b"service.listening" in os.read(reader, 1_000_000)
            os.close(reader)
            yield sender
        finally:
            await service.close()


@pytest.mark.anywhere
@pytest.mark.parametrize("to", ["a pipe", "a full disk", "nothing"])
async def test_a_log_that_cannot_be_written_changes_nothing_else(tmp_path: Path, upstreams: Upstreams, to: str) -> None:
    settings = upstreams.settings(tmp_path)
    del settings["CHURN_RADAR_PORT"]
    async with without_a_log(tmp_path, settings, to) as sender:
        assert [await sender.send(letter) for letter in sender.write(30)] == [200] * 30
        async with httpx.AsyncClient(base_url=sender.service.url, timeout=10, trust_env=False) as http:
            assert (await http.get("/readyz")).status_code == 200
        await sender.all_is_well(upstreams.place.reading(tmp_path), upstreams)


# -- the clock


def set_clock(live: work.Running, clock: Callable[[], datetime]) -> None:
    """Give the door, the worker and the service another clock while they run."""
    assert live.service.worker is not None
    live.service.door._now = clock
    live.service.now = clock
    object.__setattr__(live.service.worker.floor, "now", clock)


def both_delivered(sink: work.ListSink) -> Callable[[], Awaitable[bool]]:
    """Whether the sink has one brief of each of two customers; a delivery follows its brief, not with it."""

    async def probe() -> bool:
        return sorted(brief.customer_id for brief in sink.briefs) == ["cust_1001", "cust_1002"]

    return probe


async def knock(live: work.Running, payload: Any) -> httpx.Response:
    """A signed event at the door."""
    body = payload if isinstance(payload, bytes) else httpx.Request("POST", "http://x", json=payload).content
    headers = signed_headers(body, work.SECRET)
    return await live.stranger.post(door.PATH, content=body, headers=headers)


@pytest.mark.parametrize("jump", [timedelta(seconds=3), timedelta(days=2)])
async def test_a_clock_that_jumps_back_loses_doubles_and_disorders_nothing(
    tmp_path: Path, place: Place, jump: timedelta
) -> None:
    sink = work.ListSink()
    clock = work.Clock(datetime.now(UTC))
    first, second, third = (
        work.payload("cust_1001", "bounced"),
        work.payload("cust_1001", "spammed"),
        work.payload("cust_1002"),
    )
    async with work.service(tmp_path, sinks=[sink]) as live:
        set_clock(live, clock)
        assert (await knock(live, first)).json()["status"] == "accepted"
        await live.becomes(first["event_id"], "briefed")
        clock.forward(-jump)
        assert (await knock(live, first)).json()["status"] == place.repeated
        assert (await knock(live, second)).json()["status"] == "accepted"
        assert (await knock(live, third)).json()["status"] == "accepted"
        await live.becomes(third["event_id"], "briefed")
        joined = await live.becomes(second["event_id"], "joined", "briefed")
        assert (joined["status"], joined["brief_id"] is not None) == ("joined", True)
        items = (await live.http.get("/signals")).json()["items"]
        assert [item["event_id"] for item in items] == [each["event_id"] for each in (third, second, first)]
        await work.until(both_delivered(sink), "both briefs at the sink")
        assert len(live.mavera.messages) == 2


# -- the network

PATIENT: dict[str, Any] = {"retry_delays_seconds": (0.1,) * 200, "in_call_attempts": 1}


@contextlib.asynccontextmanager
async def plain_text() -> AsyncIterator[str]:
    """A server that speaks no TLS."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read(100)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


@contextlib.asynccontextmanager
async def bad_network(trouble: str) -> AsyncIterator[str]:
    """The base URL of an upstream in trouble."""
    if trouble == "no such name":
        yield "https://does-not-exist.invalid/v1"
    elif trouble == "no TLS":
        async with plain_text() as url:
            yield url
    else:
        behaviour = {"silent": hang, "endless": flooding(200), "dripping": drip}[trouble]
        async with wire(behaviour) as place:
            yield place.url


TROUBLES = {
    "silent": "in time",
    "endless": "too large",
    "dripping": "in time",
    "no TLS": "TLS with 127.0.0.1 failed",
    "no such name": "does not resolve",
}
# The others end by themselves, and might be cut short on a slow machine.
SOON = {each: {"cio_timeout_seconds": 0.2, "mavera_timeout_seconds": 0.2} for each in ("silent", "dripping")}


@pytest.mark.parametrize("setting", ["cio_app_url", "mavera_url"])
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_while_an_upstream_is_in_trouble_signals_are_taken_and_wait_and_are_briefed_once_it_is_mended(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch, setting: str, trouble: str
) -> None:
    for client in (CustomerioClient, MaveClient):
        defaults = client.__init__.__kwdefaults__
        assert defaults is not None
        monkeypatch.setitem(defaults, "deadline_margin_seconds", 0.1)
    events = [work.payload(customer) for customer in ("cust_1001", "cust_1002")]
    stands = "received" if setting == "cio_app_url" else "waiting"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with bad_network(trouble) as url:
        told = {**PATIENT, **SOON.get(trouble, {}), setting: url}
        async with work.service(tmp_path, **told) as live:
            for event in events:
                assert (await knock(live, event)).json()["status"] == "accepted"

            async def both_wait() -> bool:
                seen = [(await live.http.get(f"/signals/{event['event_id']}")).json() for event in events]
                # Behind a buffer they may not have reached the record yet.
                return all(TROUBLES[trouble] in (each.get("reason") or "") and each["attempts"] > 1 for each in seen)

            await work.until(both_wait, "both to have failed more than once", seconds=30)
            # The door minds none of it.
            began = time.monotonic()
            assert (await knock(live, events[0])).json()["status"] == place.repeated
            assert time.monotonic() - began < PRESSED
            assert (await live.stranger.get("/readyz")).json()["status"] == "ready"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 160 * 1024
    sink = work.ListSink()
    async with work.service(tmp_path, sinks=[sink], **PATIENT) as live:
        for event in events:
            signal = await live.becomes(event["event_id"], "briefed")
            assert {step["status"] for step in signal["history"]} == {"received", "waiting", "researching", "briefed"}
            assert [step["reason"] for step in signal["history"] if step["status"] == stands][-1]
        assert len(live.mavera.messages) == 2
        await work.until(both_delivered(sink), "both briefs at the sink")


async def dripping(url: str) -> bytes:
    """Begin a request and send its body a byte at a time; returns what the door says in the end."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answering = asyncio.ensure_future(reader.read())
    try:
        writer.write(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" % door.PATH.encode())
        while not answering.done():
            writer.write(b"{")
            await asyncio.sleep(0.05)
        return answering.result()
    except ConnectionError:
        # Shown out with bytes of theirs unread: their own network may tell them of that before the answer.
        return b""
    finally:
        answering.cancel()
        writer.close()


async def test_senders_that_drip_their_bodies_keep_no_other_from_the_door(tmp_path: Path, place: Place) -> None:
    async with work.service(tmp_path, with_worker=False) as live:
        slow = [asyncio.create_task(dripping(live.url)) for _ in range(100)]
        await asyncio.sleep(0.2)
        said = await asyncio.gather(*(knock(live, work.payload()) for _ in range(20)))
        assert [answer.json()["status"] for answer in said] == ["accepted"] * 20
        assert not any(each.done() for each in slow), "the slow senders were waited for"
        for each in slow:
            each.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
    assert place.buffer or len(ids_in(place.reading(tmp_path))) == 20


async def test_senders_that_drip_their_bodies_are_shown_out(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "BODY_TIMEOUT_SECONDS", 0.3)
    async with work.service(tmp_path, with_worker=False) as live:
        async with asyncio.timeout(20):
            answers = await asyncio.gather(*(dripping(live.url) for _ in range(50)))
        assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers if answer)
    assert ids_in(place.reading(tmp_path)) == set()
