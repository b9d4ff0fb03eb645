"""The settings, told to people: a table for a terminal, Markdown for the README, an env file to start from."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path

from pydantic import IPvAnyNetwork, SecretStr

from churn_radar.settings import ENV_FILE_VARIABLE, Settings, default_text, variable_name


@dataclass(frozen=True, slots=True)
class Line:
    """One setting as people read it."""

    name: str
    kind: str
    default: str
    description: str
    example: str


def lines() -> list[Line]:
    """Every setting, in the order of the code."""
    return [
        Line(
            name=variable_name(field),
            kind=_kind(info.annotation),
            default=default_text(field),
            description=info.description or "",
            example=str(info.examples[0]) if info.examples else "",
        )
        for field, info in Settings.model_fields.items()
    ]


def _kind(annotation: object) -> str:
    """A type in words: `number`, `text`, `list of secrets`, `us | eu`."""
    origin = typing.get_origin(annotation)
    if origin in (types.UnionType, typing.Union):
        return _kind(next(a for a in typing.get_args(annotation) if a is not type(None)))
    if origin is typing.Annotated:
        return _kind(typing.get_args(annotation)[0])
    if origin is typing.Literal:
        return " | ".join(typing.get_args(annotation))
    if origin is tuple:
        return f"list of {_kind(typing.get_args(annotation)[0])}s"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " | ".join(str(member.value) for member in annotation)
    names = {
        bool: "true | false",
        int: "integer",
        float: "number",
        Decimal: "number",
        Path: "path",
        IPvAnyNetwork: "network",
    }
    return "secret" if annotation is SecretStr else names.get(typing.cast("type", annotation), "text")


def as_markdown() -> str:
    """A Markdown table for the README."""
    rows = ["| setting | type | default | what it does |", "| --- | --- | --- | --- |"]
    for line in lines():
        default = f"`{line.default}`" if line.default else "none"
        kind = line.kind.replace(" | ", ", ")
        rows.append(f"| `{line.name}` | {kind} | {default} | {line.description} |")
    return "\n".join(rows) + "\n"


def as_env() -> str:
    """An env file with every setting; what has a default is commented out."""
    out = [
        "# churn_radar settings. Copy to .env and fill in the first four; the rest has defaults.",
        f"# Another file is named by {ENV_FILE_VARIABLE}. Made by: churn-radar settings --format env",
    ]
    needed = ("CIO_APP_KEY", "CIO_WEBHOOK_SECRET", "MAVERA_API_KEY", "CHURN_RADAR_API_KEYS")
    for line in lines():
        out += ["", f"# {line.description}"]
        value = line.default or line.example
        out.append(f"{line.name}=" if line.name in needed else f"# {line.name}={value}")
    return "\n".join(out) + "\n"
