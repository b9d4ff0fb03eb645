"""Reading a customer out of an App API answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_radar.customerio.profile import read_profile
from churn_radar.triage.customer import CustomerRef, Profile

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["customer", "attributes", "id"]) | st.text(), inner)
    ),
    max_leaves=12,
)


def test_the_documented_shape_gives_identifiers_and_attributes_as_they_came() -> None:
    attributes = {"plan_type": "pro", "mrr": "850", "created_at": "1489014595"}
    payload = {
        "customer": {
            "id": "1",
            "attributes": attributes,
            "timestamps": {"plan_type": 1489014595},
            "unsubscribed": False,
            "devices": [],
            "identifiers": {"id": "1", "email": "jo@example.com", "cio_id": "d9c106000001"},
        }
    }
    expected = Profile(CustomerRef("1", "d9c106000001", "jo@example.com"), attributes, unsubscribed=False)
    assert read_profile(payload) == expected


def test_attributes_directly_under_the_customer_are_read_too() -> None:
    payload = {
        "customer": {
            "id": 7,
            "email": "jo@example.com",
            "plan_type": "pro",
            "mrr": 850,
            "timestamps": {},
            "devices": [],
        }
    }
    profile = read_profile(payload)
    assert profile is not None
    assert profile.ref == CustomerRef(id="7", email="jo@example.com")
    assert profile.attributes == {"email": "jo@example.com", "plan_type": "pro", "mrr": 850}


@pytest.mark.parametrize(
    ("customer", "said"),
    [
        ({"unsubscribed": True}, True),
        ({"unsubscribed": False}, False),
        ({"unsubscribed": "true"}, True),
        ({"attributes": {"unsubscribed": "true"}}, True),
        ({"unsubscribed": None, "attributes": {"unsubscribed": " False "}}, False),
        ({"unsubscribed": {"at": 1}, "attributes": {}}, None),
        ({}, None),
    ],
)
def test_a_profile_tells_whether_its_customer_has_unsubscribed(customer: dict[str, object], said: bool | None) -> None:
    profile = read_profile({"customer": {"id": "7", **customer}})
    assert profile is not None
    assert profile.unsubscribed is said


def test_identifiers_are_found_among_the_attributes_when_nowhere_else() -> None:
    payload = {"customer": {"attributes": {"id": "42", "cio_id": "a3", "email": "jo@example.com"}}}
    profile = read_profile(payload)
    assert profile is not None
    assert profile.ref == CustomerRef("42", "a3", "jo@example.com")


def test_a_blank_identifier_is_none_and_the_next_place_is_asked() -> None:
    payload = {
        "customer": {
            "id": " ",
            "identifiers": {"id": "", "email": None},
            "attributes": {"id": "42", "email": ""},
        }
    }
    profile = read_profile(payload)
    assert profile is not None
    assert profile.ref == CustomerRef(id="42")


def test_the_merged_customers_own_id_wins_over_a_stale_attribute() -> None:
    profile = read_profile({"customer": {"id": "new", "attributes": {"id": "old"}}})
    assert profile is not None
    assert profile.ref.id == "new"


@pytest.mark.parametrize("odd", [True, 4.5, ["7"], {"id": "7"}])
def test_what_is_no_text_and_no_number_is_no_identifier(odd: object) -> None:
    profile = read_profile({"customer": {"id": odd, "attributes": {"plan_type": "pro"}}})
    assert profile == Profile(CustomerRef(), {"plan_type": "pro"})


@pytest.mark.parametrize("odd", [None, [], "text", 5])
def test_attributes_of_a_wrong_type_are_no_attributes(odd: object) -> None:
    assert read_profile({"customer": {"id": "7", "attributes": odd}}) == Profile(CustomerRef(id="7"), {})


@pytest.mark.parametrize("payload", [None, [], "x", {}, {"customer": None}, {"customer": []}, {"customer": {}}])
def test_no_customer_is_none(payload: object) -> None:
    assert read_profile(payload) is None


@given(JSON)
def test_no_payload_makes_it_raise(payload: object) -> None:
    profile = read_profile(payload)
    assert profile is None or all(name is None or name.strip() for name in (profile.ref.id, profile.ref.email))
