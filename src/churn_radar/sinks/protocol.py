"""What a sink is, and how one is found: the seam for third parties.

A sink is made by a factory that is registered as an entry point of the group `churn_radar.sinks`. Which ones are in use
is read by `churn_radar.sinks.config`; the same kind may be there several times under different names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, runtime_checkable

from pydantic import SecretStr

from churn_radar.errors import ChurnRadarError, SettingsError, noted
from churn_radar.research.brief import Brief
from churn_radar.settings import Settings, variables_in_force
from churn_radar.sinks.config import LIST, SinksConfig, Wanted, read_config, variable
from churn_radar.sinks.digest import Plan, read_plans
from churn_radar.sinks.filter import EVERYTHING, Facts, Filter
from churn_radar.sinks.message import LinksFor, Message, no_links
from churn_radar.triage.customer import CustomerRef, Profile
from churn_radar.upstream import Pace

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

        Delivery is at least once: after a crash the same brief, with the same id, may come again. Errors of
        `churn_radar.errors` say what is to be done: RetryLater, OperatorMustAct, GiveUp (this brief is dead), Gone
        (and so is the sink, until a person says otherwise); Declined below; anything else counts as RetryLater.
        """
        ...


@runtime_checkable
class Speaker(Protocol):
    """A sink that people read: it takes any message, a digest for instance."""

    async def say(self, message: Message) -> None:
        """Put one message there; raises as `deliver` does."""
        ...


@dataclass(frozen=True)
class Parts:
    """Parts of the running service that a sink may need; None where the process does not have them."""

    look_up: Callable[[CustomerRef], Awaitable[Profile | None]] | None = None
    links: LinksFor = no_links
    track_pace: Pace | None = None


@runtime_checkable
class Opens(Protocol):
    """A sink that has something to open before the first brief, and to close after the last."""

    async def open(self, parts: Parts) -> None:
        """Called once, in the loop that delivers."""
        ...

    async def aclose(self) -> None:
        """Called once at the end."""
        ...


@asynccontextmanager
async def opened(sinks: Sequence[Sink], parts: Parts) -> AsyncIterator[None]:
    """Every sink that has something to open is open while the block runs."""
    async with AsyncExitStack() as stack:
        for sink in sinks:
            if isinstance(sink, Opens):
                await sink.open(parts)
                stack.push_async_callback(sink.aclose)
        yield


@runtime_checkable
class Checks(Protocol):
    """A sink that can prove that it would be let in, without sending anything."""

    async def check(self) -> None:
        """Once it is open; raises as `deliver` does."""
        ...


class Declined(ChurnRadarError):
    """This brief is nothing for this sink, now or later: its delivery is skipped. The message says why, and is safe."""


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """What a factory gets to work with: its item or table, and all settings.

    `options` are the keys of a table that are the kind's own; those that came by `..._env` or `..._file` are SecretStr
    under the name without it. `where` begins each line about this sink.
    """

    name: str
    target: str | None
    settings: Settings
    options: Mapping[str, object] = field(default_factory=dict, repr=False)
    where: str = LIST
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    def expect(self, *keys: str) -> None:
        """Refuse keys that the kind does not know: most often a typing slip. Raises SettingsError."""
        unknown = [key for key in self.options if key not in keys]
        if unknown:
            known = ", ".join(keys) or "none"
            raise SettingsError([f"{self.where}: {key}: there is no such key; its own are {known}" for key in unknown])

    def secret(self, key: str, *, suffix: str = "") -> str:
        """A secret that the kind cannot do without. Raises SettingsError.

        It is the table's `KEY_env` or `KEY_file`; of an item of the list, the variable named after the colon, with
        `suffix`.
        """
        told = self.options.get(key)
        if isinstance(told, SecretStr):
            return told.get_secret_value()
        if told is not None:
            raise SettingsError([f'{self.where}: {key} is a secret; write {key}_env = "NAME_OF_A_VARIABLE" instead'])
        return self._named(key, suffix)

    def value(self, key: str) -> str:
        """As `secret`, of what may also stand in the table as it is."""
        told = self.options.get(key)
        return told if isinstance(told, str) else self.secret(key)

    def _named(self, key: str, suffix: str) -> str:
        kind = kind_of(self.name)
        if self.where != LIST:
            raise SettingsError([f'{self.where}: needs its {key}; write {key}_env = "NAME_OF_A_VARIABLE"'])
        if self.target is None or not self.target.isidentifier():
            # Not quoted: most likely it is the secret itself.
            raise SettingsError([f"{self.where}: write {kind}:NAME, where NAME is the variable that holds the {key}"])
        return variable(f"{self.target}{suffix}", self.where, self.variables)


Factory = Callable[[SinkOptions], Sink]


@dataclass(frozen=True, slots=True)
class Route:
    """Which briefs are owed to a sink."""

    name: str
    filter: Filter = EVERYTHING


@dataclass(frozen=True)
class Outlets:
    """The sinks that the settings ask for, what each of them takes, and the digests that some of them send."""

    sinks: Sequence[Sink]
    filters: Mapping[str, Filter] = field(default_factory=dict)
    digests: Sequence[Plan] = ()

    @property
    def routes(self) -> list[Route]:
        """For each sink, in order."""
        return [Route(sink.name, self.filters.get(sink.name, EVERYTHING)) for sink in self.sinks]


def owed(routes: Sequence[Route], facts: Facts) -> dict[str, str | None]:
    """To which sinks a brief is owed: by name, None, or why a sink does not take it."""
    return {route.name: route.filter.why_not(facts) for route in routes}


def kind_of(name: str) -> str:
    """What logs and metrics show of a sink's name: up to a colon, for the target behind it may hold a secret."""
    return name.partition(":")[0]


def shown(name: str) -> str:
    """A sink's name for people: whole, unless an address is in it, which may hold a secret."""
    return f"{kind_of(name)}:…" if "://" in name else name


def available() -> list[str]:
    """The kinds of sink that are installed."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def create_outlets(settings: Settings, variables: Mapping[str, str] | None = None) -> Outlets:
    """The sinks that the settings ask for; secrets are looked up in `variables`, by default this process's.

    Raises SettingsError, one line for everything that makes no sense: in the list, in the file, and to the kinds.
    """
    known = variables_in_force() if variables is None else variables
    config = read_config(settings, known)
    problems = list(config.problems)
    sinks = _made(config, settings, known, problems)
    # Of a sink that could not be made nobody knows whether it speaks; that it is wrong is told already.
    mute = {sink.name for sink in sinks if not isinstance(sink, Speaker)}
    plans: Sequence[Plan] = ()
    with noted(problems):
        plans = read_plans(config.digests, {wanted.name for wanted in config.sinks} - mute)
    if problems:
        raise SettingsError(problems)
    return Outlets(sinks, {wanted.name: wanted.filter for wanted in config.sinks}, plans)


def create_sinks(settings: Settings) -> list[Sink]:
    """The sinks of `create_outlets` alone."""
    return list(create_outlets(settings).sinks)


def _made(config: SinksConfig, settings: Settings, variables: Mapping[str, str], problems: list[str]) -> list[Sink]:
    """The sinks that can be made; what is wrong with the others is added to `problems`."""
    factories = {point.name: point for point in entry_points(group=GROUP)}
    sinks: list[Sink] = []
    called: list[str] = []
    for wanted in config.sinks:
        kind, where = wanted.kind, wanted.where
        if kind not in factories and (kind or not wanted.is_wrong):
            problems.append(
                f"{where}: there is no sink {kind!r}; installed are {', '.join(sorted(factories))}"
                " (example: CHURN_RADAR_SINKS=console,jsonl:briefs.jsonl)"
            )
        sink = None
        if kind in factories and not wanted.is_wrong:
            with noted(problems):
                sink = _made_of(factories[kind], wanted, settings, variables)
                sinks.append(sink)
        name = sink.name if sink is not None else wanted.name
        if name and name in called:
            # Deliveries are owed by name.
            problems.append(f"{where}: {shown(name)!r} is there twice; give each sink its own target or name")
        called.append(name)
    return sinks


def _made_of(point: EntryPoint, wanted: Wanted, settings: Settings, variables: Mapping[str, str]) -> Sink:
    """One sink; raises SettingsError."""
    try:
        factory: Factory = point.load()
        sink: object = factory(_options(wanted, settings, variables))
    except SettingsError:
        raise
    except Exception as error:
        said = f"the sink {wanted.kind!r} cannot be made ({type(error).__name__}: {error}); mend its table or package"
        raise SettingsError([f"{wanted.where}: {said}"]) from error
    if not isinstance(sink, Sink):
        said = f"what {wanted.kind!r} makes is no sink: it lacks `name` or `deliver`; mend its package"
        raise SettingsError([f"{wanted.where}: {said}"])
    return sink


def _options(wanted: Wanted, settings: Settings, variables: Mapping[str, str]) -> SinkOptions:
    return SinkOptions(wanted.name, wanted.target, settings, wanted.options, wanted.where, variables)


def names(sinks: Sequence[Sink]) -> list[str]:
    """The names that deliveries are owed to."""
    return [sink.name for sink in sinks]
