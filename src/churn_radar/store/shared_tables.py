"""What replicas have to agree on beyond the record: how fast an upstream is called, and whether at all.

On Postgres only; a record in one file has one process, which keeps this in memory. Apart from the record's tables,
since none of it is worth copying: it is made anew within a minute. Moments here are the database's own (its clock is
the only one that all replicas share).
"""

from __future__ import annotations

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Column,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)

shared_metadata = MetaData()

_Moment = TIMESTAMP(timezone=True)

upstream_limits = Table(
    "upstream_limits",
    shared_metadata,
    Column("service", Text, primary_key=True),
    Column("held_until", _Moment, comment="until then nobody calls"),
    Column("kept_to", Integer, comment="calls a window, where that is below the setting"),
    Column("kept_by", Uuid, comment="the replica that found it out"),
    Column("kept_until", _Moment, comment="forgotten then, unless that replica says it again"),
    comment="one row an upstream service; locked while a permit is given",
)

upstream_permits = Table(
    "upstream_permits",
    shared_metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("service", Text, nullable=False),
    Column("holder", Uuid, nullable=False, comment="the replica that calls"),
    Column("granted_at", _Moment, nullable=False),
    Column("ended_at", _Moment, comment="when the answer had come"),
    Column("expires_at", _Moment, nullable=False, comment="a dead replica's call no longer counts as under way"),
    Index("ix_upstream_permits_granted_at", "service", "granted_at"),
    Index("ix_upstream_permits_under_way", "service", postgresql_where=text("ended_at IS NULL")),
    comment="one row a call, kept for as long as it counts",
)

upstream_troubles = Table(
    "upstream_troubles",
    shared_metadata,
    Column("service", Text, primary_key=True),
    Column("message", Text, nullable=False),
    Column("status", SmallInteger),
    Column("since", _Moment, nullable=False),
    Column("next_probe_at", _Moment, nullable=False),
    Column("probes", Integer, nullable=False, server_default="0"),
    Column("prober", Uuid, comment="the replica whose call finds out whether it is mended"),
    Column("asked_at", _Moment, comment="when somebody last replayed by hand"),
    comment="a row while an upstream refuses to work until a person acts",
)
