from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from churn_radar.errors import SettingsError
from churn_radar.settings import Environment, IsolatedSettings, Settings
from churn_radar.sinks.console import ConsoleSink
from churn_radar.sinks.jsonl import JsonlSink
from churn_radar.sinks.protocol import Sink, available, create_sinks, kind_of, names

Install = Callable[[str], None]


def settings(*sinks: str, **told: Any) -> Settings:
    return IsolatedSettings(environment=Environment.DEVELOPMENT, sinks=sinks, **told)


def problems(*sinks: str, **told: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        create_sinks(settings(*sinks, **told))
    assert all(line.startswith("CHURN_RADAR_SINKS: ") for line in caught.value.problems)
    assert all("\n" not in line for line in caught.value.problems)
    return caught.value.problems


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a distribution with one module, `acme_sink`, whose `create` is the entry point `acme`."""
    site = tmp_path / "site-packages"

    def install(source: str) -> None:
        info = site / "acme_sink-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-sink\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[churn_radar.sinks]\nacme = acme_sink:create\n")
        (site / "acme_sink.py").write_text(dedent(source))
        monkeypatch.syspath_prepend(str(site))

    yield install
    sys.modules.pop("acme_sink", None)


GOOD = """
    from dataclasses import dataclass

    @dataclass
    class AcmeSink:
        name: str
        target: str | None
        currency: str

        async def deliver(self, brief):
            pass

    def create(options):
        return AcmeSink(options.name, options.target, options.settings.currency)
"""


def test_the_console_is_where_briefs_go_unless_told() -> None:
    default = IsolatedSettings(environment=Environment.DEVELOPMENT)

    assert [type(sink) for sink in create_sinks(default)] == [ConsoleSink]


def test_what_is_built_in_is_found_by_its_entry_points() -> None:
    assert {"console", "jsonl"} <= set(available())


def test_sinks_come_in_the_order_of_the_setting_under_the_names_it_gives_them(tmp_path: Path) -> None:
    items = (f"jsonl:{tmp_path / 'b.jsonl'}", "console", f"jsonl:{tmp_path / 'a.jsonl'}")

    sinks = create_sinks(settings(*items))

    assert names(sinks) == list(items)
    assert all(isinstance(sink, Sink) for sink in sinks)


def test_what_follows_the_first_colon_is_the_target_colons_and_all(tmp_path: Path) -> None:
    [sink] = create_sinks(settings(f"jsonl:{tmp_path}/a:b.jsonl"))

    assert isinstance(sink, JsonlSink)
    assert sink.path == tmp_path / "a:b.jsonl"


@pytest.mark.parametrize("item", ["jsonl", "jsonl:"])
def test_a_sink_without_a_target_takes_that_of_the_settings(tmp_path: Path, item: str) -> None:
    [sink] = create_sinks(settings(item, jsonl_path=tmp_path / "here.jsonl"))

    assert isinstance(sink, JsonlSink)
    assert sink.path == tmp_path / "here.jsonl"


def test_an_unknown_kind_is_named_with_what_there_is() -> None:
    [line] = problems("slak:#churn")

    assert "'slak'" in line
    assert "console" in line
    assert "jsonl" in line


def test_every_wrong_item_gets_a_line_of_its_own(tmp_path: Path) -> None:
    lines = problems("slak", "console", "console", f"jsonl:{tmp_path}/missing/briefs.jsonl")

    assert len(lines) == 3


def test_two_sinks_of_one_name_are_refused_since_deliveries_are_owed_by_name() -> None:
    [line] = problems("console", "console")

    assert "twice" in line


def test_a_folder_that_does_not_exist_is_found_out_at_the_start(tmp_path: Path) -> None:
    [line] = problems(f"jsonl:{tmp_path}/missing/briefs.jsonl")

    assert "does not exist" in line


def test_a_path_that_is_a_folder_is_found_out_at_the_start(tmp_path: Path) -> None:
    [line] = problems(f"jsonl:{tmp_path}")

    assert "is a folder" in line


def test_an_installed_package_can_bring_a_sink(third_party: Install) -> None:
    third_party(GOOD)

    assert "acme" in available()
    [sink] = create_sinks(settings("acme:https://acme.example/hook", currency="EUR"))
    assert sink.name == "acme:https://acme.example/hook"
    assert vars(sink)["target"] == "https://acme.example/hook"
    assert vars(sink)["currency"] == "EUR"


def test_a_sink_is_not_loaded_unless_it_is_asked_for(third_party: Install) -> None:
    third_party("raise RuntimeError('loaded')")

    assert len(create_sinks(settings("console"))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "raise ImportError('needs a library that is not there')",
        "def create(options): raise ValueError('no token')",
        "nothing_to_create = 1",
    ],
)
def test_a_third_partys_failure_is_one_line_that_names_the_kind(third_party: Install, source: str) -> None:
    third_party(source)

    [line] = problems("acme")

    assert "'acme'" in line


def test_a_third_party_may_word_its_own_problem(third_party: Install) -> None:
    third_party("""
        from churn_radar.errors import SettingsError

        def create(options):
            raise SettingsError(["CHURN_RADAR_SINKS: acme needs a channel (example: acme:#churn)"])
    """)

    assert problems("acme") == ["CHURN_RADAR_SINKS: acme needs a channel (example: acme:#churn)"]


@pytest.mark.parametrize("made", ["None", "object()", "options", "lambda brief: None"])
def test_what_is_no_sink_is_refused_at_the_start_not_at_the_first_brief(third_party: Install, made: str) -> None:
    third_party(f"def create(options): return {made}")

    [line] = problems("acme")

    assert "no sink" in line


def test_two_sinks_that_call_themselves_the_same_are_refused(third_party: Install) -> None:
    third_party(GOOD.replace("AcmeSink(options.name,", "AcmeSink('acme',"))

    [line] = problems("acme:one", "acme:two")

    assert "twice" in line


def test_no_problem_repeats_a_target_which_may_hold_a_secret(third_party: Install) -> None:
    third_party(GOOD)
    secret = "https://hooks.acme.example/T0KEN"

    [line] = problems(f"acme:{secret}", f"acme:{secret}")

    assert secret not in line


@pytest.mark.parametrize(
    ("name", "kind"), [("console", "console"), ("jsonl:a.jsonl", "jsonl"), ("acme:https://x.example:8", "acme")]
)
def test_the_kind_is_all_of_a_name_that_may_be_shown(name: str, kind: str) -> None:
    assert kind_of(name) == kind
