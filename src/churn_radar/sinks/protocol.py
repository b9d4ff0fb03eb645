"""What a sink is, and how one is found: the seam for third parties.

A sink is made by a factory that is registered as an entry point of the group `churn_radar.sinks`. The setting
CHURN_RADAR_SINKS names the kinds in use, each as `kind` or `kind:target`; the same kind may be there several
times with different targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Protocol, runtime_checkable

from churn_radar.errors import SettingsError
from churn_radar.research.brief import Brief
from churn_radar.settings import Settings

GROUP = "churn_radar.sinks"


@runtime_checkable
class Sink(Protocol):
    """A place for briefs."""

    @property
    def name(self) -> str:
        """The sink's name in the record: stable, since deliveries are owed to it by name."""
        ...

    async def deliver(self, brief: Brief) -> None:
        """Put one brief there, durably; raise to be called again later with the same brief.

        Delivery is at least once: after a crash the same brief, with the same id, may come again.
        """
        ...


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """What a factory gets to work with: its item of CHURN_RADAR_SINKS, and all settings."""

    name: str
    target: str | None
    settings: Settings


Factory = Callable[[SinkOptions], Sink]


def kind_of(name: str) -> str:
    """The kind of a sink by its name: all of it that logs and metrics show, for a target may hold a secret."""
    return name.partition(":")[0]


def available() -> list[str]:
    """The kinds of sink that are installed."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def create_sinks(settings: Settings) -> list[Sink]:
    """The sinks that the settings ask for.

    Raises SettingsError, one line per problem, for unknown kinds, repeated names and sinks that cannot work.
    """
    factories = {point.name: point for point in entry_points(group=GROUP)}
    sinks: list[Sink] = []
    problems: list[str] = []
    for item in settings.sinks:
        kind, target = kind_of(item), item.partition(":")[2]
        if kind not in factories:
            problems.append(
                f"CHURN_RADAR_SINKS: there is no sink {kind!r}; installed are {', '.join(sorted(factories))}"
                " (example: CHURN_RADAR_SINKS=console,jsonl:briefs.jsonl)"
            )
            continue
        try:
            factory: Factory = factories[kind].load()
            sink: object = factory(SinkOptions(item, target or None, settings))
            if not isinstance(sink, Sink):
                problems.append(f"CHURN_RADAR_SINKS: what {kind!r} makes is no sink: it lacks `name` or `deliver`")
            elif sink.name in names(sinks):
                # Deliveries are owed by name.
                problems.append(f"CHURN_RADAR_SINKS: {kind!r} is there twice; give each sink its own target")
            else:
                sinks.append(sink)
        except SettingsError as error:
            problems += error.problems
        except Exception as error:
            problems.append(f"CHURN_RADAR_SINKS: the sink {kind!r} cannot be made ({type(error).__name__}: {error})")
    if problems:
        raise SettingsError(problems)
    return sinks


def names(sinks: Sequence[Sink]) -> list[str]:
    """The names that deliveries are owed to."""
    return [sink.name for sink in sinks]
