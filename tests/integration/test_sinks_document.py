"""What docs/sinks.md shows works."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from starlette.types import ASGIApp

from churn_radar.errors import RetryLater
from churn_radar.settings import Environment, IsolatedSettings
from churn_radar.simulator.server import running
from churn_radar.sinks.protocol import Parts, create_outlets
from churn_radar.sinks.webhook import WebhookSink
from tests.support.briefs import a_brief

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "sinks.md"
SECRET = "whsec_" + "A" * 32


def blocks(language: str) -> list[str]:
    tokens = MarkdownIt("commonmark").parse(DOCUMENT.read_text(encoding="utf-8"))
    return [token.content for token in tokens if token.type == "fence" and token.info == language]


async def test_the_receiver_takes_what_the_sink_sends_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [source] = blocks("python")
    module: dict[str, Any] = {}
    exec(compile(source.replace("from __future__", "#"), "docs/sinks.md", "exec"), module)  # noqa: S102  our own text
    receiver: ASGIApp = module["app"]
    monkeypatch.setenv("CRM_SECRET", SECRET)
    async with running(receiver) as url:
        settings = IsolatedSettings(
            environment=Environment.DEVELOPMENT, sinks=("webhook:CRM",), sinks_private_networks=("127.0.0.0/8",)
        )
        [sink] = create_outlets(settings, {"CRM": f"{url}/hooks/churn", "CRM_SECRET": SECRET}).sinks
        assert isinstance(sink, WebhookSink)
        await sink.open(Parts())
        await asyncio.gather(sink.deliver(a_brief()), sink.deliver(a_brief()))
        monkeypatch.setenv("CRM_SECRET", "whsec_" + "B" * 32)
        with pytest.raises(RetryLater, match="answered 401"):
            await sink.deliver(a_brief())
        await sink.aclose()

    assert capsys.readouterr().out.splitlines() == ["cust_1001 High-MRR Fintech (Pro plan)"]


def test_the_file_is_read_as_it_stands(tmp_path: Path) -> None:
    [text] = blocks("toml")
    file = tmp_path / "sinks.toml"
    file.write_text(text)
    variables = {
        "SALES_URL": "https://hooks.slack.example/x",
        "DESK_MAIL": "mailtos://user:password@smtp.example.com?from=radar@example.com&to=desk@example.com",
        "CRM_SECRET": SECRET,
    }

    outlets = create_outlets(IsolatedSettings(environment=Environment.DEVELOPMENT, sinks_file=file), variables)

    assert [sink.name for sink in outlets.sinks] == ["sales", "desk", "crm"]
    assert [(plan.name, plan.sink) for plan in outlets.digests] == [("monday", "desk")]
    assert outlets.filters["sales"].is_set
