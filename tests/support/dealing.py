"""In which order several processes share the tests: each begins with an equal part, and later takes from the others.

A test of the whole service keeps several processes busy. In the order of the folders one process would begin with all
of them, and in the end all would be at them at the same time, on a machine that has not as many processors. So they
are dealt out among the others. Those that need a browser come first: the process that starts one keeps them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def dealt(tests: Sequence[T], path_of: Callable[[T], Path]) -> list[T]:
    """All the tests, those of a module together but for those of the whole service."""
    first = [test for test in tests if "browser" in path_of(test).parts]
    heavy = [test for test in tests if "acceptance" in path_of(test).parts]
    rest = [test for test in tests if not {"browser", "acceptance"} & set(path_of(test).parts)]
    done: list[T] = list(first)
    light, taken = 0, 0
    for _, module in groupby(rest, path_of):
        due = len(heavy) * light // len(rest)
        done += heavy[taken:due]
        taken = due
        some = list(module)
        done += some
        light += len(some)
    return done + heavy[taken:]
