"""A process without a door that is watched: what probes and Prometheus are told, and nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from churn_radar.errors import StartError
from churn_radar.serving import watched
from tests.support.work import payload, service


async def test_a_worker_with_a_port_tells_how_it_is_and_serves_nothing_else(tmp_path: Path) -> None:
    async with service(tmp_path, worker_port=0) as live, watched(live.service.settings, live.service) as url:
        assert url is not None
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            assert (await http.get("/healthz")).status_code == 200
            assert (await http.get("/readyz")).json()["status"] == "ready"
            assert 'churn_radar_backlog{step="research"}' in (await http.get("/metrics")).text
            for path in ("/briefs", "/docs", "/webhooks/customerio"):
                assert (await http.get(path)).status_code == 404
        port = int(re.sub(r".*:", "", url))
        taken = live.service.settings.model_copy(update={"worker_port": port})
        with pytest.raises(StartError, match="CHURN_RADAR_WORKER_PORT"):
            async with watched(taken, live.service):
                pass


async def test_a_worker_without_a_port_listens_to_nobody(tmp_path: Path) -> None:
    async with service(tmp_path) as live, watched(live.service.settings, live.service) as url:
        assert url is None


@pytest.mark.usefixtures("postgres")
async def test_a_door_without_a_worker_tells_backlog_and_troubles_of_all_replicas(tmp_path: Path) -> None:
    async with service(tmp_path, with_worker=False) as door:
        assert door.service.worker is None
        await door.post(payload("cust_1001"))
        door.service.troubles.report("mavera", "the key is refused", datetime.now(UTC), 401)
        told = (await door.stranger.get("/readyz")).json()
        assert told["backlog"] == {"triage": 1, "research": 0, "deliver": 0}
        assert told["troubles"] == {"mavera": "mavera answered 401: the key is refused"}
