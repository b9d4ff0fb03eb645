"""Back into Customer.io: the event `churn_brief_ready` and a few attributes, so that a campaign can start from them.

Only of people who exist: each is looked up first, by what they are known by for good, and who is not found (deleted,
suppressed) is never written to, since that would bring them back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from churn_radar.customerio.brief_event import attributes_of, event_of
from churn_radar.customerio.track import KEY_NAME, TrackClient
from churn_radar.errors import RetryLater, SettingsError
from churn_radar.links import brief_page
from churn_radar.research.brief import Brief
from churn_radar.settings import Settings
from churn_radar.sinks.protocol import Declined, Parts, SinkOptions
from churn_radar.triage.customer import CustomerRef


@dataclass
class CustomerioSink:
    """Writes each brief back to the person that it is about."""

    name: str
    settings: Settings = field(repr=False)
    _parts: Parts = field(default=Parts(), repr=False)
    _track: TrackClient = field(init=False, repr=False)

    async def open(self, parts: Parts) -> None:
        """Make the client."""
        self._parts = parts
        self._track = TrackClient.create(self.settings, pace=parts.track_pace)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._track.aclose()

    async def deliver(self, brief: Brief) -> None:
        """Write one brief back; raises Declined for people who are gone, else as the clients do.

        Attributes first: a campaign that the event starts reads them.
        """
        if self._parts.look_up is None:
            raise RetryLater("customerio", "nobody can be looked up by this process")
        profile = await self._parts.look_up(person_of(brief))
        if profile is None:
            raise Declined("this person is not in Customer.io any more; nothing was written")
        link = brief_page(self.settings.public_url, brief.id)
        await self._track.update(profile.ref, attributes_of(brief, link))
        await self._track.event(profile.ref, event_of(brief, link))

    async def check(self) -> None:
        """Prove that the credentials are taken; changes nothing."""
        await self._track.check()


def person_of(brief: Brief) -> CustomerRef:
    """Whose brief it is, by what lasts. By the mail address only where nothing else is known: it may change hands."""
    email = brief.email.lower() if brief.email else None
    own = brief.customer_id if brief.customer_id not in (brief.cio_id, brief.email, email) else None
    if own or brief.cio_id:
        return CustomerRef(id=own, cio_id=brief.cio_id)
    return CustomerRef(email=brief.email or brief.customer_id)


def create(options: SinkOptions) -> CustomerioSink:
    """The factory behind `customerio`; raises SettingsError where the Track API's credentials are missing."""
    options.expect()
    settings = options.settings
    if settings.cio_site_id is None or settings.cio_track_key is None:
        raise SettingsError(
            [f"{options.where}: 'customerio' needs {KEY_NAME} (Customer.io: Account Settings > API Credentials)"]
        )
    return CustomerioSink(options.name, settings)
