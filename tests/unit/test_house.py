"""The house around the code: what the documents and lock files say must stay true of the code."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from markdown_it import MarkdownIt
from markdown_it.token import Token
from typer.testing import CliRunner

from churn_radar.cli import app
from churn_radar.research.brief import AttributesSource, Brief, BriefSections
from churn_radar.settings import Environment, IsolatedSettings, Settings
from churn_radar.settings_text import as_env, as_markdown
from churn_radar.sinks.protocol import Sink, SinkOptions
from churn_radar.triage.consent import consent

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LOCKS = ("requirements.lock", "requirements-image.lock", "requirements-dev.lock")

# Read by the demo itself, not by the Makefile.
ENVIRONMENT_OF_MAKE = {"ONCE"}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def tokens(document: Path) -> Iterator[Token]:
    """Every token of a document, those inside of paragraphs included."""
    for token in MarkdownIt("commonmark").enable("table").parse(document.read_text(encoding="utf-8")):
        yield token
        yield from token.children or ()


def commands(document: Path) -> Iterator[str]:
    """The commands that a document shows: lines of `sh` blocks, and code inside of sentences."""
    for token in tokens(document):
        match token:
            case Token(type="fence", info="sh", content=content):
                lines = content.replace("\\\n", " ").splitlines()
            case Token(type="code_inline", content=content):
                lines = [content]
            case _:
                continue
        for line in lines:
            if line.startswith(("churn-radar ", "make ")):
                yield line


def shown(start: str) -> list[Any]:
    found = {(document.name, line) for document in DOCUMENTS for line in commands(document) if line.startswith(start)}
    return [pytest.param(line, id=f"{name}: {line}") for name, line in sorted(found)]


@cache
def help_of(*command: str) -> str:
    result = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "160", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    return result.output


def slugs(document: Path) -> set[str]:
    """The anchors of a document's headings, as code hosts make them: lower case, no punctuation, hyphens."""
    found = set()
    of_heading = False
    for token in tokens(document):
        if of_heading:
            found.add(re.sub(r"[^\w\- ]", "", token.content.lower()).replace(" ", "-"))
        of_heading = token.type == "heading_open"
    return found


def test_the_env_example_is_that_of_the_settings() -> None:
    assert read(".env.example") == as_env(), ".env.example is stale; run: make env-example"


def test_the_readmes_settings_table_is_that_of_the_settings() -> None:
    table = re.search(r"<!-- settings -->\n\n(.*)\n<!-- /settings -->", read("README.md"), re.DOTALL)
    assert table is not None, "README.md has lost its settings markers"
    assert table[1] == as_markdown(), (
        "the settings table in README.md is stale; put the output of `churn-radar settings --format markdown` there"
    )


@pytest.mark.parametrize("line", shown("churn-radar"))
def test_a_command_in_the_documents_exists_with_its_options(line: str) -> None:
    _, *words = shlex.split(line, comments=True)
    if words[0].startswith("-"):
        assert words[0] in help_of()
        return
    verb, *rest = words
    assert re.search(rf"^│ {verb} ", help_of(), re.MULTILINE), f"there is no command {verb!r}"
    command = [verb]
    if rest and re.search(rf"^│ {re.escape(rest[0])} +[A-Z]", help_of(verb), re.MULTILINE):
        command.append(rest[0])  # a command of a group
    offered = set(re.findall(r"^│[* ]+(--[a-z-]+)", help_of(*command), re.MULTILINE))
    used = {word.partition("=")[0] for word in rest if word.startswith("-")}
    assert used <= offered, f"churn-radar {verb} has no option {', '.join(sorted(used - offered))}"


@pytest.mark.parametrize("line", shown("make"))
def test_a_make_verb_in_the_documents_exists(line: str) -> None:
    makefile = read("Makefile")
    _, *words = shlex.split(line, comments=True)
    verbs = {word for word in words if "=" not in word}
    variables = {word.partition("=")[0] for word in words if "=" in word}
    assert verbs <= set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert variables <= {*re.findall(r"\$\((\w+)\)", makefile), *ENVIRONMENT_OF_MAKE}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    for token in tokens(document):
        target = str(token.attrs.get("href") or token.attrs.get("src") or "")
        if not target or re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (document.parent / name).resolve() if name else document
        assert file.exists(), f"{document.name}: {target}"
        assert file.is_relative_to(ROOT), f"{document.name}: {target} leads out of the repository"
        assert not anchor or anchor in slugs(file), f"{document.name}: no heading for {target}"


def test_the_pages_help_is_that_of_the_docs() -> None:
    assert read("src/churn_radar/web/what-to-do.md") == read("docs/what-to-do.md"), (
        "run: cp docs/what-to-do.md src/churn_radar/web/what-to-do.md"
    )


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_versions_and_hashes_but_no_host(lock: str) -> None:
    for line in read(lock).splitlines():
        assert "://" not in line, line
        assert " @ " not in line, line
        assert not re.match(r"--(extra-)?index-url|-i |--find-links|-f ", line), line
    pinned = re.findall(r"^[a-z0-9._-]+==\S+.*?(?=^\S|\Z)", read(lock), re.MULTILINE | re.DOTALL)
    assert pinned
    assert all("--hash=sha256:" in entry for entry in pinned)


def test_every_dependency_has_a_line_among_the_decisions() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    names = {re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0] for requirement in wanted}
    told = set(re.findall(r"^\| `([a-z0-9-]+)` \|", read("docs/decisions/README.md"), re.MULTILINE))
    assert not names - told, "add a line to docs/decisions/README.md"
    assert not told - names, "docs/decisions/README.md tells of packages that are no dependency any more"


@pytest.mark.parametrize("record", sorted(ROOT.glob("docs/decisions/0*.md")), ids=lambda path: path.stem)
def test_a_decision_has_its_four_headings_and_a_line_in_the_index(record: Path) -> None:
    headings = re.findall(r"^## (.+)$", record.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == ["Context", "Decision", "Measured", "Consequences"]
    assert f"]({record.name}) |" in read("docs/decisions/README.md")


def test_the_image_is_given_every_file_that_it_copies() -> None:
    let_through = set(re.findall(r"^!(\S+)", read(".dockerignore"), re.MULTILINE))
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", read("Dockerfile"), re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert copied == let_through
    assert all((ROOT / source).exists() for source in copied)


def test_compose_waits_longer_for_a_stop_than_the_service_does() -> None:
    grace = re.search(r"stop_grace_period: (\d+)s", read("compose.yaml"))
    assert grace is not None
    # Five seconds for open requests, five for cutting off what outlasts the grace.
    assert int(grace[1]) > Settings.model_fields["shutdown_grace_seconds"].default + 10


async def test_the_readmes_sink_is_one() -> None:
    blocks = [t for t in tokens(ROOT / "README.md") if t.type == "fence" and t.info == "python"]
    assert len(blocks) == 1
    # Dataclasses look their module up by name.
    module: dict[str, Any] = {"__name__": __name__}
    exec(compile(blocks[0].content, "README.md", "exec"), module)  # noqa: S102  it is our own text
    settings = IsolatedSettings(environment=Environment.DEVELOPMENT)
    sink = module["create"](SinkOptions("post:https://desk.example/briefs", "https://desk.example/briefs", settings))
    assert isinstance(sink, Sink)
    assert sink.name == "post:https://desk.example/briefs"
    with respx.mock:
        route = respx.post("https://desk.example/briefs").respond(200)
        await sink.deliver(a_brief())
        assert route.calls.last.request.headers["Idempotency-Key"] == "brf_1"
        route.respond(500)
        with pytest.raises(httpx.HTTPStatusError):
            await sink.deliver(a_brief())


def a_brief() -> Brief:
    moment = datetime(2026, 11, 24, tzinfo=UTC)
    return Brief(
        id="brf_1",
        customer_id="cust_1",
        event_type="unsubscribed",
        event_ids=["01A"],
        persona_type="Pro Fintech User",
        research_brief="## Why they churn\n",
        sections=BriefSections(),
        sources=[],
        plan="pro",
        mrr=100.0,
        currency="USD",
        consent=consent([("unsubscribed", "email")]),
        attributes_source=AttributesSource.LIVE,
        signal_received_at=moment,
        created_at=moment,
    )


def test_nothing_waits_by_means_of_wait_for() -> None:
    """In Python 3.11 it may swallow a cancellation: then a loop goes on for ever, and so does the stop behind it."""
    modules = (ROOT / "src").rglob("*.py")
    assert [module.name for module in modules if "asyncio.wait_for" in module.read_text(encoding="utf-8")] == []
