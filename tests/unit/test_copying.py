"""What a copy of the record takes for granted of its tables: whoever adds one that is different is told here."""

from __future__ import annotations

import pytest
from sqlalchemy import Table

from churn_radar.store.copying import PLAIN, own_references, plain_type
from churn_radar.store.tables import metadata

TABLES = [pytest.param(table, id=table.name) for table in metadata.sorted_tables]


@pytest.mark.parametrize("table", TABLES)
def test_both_drivers_give_and_take_every_column_alike(table: Table) -> None:
    for column in table.columns:
        assert isinstance(plain_type(column), PLAIN), f"{column}: teach store/copying.py this type"
        assert column.computed is None, f"{column}: a computed column cannot be written"


@pytest.mark.parametrize("table", TABLES)
def test_every_table_has_a_key_by_which_a_copy_goes_on(table: Table) -> None:
    assert list(table.primary_key.columns)


@pytest.mark.parametrize("table", TABLES)
def test_what_points_at_its_own_table_may_be_set_later(table: Table) -> None:
    for column in own_references(table):
        assert column.nullable, str(column)
        assert len(table.primary_key.columns) == 1, table.name


def test_no_two_tables_point_at_each_other() -> None:
    seen: set[str] = set()
    for table in metadata.sorted_tables:
        named = {key.column.table.name for column in table.columns for key in column.foreign_keys}
        assert named <= {*seen, table.name}, table.name
        seen.add(table.name)
