"""What the command line says to wrong usage and to --help, command by command.

In this process, for a start takes longer than the command; how a process ends is tested with the commands themselves.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from churn_radar import cli

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Typed:
    """Types a command in an empty folder; answers exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("CHURN_RADAR_")]:
        monkeypatch.delenv(name)
    # That is for commands that do anything; and it would be for the other tests of this process, too.
    monkeypatch.setattr("churn_radar.logs.configure", lambda settings: None)

    def type_(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["churn-radar", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return type_


@pytest.mark.parametrize(
    "arguments",
    [
        ("nope",),
        ("serve", "--nope"),
        ("send",),
        ("replay",),
        ("replay", "--since", "2h"),
        ("replay", "01E1", "--reason", "x"),
        ("replay", "--dead", "--since", "yesterday"),
        ("replay", "--dead", "--failed-status", "600"),
        ("replay", "--dead", "--failed-service", "slack"),
        ("quarantine",),
        ("quarantine", "nope"),
        ("quarantine", "drop"),
        ("quarantine", "export", "--until", "x"),
        ("settings", "--format", "xml"),
        ("simulate", "--mavera-fault", "x"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(typed: Typed, arguments: tuple[str, ...]) -> None:
    code, _, err = typed(*arguments)
    assert code == 2
    [line] = err.strip().splitlines()
    assert line.startswith("churn-radar: ")


@pytest.mark.parametrize(
    "command",
    [
        *("serve", "demo", "send", "replay", "migrate", "simulate", "settings"),
        *("quarantine", "quarantine list", "quarantine show", "quarantine drop", "quarantine export"),
        "quarantine import",
    ],
)
def test_help_teaches_with_an_example(typed: Typed, command: str) -> None:
    code, out, _ = typed(*command.split(), "--help")
    assert code == 0
    assert re.search(r"Examples?:", out)
