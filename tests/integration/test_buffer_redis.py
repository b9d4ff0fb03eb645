"""What only Redis does: a crash of the server, its settings, its replicas, its memory of scripts and groups."""

from __future__ import annotations

import asyncio
import io
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis import Redis

from churn_radar import logs
from churn_radar.buffer.open import open_buffer
from churn_radar.buffer.protocol import BufferOptions
from churn_radar.errors import BufferUnavailable, SettingsError
from churn_radar.settings import Environment, IsolatedSettings
from tests.support.buffers import MOMENT, draining, raw, take_all, tokens, until
from tests.support.door import House, house
from tests.support.servers import PASSWORD, OwnRedis, free_port, own_redis

OPTIONS = BufferOptions(hold_seconds=0.3)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[OwnRedis]:
    folder = tmp_path / "redis"
    folder.mkdir()
    async with own_redis(folder) as server:
        yield server


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as home:
        yield home


@pytest.fixture
def owner(server: OwnRedis) -> Iterator[Redis]:
    with Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def log() -> io.StringIO:
    stream = io.StringIO()
    logs.configure(
        IsolatedSettings(environment=Environment.DEVELOPMENT, log_format="json", log_level="debug"), stream=stream
    )
    return stream


async def test_what_was_held_survives_a_crash_of_redis_and_putting_goes_on_when_it_is_back(
    server: OwnRedis, home: House, log: io.StringIO
) -> None:
    held, refused = set(), 0
    async with open_buffer(server.url, OPTIONS) as buffer:
        # Nobody drains yet: all of it has to come through the crash.
        for number in range(50):
            await buffer.put(raw(f"{number:02d}"))
            held.add(f"{number:02d}")
        await server.kill()
        for number in range(50, 55):
            with pytest.raises(BufferUnavailable):
                await buffer.put(raw(f"{number:02d}"))
            refused += 1
        async with draining(buffer, home) as drain:
            await until(lambda: asyncio.sleep(0, "buffer.unavailable" in log.getvalue()))
            await server.start()
            await buffer.put(raw("60"))
            held.add("60")

            async def arrived() -> bool:
                return len(await home.signals()) == len(held)

            await until(arrived)
            assert drain.running
    assert {signal.event_id for signal in await home.signals()} == held
    assert PASSWORD not in log.getvalue()
    # A drain that spins would say it hundreds of times.
    assert log.getvalue().count('"buffer.unavailable"') == 1


async def test_a_server_that_comes_back_empty_is_taken_as_it_is(server: OwnRedis, owner: Redis) -> None:
    async with open_buffer(server.url, OPTIONS) as buffer:
        await buffer.put(raw("a"))
        await take_all(buffer, 1)
        owner.flushall()
        owner.script_flush()
        await buffer.put(raw("b"))
        (taken,) = await take_all(buffer, 1)
        assert taken.event == raw("b")


async def test_requests_that_wait_at_the_same_time_share_a_round_trip(server: OwnRedis, owner: Redis) -> None:
    async with open_buffer(server.url, OPTIONS) as buffer:
        await buffer.put(raw("first"))
        owner.config_resetstat()
        await asyncio.gather(*(buffer.put(raw(str(number))) for number in range(200)))
        calls = owner.info("commandstats")
        assert calls["cmdstat_evalsha"]["calls"] <= 3
        assert calls["cmdstat_xadd"]["calls"] == 200


async def test_the_bound_holds_over_all_doors_together(server: OwnRedis, owner: Redis) -> None:
    options = BufferOptions(max_length=100)
    async with open_buffer(server.url, options) as one, open_buffer(server.url, options) as two:
        fates = await asyncio.gather(
            *(door.put(raw(f"{number}-{door is one}")) for number in range(80) for door in (one, two)),
            return_exceptions=True,
        )
        assert fates.count(None) == owner.xlen(options.stream) == 100


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [("appendfsync", "everysec", "loses its last writes"), ("appendonly", "no", "a restart of Redis loses"),
     ("maxmemory-policy", "allkeys-lru", "may evict the stream")],
)  # fmt: skip
async def test_a_server_that_may_lose_events_is_warned_of(
    server: OwnRedis, owner: Redis, log: io.StringIO, setting: str, value: str, said: str
) -> None:
    async with open_buffer(server.url, OPTIONS) as buffer:
        assert await buffer.check() == []
    assert "not_durable" not in log.getvalue()
    owner.config_set(setting, value)
    async with open_buffer(server.url, OPTIONS) as buffer:
        (line,) = await buffer.check()
        assert said in line
    assert said in log.getvalue()


async def test_where_the_configuration_is_hidden_that_is_said(server: OwnRedis, owner: Redis) -> None:
    owner.acl_setuser("app", enabled=True, passwords=["+app-password"], keys=["*"], commands=["+@all", "-config"])
    url = server.url.replace(f":{PASSWORD}", "app:app-password")
    async with open_buffer(url, OPTIONS) as buffer:
        (line,) = await buffer.check()
        assert "CONFIG GET" in line
        await buffer.put(raw("a"))


async def test_a_wrong_password_stops_the_start_in_one_line_without_the_password(server: OwnRedis) -> None:
    with pytest.raises(SettingsError) as caught:
        async with open_buffer(server.url.replace(PASSWORD, "a-wrong-one"), OPTIONS):
            pass
    (line,) = caught.value.problems
    assert line.startswith("CHURN_RADAR_BUFFER_URL: ")
    assert "password" in line
    assert "a-wrong-one" not in line


async def test_a_write_that_too_few_replicas_confirm_is_not_acknowledged(server: OwnRedis) -> None:
    async with open_buffer(server.url, BufferOptions(replicas=1, put_timeout_seconds=0.2)) as buffer:
        with pytest.raises(BufferUnavailable, match="0 of 1 replicas"):
            await buffer.put(raw("a"))


async def test_a_write_that_a_replica_confirms_is_acknowledged(server: OwnRedis, tmp_path: Path) -> None:
    folder = tmp_path / "replica"
    folder.mkdir()
    async with own_redis(folder) as replica, open_buffer(server.url, BufferOptions(replicas=1)) as buffer:
        with Redis.from_url(replica.url) as client:
            client.config_set("masterauth", PASSWORD)
            client.replicaof("127.0.0.1", str(server.port))

            async def held() -> bool:
                try:
                    await buffer.put(raw("a"))
                except BufferUnavailable:
                    return False
                return True

            await until(held)
            assert client.xlen(BufferOptions().stream) >= 1


async def test_a_server_out_of_memory_refuses_and_loses_nothing(server: OwnRedis, owner: Redis) -> None:
    async with open_buffer(server.url, OPTIONS) as buffer:
        await buffer.put(raw("a"))
        owner.config_set("maxmemory", "1")
        with pytest.raises(BufferUnavailable, match="cannot hold the event"):
            await buffer.put(raw("b"))
        owner.config_set("maxmemory", "0")
        await buffer.put(raw("c"))
        assert [one.event for one in await take_all(buffer, 2)] == [raw("a"), raw("c")]


async def test_a_worker_that_ends_well_leaves_the_group_and_one_that_owes_does_not(
    server: OwnRedis, owner: Redis
) -> None:
    stream, group = OPTIONS.stream, OPTIONS.group
    async with open_buffer(server.url, OPTIONS) as buffer:
        await buffer.put(raw("a"))
        await buffer.done(tokens(await take_all(buffer, 1)))
    assert owner.xinfo_consumers(stream, group) == []
    async with open_buffer(server.url, OPTIONS) as buffer:
        await buffer.put(raw("b"))
        await take_all(buffer, 1)
    # With its name, Redis would forget what it had taken.
    assert [one["pending"] for one in owner.xinfo_consumers(stream, group)] == [1]
    async with open_buffer(server.url, OPTIONS) as buffer:
        (again,) = await take_all(buffer, 1)
        assert again.event == raw("b")


async def test_a_server_that_does_not_answer_keeps_nobody_waiting_for_long(server: OwnRedis) -> None:
    async with open_buffer(server.url, BufferOptions(put_timeout_seconds=0.3)) as buffer:
        await buffer.put(raw("a"))
        assert server.process is not None
        server.process.send_signal(19)
        clock = asyncio.get_running_loop().time
        began = clock()
        fates = await asyncio.gather(*(buffer.put(raw(str(n))) for n in range(1000)), return_exceptions=True)
        # One after the other they would wait for five minutes.
        assert clock() - began < 30
        assert all(isinstance(fate, BufferUnavailable) for fate in fates)
        server.process.send_signal(18)
        await buffer.put(raw("b"))
        assert await buffer.take(1, MOMENT)


async def test_a_server_that_became_a_replica_is_looked_up_anew(server: OwnRedis, owner: Redis) -> None:
    def connections() -> set[str]:
        return {one["id"] for one in owner.client_list(_type="normal") if one["id"] != str(owner.client_id())}

    async with open_buffer(server.url, OPTIONS) as buffer:
        await buffer.put(raw("a"))
        before = connections()
        owner.replicaof("127.0.0.1", str(free_port()))
        with pytest.raises(BufferUnavailable, match="ReadOnlyError"):
            await buffer.put(raw("b"))
        # By the name the buffer would now reach the new primary.
        await until(lambda: asyncio.sleep(0, not connections() & before))
        owner.replicaof("NO", "ONE")
        await buffer.put(raw("c"))


async def test_the_rights_that_the_documents_name_are_enough(server: OwnRedis, owner: Redis) -> None:
    text = (Path(__file__).parents[2] / "docs" / "buffers.md").read_text()
    command = re.search(r"ACL SETUSER churn_radar .*?(?=\n```)", text, re.DOTALL)
    assert command is not None
    owner.execute_command(*command[0].replace("PASSWORD", PASSWORD).split())  # type: ignore[no-untyped-call]
    url = server.url.replace(":" + PASSWORD, "churn_radar:" + PASSWORD)
    options = BufferOptions(hold_seconds=0.1)
    async with open_buffer(url, options) as buffer, open_buffer(url, options) as other:
        assert await buffer.check() == []
        await buffer.put(raw("a"))
        taken = await take_all(buffer, 1)
        await buffer.hold(tokens(taken))
        again = await take_all(other, 1)
        assert again[0].deliveries == 2
        await other.release(tokens(again))
        await other.done(tokens(again))
        assert await buffer.length() == 0
    assert owner.xinfo_consumers(options.stream, options.group) == []


async def test_tls_checks_the_servers_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate(tmp_path)
    files = [option for kind in ("cert", "key", "ca-cert") for option in (f"--tls-{kind}-file", f"{kind}.pem")]
    tls_port = free_port()
    tls = ["--tls-port", str(tls_port), *files, "--tls-auth-clients", "no"]
    async with own_redis(tmp_path, *tls) as server:
        url = server.url.replace("redis://", "rediss://").replace(str(server.port), str(tls_port))
        async with open_buffer(url, OPTIONS) as buffer:
            with pytest.raises(BufferUnavailable):
                await buffer.put(raw("a"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca-cert.pem"))
        async with open_buffer(url, OPTIONS) as buffer:
            await buffer.put(raw("a"))
            assert await buffer.length() == 1


def certificate(folder: Path) -> None:
    """One for 127.0.0.1 that vouches for itself."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    shutil.copy(folder / "cert.pem", folder / "ca-cert.pem")
