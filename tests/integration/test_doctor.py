"""What the doctor finds, and that it neither changes nor spends anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from churn_radar import doctor
from churn_radar.connecting import connect, endpoint_of
from churn_radar.customerio.workspace import Workspace
from churn_radar.doctor import Finding, clock_ahead, examine
from churn_radar.errors import SettingsError
from churn_radar.simulator.customerio import CustomerioState, create_customerio
from churn_radar.simulator.mavera import MaveraState, create_mavera
from churn_radar.simulator.server import running
from churn_radar.store.record import lock_record
from churn_radar.store.schema import upgrade_record
from tests.support.work import settings_for

ENDPOINT = "https://hooks.example.com/webhooks/customerio"


@dataclass(frozen=True)
class StandIns:
    """Both upstream services, and the settings that point at them."""

    customerio: CustomerioState
    mavera: MaveraState
    settings: Mapping[str, Any]


@asynccontextmanager
async def stand_ins() -> AsyncIterator[StandIns]:
    customerio, mavera = create_customerio(), create_mavera()
    async with running(customerio) as customerio_url, running(mavera) as mavera_url:
        settings = {"cio_app_url": f"{customerio_url}/v1", "mavera_url": f"{mavera_url}/api/v1", "sinks": ("console",)}
        yield StandIns(customerio.state.simulation, mavera.state.simulation, settings)


async def findings(folder: Path, **more: Any) -> dict[str, Finding]:
    async with stand_ins() as upstreams:
        found = await examine(settings_for(folder, **{**upstreams.settings, **more}))
        assert list(upstreams.mavera.messages) == []
    assert all(len(each.told.splitlines()) == 1 for each in found)
    return {each.subject: each for each in found}


async def test_where_everything_is_there_everything_is_fine(tmp_path: Path) -> None:
    found = await findings(tmp_path)
    assert list(found) == ["record", "buffer", "customerio", "mavera", "clock", "sinks"]
    assert all(each.fine for each in found.values()), found
    assert list(tmp_path.iterdir()) == []


async def test_a_record_in_use_is_fine_and_half_a_copy_is_not(tmp_path: Path) -> None:
    upgrade_record(tmp_path / "record.db")
    lock = lock_record(tmp_path / "record.db")
    try:
        assert "in use by a running service" in (await findings(tmp_path))["record"].told
    finally:
        lock.release()
    (tmp_path / "record.db").write_bytes(b"hello")
    assert not (await findings(tmp_path))["record"].fine


async def test_wrong_keys_are_told_without_the_keys(tmp_path: Path) -> None:
    found = await findings(tmp_path, cio_app_key="wrong-key-0451", mavera_api_key="mvra_live_wrong")
    assert "; copy CIO_APP_KEY again (Customer.io: " in found["customerio"].told
    assert "; copy MAVERA_API_KEY again" in found["mavera"].told
    assert [each.fine for each in found.values()] == [True, True, False, False, True, True]
    assert "0451" not in str(found)
    assert "mvra_live_wrong" not in str(found)


async def test_missing_keys_and_what_does_not_answer_are_told(tmp_path: Path) -> None:
    found = await findings(
        tmp_path,
        environment="development",
        cio_app_key=None,
        mavera_url="http://127.0.0.1:1/api/v1",
        buffer_url="redis://:a-password@127.0.0.1:1",
    )
    assert found["customerio"].told.startswith("CIO_APP_KEY is missing; set it")
    assert "CHURN_RADAR_MAVERA_URL" in found["mavera"].told.rpartition("; ")[2]
    assert "CHURN_RADAR_BUFFER_URL" in found["buffer"].told.rpartition("; ")[2]
    assert "a-password" not in str(found)
    assert found["clock"] == Finding("clock", True, "nobody told the time")


async def test_the_key_of_the_write_back_is_told_with_what_to_do(tmp_path: Path) -> None:
    track = {"cio_site_id": "wrong", "cio_track_key": "wrong", "cio_track_url": "http://127.0.0.1:1/api/v2"}
    found = await findings(tmp_path, sinks=("customerio", "console"), **track)
    assert found["sinks"].told.startswith("customerio: no connection to 127.0.0.1")
    assert "CHURN_RADAR_CIO_TRACK_URL" in found["sinks"].told.rpartition("; ")[2]


async def test_a_record_whose_name_does_not_resolve_is_told_in_words(tmp_path: Path) -> None:
    record = (await findings(tmp_path, database_url="postgresql://nobody@no-such-host.invalid/x"))["record"]
    assert "does not resolve" in record.told
    assert "CHURN_RADAR_DATABASE_URL" in record.told.rpartition("; ")[2]


async def test_every_mistake_of_the_sinks_has_a_line_of_its_own(tmp_path: Path) -> None:
    async with stand_ins() as upstreams:
        settings = settings_for(tmp_path, **{**upstreams.settings, "sinks": ("consol", "console", "console", "slak")})
        wrong = [each for each in await examine(settings) if not each.fine]
    assert [each.subject for each in wrong] == ["sinks"] * 3
    assert [word in each.told for word, each in zip(("consol", "twice", "slak"), wrong, strict=True)] == [True] * 3


@pytest.mark.parametrize(("off", "way"), [(95, "95 seconds ahead of"), (-95, "95 seconds behind")])
async def test_a_clock_that_is_off_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: int, way: str) -> None:
    monkeypatch.setattr(doctor, "clock_ahead", lambda date, now: timedelta(seconds=off))
    clock = (await findings(tmp_path))["clock"]
    assert not clock.fine
    assert way in clock.told


def test_the_time_of_an_answer_is_its_date() -> None:
    now = datetime(2026, 11, 24, 12, 0, 30, tzinfo=UTC)
    assert clock_ahead("Tue, 24 Nov 2026 12:00:00 GMT", now) == timedelta(seconds=30)
    assert clock_ahead(None, now) is None
    assert clock_ahead("yesterday", now) is None


async def test_connecting_makes_one_webhook_and_never_a_second(tmp_path: Path) -> None:
    async with stand_ins() as upstreams:
        settings = settings_for(tmp_path, **upstreams.settings)
        workspace, hooks = Workspace.create(settings), upstreams.customerio.workspace.webhooks
        endpoint = endpoint_of("https://hooks.example.com/", settings)
        assert endpoint == endpoint_of(ENDPOINT, settings) == ENDPOINT
        assert (await connect(workspace, endpoint, settings, dry_run=True)).change == "would be created"
        assert len(hooks) == 0
        assert (await connect(workspace, endpoint, settings, dry_run=False)).change == "created"
        assert (await connect(workspace, endpoint, settings, dry_run=False)).change == "is as it should be"
        hooks[1] |= {"disabled": True, "events": ["email_opened"], "endpoint": ENDPOINT + "/"}
        assert (await connect(workspace, endpoint, settings, dry_run=True)).change == "would be updated"
        assert dict(hooks[1])["disabled"] is True
        assert (await connect(workspace, endpoint, settings, dry_run=False)).change == "updated"
        await workspace.aclose()
    assert list(hooks) == [1]
    assert dict(hooks[1])["disabled"] is False
    assert {"email_opened", "email_bounced", "customer_unsubscribed"} <= set(hooks[1]["events"])


@pytest.mark.parametrize(
    "url", [None, "hooks.example.com", "https://localhost", "https://127.0.0.1", "ftp://h.example"]
)
def test_an_address_that_customerio_cannot_reach_is_refused(tmp_path: Path, url: str | None) -> None:
    with pytest.raises(SettingsError):
        endpoint_of(url, settings_for(tmp_path))
