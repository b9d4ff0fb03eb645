from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from churn_radar.intake.door import PATH
from churn_radar.sending import signed_headers
from churn_radar.simulator.people import Person
from tests.support.work import APP_KEY, KEY, MAVERA_KEY, SECRET, ListSink, known_by, logged, payload, service, until

MAIL = "jane@acme.co"


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def fail_with(value: str) -> None:
    secret_local = value
    raise ValueError(f"cannot read {secret_local}")


# -- form


def test_a_line_for_collectors_is_one_json_object_with_time_level_and_event(tmp_path: Path) -> None:
    with logged(tmp_path) as out:
        structlog.get_logger("x").warning("door.refused", bytes=12, likely_cause="two\nlines")

    [line] = lines(out)
    assert (line["event"], line["level"], line["bytes"], line["likely_cause"]) == (
        *("door.refused", "warning", 12),
        "two\nlines",
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["timestamp"])


def test_a_line_for_people_is_one_line_without_colours_where_nobody_watches(tmp_path: Path) -> None:
    with logged(tmp_path, log_format="console") as out:
        structlog.get_logger("x").info("signal.briefed", event_id="01KTESTS", reason="two\nlines")
        try:
            fail_with(MAIL)
        except ValueError:
            structlog.get_logger("x").exception("work.step_failed", seq=7)

    told = out.getvalue()
    assert told.count("\n") == 2
    assert "signal.briefed" in told
    assert "event_id=01KTESTS" in told
    assert "ValueError" in told
    assert "\x1b" not in told
    assert MAIL not in told


@pytest.mark.parametrize(
    ("level", "shown"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
@pytest.mark.parametrize("ours", [True, False])
def test_no_line_below_the_level_is_logged_by_us_or_by_a_library(
    tmp_path: Path, level: str, shown: int, ours: bool
) -> None:
    with logged(tmp_path, log_level=level) as out:
        log: Any = structlog.get_logger("ours") if ours else logging.getLogger("somebodys.library")
        for name in ("debug", "info", "warning", "error"):
            getattr(log, name)("said")

    assert len(lines(out)) == shown


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_id_from_outside_cannot_steer_the_terminal(tmp_path: Path, log_format: str) -> None:
    with logged(tmp_path, log_format=log_format) as out:
        structlog.get_logger("x").info("door.answered", event_id="a\x1b[2J\x1b]0;owned\x07\x9b31mb\rc")

    assert not [c for c in out.getvalue() if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160]
    assert "\\u001b" not in out.getvalue()


# -- a stream that fails


class Broken(io.StringIO):
    """A pipe that nobody reads any more, or a full disk; mended, it is a stream again."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error: Exception | None = error

    def write(self, text: str) -> int:
        if self.error:
            raise self.error
        return super().write(text)

    def flush(self) -> None:
        if self.error:
            raise self.error


@pytest.mark.parametrize(
    "error",
    [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left on device"), ValueError("I/O on closed file")],
    ids=repr,
)
def test_a_stream_that_fails_costs_lines_and_nothing_else(
    tmp_path: Path, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Broken(error)
    with logged(tmp_path, out):
        structlog.get_logger("x").error("door.refused")
        logging.getLogger("somebodys.library").error("said")
        out.error = None
        structlog.get_logger("x").error("door.refused")
        logging.getLogger("somebodys.library").error("said")

    assert [line["event"] for line in lines(out)] == ["door.refused", "said"]
    # The logging package would tell of its own failure, with the values of the line.
    assert capsys.readouterr().err == ""


# -- traces


def test_a_trace_tells_where_and_of_what_type_but_neither_message_nor_values(tmp_path: Path) -> None:
    with logged(tmp_path) as out:
        try:
            try:
                fail_with(MAIL)
            except ValueError as error:
                raise KeyError(MAIL) from error
        except KeyError:
            structlog.get_logger("x").exception("work.step_failed", seq=7)

    [line] = lines(out)
    assert (line["event"], line["error"], line["seq"]) == ("work.step_failed", "KeyError", 7)
    assert "test_logs.py:" in line["trace"]
    assert MAIL not in out.getvalue()
    assert "secret_local" not in out.getvalue()


def test_a_librarys_trace_is_cut_in_the_same_way(tmp_path: Path) -> None:
    with logged(tmp_path) as out:
        try:
            fail_with(MAIL)
        except ValueError:
            logging.getLogger("uvicorn.error").exception("Exception in ASGI application\n")

    [line] = lines(out)
    assert (line["event"], line["error"]) == ("Exception in ASGI application", "ValueError")
    assert "test_logs.py:" in line["trace"]
    assert MAIL not in out.getvalue()


def test_a_librarys_line_is_shown_without_the_values_in_it(tmp_path: Path) -> None:
    with logged(tmp_path) as out:
        logging.getLogger("somebodys.library").error(
            "Unhandled exception in task: %s", ValueError(MAIL), stack_info=True
        )

    [line] = lines(out)
    assert line["event"] == "Unhandled exception in task: %s"
    assert line["logger"] == "somebodys.library"
    assert MAIL not in out.getvalue()


async def test_an_exception_that_nobody_fetched_is_told_without_its_message(tmp_path: Path) -> None:
    async def forgotten() -> None:
        fail_with(MAIL)

    with logged(tmp_path) as out:
        task = asyncio.create_task(forgotten())
        await asyncio.wait({task})
        del task
        gc.collect()
        await asyncio.sleep(0)

    assert "never retrieved" in out.getvalue()
    assert "ValueError" in out.getvalue()
    assert MAIL not in out.getvalue()


# -- what libraries would say


async def test_no_url_of_a_call_is_ever_logged(tmp_path: Path) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200)

    with logged(tmp_path) as out:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            await client.get(f"https://api.customer.example/v1/customers/{MAIL}/attributes")

    assert out.getvalue() == ""


def test_a_mail_that_went_out_is_told_by_our_line_alone(tmp_path: Path) -> None:
    with logged(tmp_path) as out:
        logging.getLogger("apprise").info("Sent Email to %s", MAIL)

    assert out.getvalue() == ""


async def test_a_whole_morning_at_the_finest_level_names_nobody_and_tells_no_secret(tmp_path: Path) -> None:
    """Every step, and everything that can go wrong with it, at the level at which libraries talk most."""
    jane = Person(
        id="user-quetzal-jane",
        cio_id="0a3f0b77",
        email=MAIL,
        attributes={"first_name": "Jane", "last_name": "Zimmermann", "plan_type": "pro", "industry": "beekeeping"},
    )
    sink = ListSink("hook:https://hooks.example/T0KEN", errors=[ValueError(MAIL), OSError(28, "full", "/srv/jane")])
    with logged(tmp_path) as out:
        async with service(tmp_path, people=[jane], sinks=[sink], cool_down_hours=0) as live:
            live.customerio_faults.add("status:500")
            live.customerio_faults.add("garbage")
            live.mavera_faults.add("status:503")
            live.mavera_faults.add("empty")
            told = await live.briefed(known_by(email=MAIL, id="user-quetzal-jane"))
            live.mavera_faults.add("status:400")
            await live.becomes(await live.post(payload("user-quetzal-jane", "bounced")), "dead")
            await live.becomes(await live.post(known_by(email="ghost@nowhere.example")), "skipped")
            body = json.dumps({"metric": "unsubscribed", "who": MAIL}).encode()
            await live.stranger.post(PATH, content=body, headers=signed_headers(body, SECRET))
            await live.stranger.post(PATH, content=body, headers=signed_headers(body, "wrong"))
            await live.stranger.post(PATH, content=MAIL.encode(), headers=signed_headers(MAIL.encode(), SECRET))
            for path in (f"/briefs/{MAIL}", f"/signals/{MAIL}", f"/nothing/{MAIL}", f"/briefs?limit={MAIL}"):
                await live.http.get(path)
            await live.http.post("/events", json={"metric": [MAIL]})

            async def delivered() -> bool:
                return sink.calls == 3

            await until(delivered, "two failed deliveries and one that succeeds")
            await live.http.post(f"/signals/{told['event_id']}/replay", params={"force": "true"})
            brief = (await live.http.get(f"/briefs/{MAIL}")).json()["items"][0]

    text = out.getvalue()
    events = {line["event"] for line in lines(out)}
    assert {"signal.briefed", "signal.attempt_failed", "signal.skipped", "delivery.failed"} <= events
    assert {"door.refused", "door.not_understood", "delivery.delivered"} <= events
    for value in (MAIL, "jane", "zimmermann", "quetzal", "0a3f0b77", "ghost", "acme.co", "beekeeping", "/srv/"):
        assert value not in text.lower(), value
    for value in (KEY, SECRET, APP_KEY, MAVERA_KEY, "T0KEN"):
        assert value not in text
    for sentence in brief["research_brief"].splitlines():
        assert len(sentence) < 20 or sentence not in text
    assert "High-value" not in text
