"""The package under `examples/`, installed as a user would."""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from churn_radar.errors import SettingsError
from churn_radar.settings import Environment, IsolatedSettings
from churn_radar.sinks.protocol import available, create_outlets
from tests.support.briefs import a_brief

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "churn-radar-csv"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the package is installed into."""
    if importlib.util.find_spec("pip") is None or importlib.util.find_spec("hatchling") is None:
        pytest.skip("no pip or no hatchling in this environment")
    target = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    subprocess.run(
        [*install, "--no-deps", "--no-build-isolation", "--target", str(target), str(EXAMPLE)], check=True, timeout=120
    )
    return target


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(site))
    yield
    sys.modules.pop("churn_radar_csv", None)


@pytest.mark.usefixtures("installed")
async def test_the_example_is_found_by_its_entry_point_and_works(tmp_path: Path) -> None:
    file = tmp_path / "briefs.csv"
    settings = IsolatedSettings(environment=Environment.DEVELOPMENT, sinks=("console", f"csv:{file}"))

    assert "csv" in available()
    assert version("churn-radar-csv") == "0.1.0"
    [_, sink] = create_outlets(settings, {}).sinks
    await sink.deliver(a_brief(persona_type="=HYPERLINK(1)"))
    await sink.deliver(a_brief(2))

    with file.open(newline="") as opened:
        head, first, second = csv.reader(opened)
    assert head[0] == "id"
    assert (first[0], second[0]) == (a_brief().id, a_brief(2).id)
    assert first[4] == "'=HYPERLINK(1)"


@pytest.mark.usefixtures("installed")
def test_the_example_takes_options_of_its_own_and_refuses_others(tmp_path: Path) -> None:
    file = tmp_path / "sinks.toml"
    settings = IsolatedSettings(environment=Environment.DEVELOPMENT, sinks_file=file)
    table = '[[sink]]\nname = "meeting"\nkind = "csv"\n'
    file.write_text(f'{table}columns = ["customer_id", "mrr"]')

    [sink] = create_outlets(settings, {}).sinks

    assert vars(sink)["columns"] == ("customer_id", "mrr")
    for wrong, said in (('columns = ["nothing"]', "a list of a brief's fields"), ("colums = []", "no such key")):
        file.write_text(table + wrong)
        with pytest.raises(SettingsError, match=said):
            create_outlets(settings, {})
