"""The order in which several processes share the tests."""

from __future__ import annotations

from pathlib import Path

from tests.support.dealing import dealt


def order(*names: str) -> list[str]:
    return dealt(names, lambda name: Path(name.rpartition(":")[0]))


def some_of(path: str, count: int) -> list[str]:
    return [f"{path}:{number}" for number in range(count)]


def test_those_with_a_browser_come_first_and_those_of_the_whole_service_are_dealt_out_between_modules() -> None:
    heavy, browser = some_of("acceptance/a.py", 4), some_of("browser/b.py", 2)
    one, two = some_of("integration/c.py", 50), some_of("unit/d.py", 50)

    assert order(*heavy, *browser, *one, *two) == [*browser, *one, *heavy[:2], *two, *heavy[2:]]


def test_every_test_is_there_once_and_alone_each_folder_stays_as_it_was() -> None:
    every = [*some_of("acceptance/a.py", 7), *some_of("browser/b.py", 3)]
    every += [name for number in range(9) for name in some_of(f"unit/{number}.py", 11)]

    assert sorted(order(*every)) == sorted(every)
    for folder in ("acceptance", "browser", "unit"):
        alone = [name for name in every if name.startswith(folder)]
        assert order(*alone) == alone
