from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from pydantic import SecretStr

from churn_radar.errors import SettingsError
from churn_radar.settings import Environment, IsolatedSettings
from churn_radar.sinks.config import SinksConfig, read_config
from churn_radar.sinks.filter import EVERYTHING, Facts, Filter
from churn_radar.sinks.protocol import Outlets, Route, SinkOptions, create_outlets, owed

Read = Callable[..., SinksConfig]

FACTS = Facts(plan="pro", mrr=Decimal(850), persona="High-MRR Fintech (Pro plan)", kind="unsubscribed")


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads a configuration with this file; `variables` are those of the process."""

    def reading(text: str, variables: dict[str, str] | None = None, **told: Any) -> SinksConfig:
        file = tmp_path / "sinks.toml"
        file.write_text(dedent(text))
        settings = IsolatedSettings(environment=Environment.DEVELOPMENT, sinks_file=file, **told)
        return read_config(settings, variables or {})

    return reading


def problems(read: Read, text: str, variables: dict[str, str] | None = None, **told: Any) -> list[str]:
    lines = list(read(text, variables, **told).problems)
    assert all("\n" not in line for line in lines)
    return lines


def refusal(folder: Path, text: str, **told: Any) -> list[str]:
    """The lines of a start that this file of sinks stops."""
    file = folder / "sinks.toml"
    file.write_text(dedent(text))
    with pytest.raises(SettingsError) as caught:
        create_outlets(IsolatedSettings(environment=Environment.DEVELOPMENT, sinks_file=file, **told), {})
    return caught.value.problems


TWO = """
    [[sink]]
    name = "sales"
    kind = "slack"
    url_env = "SALES_URL"
    plans = ["Enterprise"]
    kinds = ["complained", "unsubscribed"]
    personas = ["High-MRR *"]
    mrr_from = 1000

    [[sink]]
    name = "everything"
    kind = "jsonl"
    target = "all.jsonl"
"""


def test_each_table_is_a_sink_with_its_name_filter_and_options(read: Read) -> None:
    sales, everything = read(TWO, {"SALES_URL": "https://hooks.example/T0KEN"}).sinks

    assert (sales.name, sales.kind, sales.target) == ("sales", "slack", None)
    assert sales.filter == Filter(
        frozenset({"enterprise"}), frozenset({"complained", "unsubscribed"}), ("High-MRR *",), Decimal(1000)
    )
    assert sales.options == {"url": SecretStr("https://hooks.example/T0KEN")}
    assert (everything.name, everything.target, everything.filter) == ("everything", "all.jsonl", EVERYTHING)


def test_a_secret_is_shown_by_no_representation(read: Read) -> None:
    assert "T0KEN" not in repr(read(TWO, {"SALES_URL": "https://hooks.example/T0KEN"}))


def test_a_secret_may_lie_in_a_file_beside(read: Read, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("  hidden\n")

    [sink] = read('[[sink]]\nname = "a"\nkind = "x"\ntoken_file = "token"').sinks

    assert sink.options == {"token": SecretStr("hidden")}


def test_a_file_takes_the_place_of_the_default_list_but_not_of_a_list_that_is_set(read: Read) -> None:
    text = '[[sink]]\nname = "a"\nkind = "jsonl"'

    assert [sink.name for sink in read(text).sinks] == ["a"]
    assert [sink.name for sink in read(text, sinks=("console",)).sinks] == ["console", "a"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[sink", "no TOML"),
        ("", "holds no sink"),
        ("[sink]\nname = 'a'", "two brackets"),
        ("[[sinks]]\nname = 'a'", "'sinks' is no table"),
        ("[[sink]]\nkind = 'console'", "sink number 1: name"),
        ("[[sink]]\nname = 'a'", "sink 'a': kind"),
        ("[[sink]]\nname = 'a:b'\nkind = 'console'", "name"),
        ("[[sink]]\nname = 'a'\nkind = 'x'\nplans = 'pro'", "sink 'a': plans"),
        ("[[sink]]\nname = 'a'\nkind = 'x'\nplans = ['platinum']", "no brief is ever about 'platinum'"),
        ("[[sink]]\nname = 'a'\nkind = 'x'\nkinds = ['opened']", "no brief is ever about 'opened'"),
        ("[[sink]]\nname = 'a'\nkind = 'x'\nmrr_from = -1", "sink 'a': mrr_from"),
        ("[[sink]]\nname = 'a'\nkind = 'x'\nurl_env = 'NOT_SET'", "the variable NOT_SET is not set"),
        ("[[sink]]\nname = 'a'\nkind = 'x'\nurl_env = ''", "url_env has to name a variable"),
        ("[[sink]]\nname = 'a'\nkind = 'x'\nurl_file = 'nowhere'", "cannot be read"),
        ("[[sink]]\nname = 'a'\nkind = 'x'\nurl = 'x'\nurl_env = 'SET'", "both url and url_env"),
    ],
)
def test_what_makes_no_sense_is_one_line_that_says_where(read: Read, text: str, said: str) -> None:
    [line] = problems(read, text, {"SET": "x"})

    assert line.startswith("CHURN_RADAR_SINKS_FILE: ")
    assert said in line


def test_every_wrong_table_is_told_of_at_once(read: Read) -> None:
    assert len(problems(read, "[[sink]]\nname = 'a'\n[[sink]]\nname = 'b'\n[[sink]]\nname = 'c'\nkind = 'x'")) == 2


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    settings = IsolatedSettings(environment=Environment.DEVELOPMENT, sinks_file=tmp_path / "none.toml")

    [line] = read_config(settings, {}).problems

    assert "cannot be read" in line


def test_two_sinks_of_one_name_are_refused(tmp_path: Path) -> None:
    [line] = refusal(tmp_path, '[[sink]]\nname = "a"\nkind = "console"\n' * 2)

    assert "twice" in line


MANY_MISTAKES = """
    [[sink]]
    name = "sales"
    kind = "slak"
    plans = ["platinum", "pro", "gold"]
    url_env = "NOT_SET"
    key_file = "nowhere"

    [[sink]]
    name = "crm"
    kind = "webhook"
    pin = "x"

    [[sink]]
    name = "crm"
    kind = "console"
    width = 3

    [[sinc]]
    name = "desk"

    [[digest]]
    name = "monday"
    sink = "sales"
    at = "noon"

    [[digest]]
    name = "friday"
    sink = "nobody"
"""


def test_a_sink_whose_filter_makes_no_sense_is_told_what_else_it_lacks(tmp_path: Path) -> None:
    lines = refusal(tmp_path, '[[sink]]\nname = "desk"\nkind = "webhook"\nplans = ["nope"]')
    assert [said for said in ("'nope'", "secret") if not any(said in line for line in lines)] == []


def test_a_target_without_a_kind_is_no_sink(tmp_path: Path) -> None:
    [line] = refusal(tmp_path, '[[sink]]\nname = "desk"\nkind = "console"', sinks=(":briefs.jsonl",))
    assert line.startswith("CHURN_RADAR_SINKS: there is no sink ''")


def test_every_mistake_of_the_list_and_of_the_file_is_told_at_once(tmp_path: Path) -> None:
    lines = refusal(tmp_path, MANY_MISTAKES, sinks=("consol", "slack:ALSO_NOT_SET"))

    said = [
        "CHURN_RADAR_SINKS: there is no sink 'consol'",
        "CHURN_RADAR_SINKS: the variable ALSO_NOT_SET",
        "sink 'sales': there is no sink 'slak'",
        "sink 'sales': plans: no brief is ever about 'platinum'",
        "sink 'sales': plans: no brief is ever about 'gold'",
        "sink 'sales': the variable NOT_SET",
        "sink 'sales': the file that key_file names",
        "sink 'crm': pin: there is no such key",
        "sink 'crm': needs its url",
        "sink 'crm': needs its secret",
        "sink 'crm': width: there is no such key",
        "sink 'crm': 'crm' is there twice",
        "'sinc' is no table",
        "digest number 1: at",
        "digest number 2: sink: there is no chat or mail sink 'nobody'",
    ]
    assert [text for text in said if sum(text in line for line in lines) != 1] == []
    assert len(lines) == len(said)


def test_a_digest_by_a_sink_that_is_wrong_is_no_mistake_of_its_own(tmp_path: Path) -> None:
    digest = '[[digest]]\nname = "monday"\nsink = "a"\n'

    [line] = refusal(tmp_path, f'[[sink]]\nname = "a"\nkind = "slack"\n{digest}')
    assert "needs its url" in line
    [line] = refusal(tmp_path, f'[[sink]]\nname = "a"\nkind = "console"\n{digest}')
    assert "no chat or mail sink" in line


def test_a_file_that_cannot_be_read_hides_no_mistake_of_the_list(tmp_path: Path) -> None:
    assert len(refusal(tmp_path, "[[sink", sinks=("slak",))) == 2


def test_the_sinks_of_a_file_are_made_with_their_filters(tmp_path: Path) -> None:
    file = tmp_path / "sinks.toml"
    file.write_text('[[sink]]\nname = "desk"\nkind = "console"\nmrr_from = 1000.5\n')

    outlets = create_outlets(IsolatedSettings(environment=Environment.DEVELOPMENT, sinks_file=file), {})

    assert outlets.routes == [Route("desk", Filter(mrr_from=Decimal("1000.5")))]


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        (EVERYTHING, None),
        (Filter(plans=frozenset({"pro", "business"})), None),
        (Filter(plans=frozenset({"enterprise"})), "filtered out: this sink takes the plans enterprise"),
        (Filter(kinds=frozenset({"complained"})), "filtered out: this sink takes the kinds complained"),
        (Filter(mrr_from=Decimal(850)), None),
        (Filter(mrr_from=Decimal("850.01")), "filtered out: this sink takes an MRR from 850.01 on"),
        (Filter(personas=("high-mrr *",)), None),
        (Filter(personas=("Enterprise *", "Pro *")), "filtered out: this sink takes the personas Enterprise *, Pro *"),
        (Filter(plans=frozenset({"pro"}), mrr_from=Decimal(900)), "filtered out: this sink takes an MRR from 900 on"),
    ],
)
def test_a_filter_says_why_it_does_not_take_a_brief(chosen: Filter, reason: str | None) -> None:
    assert chosen.why_not(FACTS) == reason


def test_a_brief_is_owed_to_every_sink_that_takes_it() -> None:
    routes = [Route("all"), Route("dear", Filter(mrr_from=Decimal(5000)))]

    assert owed(routes, FACTS) == {"all": None, "dear": "filtered out: this sink takes an MRR from 5000 on"}


def test_without_filters_a_sink_takes_everything() -> None:
    assert Outlets(()).routes == []


# -- secrets of the sinks


def options(target: str | None = None, where: str = "CHURN_RADAR_SINKS", **told: object) -> SinkOptions:
    settings = IsolatedSettings(environment=Environment.DEVELOPMENT)
    return SinkOptions("slack:X", target, settings, told, where, {"SLACK_URL": "https://hooks.example/T0KEN"})


def test_a_listed_sink_names_the_variable_of_its_secret() -> None:
    assert options("SLACK_URL").secret("url") == "https://hooks.example/T0KEN"


def test_a_table_brings_its_secret_along() -> None:
    assert options(url=SecretStr("https://hooks.example/T0KEN")).secret("url") == "https://hooks.example/T0KEN"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (options(), "write slack:NAME"),
        (options(where="CHURN_RADAR_SINKS_FILE: sink 'a'"), 'url_env = "NAME_OF'),
        (options("OTHER_URL"), "the variable OTHER_URL is not set"),
        (options("https://hooks.example/S3CRET"), "the variable that holds"),
        (options(url="https://hooks.example/S3CRET"), "url is a secret"),
    ],
)
def test_a_missing_secret_is_one_line_that_tells_how_and_not_what(given: SinkOptions, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        given.secret("url")

    [line] = caught.value.problems
    assert said in line
    assert "S3CRET" not in line
