from __future__ import annotations

import pytest

from churn_radar.web.origin import comes_from_here, next_page

NAMES = ["radar.example:8443", "Public.example"]


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "https://radar.example:8443"}, False),
        ({"origin": "https://radar.example:8443"}, True),
        ({"origin": "https://public.example"}, True),
        ({"origin": "https://radar.example"}, False),
        ({"origin": "https://radar.example:8443.evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "http://[::1"}, False),
        ({}, True),
    ],
)
def test_a_change_comes_from_a_page_of_ours(headers: dict[str, str], ours: bool) -> None:
    assert comes_from_here(headers, NAMES) is ours


@pytest.mark.parametrize("wanted", ["/", "/desk/signals?status=dead", "/desk/signals/sig_1"])
def test_after_the_log_in_one_is_where_one_wanted_to_be(wanted: str) -> None:
    assert next_page(wanted) == wanted


@pytest.mark.parametrize(
    "wanted", [None, "", "//evil.example", "/\\evil.example", "https://evil.example", "javascript:x", "/a\r\nb", "desk"]
)
def test_nobody_is_sent_elsewhere(wanted: str | None) -> None:
    assert next_page(wanted) == "/"
