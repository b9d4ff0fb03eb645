from __future__ import annotations

import hashlib
import re
from importlib import resources

from churn_radar.web.static_files import static_files

VENDOR = resources.files("churn_radar.web") / "static" / "vendor"


def test_scripts_of_others_are_as_they_came_with_their_licences() -> None:
    lines = [line.split("  ") for line in (VENDOR / "SHA256SUMS").read_text().splitlines()]
    sums = {name: digest for digest, name in lines}
    scripts = {entry.name for entry in VENDOR.iterdir() if entry.name.endswith(".js")}
    assert set(sums) == scripts
    for name, digest in sums.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest
        assert (VENDOR / f"{name.partition('.')[0]}.LICENSE.txt").is_file()
        assert f"`{name}`" in (VENDOR / "README.md").read_text()


def test_our_own_files_load_nothing_from_elsewhere() -> None:
    for name, file in static_files().items():
        if (VENDOR / name).is_file():
            continue
        found = set(re.findall(rb"(?:https?:)?//[\w.-]+\.\w+", file.body))
        assert found <= {b"http://www.w3.org"}, name
        assert b"@import" not in file.body
