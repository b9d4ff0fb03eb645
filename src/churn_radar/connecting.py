"""`churn-radar connect`: the reporting webhook in Customer.io, made or brought up to date."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from churn_radar.customerio.webhooks import Webhook, as_wanted, same_endpoint
from churn_radar.customerio.workspace import Workspace
from churn_radar.errors import SettingsError
from churn_radar.intake.door import PATH
from churn_radar.settings import Settings


@dataclass(frozen=True, slots=True)
class Connected:
    """The webhook as it is now, or would be; what was done; and how many more there are for the same endpoint."""

    webhook: Webhook
    change: str
    others: int


def endpoint_of(url: str | None, settings: Settings) -> str:
    """Where Customer.io is to post: the given address or that of the settings, with the door's path.

    Raises SettingsError when there is none, or it is no address that Customer.io could reach.
    """
    told = (url or settings.public_url or "").strip().rstrip("/")
    if not told:
        raise SettingsError(["CHURN_RADAR_PUBLIC_URL: missing; name the address with --url https://hooks.example.com"])
    parts = urlsplit(told)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
        raise SettingsError([f"--url: {told!r} is no address (example: https://hooks.example.com)"])
    to_the_real_one = settings.cio_app_url is None
    if to_the_real_one and ("." not in parts.hostname or parts.hostname.startswith("127.")):
        raise SettingsError([f"--url: Customer.io cannot reach {parts.hostname!r}; name the public address"])
    return told if told.endswith(PATH) else f"{told}{PATH}"


async def connect(workspace: Workspace, endpoint: str, settings: Settings, *, dry_run: bool) -> Connected:
    """Let the workspace report the events that the settings name to `endpoint`; never by a second webhook for it.

    Raises UpstreamError.
    """
    existing = await workspace.webhooks()
    wanted = as_wanted(existing, endpoint, settings.kept_events)
    same = same_endpoint(existing, endpoint)
    if wanted in same:
        return Connected(wanted, "is as it should be", len(same) - 1)
    change = "created" if wanted.id is None else "updated"
    if dry_run:
        return Connected(wanted, f"would be {change}", max(0, len(same) - 1))
    await workspace.save(wanted)
    return Connected(wanted, change, max(0, len(same) - 1))
