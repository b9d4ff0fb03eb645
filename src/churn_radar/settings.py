"""Every knob of churn_radar, in one frozen object.

Sources, strongest first: the process environment, then the file named by `CHURN_RADAR_ENV_FILE` (default
`.env` in the working folder). The three secrets are accepted under the names that Customer.io and Mavera use
in their own documentation; everything else carries the prefix `CHURN_RADAR_`.

Field descriptions are what `churn-radar settings` prints and what the README's table is made from, so they
are written for the operator, with the unit.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from churn_radar.access import Keys, Proxy, is_prefix
from churn_radar.buffer.protocol import BufferOptions
from churn_radar.buffer.url import read_buffer_url
from churn_radar.errors import SettingsError
from churn_radar.research.budget import Budget
from churn_radar.triage.account import AttributeNames, Rules
from churn_radar.triage.kinds import HINTS

PREFIX = "CHURN_RADAR_"
ENV_FILE_VARIABLE = f"{PREFIX}ENV_FILE"
UNPREFIXED = ("CIO_APP_KEY", "CIO_WEBHOOK_SECRET", "MAVERA_API_KEY")


class Environment(StrEnum):
    """Where the service runs: production insists on secrets, development stays on loopback."""

    PRODUCTION = "production"
    DEVELOPMENT = "development"


class Region(StrEnum):
    """The Customer.io data centre that holds the workspace."""

    US = "us"
    EU = "eu"


APP_URLS = {Region.US: "https://api.customer.io/v1", Region.EU: "https://api-eu.customer.io/v1"}
TRACK_URLS = {Region.US: "https://track.customer.io/api/v1", Region.EU: "https://track-eu.customer.io/api/v1"}


def _split(value: object) -> object:
    """Turn `a, b` into `("a", "b")`; blanks are dropped, other types pass through to pydantic."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _split_lower(value: object) -> object:
    parts = _split(value)
    return tuple(p.lower() if isinstance(p, str) else p for p in parts) if isinstance(parts, tuple) else parts


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _none_when_blank(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def require_database_url(value: str) -> str:
    """The URL of a database for the record; raises ValueError for any other."""
    if value.startswith("sqlite:///") and len(value) > len("sqlite:///"):
        return value
    if value.startswith(("postgresql://", "postgres://")) and value.partition("://")[2]:
        return value
    raise ValueError("not a database this release knows: sqlite:///FILE or postgresql://HOST/DATABASE")


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
LowerWords = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_lower)]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)]
Numbers = Annotated[tuple[float, ...], NoDecode, BeforeValidator(_split)]
Networks = Annotated[tuple[IPvAnyNetwork, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """The settings of one process; read once at start, never changed after."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        env_ignore_empty=True,
        validate_default=False,
        str_strip_whitespace=True,
    )

    # -- secrets
    cio_app_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("CIO_APP_KEY", "CHURN_RADAR_CIO_APP_KEY"),
        description="App API key of the Customer.io workspace; looks customers up.",
        examples=["your-app-api-key"],
    )
    cio_webhook_secret: Secrets = Field(
        (),
        validation_alias=AliasChoices("CIO_WEBHOOK_SECRET", "CHURN_RADAR_CIO_WEBHOOK_SECRET"),
        description="Signing key of the reporting webhook; several, comma-separated, while one is being rotated.",
        examples=["your-webhook-signing-key"],
    )
    mavera_api_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("MAVERA_API_KEY", "CHURN_RADAR_MAVERA_API_KEY"),
        description="Mavera API key; asks the research agent.",
        examples=["mvra_live_..."],
    )
    api_keys: Secrets = Field(
        (),
        description="Keys that may read and change everything, comma-separated, at least 16 characters each.",
        examples=["a-long-random-string"],
    )

    reader_api_keys: Secrets = Field(
        (),
        description="Keys that may read and change nothing, comma-separated, at least 16 characters each.",
        examples=["another-long-random-string"],
    )

    # -- the process
    environment: Annotated[Environment, BeforeValidator(_lower)] = Field(
        Environment.PRODUCTION,
        description=(
            "production refuses to start without the three secrets and an API key; "
            "development starts with a warning and listens on loopback only."
        ),
        examples=["production"],
    )
    host: str = Field("0.0.0.0", description="Address to listen on; development always uses 127.0.0.1.")  # noqa: S104
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on.")
    worker_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port on which a `worker` answers /healthz, /readyz and /metrics; empty: on none.",
        examples=["8081"],
    )
    database_url: str = Field(
        "sqlite:///./churn_radar.db",
        repr=False,  # may hold a password
        description=(
            "The record: a SQLite file, as sqlite:///relative.db or sqlite:////absolute.db, for one process; or "
            "postgresql://user:password@host/database, for any number of processes (run churn-radar migrate first)."
        ),
        examples=["sqlite:////data/churn_radar.db"],
    )
    database_connections: int = Field(
        10, ge=3, le=1000, description="Connections to Postgres that the record of one process opens, at most."
    )
    take_over_seconds: float = Field(
        30.0,
        ge=2,
        le=600,
        description=(
            "Silence after which a worker on Postgres is taken for dead, in seconds: its jobs go to others, and its "
            "calls no longer count as under way. The same in every process."
        ),
    )
    shutdown_grace_seconds: float = Field(
        25.0, ge=0, le=600, description="How long a stop waits for running research calls, in seconds."
    )
    docs_enabled: bool = Field(True, description="Serve /docs and /openapi.json.")
    metrics_enabled: bool = Field(True, description="Serve /metrics (Prometheus text, no personal data).")
    log_format: Annotated[Literal["console", "json"], BeforeValidator(_lower)] = Field(
        "console", description="console for people, json for log collectors."
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        "info", description="Least level that is logged."
    )

    # -- who may look
    public_url: str | None = Field(
        None,
        description=(
            "Address of the pages as people reach them, path prefix included; links in messages begin with it, and its "
            "path is where a proxy serves the pages. Empty: no prefix, no links."
        ),
        examples=["https://ops.example.com/churn"],
    )
    session_secret: SecretStr | None = Field(
        None,
        min_length=32,
        description=(
            "Signs sessions and links, at least 32 characters; a new one ends all of them. Empty: one that the record "
            "keeps, the same for all processes."
        ),
        examples=["a-random-string-of-at-least-32-characters"],
    )
    session_idle_minutes: float = Field(
        480.0, ge=5, le=60 * 24 * 30, description="A log-in ends when nobody has used it for this many minutes."
    )
    session_max_hours: float = Field(
        72.0, ge=0.1, le=24 * 90, description="A log-in ends after this many hours, used or not."
    )
    proxy_addresses: Networks = Field(
        (),
        description=(
            "Addresses or networks of your reverse proxy, comma-separated. From there, and from nowhere else, "
            "X-Forwarded-For, X-Forwarded-Prefix and the header with the user's name are believed."
        ),
        examples=["10.0.0.5,10.1.0.0/16"],
    )
    proxy_user_header: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description=(
            "Header in which that proxy names whoever has logged in there; it has to remove the header from what comes "
            "in. Empty: the pages ask for an API key."
        ),
        examples=["X-Forwarded-User"],
    )
    proxy_operators: Words = Field(
        (),
        description="Users of that proxy who may change things, comma-separated; the others read.",
        examples=["ann@example.com,bob@example.com"],
    )
    metrics_need_key: bool = Field(
        False, description="Serve /metrics only with an API key; without this the credits alone need one."
    )

    # -- the door
    max_body_bytes: int = Field(
        5 * 1024 * 1024, ge=1024, le=100 * 1024 * 1024, description="Largest webhook body accepted, in bytes."
    )
    max_bodies_megabytes: int = Field(
        64,
        ge=1,
        description=(
            "Webhook bodies that are still coming in, together, in megabytes; above it those over 8 KiB are answered "
            "503."
        ),
    )
    max_waiting_requests: int = Field(
        2000,
        ge=1,
        description="Webhook requests that may wait for a commit at once; above it the door answers 503.",
    )
    commit_timeout_seconds: float = Field(
        3.0,
        gt=0,
        le=3.9,
        description="Longest wait for a commit before the door answers 503, in seconds (Customer.io gives up at 4).",
    )

    # -- the buffer in front of the record
    buffer_url: SecretStr | None = Field(
        None,
        description=(
            "Where the door puts events before workers bring them into the record (docs/buffers.md): redis://..., "
            "rediss://... or sqs://...; empty: straight into the record."
        ),
        examples=["redis://:password@redis.internal:6379/0"],
    )
    buffer_stream: str = Field("churn_radar:events", min_length=1, description="Redis: key of the stream.")
    buffer_group: str = Field("churn_radar", min_length=1, description="Redis: consumer group of the workers.")
    buffer_max_length: int = Field(
        100_000, ge=1, description="Events that the buffer may hold; above it they go straight into the record."
    )
    buffer_replicas: int = Field(
        0, ge=0, le=10, description="Redis: replicas that must confirm an event before it is acknowledged."
    )
    buffer_hold_seconds: float = Field(
        60.0,
        ge=10,
        le=12 * 3600,
        description="Silence of a worker, in seconds, after which the events it took go to another one.",
    )

    # -- Customer.io
    cio_region: Annotated[Region, BeforeValidator(_lower)] = Field(
        Region.US, description="Data centre of the Customer.io workspace: us or eu."
    )
    cio_app_url: str | None = Field(
        None,
        description="Base URL of the App API, with version path; empty: by region.",
        examples=["https://api.customer.io/v1"],
    )
    cio_requests_per_second: float = Field(
        10.0, gt=0, le=1000, description="App API calls a second at most (Customer.io allows 10 a workspace)."
    )
    cio_timeout_seconds: float = Field(
        15.0, gt=0, le=300, description="Longest wait for an App API answer, in seconds."
    )

    # -- Mavera
    mavera_url: str = Field("https://app.mavera.io/api/v1", description="Base URL of Mavera, with version path.")
    mavera_requests_per_minute: int = Field(
        60,
        ge=1,
        le=6000,
        description="Mavera calls a minute at most (Starter 60, Basic 120, Professional 240).",
    )
    mavera_concurrency: int = Field(10, ge=1, le=100, description="Mavera calls under way at once, at most.")
    mavera_timeout_seconds: float = Field(
        120.0,
        gt=0,
        le=900,
        description="Longest wait for a Mavera answer, in seconds (research takes up to 90).",
    )
    mavera_workspace_id: str | None = Field(
        None, description="Mavera workspace that research is charged to; empty: the account's default."
    )

    # -- the rules
    alert_events: LowerWords = Field(
        ("unsubscribed", "bounced", "complained"),
        description="Kinds of event that count as a churn signal, comma-separated.",
        examples=["unsubscribed,bounced,complained"],
    )
    tell_mave_outcomes: bool = Field(
        False,
        description=(
            "Tell Mave which offers kept customers of the same persona in the last year: counts, no notes, no names."
        ),
    )
    outcome_link_days: float = Field(
        14.0,
        ge=0,
        le=366,
        description=(
            "Days for which links in chat and mail may say, without a log-in, what became of a customer (they need "
            "PUBLIC_URL); 0: no such links."
        ),
    )
    subscription_hints: bool = Field(
        True, description="Show on an open brief that its customer has subscribed again (`subscribed` events)."
    )
    research_plans: LowerWords = Field(
        ("pro", "enterprise", "business"),
        description="Plans worth a brief, comma-separated; customers on others are recorded as skipped.",
        examples=["pro,enterprise,business"],
    )
    high_mrr: Decimal = Field(
        Decimal(500),
        ge=0,
        allow_inf_nan=False,
        description="MRR above which a customer counts as high-MRR, in the account's currency per month.",
    )
    monthly_credits: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="Mavera credits that research may cost in a calendar month (UTC); empty: no limit.",
        examples=["10000"],
    )
    over_budget_mrr: Decimal | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description=(
            "Once the month's credits are spent, only accounts with this MRR or more are researched, in the account's "
            "currency per month; empty: that of HIGH_MRR."
        ),
        examples=["5000"],
    )
    reuse_research_days: float = Field(
        0.0,
        ge=0,
        le=365,
        description=(
            "Research up to this many days old is built upon for a customer of the same persona and plan after the "
            "same kind of event, at fewer credits; 0: each is researched afresh."
        ),
    )
    at_risk_days: int = Field(
        30,
        ge=1,
        le=366,
        description="How long a brief puts its customer's MRR at risk while no outcome is known, in days, today among"
        " them.",
    )
    currency: Annotated[str, BeforeValidator(lambda v: v.strip().upper() if isinstance(v, str) else v)] = Field(
        "USD", pattern=r"^[A-Z]{3}$", description="Currency of the mrr attribute (ISO 4217)."
    )
    cool_down_hours: float = Field(
        24.0, ge=0, le=24 * 90, description="Signals of one customer within this many hours share one brief."
    )
    research_stronger_signals: bool = Field(
        False,
        description=(
            "Research a customer anew when a stronger signal (a complaint after a bounce) comes within the cool-down, "
            "but after the first research has begun."
        ),
    )
    look_up_cache_minutes: float = Field(
        0.0,
        ge=0,
        le=60 * 24,
        description="Attributes read since the event came in, or this many minutes ago, are used without a look-up.",
    )
    aging_mrr_per_hour: float = Field(
        50.0,
        ge=0,
        le=100_000,
        description="Research goes dearest first; each hour of waiting weighs as much as this MRR, so nobody starves.",
    )
    plan_attribute: str = Field("plan_type", min_length=1, description="Customer attribute that holds the plan.")
    mrr_attribute: str = Field("mrr", min_length=1, description="Customer attribute that holds the monthly revenue.")
    industry_attribute: str = Field("industry", min_length=1, description="Customer attribute that holds the industry.")
    usage_attribute: str = Field(
        "usage_tier", min_length=1, description="Customer attribute that holds the usage tier."
    )
    tenure_attribute: str = Field(
        "tenure_days", min_length=1, description="Customer attribute that holds the tenure, in days."
    )
    last_active_attribute: str = Field(
        "last_active_at", min_length=1, description="Customer attribute that holds the time of last activity."
    )
    default_plan: Annotated[str, BeforeValidator(_lower)] = Field(
        "free", min_length=1, description="Plan assumed when the attribute is absent."
    )
    default_industry: str = Field("general", min_length=1, description="Industry assumed when the attribute is absent.")
    default_usage: Annotated[str, BeforeValidator(_lower)] = Field(
        "low", min_length=1, description="Usage tier assumed when the attribute is absent."
    )

    # -- the work
    retry_delays_seconds: Numbers = Field(
        (60.0, 300.0, 1800.0, 7200.0, 21600.0, 86400.0),
        description="Waits between attempts of a failing step, in seconds, comma-separated; then a dead letter.",
        examples=["60,300,1800,7200,21600,86400"],
    )
    in_call_attempts: int = Field(
        3, ge=1, le=10, description="Attempts within one step for blips, before the waits above begin."
    )

    unknown_customer_retry_seconds: float = Field(
        2.0,
        ge=0,
        le=3600,
        description="Wait before a customer whom Customer.io does not know is looked up once more, in seconds.",
    )
    help_url: str = Field(
        "docs/what-to-do.md",
        min_length=1,
        description="Where your operators read docs/what-to-do.md; dead letters and troubles link to its sections.",
        examples=["https://wiki.example.com/churn_radar/what-to-do"],
    )

    # -- how long things are kept
    retention_days: int | None = Field(
        None,
        ge=14,
        le=36_500,
        description=(
            "Days after which finished signals, their briefs and profiles are removed; what is unfinished, put aside "
            "or in somebody's hands stays, and so do sums without names. Empty: never."
        ),
        examples=["365"],
    )

    audit_retention_days: int | None = Field(
        None,
        ge=30,
        le=36_500,
        description=(
            "Days after which lines of the audit trail are removed, at least RETENTION_DAYS where that is set: a line "
            "outlives what it tells of. Empty: never."
        ),
        examples=["730"],
    )

    # -- the quarantine
    quarantine_max_megabytes: int = Field(
        256,
        ge=1,
        description="Quarantined bodies kept in the record, in megabytes; beyond it the oldest are exported to a file.",
    )
    quarantine_folder: Path | None = Field(
        None,
        description=(
            "Folder of exported quarantined bodies (JSON lines); empty: that of the record's file, or with Postgres "
            "the working folder."
        ),
        examples=["/data/quarantine"],
    )

    # -- where briefs go
    sinks: Words = Field(
        ("console",),
        description=(
            "Where briefs go, comma-separated: kind or kind:target. Built in are console, jsonl[:PATH], and, with the "
            "name of the variable that holds their secret, slack:NAME, apprise:NAME (chat and mail), webhook:NAME; and "
            "customerio."
        ),
        examples=["console,jsonl:briefs.jsonl"],
    )
    sinks_file: Path | None = Field(
        None,
        description=(
            "TOML file of sinks with names, filters and digests (docs/sinks.md); SINKS then counts only if it is set."
        ),
        examples=["/etc/churn_radar/sinks.toml"],
    )
    sinks_private_networks: Words = Field(
        (),
        description=(
            "Networks of private, loopback or link-local addresses that outgoing webhooks may reach, comma-separated; "
            "empty: none."
        ),
        examples=["10.1.0.0/16"],
    )
    cio_site_id: SecretStr | None = Field(
        None,
        description="Site id of the Customer.io workspace (Track API); only the customerio sink needs it.",
        examples=["your-site-id"],
    )
    cio_track_key: SecretStr | None = Field(
        None,
        description="Track API key that goes with CIO_SITE_ID.",
        examples=["your-track-api-key"],
    )
    cio_track_url: str | None = Field(
        None,
        description="Base URL of the Track API, with version path; empty: by region.",
        examples=["https://track.customer.io/api/v1"],
    )
    cio_track_requests_per_second: float = Field(
        50.0,
        gt=0,
        le=1000,
        description="Track API calls a second at most (Customer.io asks for no more than about 100).",
    )
    alert_brief_characters: int = Field(
        2000, ge=0, le=1_000_000, description="Characters of the brief that the printed alert shows."
    )
    jsonl_path: Path = Field(
        Path("briefs.jsonl"), description="File of the jsonl sink when it names no target of its own."
    )
    jsonl_max_bytes: int = Field(
        50 * 1024 * 1024,
        ge=4096,
        description="Size at which the jsonl file is rotated to a dated name, in bytes.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Explicit arguments, the environment, then the env file; nothing else is consulted."""
        return init_settings, env_settings, dotenv_settings

    @field_validator(
        "cio_app_url",
        "cio_track_url",
        "mavera_workspace_id",
        "public_url",
        "quarantine_folder",
        "sinks_file",
        "proxy_user_header",
        mode="before",
    )
    @classmethod
    def _blank_is_absent(cls, value: object) -> object:
        return _none_when_blank(value)

    @field_validator("cio_app_url", "cio_track_url", "mavera_url", "public_url")
    @classmethod
    def _base_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.startswith(("https://", "http://")) or len(value) < 9 or value.split("/")[2] == "":
            raise ValueError("not an http(s) URL")
        return value.rstrip("/")

    @field_validator("sinks_private_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ip_network(network)
            except ValueError:
                raise ValueError("each has to be a network such as 10.1.0.0/16 or fd00::/8") from None
        return value

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        return require_database_url(value)

    @field_validator("buffer_url")
    @classmethod
    def _known_buffer(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            read_buffer_url(value.get_secret_value())
        return value

    @field_validator("public_url")
    @classmethod
    def _only_a_place(cls, value: str | None) -> str | None:
        if value is not None and not is_prefix(urlsplit(value)._replace(scheme="", netloc="").geturl()):
            raise ValueError("more than an address and a plain path")
        return value

    @field_validator("api_keys", "reader_api_keys")
    @classmethod
    def _long_keys(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(key.get_secret_value()) < 16 for key in value):
            raise ValueError("a key shorter than 16 characters can be guessed")
        return value

    @field_validator("retry_delays_seconds")
    @classmethod
    def _positive_delays(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 <= delay <= 30 * 86400 for delay in value):
            raise ValueError("each wait must be between 0 seconds and 30 days")
        return value

    @field_validator("alert_events", "research_plans", "sinks")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("at least one is needed")
        return value

    @model_validator(mode="after")
    def _roles_are_clear(self) -> Self:
        if {key.get_secret_value() for key in self.api_keys} & {k.get_secret_value() for k in self.reader_api_keys}:
            raise WrongTogether("CHURN_RADAR_READER_API_KEYS", "a key is in CHURN_RADAR_API_KEYS as well")
        if self.proxy_user_header is not None and not self.proxy_addresses:
            raise WrongTogether(
                "CHURN_RADAR_PROXY_ADDRESSES", "missing; without it CHURN_RADAR_PROXY_USER_HEADER is believed of nobody"
            )
        return self

    @model_validator(mode="after")
    def _briefs_outlast_their_cool_down(self) -> Self:
        if self.retention_days is not None and self.cool_down_hours > self.retention_days * 24:
            raise WrongTogether(
                "CHURN_RADAR_RETENTION_DAYS",
                "shorter than CHURN_RADAR_COOL_DOWN_HOURS; a customer whose brief is gone is researched anew",
            )
        return self

    @model_validator(mode="after")
    def _the_trail_outlasts_what_it_tells_of(self) -> Self:
        if self.audit_retention_days is not None and self.audit_retention_days < (self.retention_days or 0):
            raise WrongTogether(
                "CHURN_RADAR_AUDIT_RETENTION_DAYS",
                "shorter than CHURN_RADAR_RETENTION_DAYS; nobody could tell any more who looked at what is still there",
            )
        return self

    @model_validator(mode="after")
    def _production_is_locked(self) -> Self:
        if self.environment is Environment.PRODUCTION:
            needed = {
                "CIO_APP_KEY": self.cio_app_key,
                "CIO_WEBHOOK_SECRET": self.cio_webhook_secret,
                "MAVERA_API_KEY": self.mavera_api_key,
                "CHURN_RADAR_API_KEYS": self.api_keys,
            }
            missing = [name for name, value in needed.items() if not value]
            if missing:
                raise MissingSecrets(missing)
        return self

    @property
    def app_api_url(self) -> str:
        """Base URL of the App API: the explicit one, else the region's."""
        return self.cio_app_url or APP_URLS[self.cio_region]

    @property
    def track_api_url(self) -> str:
        """Base URL of the Track API: the explicit one, else the region's."""
        return self.cio_track_url or TRACK_URLS[self.cio_region]

    @property
    def keys(self) -> Keys:
        """Every API key, with what its holder may do."""
        return Keys.of(*([k.get_secret_value() for k in keys] for keys in (self.api_keys, self.reader_api_keys)))

    @property
    def proxy(self) -> Proxy:
        """The reverse proxy whose word is taken."""
        return Proxy(self.proxy_addresses, self.proxy_user_header, frozenset(self.proxy_operators))

    @property
    def path_prefix(self) -> str:
        """Where the pages are under their public address: `/churn`, or nothing."""
        return urlsplit(self.public_url).path if self.public_url else ""

    @property
    def kept_events(self) -> frozenset[str]:
        """The kinds of event that the door keeps: churn signals, and what is shown on open briefs as a hint."""
        return frozenset(self.alert_events) | (HINTS if self.subscription_hints else frozenset())

    @property
    def triage_rules(self) -> Rules:
        """The part of the settings that the pure rules work by."""
        return Rules(
            alert_events=frozenset(self.alert_events),
            research_plans=frozenset(self.research_plans),
            high_mrr=self.high_mrr,
            attributes=AttributeNames(
                plan=self.plan_attribute,
                mrr=self.mrr_attribute,
                industry=self.industry_attribute,
                usage=self.usage_attribute,
                tenure=self.tenure_attribute,
                last_active=self.last_active_attribute,
            ),
            default_plan=self.default_plan,
            default_industry=self.default_industry,
            default_usage=self.default_usage,
        )

    @property
    def buffer_options(self) -> BufferOptions:
        """What the operator has chosen of the buffer."""
        return BufferOptions(
            stream=self.buffer_stream,
            group=self.buffer_group,
            max_length=self.buffer_max_length,
            replicas=self.buffer_replicas,
            hold_seconds=self.buffer_hold_seconds,
            max_waiting=self.max_waiting_requests,
        )

    @property
    def budget(self) -> Budget:
        """What research may cost."""
        return Budget(self.monthly_credits, self.high_mrr if self.over_budget_mrr is None else self.over_budget_mrr)

    @property
    def bind_host(self) -> str:
        """Address to listen on: loopback in development, whatever HOST says."""
        return "127.0.0.1" if self.environment is Environment.DEVELOPMENT else self.host


class IsolatedSettings(Settings):
    """Settings from explicit arguments alone: the demo and the tests must not pick up a machine's real keys."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing but the arguments."""
        return (init_settings,)


class WrongTogether(ValueError):
    """Raised inside validation where each value is fine and two of them are not; `name` is the one to mend."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(problem)
        self.name = name


class MissingSecrets(ValueError):
    """Raised inside validation so that each missing name gets a line of its own."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


def variable_name(field: str) -> str:
    """The environment variable that sets a field: `high_mrr` -> `CHURN_RADAR_HIGH_MRR`."""
    upper = field.upper()
    return upper if upper in UNPREFIXED else f"{PREFIX}{upper}"


def env_file() -> Path:
    """The env file of this process: the one that CHURN_RADAR_ENV_FILE names, else `.env`."""
    return Path(os.environ.get(ENV_FILE_VARIABLE, ".env"))


def load_settings(**overrides: Any) -> Settings:
    """Read the settings of this process.

    Raises SettingsError with one line for each problem: the variable, what is wrong with its value, and an
    example. A secret's value is never part of a line.
    """
    file = env_file()
    if ENV_FILE_VARIABLE in os.environ and not file.is_file():
        raise SettingsError([f"{ENV_FILE_VARIABLE}: there is no file {str(file)!r}; name an existing file"])
    try:
        return Settings(_env_file=file, _env_file_encoding="utf-8", **overrides)
    except ValidationError as error:
        raise SettingsError(_problem_lines(error)) from None
    except (OSError, UnicodeDecodeError):
        raise SettingsError([f"{ENV_FILE_VARIABLE}: {str(file)!r} cannot be read as UTF-8 text"]) from None


def _problem_lines(error: ValidationError) -> list[str]:
    lines: list[str] = []
    for problem in error.errors():
        cause = problem.get("ctx", {}).get("error")
        if isinstance(cause, MissingSecrets):
            lines += [
                f"{name}: missing; set it, or CHURN_RADAR_ENVIRONMENT=development to try things out on loopback"
                f" (example: {name}={example_of(name)})"
                for name in cause.names
            ]
            continue
        if isinstance(cause, WrongTogether):
            lines.append(f"{cause.name}: {cause} (example: {cause.name}={example_of(cause.name)})")
            continue
        where = str(problem["loc"][0]) if problem["loc"] else "settings"
        name = where if where.isupper() else variable_name(where)
        said = problem["msg"].removeprefix("Value error, ")
        # `msg` quotes expected values, never the input: a secret pasted into the wrong variable stays unseen.
        lines.append(f"{name}: {said} (example: {name}={example_of(name)})")
    return lines


def example_of(name: str) -> str:
    """A value that would be accepted for the variable `name`: its example, else its default."""
    for field, info in Settings.model_fields.items():
        if variable_name(field) == name.upper():
            if info.examples:
                return str(info.examples[0])
            return default_text(field)
    return "..."


def default_text(field: str) -> str:
    """A field's default as an operator would write it in an env file."""
    default = Settings.model_fields[field].default
    if default is None or default == ():
        return ""
    if isinstance(default, tuple):
        return ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in default)
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    return str(default)


def variables_in_force() -> dict[str, str]:
    """The variables of the environment and of the env file, by name; values are not looked at."""
    in_file = dotenv_values(env_file()) if env_file().is_file() else {}
    return {**{name: value or "" for name, value in in_file.items()}, **os.environ}


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """One warning line for each CHURN_RADAR_ variable that no setting reads: most often a typing slip."""
    known = {variable_name(field) for field in Settings.model_fields} | {ENV_FILE_VARIABLE}
    known |= {f"{PREFIX}{name}" for name in UNPREFIXED}
    lines = []
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            close = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            lines.append(f"{name} is not a setting and is ignored{hint}")
    return lines
