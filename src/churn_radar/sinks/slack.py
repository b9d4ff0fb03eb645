"""Slack by an incoming webhook, in its own blocks: a header, facts side by side, lines, a caution, buttons.

Text from outside is escaped as Slack asks (`&`, `<`, `>`), and `verbatim` keeps Slack from making links or calls out
of it. Limits by Slack's reference of blocks: a header of 150 characters, 10 fields of 2,000, a text of 3,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from churn_radar.research.brief import Brief
from churn_radar.sinks import http as sending
from churn_radar.sinks.gist import shorten
from churn_radar.sinks.http import read_url
from churn_radar.sinks.message import Link, LinksFor, Message, no_links, of_brief
from churn_radar.sinks.protocol import Parts, SinkOptions
from churn_radar.sinks.render import inert, title

SERVICE = "slack"
HEADER, FIELDS, TEXT, BUTTONS, LABEL, URL = 150, 10, 3000, 5, 75, 3000


@dataclass
class SlackSink:
    """Posts messages to the channel that the webhook's address stands for."""

    name: str
    url: httpx.URL = field(repr=False)
    _links: LinksFor = field(default=no_links, repr=False)
    _http: httpx.AsyncClient = field(init=False, repr=False)

    async def open(self, parts: Parts) -> None:
        """Make the client."""
        self._links = parts.links
        self._http = sending.create_client()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def deliver(self, brief: Brief) -> None:
        """Post one brief; raises RetryLater or Gone."""
        await self.say(of_brief(brief, await self._links(brief)))

    async def say(self, message: Message) -> None:
        """Post any message; raises as `deliver` does."""
        body = orjson.dumps({"text": escape(title(message)), "blocks": blocks(message)})
        host = self.url.raw_host.decode("ascii")
        await sending.post(self._http, self.url, body, service=SERVICE, host=host, headers={})


def create(options: SinkOptions) -> SlackSink:
    """The factory behind `slack`: the webhook's `url`, by reference. Raises SettingsError."""
    options.expect("url")
    return SlackSink(options.name, read_url(options.secret("url"), options.where))


def escape(text: str) -> str:
    """Text in which Slack finds no mark of its own."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def blocks(message: Message) -> list[dict[str, Any]]:
    """A message as Slack's blocks."""
    made: list[dict[str, Any]] = [{"type": "header", "text": _plain(title(message, HEADER))}]
    if message.facts:
        fields = [_marked(f"*{escape(name)}*\n{_text(value)}") for name, value in message.facts[:FIELDS]]
        made.append({"type": "section", "fields": fields})
    if message.lines:
        said = "\n".join(f"*{escape(word)}:* {_text(line, 600)}" for word, line in message.lines)
        made.append({"type": "section", "text": _marked(shorten(said, TEXT))})
    if message.caution:
        made.append({"type": "section", "text": _marked(f":warning: *{_text(message.caution, 1000)}*")})
    if buttons := _buttons(message.links):
        made.append({"type": "actions", "elements": buttons})
    made.append({"type": "context", "elements": [_plain(message.id)]})
    return made


def _buttons(links: Sequence[Link]) -> list[dict[str, Any]]:
    return [
        {"type": "button", "text": _plain(link.label[:LABEL]), "url": link.url, "action_id": f"open_{number}"}
        | ({"style": "primary"} if number == 0 else {})
        for number, link in enumerate(links[:BUTTONS])
        if len(link.url) <= URL
    ]


def _text(value: str, limit: int = 320) -> str:
    # Stars and the like stay what they are: at worst a word is bold.
    return escape(inert(value, limit))


def _marked(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text[:TEXT], "verbatim": True}


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}
