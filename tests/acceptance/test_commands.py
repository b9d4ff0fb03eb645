"""The commands as a newcomer types them: what they print, and how they end."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

from tests.acceptance.conftest import Upstreams
from tests.acceptance.test_main_job import event
from tests.support.service import API_KEY, APP_KEY, MAVERA_KEY, SECRET, output_of, run_command, serving

pytestmark = pytest.mark.acceptance
OF_A_FILE = pytest.mark.only_on("sqlite", why="about the record's own file; a database has a server to look after it")


def one_line(errors: str) -> str:
    """The single line that an error is told in."""
    [line] = errors.strip().splitlines()
    assert line.startswith("churn-radar: ")
    assert "Traceback" not in line
    return line


async def test_the_demo_tells_its_story_and_prints_six_alert_blocks(tmp_path: Path) -> None:
    code, out, err = await run_command("demo", cwd=tmp_path, patience=100)
    assert code == 0, (out, err)
    assert out.count("CHURN ALERT: ") >= 5
    assert "CHURN ALERT: unsubscribed | jane@acme.co | High-MRR Fintech (Pro plan)" in out
    assert "MRR: $850 | Tenure: 342d | Plan: pro" in out
    for word in ("ignored", "duplicate", "refused", "quarantined", "429 too many requests", "The morning in figures"):
        assert word in out
    assert err == ""
    assert list(tmp_path.iterdir()) == []


async def test_missing_settings_stop_the_start_with_one_line_each(tmp_path: Path) -> None:
    code, _, err = await run_command("serve", cwd=tmp_path)
    assert code == 2
    named = [line.split(": ")[1] for line in err.strip().splitlines()]
    assert named == ["CIO_APP_KEY", "CIO_WEBHOOK_SECRET", "MAVERA_API_KEY", "CHURN_RADAR_API_KEYS"]


async def test_a_wrong_value_is_named_with_an_example_and_secrets_are_never_printed(tmp_path: Path) -> None:
    secret = "sk-do-not-print"
    env = {
        "CHURN_RADAR_ENVIRONMENT": "development",
        "CHURN_RADAR_PORT": "eighty",
        "CHURN_RADAR_CIO_REGION": "mars",
        "CHURN_RADAR_API_KEYS": secret,
        "CHURN_RADAR_SINKS": "console,nowhere",
    }
    code, out, err = await run_command("serve", cwd=tmp_path, env=env)
    assert code == 2
    assert re.search(r"CHURN_RADAR_PORT: .*example: CHURN_RADAR_PORT=8080", err)
    assert re.search(r"CHURN_RADAR_CIO_REGION: .*'us' or 'eu'", err)
    assert "CHURN_RADAR_API_KEYS" in err
    assert secret not in out + err
    env = {"CHURN_RADAR_ENVIRONMENT": "development", "CHURN_RADAR_SINKS": "nowhere", "CHURN_RADAR_PORT": "0"}
    code, _, err = await run_command("serve", cwd=tmp_path, env=env)
    assert code == 2
    assert "there is no sink 'nowhere'; installed are apprise, console, customerio, jsonl, slack" in err


async def test_a_misspelt_setting_is_pointed_out(tmp_path: Path) -> None:
    _, _, err = await run_command("migrate", cwd=tmp_path, env={"CHURN_RADAR_HIHG_MRR": "900"})
    assert "CHURN_RADAR_HIHG_MRR is not a setting and is ignored; did you mean CHURN_RADAR_HIGH_MRR?" in err


async def test_settings_in_the_env_file_that_do_nothing_are_pointed_out(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CHURN_RADAR_HIGH_MRRR=1\n")
    _, _, err = await run_command("migrate", cwd=tmp_path)
    assert "CHURN_RADAR_HIGH_MRRR is not a setting and is ignored; did you mean CHURN_RADAR_HIGH_MRR?" in err
    assert (tmp_path / "churn_radar.db").stat().st_mode & 0o777 == 0o600


async def test_a_port_in_use_is_one_line_and_exit_1(tmp_path: Path, upstreams: Upstreams) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        settings = upstreams.settings(tmp_path, CHURN_RADAR_PORT=port)
        code, _, err = await run_command("serve", cwd=tmp_path, env=settings)
    assert code == 1
    assert f"port {port}" in one_line(err)
    assert not (tmp_path / "record.db").exists()


@OF_A_FILE
async def test_a_second_process_on_the_same_file_stops_with_one_line(tmp_path: Path, upstreams: Upstreams) -> None:
    settings = upstreams.settings(tmp_path)
    async with serving(tmp_path, settings):
        code, _, err = await run_command("serve", cwd=tmp_path, env=settings)
        assert code == 1
        assert "in use by another churn_radar process" in one_line(err)


@OF_A_FILE
@pytest.mark.parametrize("content", [b"this is not a database" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
async def test_a_damaged_file_is_one_line_and_is_left_as_it_was(
    tmp_path: Path, upstreams: Upstreams, content: bytes
) -> None:
    (tmp_path / "record.db").write_bytes(content)
    code, _, err = await run_command("serve", cwd=tmp_path, env=upstreams.settings(tmp_path))
    assert code == 1
    assert "record.db" in one_line(err)
    assert (tmp_path / "record.db").read_bytes() == content


@OF_A_FILE
async def test_a_folder_that_does_not_exist_is_one_line(tmp_path: Path, upstreams: Upstreams) -> None:
    settings = upstreams.settings(tmp_path, CHURN_RADAR_DATABASE_URL=f"sqlite:///{tmp_path}/nowhere/record.db")
    code, _, err = await run_command("serve", cwd=tmp_path, env=settings)
    assert code == 1
    assert "does not exist; create it" in one_line(err)


async def test_migrate_creates_and_check_tells(tmp_path: Path) -> None:
    env = {"CHURN_RADAR_DATABASE_URL": f"sqlite:///{tmp_path / 'record.db'}"}
    assert (await run_command("migrate", "--check", cwd=tmp_path, env=env))[0] == 1
    assert not (tmp_path / "record.db").exists()
    code, out, _ = await run_command("migrate", cwd=tmp_path, env=env)
    assert (code, out.split(": ")[1].strip()) == (0, "created")
    code, out, _ = await run_command("migrate", cwd=tmp_path, env=env)
    assert (code, out.split(": ")[1].strip()) == (0, "already current")
    assert (await run_command("migrate", "--check", cwd=tmp_path, env=env))[0] == 0


async def test_send_signs_samples_and_files_and_tells_what_the_door_said(tmp_path: Path, upstreams: Upstreams) -> None:
    settings = upstreams.settings(tmp_path)
    async with serving(tmp_path, settings) as service:
        env = {"CIO_WEBHOOK_SECRET": SECRET}
        code, out, err = await run_command(
            "send", "--sample", "all", "--url", service.url, "--customer", "cust_1002", cwd=tmp_path, env=env
        )
        assert code == 0, (out, err)
        said = dict(re.findall(r'^(\w+): 200 \{"status":"(\w+)"', out, re.M))
        assert said == {
            "unsubscribed": "accepted",
            "email_unsubscribed": "accepted",
            "bounced": "accepted",
            "spammed": "accepted",
            "preferences_changed": "accepted",
            "older_form": "accepted",
            "opened": "ignored",
        }
        (tmp_path / "event.json").write_text(json.dumps(event("01FILE", "bounced", "cust_1001"), indent=2))
        code, out, _ = await run_command("send", "event.json", "--url", service.url, cwd=tmp_path, env=env)
        assert (code, '"accepted"' in out) == (0, True)
        code, out, _ = await run_command("send", "event.json", "--url", service.url, cwd=tmp_path, env=env)
        assert (code, f'"{upstreams.place.repeated}"' in out) == (0, True)
        await service.until("01FILE", "briefed")
        code, out, err = await run_command(
            "send", "event.json", "--url", service.url, cwd=tmp_path, env={"CIO_WEBHOOK_SECRET": "another"}
        )
        assert (code, " 401 " in out) == (1, True)
        one_line(err)


async def test_send_says_when_nobody_answers_or_the_file_is_missing(tmp_path: Path) -> None:
    code, _, err = await run_command("send", "--sample", "bounced", "--url", "http://127.0.0.1:9", cwd=tmp_path)
    assert code == 1
    assert "no answer from http://127.0.0.1:9" in one_line(err)
    code, _, err = await run_command("send", "nothing.json", cwd=tmp_path)
    assert code == 1
    assert "cannot read 'nothing.json'" in one_line(err)


async def test_replay_revives_a_dead_letter_beside_a_running_service_and_without_one(
    tmp_path: Path, upstreams: Upstreams
) -> None:
    upstreams.mavera_faults.add("status:400")
    settings = upstreams.settings(tmp_path)
    async with serving(tmp_path, settings) as service:
        await service.post(event("01E1", "unsubscribed", "cust_1001"))
        dead = await service.until("01E1", "dead")
        assert "mavera (400)" in dead["reason"]
        upstreams.mavera_faults.add("status:400")
        code, out, err = await run_command("replay", "--dead", "--url", service.url, cwd=tmp_path, env=settings)
        assert (code, "01E1: waiting" in out) == (0, True), (out, err)
        await service.until("01E1", "dead")
        assert await service.terminate() == 0
        code, out, err = await run_command("replay", "01E1", cwd=tmp_path, env=settings)
        assert (code, "01E1: waiting" in out) == (0, True), (out, err)
        await service.start()
        await service.until("01E1", "briefed")
        code, _, err = await run_command("replay", "01NO", "--url", service.url, cwd=tmp_path, env=settings)
        assert code == 1
        assert "nothing is known of the event '01NO'" in one_line(err)


async def test_replay_selects_rehearses_and_says_what_to_do_first(tmp_path: Path, upstreams: Upstreams) -> None:
    upstreams.mavera_faults.add("status:400")
    settings = upstreams.settings(tmp_path)
    outage = ("--failed-service", "mavera", "--failed-status", "5xx")
    recent = ("--dead", "--failed-service", "mavera", "--failed-status", "4xx", "--reason", "MAVERA", "--since", "2h")
    async with serving(tmp_path, settings) as service:
        at = ("--url", service.url)
        await service.post(event("01E1", "unsubscribed", "cust_1001"))
        await service.until("01E1", "dead")
        code, out, err = await run_command("replay", *recent, "--dry-run", *at, cwd=tmp_path, env=settings)
        assert code == 0, err
        assert out.splitlines() == [
            "1 x waiting (research starts again); why they died, and what to do first: docs/what-to-do.md#mavera-4xx",
            "1 signal would be replayed",
        ]
        for nothing in (outage, ("--until", "2h"), ("--reason", "something else")):
            code, out, err = await run_command("replay", "--dead", *nothing, *at, cwd=tmp_path, env=settings)
            assert (code, out) == (0, "0 signals replayed\n"), err
        assert (await service.signal("01E1"))["status"] == "dead"
        assert await service.terminate() == 0
        # Without a service the same is done in the record.
        code, out, _ = await run_command("replay", *recent, "--dry-run", cwd=tmp_path, env=settings)
        assert (code, out.splitlines()[-1]) == (0, "1 signal would be replayed")
        code, out, _ = await run_command("replay", *recent, cwd=tmp_path, env=settings)
        assert (code, out.splitlines()[-1]) == (0, "1 signal replayed")
        code, out, _ = await run_command("replay", *recent, cwd=tmp_path, env=settings)
        assert (code, out) == (0, "0 signals replayed\n")
        await service.start()
        await service.until("01E1", "briefed")


async def test_the_quarantine_is_looked_after_beside_a_running_service_and_without_one(
    tmp_path: Path, upstreams: Upstreams
) -> None:
    settings = upstreams.settings(tmp_path)
    record = "record" if upstreams.place.database is None else "churn_radar"

    async def quarantine(*arguments: str, url: str | None = None) -> tuple[int, list[str], str]:
        at = ("--url", url) if url else ()
        code, out, err = await run_command("quarantine", *arguments, *at, cwd=tmp_path, env=settings)
        return code, out.splitlines(), err

    async with serving(tmp_path, settings) as service:
        ids = [(await service.post(b"no json %d" % number)).json()["event_id"] for number in range(3)]
        for event_id in ids:
            await service.until(event_id, "quarantined")
        code, lines, err = await quarantine("list", url=service.url)
        assert code == 0, err
        assert [line.split()[0] for line in lines[:3]] == ids[::-1]
        assert lines[0].endswith("the body is not valid JSON")
        assert lines[3] == "3 bodies, 0.0 of 256 MB"
        assert (await quarantine("show", ids[0], url=service.url))[:2] == (0, ["no json 0"])
        body = b"\t[bold]no json\x07 \xff\\xff\r\n" + b"x" * 300
        odd = (await service.post(body)).json()["event_id"]
        await service.until(odd, "quarantined")
        shown = ("quarantine", "show", odd, "--url", service.url)
        assert await output_of(*shown, cwd=tmp_path, env=settings) == (0, body, b"")
        assert (await quarantine("drop", odd, url=service.url))[:2] == (0, ["1 body dropped"])
        assert (await quarantine("drop", ids[0], url=service.url))[:2] == (0, ["1 body dropped"])
        code, _, err = await quarantine("show", ids[0], url=service.url)
        assert (code, "dropped by the operator" in one_line(err)) == (1, True)
        assert (await quarantine("export", "--reason", "json", url=service.url))[1][0].startswith(
            f"2 bodies exported to {record}-"
        )
        assert await service.terminate() == 0
    [name] = [path.name for path in tmp_path.glob(f"{record}-quarantine-*.jsonl")]
    assert (await quarantine("list"))[1][1].startswith(f"exported earlier: {name}")
    back = "2 bodies brought back, 0 here already, 0 about somebody who was forgotten, 0 lines without an exported body"
    assert (await quarantine("import", name))[:2] == (0, [back])
    assert (await quarantine("import", name))[1] == [
        "0 bodies brought back, 2 here already, 0 about somebody who was forgotten, 0 lines without an exported body"
    ]
    assert (await quarantine("drop", "--all", "--dry-run"))[1] == ["2 bodies would be dropped"]
    code, lines, err = await quarantine("drop", "--since", "1h", ids[0], "unheard-of")
    assert (code, lines) == (1, ["2 bodies dropped"])
    assert "nothing is known of the event 'unheard-of'" in err
    assert f"{ids[0]!r} is not in quarantine" in err
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / name).write_text("")
    code, _, err = await quarantine("import", f"elsewhere/{name}")
    assert (code, "does not lie in the quarantine's folder" in one_line(err)) == (1, True)


async def test_wrong_usage_is_one_line_and_exit_2_and_help_an_example(tmp_path: Path) -> None:
    # Every command's are tested in one process, in tests/unit/test_usage.py.
    code, _, err = await run_command("serve", "--nope", cwd=tmp_path)
    assert (code, "--nope" in one_line(err)) == (2, True)
    code, out, _ = await run_command("serve", "--help", cwd=tmp_path)
    assert (code, "Example:" in out) == (0, True)


async def test_no_worker_accepts_and_leaves_the_work_for_later(tmp_path: Path, upstreams: Upstreams) -> None:
    settings = upstreams.settings(tmp_path)
    async with serving(tmp_path, settings, "serve", "--no-worker") as service:
        assert (await service.post(event("01E1", "unsubscribed", "cust_1001"))).json()["status"] == "accepted"
        # Behind a buffer, it is the worker who brings it into the record.
        waiting = 404 if upstreams.place.buffer else "received"
        assert (await service.signal("01E1"))["status"] == waiting
        assert await service.terminate() == 0
        service.arguments = ("serve",)
        await service.start()
        await service.until("01E1", "briefed")


async def test_development_starts_without_secrets_loudly_and_on_loopback(tmp_path: Path, upstreams: Upstreams) -> None:
    settings = {
        "CHURN_RADAR_ENVIRONMENT": "development",
        "CHURN_RADAR_HOST": "0.0.0.0",
        "CHURN_RADAR_PORT": "0",
        "CIO_APP_KEY": APP_KEY,
        "MAVERA_API_KEY": MAVERA_KEY,
        "CHURN_RADAR_CIO_APP_URL": f"{upstreams.customerio_url}/v1",
        "CHURN_RADAR_MAVERA_URL": f"{upstreams.mavera_url}/api/v1",
        "CHURN_RADAR_LOG_FORMAT": "json",
        **upstreams.place.variables(tmp_path),
    }
    async with serving(tmp_path, settings) as service:
        assert service.url.startswith("http://127.0.0.1:")
        [warning] = [json.loads(row) for row in service.log.splitlines() if "development_mode" in row]
        assert warning["level"] == "warning"
        assert len(warning["open_doors"]) == 2
        assert API_KEY not in service.log
        async with service.client() as http:
            assert (await http.get("/briefs")).status_code == 200
