"""Alembic's entry: runs the versions on the connection that `churn_radar.store.schema` hands over."""

from __future__ import annotations

from alembic import context

from churn_radar.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
    # On Postgres; for a file, the caller's one transaction holds all of them.
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
