"""Appending to a file so that what was appended stays: whole lines, synced to disk, readable by the owner only."""

from __future__ import annotations

import os
from pathlib import Path


def append_lines(path: Path, data: bytes) -> None:
    """Append whole lines; returns when they are on disk. Raises OSError.

    A last line that a crash cut short stays apart from what comes after it. Nobody but the owner may read a file that
    this creates: what is kept in lines names customers.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and not _ends_a_line(path, size):
            data = b"\n" + data
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if not size and hasattr(os, "O_DIRECTORY"):
        _sync_folder(path.parent)


def _ends_a_line(path: Path, size: int) -> bool:
    with path.open("rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"\n"


def _sync_folder(folder: Path) -> None:
    """Make a new file's name as durable as its content."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
