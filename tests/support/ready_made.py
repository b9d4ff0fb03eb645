"""Records in files that need not be migrated once for each test: made once, and copied.

Migrating an empty file takes a tenth of a second, which was half of the time of most tests that have a record. The
tests of the schema call the migrations by themselves, and so does each service that is a process of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from churn_radar.store import record
from churn_radar.store.schema import SchemaState, inspect_record, upgrade_record


@contextmanager
def ready_made(folder: Path) -> Iterator[None]:
    """While the block runs, a record that is opened in a file that is not there yet begins as a copy."""
    original = folder / "ready-made.db"
    upgrade_record(original)

    def copy(path: Path) -> SchemaState:
        if inspect_record(path) is not SchemaState.EMPTY or path.exists():
            return upgrade_record(path)
        try:
            shutil.copy(original, path)
        except PermissionError:
            # Of a test that is nobody in particular.
            return upgrade_record(path)
        return SchemaState.EMPTY

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "upgrade_record", copy)
        yield
