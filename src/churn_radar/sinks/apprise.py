"""Chat and mail by Apprise (https://github.com/caronc/apprise): one address each, such as `mailto://` or `discord://`.

Apprise calls block, so they run on a thread of the sink's own. What a service is sent depends on its family: mail gets
HTML (Apprise makes the mail's text part from it, and takes none of ours), services that read Markdown get that, all
others plain text, each within the size that the service allows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

import apprise
from apprise.exception import AppriseException

from churn_radar.errors import Gone, RetryLater, SettingsError, UpstreamError
from churn_radar.research.brief import Brief
from churn_radar.sinks import render
from churn_radar.sinks.message import LinksFor, Message, no_links, of_brief
from churn_radar.sinks.protocol import Parts, SinkOptions
from churn_radar.sinks.thread import OwnThread

SERVICE = "apprise"
# Less than the minute after which a delivery is given up, so that the thread is free again by then.
SEND_SECONDS = 45.0
# Services count characters in their own ways (UTF-16, entities); what is meant to fit stays below by this much.
ROOM = 0.9
LEAST_CHARACTERS = 100
# Services that bring mail, by the scheme of their addresses.
MAIL = frozenset(
    ("mailto", "mailtos", "azure", "brevo", "mailgun", "o365", "postmark", "resend", "sendgrid", "ses", "smtp2go")
)
_STATUS = re.compile(r"\berror[=: ]+(\d{3})\b")


class Family(StrEnum):
    """In which words a service is told."""

    MAIL = "html"
    MARKDOWN = "markdown"
    TEXT = "text"


@dataclass
class AppriseSink:
    """Tells one service by Apprise."""

    name: str
    service: apprise.NotifyBase = field(repr=False)
    family: Family
    _links: LinksFor = field(default=no_links, repr=False)
    _thread: OwnThread = field(default_factory=lambda: OwnThread("apprise"), repr=False)

    async def open(self, parts: Parts) -> None:
        """Take over what links there are."""
        self._links = parts.links

    async def aclose(self) -> None:
        """Nothing stays open between messages."""

    async def deliver(self, brief: Brief) -> None:
        """Tell of one brief; raises RetryLater or Gone."""
        await self.say(of_brief(brief, await self._links(brief)))

    async def say(self, message: Message) -> None:
        """Tell anything; raises as `deliver` does."""
        await self._thread.run(partial(self._send, message))

    def _send(self, message: Message) -> None:
        said: list[str] = []
        result = _alone(self.service).notify(
            body=body(message, self.family, self.service.body_maxlen),
            title=render.title(message, min(self.service.title_maxlen or 200, 200)),
            body_format=self.family.value,
            log_callback=lambda entry, _: said.append(str(entry.message)),
        )
        if not result:
            raise _refusal(str(self.service.service_name), said)


def body(message: Message, family: Family, most: int) -> str:
    """A message in a family's words, within what the service takes."""
    limit = max(int(most * ROOM), LEAST_CHARACTERS)
    match family:
        case Family.MAIL:
            return render.as_html(message, limit)
        case Family.MARKDOWN:
            return render.as_markdown(message, limit)
        case Family.TEXT:
            return render.as_text(message, limit)


def create(options: SinkOptions) -> AppriseSink:
    """The factory behind `apprise`: the service's `url` as Apprise writes it, by reference. Raises SettingsError."""
    options.expect("url")
    url = options.secret("url").strip()
    wrong = f"{options.where}: url: not one address as Apprise knows them (example: mailto://user:password@example.com)"
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://\S+", url, re.IGNORECASE):
        raise SettingsError([wrong])
    try:
        service = apprise.Apprise.instantiate(url, asset=_asset(), suppress_exceptions=True)
    except AppriseException:
        service = None
    if not isinstance(service, apprise.NotifyBase):
        raise SettingsError([wrong])
    return AppriseSink(options.name, service, family_of(service, url.partition("://")[0]))


def family_of(service: apprise.NotifyBase, scheme: str) -> Family:
    """Which words a service reads; `scheme` is that of its address."""
    # Of the class: an instance has the one that its address chose.
    formats: Any = type(service).notify_format
    told = {str(getattr(each, "value", each)) for each in (formats if isinstance(formats, tuple) else (formats,))}
    if scheme.lower() in MAIL:
        return Family.MAIL
    return Family.MARKDOWN if "markdown" in told and "html" not in told else Family.TEXT


def _asset() -> apprise.AppriseAsset:
    return apprise.AppriseAsset(
        app_id="churn_radar",
        app_desc="Churn alerts",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        async_mode=False,
        http_redirects=False,
        storage_mode="memory",
        pgp_autogen=False,
        pem_autogen=False,
        allow_templates=False,
        language="en",
        service_timeout=SEND_SECONDS,
    )


def _alone(service: apprise.NotifyBase) -> apprise.Apprise:
    alone = apprise.Apprise(asset=service.asset)
    alone.add(service)
    return alone


def _refusal(service: str, said: list[str]) -> UpstreamError:
    """What Apprise's own lines say of a failure: the status only, for the rest may quote what was sent."""
    found = [int(match[1]) for line in said if (match := _STATUS.search(line))]
    status = found[-1] if found else None
    if status == 410:
        return Gone(SERVICE, f"{service} answered 410", status=status)
    if status is not None:
        return RetryLater(SERVICE, f"{service} answered {status}", status=status)
    return RetryLater(SERVICE, f"{service} did not take the message")
