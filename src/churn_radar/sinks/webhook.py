"""An outgoing webhook by the Standard Webhooks specification (https://www.standardwebhooks.com), signed by its library.

The id is the same for every attempt to bring one brief to one sink, the timestamp is that of the attempt. While secrets
are rotated each of them signs, and the receiver may check any. 2xx is success, 410 stops the sink, everything else is
tried again by the ladder of the settings.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import orjson
from standardwebhooks.webhooks import Webhook

from churn_radar.errors import RetryLater, SettingsError, noted
from churn_radar.research.brief import Brief
from churn_radar.sinks import http as sending
from churn_radar.sinks.addresses import Address, reachable, resolve
from churn_radar.sinks.http import read_url
from churn_radar.sinks.protocol import Parts, SinkOptions
from churn_radar.upstream.failure import Unanswered

SERVICE = "webhook"
EVENT = "brief.ready"
LEAST_SECRET_BYTES, MOST_SECRET_BYTES = 24, 64


@dataclass
class WebhookSink:
    """Posts each brief to `url`; see the module."""

    name: str
    url: httpx.URL = field(repr=False)
    signers: Sequence[Webhook] = field(repr=False)
    allowed: Sequence[str] = ()
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    lookup: Callable[[str, int], Awaitable[list[Address]]] = resolve
    _http: httpx.AsyncClient = field(init=False, repr=False)

    async def open(self, parts: Parts) -> None:
        """Make the client. Without proxies: one would resolve the receiver's name itself."""
        self._http = sending.create_client(trust_env=False)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def deliver(self, brief: Brief) -> None:
        """Post one brief; raises RetryLater or Gone."""
        body = orjson.dumps({"type": EVENT, "timestamp": brief.created_at, "data": brief.as_record()})
        message_id = message_id_of(brief.id, self.name)
        now = self.now()
        signature = " ".join(signer.sign(message_id, now, body.decode()) for signer in self.signers)
        headers = {
            "Host": self.url.netloc.decode("ascii"),
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        }
        host = self.url.raw_host.decode("ascii")
        for number, address in enumerate(addresses := await self._addresses(host), start=1):
            try:
                await sending.post(
                    self._http,
                    self.url.copy_with(host=str(address)),
                    body,
                    service=SERVICE,
                    host=host,
                    headers=headers,
                    sni_hostname=host if self.url.scheme == "https" else None,
                )
            except RetryLater as error:
                # The next address only where this one took no connection: what was sent may have been taken.
                if error.status is not None or isinstance(error, Unanswered) or number == len(addresses):
                    raise
            else:
                return

    async def _addresses(self, host: str) -> list[Address]:
        try:
            found = await self.lookup(host, self.url.port or (443 if self.url.scheme == "https" else 80))
        except (OSError, UnicodeError):
            raise RetryLater(SERVICE, f"the name {host} does not resolve") from None
        usable = reachable(found, self.allowed)
        if not usable:
            raise RetryLater(
                SERVICE,
                f"{host} is a private address: nothing was sent (CHURN_RADAR_SINKS_PRIVATE_NETWORKS allows networks)",
            )
        return usable


def create(options: SinkOptions) -> WebhookSink:
    """The factory behind `webhook`: `url`, and a `secret` by reference, or several with blanks between.

    In the list, `webhook:NAME` means the variables NAME and NAME_SECRET. Raises SettingsError.
    """
    problems: list[str] = []
    with noted(problems):
        options.expect("url", "secret")
    with noted(problems):
        url = read_url(options.value("url"), options.where)
    with noted(problems):
        signers = signers_of(options.secret("secret", suffix="_SECRET"), options.where)
    if problems:
        raise SettingsError(problems)
    return WebhookSink(options.name, url, signers, options.settings.sinks_private_networks)


def signers_of(secrets: str, where: str) -> list[Webhook]:
    """One signer for each secret, in order: `whsec_` and 24 to 64 bytes in base64. Raises SettingsError."""
    signers = []
    for secret in secrets.split():
        try:
            encoded = secret.removeprefix("whsec_")
            size = len(base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True))
        except (binascii.Error, ValueError):
            size = 0
        if not secret.startswith("whsec_") or not LEAST_SECRET_BYTES <= size <= MOST_SECRET_BYTES:
            raise SettingsError(
                [
                    f"{where}: secret: has to be whsec_ and {LEAST_SECRET_BYTES} to {MOST_SECRET_BYTES} bytes in base64"
                    ' (example: echo "whsec_$(openssl rand -base64 32)")'
                ]
            )
        signers.append(Webhook(secret))
    return signers


def message_id_of(brief_id: str, sink: str) -> str:
    """The id by which a receiver knows one brief again, however often it comes; another one for each sink."""
    return f"msg_{hashlib.sha256(f'{brief_id} {sink}'.encode()).hexdigest()[:32]}"
