"""Did a change of subscription preferences switch everything off?

Customer.io's `cio_subscription_preferences_changed` event carries, in `data.content`, a JSON string that
maps topics and channels to true (on) or false (off): either in groups, as in
`{"topics": {"topic_7": false}, "channels": {"email": false}}`, or as one flat map of switches.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum

from churn_radar.errors import NotUnderstood

_MAX_CHARACTERS = 256 * 1024


class PreferenceChange(StrEnum):
    """What a preference change leaves the customer with."""

    EVERYTHING_OFF = "everything_off"
    PARTLY_ON = "partly_on"


def read_preferences(content: object) -> PreferenceChange:
    """Read the content of a preference change: JSON text, or the map it decodes to.

    EVERYTHING_OFF needs at least one switch, and every one of them off. With all channels off but a topic
    still on the customer has not left: turning the channel back on brings that topic's messages back, so it
    counts as PARTLY_ON, which is no churn signal.

    Raises NotUnderstood when the content is blank, too long, not JSON, not an object, nested deeper than
    groups of switches, without a switch, or has a switch that is neither true nor false. The reason never
    quotes the content.
    """
    switches = list(_switches(_decoded(content)))
    if not switches:
        raise NotUnderstood("subscription preferences hold no switch")
    return PreferenceChange.PARTLY_ON if any(switches) else PreferenceChange.EVERYTHING_OFF


def _decoded(content: object) -> Mapping[object, object]:
    if isinstance(content, str):
        if not content.strip():
            raise NotUnderstood("subscription preferences are blank")
        if len(content) > _MAX_CHARACTERS:
            raise NotUnderstood("subscription preferences are too long")
        try:
            content = json.loads(content)
        except (ValueError, RecursionError):
            raise NotUnderstood("subscription preferences are not valid JSON") from None
    if content is None:
        raise NotUnderstood("subscription preferences are absent")
    if not isinstance(content, Mapping):
        raise NotUnderstood("subscription preferences are not a JSON object")
    return content


def _switches(preferences: Mapping[object, object]) -> Iterator[bool]:
    for value in preferences.values():
        if not isinstance(value, Mapping):
            yield _switch(value)
            continue
        for inner in value.values():
            if isinstance(inner, Mapping):
                raise NotUnderstood("subscription preferences are nested deeper than groups of switches")
            yield _switch(inner)


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise NotUnderstood("a subscription preference is neither true nor false")
