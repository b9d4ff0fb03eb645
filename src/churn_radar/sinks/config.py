"""Reads which sinks are wanted: the list in CHURN_RADAR_SINKS, and the file that CHURN_RADAR_SINKS_FILE names.

The list is for sinks that need no more than a word: `console`, `jsonl:briefs.jsonl`, `slack:SLACK_URL`. The file is
TOML, with one `[[sink]]` table for each sink and one `[[digest]]` table for each digest. Secrets stand in neither: a
key such as `url_env` names the variable, and `url_file` the file, that holds what `url` is to be.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from churn_radar.errors import SettingsError, noted
from churn_radar.settings import Settings
from churn_radar.sinks.filter import EVERYTHING, Filter

LIST = "CHURN_RADAR_SINKS"
FILE = "CHURN_RADAR_SINKS_FILE"
MOST_SECRET_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """One sink as it was asked for. `options` are the keys of its table that are its kind's own, secrets looked up.

    `where` begins each line about it; a target may hold a secret, and is shown nowhere. `is_wrong`: it cannot be made,
    and why has been noted.
    """

    name: str
    kind: str
    target: str | None
    where: str
    filter: Filter = EVERYTHING
    options: Mapping[str, object] = field(default_factory=dict, repr=False)
    is_wrong: bool = False


@dataclass(frozen=True, slots=True)
class SinksConfig:
    """Everything that is asked for; `digests` are tables that `churn_radar.sinks.digest` reads.

    `problems` are the lines about what makes no sense already: whoever looks further adds to them.
    """

    sinks: tuple[Wanted, ...]
    digests: tuple[Mapping[str, Any], ...] = ()
    problems: tuple[str, ...] = ()


class _Table(BaseModel):
    """The keys that every `[[sink]]` may have."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(min_length=1, max_length=60, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")
    kind: str = Field(min_length=1)
    target: str | None = None
    plans: list[str] = Field(default_factory=list)
    kinds: list[str] = Field(default_factory=list)
    personas: list[str] = Field(default_factory=list)
    mrr_from: Decimal | None = Field(None, ge=0, allow_inf_nan=False)

    @field_validator("plans", "kinds")
    @classmethod
    def _lower(cls, value: list[str]) -> list[str]:
        return [each.strip().lower() for each in value]

    @property
    def filter(self) -> Filter:
        return Filter(frozenset(self.plans), frozenset(self.kinds), tuple(self.personas), self.mrr_from)


def read_config(settings: Settings, variables: Mapping[str, str]) -> SinksConfig:
    """What the settings ask for; `variables` are those that keys ending in `_env` may name.

    With a file, the list's default (`console`) does not apply: the file says it all, unless the list is set as well.
    """
    listed = tuple(_of_item(item) for item in settings.sinks)
    if settings.sinks_file is None:
        return SinksConfig(listed)
    if "sinks" not in settings.model_fields_set:
        listed = ()
    problems: list[str] = []
    try:
        document = _document(settings.sinks_file)
    except SettingsError as error:
        return SinksConfig(listed, problems=tuple(error.problems))
    found: list[Wanted] = []
    with noted(problems):
        for number, table in enumerate(_tables(document, "sink"), start=1):
            found.append(_of_table(table, number, settings, variables, problems))
    digests: list[Mapping[str, Any]] = []
    with noted(problems):
        digests += _tables(document, "digest")
    problems += [
        f"{FILE}: {name!r} is no table of this file; there are [[sink]] and [[digest]]"
        for name in document
        if name not in ("sink", "digest")
    ]
    if not problems and not (listed or found):
        problems.append(f'{FILE}: holds no sink; write one (example: [[sink]], name = "desk", kind = "console")')
    return SinksConfig((*listed, *found), tuple(digests), tuple(problems))


def _of_item(item: str) -> Wanted:
    kind, _, target = item.partition(":")
    return Wanted(item, kind, target or None, LIST)


def _document(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"{FILE}: {str(path)!r} is no TOML: {error}; mend it there"]) from None
    except (OSError, UnicodeDecodeError):
        raise SettingsError([f"{FILE}: {str(path)!r} cannot be read; name an existing file"]) from None


def _tables(document: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    tables = document.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SettingsError([f"{FILE}: write [[{name}]], with two brackets, for each of them"])
    yield from tables


def _of_table(
    table: dict[str, Any], number: int, settings: Settings, variables: Mapping[str, str], problems: list[str]
) -> Wanted:
    """A table's sink; what is wrong with it is added to `problems`."""
    name, kind = (told if isinstance(told := table.get(key), str) else "" for key in ("name", "kind"))
    where = f"{FILE}: sink {name!r}" if name and len(name) <= 60 else f"{FILE}: sink number {number}"
    assert settings.sinks_file is not None  # noqa: S101  it has just been read
    wrong: list[str] = []
    read = None
    try:
        read = _Table.model_validate(table)
    except ValidationError as error:
        wrong += problem_lines(where, error)
    else:
        # The sink can be made all the same, and may be found to lack more.
        problems += _never_fits(read, where, settings)
    own = {key: value for key, value in table.items() if key not in _Table.model_fields}
    options = _looked_up(own, where, settings.sinks_file.parent, variables, wrong)
    problems += wrong
    if read is None or wrong:
        return Wanted(name, kind, None, where, is_wrong=True)
    return Wanted(name, kind, read.target, where, read.filter, options)


def _never_fits(table: _Table, where: str, settings: Settings) -> Iterator[str]:
    """A line for each word of a filter that no brief can pass: most often a typing slip."""
    for key, told, possible, setting in (
        ("plans", table.plans, settings.research_plans, "CHURN_RADAR_RESEARCH_PLANS"),
        ("kinds", table.kinds, settings.alert_events, "CHURN_RADAR_ALERT_EVENTS"),
    ):
        for each in told:
            if each not in possible:
                yield f"{where}: {key}: no brief is ever about {each!r}; choose from {setting}: {', '.join(possible)}"


def problem_lines(where: str, error: ValidationError) -> list[str]:
    """One line for each finding; none of them quotes a value."""
    lines = []
    for problem in error.errors(include_input=False):
        place = ".".join(str(each) for each in problem["loc"])
        said = "there is no such key" if problem["type"] == "extra_forbidden" else problem["msg"]
        lines.append(f"{where}: {place or 'table'}: {said.removeprefix('Value error, ')}")
    return lines


def _looked_up(
    own: Mapping[str, Any], where: str, folder: Path, variables: Mapping[str, str], problems: list[str]
) -> dict[str, object]:
    """The kind's own keys, with `..._env` and `..._file` replaced by what they name."""
    found: dict[str, object] = {}
    for key, value in own.items():
        base, _, how = key.rpartition("_")
        if not base or how not in ("env", "file"):
            found[key] = value
            continue
        with noted(problems):
            if base in own:
                raise SettingsError([f"{where}: has both {base} and {key}; leave one of them out"])
            if not isinstance(value, str) or not value.strip():
                raise SettingsError([f"{where}: {key} has to name {'a variable' if how == 'env' else 'a file'}"])
            secret = _from_file(folder / value, where, key) if how == "file" else variable(value, where, variables)
            found[base] = SecretStr(secret)
    return found


def variable(name: str, where: str, variables: Mapping[str, str]) -> str:
    """The value of the variable that holds a secret. Raises SettingsError when it is not set."""
    value = variables.get(name, "").strip()
    if not value:
        raise SettingsError([f"{where}: the variable {name} is not set; set it in the environment or the env file"])
    return value


def _from_file(path: Path, where: str, key: str) -> str:
    try:
        with path.open("rb") as file:
            value = file.read(MOST_SECRET_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError):
        raise SettingsError([f"{where}: the file that {key} names cannot be read; mend its path or mode"]) from None
    if not value:
        raise SettingsError([f"{where}: the file that {key} names is empty; put the secret into it"])
    return value
