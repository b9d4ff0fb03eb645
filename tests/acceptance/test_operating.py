"""The commands of whoever runs the service, as they type them, beside a running service."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.acceptance.conftest import Upstreams
from tests.support.service import API_KEY, APP_KEY, MAVERA_KEY, SECRET, run_command, serving

pytestmark = pytest.mark.acceptance


@pytest.mark.only_on("sqlite", why="where the record is makes no difference to what is typed")
async def test_the_doctor_the_webhook_and_the_backfill_work_beside_a_running_service(
    tmp_path: Path, upstreams: Upstreams
) -> None:
    now = int(time.time())
    upstreams.customerio.workspace.messages = [
        {
            "id": "dg1",
            "type": "email",
            "created": now - 3600,
            "customer_id": "cust_1001",
            "metrics": {"sent": now - 3600, "spammed": now - 60},
        }
    ]
    settings = upstreams.settings(tmp_path)
    said = []

    async def command(*words: str, exits: int = 0, key: str = MAVERA_KEY) -> str:
        code, out, err = await run_command(*words, cwd=tmp_path, env={**settings, "MAVERA_API_KEY": key})
        assert code == exits, out + err
        said.append(out + err)
        return out

    async with serving(tmp_path, settings) as service:
        settings["CHURN_RADAR_PORT"] = service.url.rpartition(":")[2]
        told = await command("doctor")
        assert [line.partition(": ")[2].partition(":")[0] for line in told.splitlines()] == ["fine"] * 7
        assert "in use by a running service" in told
        wrong = await command("doctor", exits=1, key="mvra_live_no_such_key")
        assert "mavera: WRONG" in wrong

        url = ("--url", "https://hooks.example.com")
        assert "would be created" in await command("connect", *url, "--dry-run")
        assert "next: put its signing key" in await command("connect", *url)
        assert "is as it should be" in await command("connect", *url)
        assert len(upstreams.customerio.workspace.webhooks) == 1

        assert "spammed: 1 fed in, 0 known already" in await command("backfill", "--since", "7d")
        assert "spammed: 0 fed in, 1 known already" in await command("backfill", "--since", "7d")
        async with service.client() as http:
            [signal] = (await http.get("/signals")).json()["items"]
        await service.until(signal["id"], "briefed")
    for secret in (SECRET, API_KEY, APP_KEY, MAVERA_KEY, "mvra_live_no_such_key"):
        assert secret not in "".join(said)
