"""The tables of the record, in SQLAlchemy Core. Migrations create them; nothing else does.

Reading order is the order of the work: a body arrives (`signals`, and `quarantined_bodies` when it is not
understood), its customer is looked up (`customers`), Mave answers (`briefs`), each sink gets it
(`deliveries`). `signal_history` is the append-only story of each signal, `credits` the ledger of what Mave cost.
Then people go to work: `brief_history` is the story of what they did about a brief, `reminders` is when to come back to
one, `hints` is what a customer did meanwhile, `outcome_sums` is what came of it all, without names.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeDecorator

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _whole_number(digits: str) -> int | str:
    """A number as such while 64 bits hold it, else as the text it was: exact, as Customer.io's own values are."""
    return int(digits) if len(digits) < 19 else digits


_MICROSECOND = timedelta(microseconds=1)


def to_micros(value: datetime) -> int:
    """An aware datetime as whole microseconds since 1970."""
    return (value - EPOCH) // _MICROSECOND


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime, stored as whole microseconds since 1970: sorts and compares alike everywhere."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else to_micros(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else EPOCH + timedelta(microseconds=value)


class Json(TypeDecorator[Any]):
    """A JSON value stored as text: never queried inside, so the dialects' own JSON types buy nothing."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        if value is None:
            return None
        try:
            return orjson.dumps(value).decode()
        except TypeError:
            # orjson stops at 64 bits. Upstream answers may hold longer numbers, and one must not wedge its signal.
            return orjson.dumps(json.loads(json.dumps(value), parse_int=_whole_number)).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else orjson.loads(value)


class Status(StrEnum):
    """What became of a signal. The first three are unfinished: a restart takes them up again."""

    RECEIVED = "received"
    WAITING = "waiting"
    RESEARCHING = "researching"
    BRIEFED = "briefed"
    SKIPPED = "skipped"
    JOINED = "joined"
    DEAD = "dead"
    QUARANTINED = "quarantined"


# Spelt out rather than bound: a partial index serves a query only when its condition stands there word for word.
WAITING = "status = 'waiting'"
FRESH_WAITING = f"{WAITING} AND due_at IS NULL"
DEAD = "status = 'dead'"

# Briefs that opened a Mavera thread which can be gone on in; and entries of the ledger whose price is not known yet.
REUSABLE = "mave_thread_id IS NOT NULL AND reused_brief_id IS NULL AND thread_lost_at IS NULL"
UNDER_WAY = "purpose = 'under_way'"

# Customers of whom nothing that lasts is known.
BY_MAIL_ALONE = "customer_id IS NULL AND cio_id IS NULL"

# Briefs that are put aside, or have come back since; and those that the sums of the outcomes do not hold yet.
SNOOZED = "snoozed_until IS NOT NULL"
REMINDED = "reminded_at IS NOT NULL"
UNCOUNTED = "counted_at IS NULL"

UNFINISHED = (Status.RECEIVED, Status.WAITING, Status.RESEARCHING)


class DeliveryStatus(StrEnum):
    """What became of one brief at one sink."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    SKIPPED = "skipped"


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# On SQLite only the exact type INTEGER makes a primary key the fast row id.
_Seq = BigInteger().with_variant(Integer, "sqlite")

# Text in the order of its bytes, as it is on SQLite anyway: there a beginning is a range.
_ByBytes = String(200).with_variant(String(200, collation="C"), "postgresql")


def _index_where(name: str, condition: str, *columns: str | ColumnElement[Any]) -> Index:
    """An index of those rows only that meet a condition."""
    return Index(name, *columns, sqlite_where=text(condition), postgresql_where=text(condition))


def _index_of_set(name: str, column: str, *more: str) -> Index:
    """An index of the rows in which a column is set."""
    return _index_where(name, f"{column} IS NOT NULL", column, *more)


signals = Table(
    "signals",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("signal_id", String(40), nullable=False, unique=True, comment="our public id"),
    Column("event_key", String(80), nullable=False, unique=True, comment="one event, once, for good"),
    Column("event_id", Text, comment="Customer.io's id; several kinds may share one"),
    Column("kind", String(64), comment="null while quarantined"),
    Column("metric", Text, comment="the event's name as it came"),
    Column("object_type", Text),
    Column("customer_id", Text),
    Column("cio_id", Text),
    Column("email", Text, comment="lower case"),
    Column("customer_seq", _Seq, ForeignKey("customers.seq"), comment="known once looked up"),
    Column("occurred_at", Instant),
    Column("received_at", Instant, nullable=False),
    Column("facts", Json, comment="campaign, delivery and failure particulars of the event"),
    Column("source", String(16), nullable=False, comment="webhook, api, backfill"),
    Column("forced", Boolean, nullable=False, default=False, comment="cool-down set aside"),
    Column("status", String(16), nullable=False),
    Column("reason", Text),
    Column("attempts", Integer, nullable=False, server_default="0", comment="of the step under way"),
    Column("due_at", Instant, comment="when the next attempt is due"),
    Column("priority", BigInteger, nullable=False, server_default="0", comment="dearest first"),
    Column("triage", Json, comment="the result of triage: account, persona, where attributes came from"),
    Column("joined_to", _Seq, ForeignKey("signals.seq"), comment="the signal whose brief this one shares"),
    # No foreign key: briefs point at signals, and a circle of keys cannot be created on SQLite.
    Column("brief_seq", _Seq),
    Column("updated_at", Instant, nullable=False),
    Column("failed_service", String(32), comment="of a dead letter: which upstream it died of"),
    Column("failed_status", Integer, comment="of a dead letter: that upstream's last answer; null when none came"),
    # Each index is paid for by every event at the door: what is null on arrival is left out of it.
    Index("ix_signals_event_id", "event_id", "seq"),
    Index("ix_signals_status_seq", "status", "seq"),
    _index_where("ix_signals_due", "due_at IS NOT NULL", "status", "due_at"),
    _index_of_set("ix_signals_customer_seq", "customer_seq", "seq"),
    Index("ix_signals_customer_id", "customer_id"),
    _index_of_set("ix_signals_cio_id", "cio_id"),
    Index("ix_signals_email", "email"),
    _index_of_set("ix_signals_brief_seq", "brief_seq"),
    _index_of_set("ix_signals_joined_to", "joined_to"),
    sqlite_autoincrement=True,
)
# These begin with what their condition fixes already: without statistics SQLite prefers an index that it can search by
# an equality, and would read and sort all that waits each time the next ones are asked for. The direction is that of
# the research, for the same reason.
_dearest_first = (signals.c.priority.desc(), signals.c.seq)
_index_where("ix_signals_waiting", WAITING, signals.c.status, *_dearest_first)
# Dead letters by what they died of, counted here and listed from here.
_index_where(
    "ix_signals_dead", DEAD, signals.c.status, signals.c.failed_service, signals.c.failed_status, signals.c.seq
)
_index_where("ix_signals_fresh_waiting", FRESH_WAITING, signals.c.status, signals.c.due_at, *_dearest_first)

signal_history = Table(
    "signal_history",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("signal_seq", _Seq, ForeignKey("signals.seq", ondelete="CASCADE"), nullable=False),
    Column("at", Instant, nullable=False),
    Column("status", String(16), nullable=False),
    Column("reason", Text),
    Column("attempt", Integer, nullable=False, default=0),
    Index("ix_signal_history_signal_seq", "signal_seq", "seq"),
)

quarantined_bodies = Table(
    "quarantined_bodies",
    metadata,
    Column("signal_seq", _Seq, ForeignKey("signals.seq", ondelete="CASCADE"), primary_key=True),
    Column("body", LargeBinary, nullable=False, comment="the raw bytes, as signed"),
    Column("size", Integer, comment="bytes of the body"),
    # Holds both columns, so that the sum of the sizes is read from here and never from among the bodies.
    Index("ix_quarantined_bodies_size", "signal_seq", "size"),
)

customers = Table(
    "customers",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("customer_id", Text),
    Column("cio_id", Text),
    Column("email", Text, comment="lower case"),
    Column("attributes", Json, nullable=False, comment="as last seen in the App API"),
    Column("seen_at", Instant, nullable=False),
    Column("unsubscribed", Boolean, comment="from marketing mail, as the profile said; null: it did not say"),
    Index("ix_customers_customer_id", "customer_id"),
    Index("ix_customers_cio_id", "cio_id"),
    # Thousands may share an address (an agency's, a reseller's): it is asked who had it last, never who has it.
    Index("ix_customers_email_seen_at", "email", "seen_at"),
    # What its condition fixes is in it as well, as in those of the signals, and for the same reason.
    _index_where("ix_customers_by_mail_alone", BY_MAIL_ALONE, "email", "customer_id", "cio_id"),
    # Two rows may become one; the number of the one that went must never come to mean somebody else.
    sqlite_autoincrement=True,
)

briefs = Table(
    "briefs",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("brief_id", String(40), nullable=False, unique=True),
    Column("signal_seq", _Seq, ForeignKey("signals.seq"), nullable=False),
    Column("customer_seq", _Seq, ForeignKey("customers.seq"), nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("cio_id", Text),
    Column("email", Text),
    Column("event_type", String(64), nullable=False),
    Column("persona_type", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("mrr", Float, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("account", Json, nullable=False),
    Column("research_brief", Text, nullable=False),
    Column("sections", Json, nullable=False),
    Column("sources", Json, nullable=False),
    Column("confidence", Float),
    Column("hallucination_risk", String(16)),
    Column("unsupported_claims", Json, nullable=False),
    Column("credits_used", Integer, nullable=False),
    Column("mave_thread_id", Text),
    Column("mave_message_id", Text),
    Column("clarified", Boolean, nullable=False, default=False),
    Column("extra", Json, nullable=False, comment="keys of Mave's answer that this release does not know"),
    Column("prompt", Text, nullable=False, comment="exactly what Mave was told"),
    Column("attributes_source", String(16), nullable=False),
    Column("attributes_seen_at", Instant),
    Column("notes", Json, nullable=False),
    Column("signal_received_at", Instant, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("reused_brief_id", String(40), comment="the brief whose Mavera thread this one continues"),
    Column("thread_lost_at", Instant, comment="Mavera did not go on in the thread of this brief"),
    Column("outcome", String(16), comment="what was said last of the customer; null: nothing yet"),
    Column("outcome_at", Instant),
    Column("owner", Text, comment="who looks after it"),
    Column("snoozed_until", Instant, comment="put aside until then"),
    Column("reminded_at", Instant, comment="it has come back, and nobody has touched it since"),
    Column("first_contact_at", Instant, comment="when somebody first told of having spoken to the customer"),
    Column("offer_label", String(40), comment="the offer by a short name of ours"),
    Column("counted_at", Instant, comment="since when the sums of the outcomes hold it"),
    Index("ix_briefs_customer_seq", "customer_seq", "seq"),
    Index("ix_briefs_signal_seq", "signal_seq"),
    _index_of_set("ix_briefs_reused_brief_id", "reused_brief_id"),
    _index_where("ix_briefs_reusable", REUSABLE, "persona_type", "event_type", "plan", "created_at"),
    _index_where("ix_briefs_snoozed", SNOOZED, "snoozed_until"),
    _index_where("ix_briefs_reminded", REMINDED, "reminded_at"),
    _index_where("ix_briefs_uncounted", UNCOUNTED, "counted_at", "seq"),
    # Dearest first, with all that a list is filtered by: no brief is read to find out that it is not wanted.
    Index(
        "ix_briefs_dearest",
        *("mrr", "seq", "event_type", "plan", "persona_type", "created_at", "outcome", "owner"),
    ),
    # For the digests: what came in a time, and what was told of in one.
    Index("ix_briefs_created_at", "created_at", "currency", "event_type", "mrr"),
    _index_of_set("ix_briefs_outcome_at", "outcome_at", "outcome", "currency", "mrr"),
    sqlite_autoincrement=True,
)

at_risk = Table(
    "at_risk",
    metadata,
    # Holds on to its brief, so that none goes without being taken off the sums.
    Column("brief_seq", _Seq, ForeignKey("briefs.seq"), primary_key=True, autoincrement=False),
)

risk_days = Table(
    "risk_days",
    metadata,
    Column("currency", String(3), primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False, comment="days since 1970, UTC"),
    Column("persona_type", Text, primary_key=True),
    Column("event_type", String(64), primary_key=True),
    Column("briefs", BigInteger, nullable=False, comment="all of that day"),
    Column("mrr", BigInteger, nullable=False, comment="theirs, in hundredths"),
    Column("open_briefs", BigInteger, nullable=False, comment="those that are still at risk"),
    Column("open_mrr", BigInteger, nullable=False, comment="theirs, in hundredths"),
    sqlite_with_rowid=False,
)

brief_names = Table(
    "brief_names",
    metadata,
    Column("name", _ByBytes, primary_key=True, comment="lower case: an id, a mail address, or its host"),
    Column("brief_seq", _Seq, ForeignKey("briefs.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Index("ix_brief_names_brief_seq", "brief_seq"),
    sqlite_with_rowid=False,
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("brief_seq", _Seq, ForeignKey("briefs.seq", ondelete="CASCADE"), nullable=False),
    Column("sink", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", Instant),
    Column("reason", Text),
    Column("updated_at", Instant, nullable=False),
    UniqueConstraint("brief_seq", "sink"),
    Index("ix_deliveries_status", "status", "seq"),
    Index("ix_deliveries_sink", "sink", "status", "seq"),
    _index_where("ix_deliveries_due", "due_at IS NOT NULL", "status", "due_at"),
)

stopped_sinks = Table(
    "stopped_sinks",
    metadata,
    Column("sink", Text, primary_key=True),
    Column("since", Instant, nullable=False),
    Column("reason", Text, nullable=False),
)

digests = Table(
    "digests",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False),
    Column("period", String(40), nullable=False, comment="the day or the week that it tells of"),
    Column("status", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", Instant, nullable=False, comment="of the next attempt; while one is under way, until when"),
    Column("reason", Text),
    Column("updated_at", Instant, nullable=False),
    # Whoever puts the row there sends it: one replica, one digest for each period.
    UniqueConstraint("name", "period"),
)

credits = Table(
    "credits",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("spent_at", Instant, nullable=False, comment="when the call went out"),
    Column("amount", Integer, nullable=False, comment="Mavera credits"),
    Column("purpose", String(16), nullable=False, comment="brief, lost, unanswered; under_way until that is known"),
    # What was spent stays spent when the signal or its brief is deleted.
    Column("signal_seq", _Seq, ForeignKey("signals.seq", ondelete="SET NULL")),
    Column("brief_seq", _Seq, ForeignKey("briefs.seq", ondelete="SET NULL")),
    Column("reused_brief_id", String(40), comment="the brief whose thread is gone on in"),
    # Holds all that the month's sums are made of.
    Index("ix_credits_spent_at", "spent_at", "purpose", "amount"),
    _index_where("ix_credits_under_way", UNDER_WAY, "reused_brief_id"),
    # Without these, deleting a signal or a brief would look through the whole ledger.
    _index_of_set("ix_credits_signal_seq", "signal_seq"),
    _index_of_set("ix_credits_brief_seq", "brief_seq"),
)

brief_history = Table(
    "brief_history",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("brief_seq", _Seq, ForeignKey("briefs.seq", ondelete="CASCADE"), nullable=False),
    Column("at", Instant, nullable=False),
    Column("who", Text, nullable=False, comment="who did it, or by which way it came in"),
    Column("what", String(16), nullable=False, comment="outcome, owner, snoozed, reminded"),
    Column("value", Text, comment="the outcome, the owner, the moment; null: taken back"),
    Column("note", Text),
    Column("link", String(64), unique=True, comment="of a link from chat or mail: its digest, used once"),
    Index("ix_brief_history_brief_seq", "brief_seq", "seq"),
)

reminders = Table(
    "reminders",
    metadata,
    Column("brief_seq", _Seq, ForeignKey("briefs.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("due_at", Instant, nullable=False, comment="while it is being sent: when it is tried again"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("told", Json, comment="the sinks that have it already"),
    Index("ix_reminders_due_at", "due_at"),
)

hints = Table(
    "hints",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("event_key", String(80), nullable=False, unique=True),
    Column("customer_seq", _Seq, ForeignKey("customers.seq", ondelete="CASCADE"), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("at", Instant, nullable=False, comment="when the event came in"),
    Index("ix_hints_customer_seq", "customer_seq", "at"),
)

outcome_sums = Table(
    "outcome_sums",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("day", Integer, nullable=False, comment="days since 1970, of the briefs"),
    Column("persona", Text, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("offer", String(40), nullable=False, comment="empty: none found in the brief"),
    Column("currency", String(3), nullable=False),
    Column("outcome", String(16), nullable=False, comment="empty: none yet"),
    Column("briefs", Integer, nullable=False),
    Column("mrr_hundredths", BigInteger, nullable=False),
    Column("credits", BigInteger, nullable=False),
    Column("contacts", Integer, nullable=False, comment="briefs whose customer was spoken to"),
    Column("contact_seconds", BigInteger, nullable=False, comment="from the signal to that, added up"),
    Column("within_hour", Integer, nullable=False),
    Column("within_day", Integer, nullable=False),
    Column("within_week", Integer, nullable=False),
    # In this order: a period is read from it as it stands, and one persona's part of it likewise.
    UniqueConstraint("day", "persona", "kind", "offer", "currency", "outcome"),
    Index("ix_outcome_sums_persona", "persona", "day"),
)

# Who may look, and who changed what: the pages' sessions and the audit trail.
kept_keys = Table(
    "kept_keys",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", LargeBinary, nullable=False, comment="what every process of this record signs with"),
)

ended_sessions = Table(
    "ended_sessions",
    metadata,
    Column("session_id", String(64), primary_key=True),
    Column("until", Instant, nullable=False, comment="when it would have ended by itself"),
    Index("ix_ended_sessions_until", "until"),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("at", Instant, nullable=False),
    Column("who", Text, nullable=False, comment="the fingerprint of a key, or a proxy's user"),
    Column("via", String(16), nullable=False, comment="page, api, command"),
    Column("action", String(64), nullable=False),
    Column("subject", Text, comment="ids of events, signals, briefs; never of customers"),
    Column("detail", Text),
    sqlite_autoincrement=True,
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("person", String(32), nullable=False, comment="which marks belong together; says nothing else"),
    Column("kind", String(8), nullable=False, comment="of which kind of identifier: id, cio_id, email"),
    Column("mark", String(40), nullable=False, comment="keyed hash of the identifier"),
    Column("at", Instant, nullable=False),
    UniqueConstraint("mark", "person"),
    Index("ix_tombstones_person", "person"),
    # Whoever has read up to a number reads on from there.
    sqlite_autoincrement=True,
)
