from __future__ import annotations

from ipaddress import ip_network

import pytest

from churn_radar.access import Keys, Proxy, Role, fingerprint, is_prefix

KEYS = Keys.of(["operator-key-0123456"], ["reader-key-01234567"])
PROXY = Proxy((ip_network("10.0.0.0/8"), ip_network("::1")), "X-Forwarded-User", frozenset({"ann"}))


def test_a_key_says_what_its_holder_may_do() -> None:
    operator, reader = KEYS.find([b"operator-key-0123456"]), KEYS.find([b"reader-key-01234567"])
    assert operator is not None
    assert reader is not None
    assert (operator.who.role, reader.who.role) == (Role.OPERATOR, Role.READER)
    assert (operator.who.is_operator, reader.who.is_operator) == (True, False)


def test_the_stronger_of_two_keys_counts_and_an_unknown_one_beside_it_does_not() -> None:
    found = KEYS.find([b"reader-key-01234567", b"nobody's", b"operator-key-0123456"])
    assert found is not None
    assert found.who.is_operator
    assert KEYS.find([b"nobody's", b"", b"operator-key-012345"]) is None
    assert KEYS.find([]) is None


def test_a_key_is_named_by_its_fingerprint_and_shown_nowhere() -> None:
    found = KEYS.find([b"operator-key-0123456"])
    assert found is not None
    assert found.who.name == f"key {fingerprint(b'operator-key-0123456')}"
    assert "operator-key" not in repr(KEYS)


def test_the_proxy_names_the_user_and_nobody_else_does() -> None:
    ann, bob = PROXY.user("10.1.2.3", ["ann"]), PROXY.user("10.1.2.3", ["bob"])
    assert ann is not None
    assert bob is not None
    assert (ann.name, ann.role) == ("user ann", Role.OPERATOR)
    assert (bob.name, bob.role) == ("user bob", Role.READER)
    for stranger in ("192.0.2.1", "::2", None, "nonsense", "11.0.0.1"):
        assert PROXY.user(stranger, ["ann"]) is None
    assert PROXY.user("::ffff:10.1.2.3", ["ann"]) == ann


@pytest.mark.parametrize("given", [[], [""], ["  "], ["ann", "bob"], ["a\x00n"], ["x" * 300], ["ann\n"]])
def test_a_header_that_names_nobody_or_several_is_not_believed(given: list[str]) -> None:
    found = PROXY.user("10.1.2.3", given)
    assert found is None or found.name == "user ann"
    assert found is None or given == ["ann\n"]


@pytest.mark.parametrize("sent", ["jörg", "Ünal 名前"])
def test_a_user_whose_name_is_not_ascii_is_named_as_the_settings_name_them(sent: str) -> None:
    proxy = Proxy(PROXY.addresses, PROXY.user_header, frozenset({sent}))
    found = proxy.user("10.1.2.3", [sent.encode().decode("latin-1")])
    assert found is not None
    assert (found.name, found.is_operator) == (f"user {sent}", True)
    latin = proxy.user("10.1.2.3", ["jörg"])
    assert latin is not None
    assert latin.name == "user jörg"


def test_without_a_header_of_that_name_in_the_settings_nobody_is_named() -> None:
    assert Proxy((ip_network("10.0.0.0/8"),)).user("10.1.2.3", ["ann"]) is None


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["6.6.6.6, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["6.6.6.6", "203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["rubbish"], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        (None, ["203.0.113.9"], None),
    ],
)
def test_whoever_asks_is_the_last_address_that_is_not_the_proxys(
    peer: str | None, forwarded: list[str], client: str | None
) -> None:
    assert PROXY.client(peer, forwarded) == client


@pytest.mark.parametrize(
    ("given", "prefix"),
    [
        (["/churn"], "/churn"),
        (["/a/b-c/"], "/a/b-c"),
        (["//evil.example"], None),
        (["/../x"], None),
        (["/a b"], None),
        (["javascript:x"], None),
        (["/a", "/b"], None),
        ([], None),
    ],
)
def test_a_prefix_is_a_plain_path_said_once(given: list[str], prefix: str | None) -> None:
    assert PROXY.prefix("10.0.0.1", given) == prefix
    assert PROXY.prefix("192.0.2.1", given) is None


def test_nothing_is_a_prefix_too() -> None:
    assert is_prefix("")
    assert not is_prefix("/a?b")
    assert not is_prefix("/a#b")
