from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import event, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store import customers as store
from churn_radar.store.customers import (
    MOST_OF_AN_ADDRESS,
    KnownCustomer,
    customers_named,
    load_customer,
    recall,
    remember,
    remember_all,
    rows_now,
)
from churn_radar.store.tables import briefs, customers, signals
from churn_radar.triage.customer import CustomerRef, Profile
from tests.support.door import NOW, House, arrival, house, insert_into

pytestmark = pytest.mark.usefixtures("everywhere")

HOUR = timedelta(hours=1)


async def meet(home: House, ref: CustomerRef, hours: int = 0, **attributes: str) -> int:
    """A look-up that shows `ref`, so many hours after the first."""
    return await home.record.write(
        lambda connection: remember(connection, Profile(ref, attributes), NOW + hours * HOUR)
    )


async def known(home: House, ref: CustomerRef) -> KnownCustomer | None:
    async with home.record.read() as connection:
        return await recall(connection, ref)


async def refs(home: House) -> dict[int, CustomerRef]:
    """Every customer of the record."""
    async with home.record.read() as connection:
        rows = await connection.execute(
            select(customers.c.seq, customers.c.customer_id, customers.c.cio_id, customers.c.email)
        )
        return {row[0]: CustomerRef(*row[1:]) for row in rows}


FULL = CustomerRef("42", "a3f0", "jo@x.io")
NAMES = {
    "id": CustomerRef("42"),
    "cio_id": CustomerRef(None, "a3f0"),
    "mail": CustomerRef(None, None, "jo@x.io"),
    "mail in another case": CustomerRef(None, None, "Jo@X.IO"),
}


async def test_what_a_profile_says_of_mail_is_kept_until_another_says_otherwise(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        for said, kept in ((None, None), (True, True), (None, True), (False, False)):
            await home.record.write(partial(remember, profile=Profile(FULL, {}, said), now=NOW))
            found = await known(home, FULL)
            assert found is not None
            assert found.profile.unsubscribed is kept


@pytest.mark.parametrize("ref", NAMES.values(), ids=NAMES)
async def test_a_customer_is_recalled_by_each_of_their_names(tmp_path: Path, ref: CustomerRef) -> None:
    async with house(tmp_path) as home:
        seq = await meet(home, FULL, plan_type="pro")
        found = await known(home, ref)
        assert found == KnownCustomer(seq, Profile(FULL, {"plan_type": "pro"}), NOW)


async def test_nobody_is_recalled_by_a_name_that_is_not_theirs(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await meet(home, FULL)
        # An id is no cio_id and no address, even if it reads alike.
        for ref in (CustomerRef("a3f0"), CustomerRef(None, "42"), CustomerRef("jo@x.io"), CustomerRef()):
            assert await known(home, ref) is None


async def test_seeing_a_customer_again_refreshes_what_is_known(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        first = await meet(home, FULL, plan_type="free", mrr="0")
        assert await meet(home, FULL, 1, plan_type="pro") == first
        assert await known(home, FULL) == KnownCustomer(first, Profile(FULL, {"plan_type": "pro"}), NOW + HOUR)


async def test_names_that_a_later_look_up_does_not_show_are_not_forgotten(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        seq = await meet(home, FULL)
        assert await meet(home, CustomerRef("42")) == seq
        assert await refs(home) == {seq: FULL}


@pytest.mark.parametrize("ref", NAMES.values(), ids=NAMES)
async def test_a_customer_under_one_name_gains_the_others(tmp_path: Path, ref: CustomerRef) -> None:
    async with house(tmp_path) as home:
        seq = await meet(home, ref)
        assert await meet(home, FULL) == seq
        assert await refs(home) == {seq: FULL}


async def test_a_customer_under_three_names_becomes_one_once_a_look_up_shows_them_together(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        by_id = await meet(home, NAMES["id"], plan_type="old")
        by_cio_id = await meet(home, NAMES["cio_id"], 1, plan_type="older")
        by_mail = await meet(home, NAMES["mail"], 2, plan_type="oldest")
        assert len({by_id, by_cio_id, by_mail}) == 3
        one = await meet(home, FULL, 3, plan_type="new")
        assert await refs(home) == {one: FULL}
        for ref in NAMES.values():
            assert await known(home, ref) == KnownCustomer(one, Profile(FULL, {"plan_type": "new"}), NOW + 3 * HOUR)


async def test_signals_and_briefs_move_along_when_customers_become_one(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        for name in ("id", "cio_id", "mail"):
            await leave_traces(home, await meet(home, NAMES[name]))
        one = await meet(home, FULL)
        async with home.record.read() as connection:
            assert list((await connection.execute(select(signals.c.customer_seq))).scalars()) == [one] * 3
            assert list((await connection.execute(select(briefs.c.customer_seq))).scalars()) == [one] * 3
            assert await customers_named(connection, "42") == (one,)


async def leave_traces(home: House, customer_seq: int) -> None:
    """A signal of a customer, and a brief about them."""

    async def work(connection: AsyncConnection) -> None:
        [accepted] = await insert_into(connection, [arrival(f"{customer_seq}")])
        mine = signals.c.seq == accepted.seq
        await connection.execute(update(signals).where(mine).values(customer_seq=customer_seq))
        await connection.execute(insert(briefs).values(_brief(customer_seq, accepted.seq)))

    await home.record.write(work)


def _brief(customer_seq: int, signal_seq: int | None) -> dict[str, object]:
    return {
        "brief_id": f"brf_{customer_seq}",
        "signal_seq": signal_seq,
        "customer_seq": customer_seq,
        "customer_id": "42",
        "event_type": "bounced",
        "persona_type": "Pro General User",
        "plan": "pro",
        "mrr": 1.0,
        "currency": "USD",
        "account": {},
        "research_brief": "text",
        "sections": {},
        "sources": [],
        "unsupported_claims": [],
        "credits_used": 0,
        "extra": {},
        "prompt": "text",
        "attributes_source": "live",
        "notes": [],
        "signal_received_at": NOW,
        "created_at": NOW,
    }


async def test_the_row_of_a_customer_that_went_is_never_given_to_another(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await meet(home, NAMES["id"])
        last = await meet(home, NAMES["mail"])
        await meet(home, FULL)
        assert await meet(home, CustomerRef("43")) > last


async def test_an_address_that_changed_hands_does_not_make_two_people_one(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        before = await meet(home, CustomerRef("1", "c1", "office@x.io"), plan_type="pro")
        after = await meet(home, CustomerRef("2", "c2", "office@x.io"), 1, plan_type="free")
        assert before != after
        assert await meet(home, CustomerRef("2", "c2", "office@x.io"), 2, plan_type="free") == after
        assert await refs(home) == {
            before: CustomerRef("1", "c1", "office@x.io"),
            after: CustomerRef("2", "c2", "office@x.io"),
        }
        # The address alone means whoever had it last; a lasting name means its owner, whatever the address.
        for ref, seq in (
            (CustomerRef(None, None, "office@x.io"), after),
            (CustomerRef("1", None, "office@x.io"), before),
            (CustomerRef(None, "c1", "office@x.io"), before),
            (CustomerRef("2", None, "new@x.io"), after),
        ):
            found = await known(home, ref)
            assert found is not None
            assert found.seq == seq


@pytest.mark.parametrize("ref", [CustomerRef("3", None, "office@x.io"), CustomerRef(None, "c3", "office@x.io")])
async def test_an_address_does_not_find_somebody_whom_the_lasting_names_rule_out(
    tmp_path: Path, ref: CustomerRef
) -> None:
    async with house(tmp_path) as home:
        seq = await meet(home, CustomerRef("1", "c1", "office@x.io"))
        assert await known(home, ref) is None
        assert await meet(home, ref) != seq
        assert (await refs(home))[seq] == CustomerRef("1", "c1", "office@x.io")


async def test_an_id_that_was_given_to_somebody_else_does_not_make_two_people_one(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        former = await meet(home, CustomerRef("42", "c1", "a@x.io"))
        later = await meet(home, CustomerRef("7", "c2", "b@x.io"))
        # Customer.io's own id is for good; the workspace's id moved from one person to the other.
        assert await meet(home, CustomerRef("42", "c2", "b@x.io"), 1) == later
        assert await refs(home) == {former: CustomerRef("42", "c1", "a@x.io"), later: CustomerRef("42", "c2", "b@x.io")}


async def test_the_most_lasting_name_decides_who_is_recalled(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        by_cio_id = await meet(home, CustomerRef(None, "c1"))
        by_id = await meet(home, CustomerRef("1"))
        by_mail = await meet(home, CustomerRef(None, None, "a@x.io"))
        for ref, seq in (
            (CustomerRef("1", "c1", "a@x.io"), by_cio_id),
            (CustomerRef("1", "elsewhere", "a@x.io"), by_id),
            (CustomerRef("1", None, "a@x.io"), by_id),
            (CustomerRef("elsewhere", "elsewhere", "a@x.io"), by_mail),
        ):
            found = await known(home, ref)
            assert found is not None
            assert found.seq == seq


async def test_a_person_may_be_asked_for_by_any_name_in_any_case_of_the_address(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        seq = await meet(home, FULL)
        async with home.record.read() as connection:
            for name in ("42", "a3f0", "jo@x.io", "JO@X.io"):
                assert await customers_named(connection, name) == (seq,)
            assert await customers_named(connection, "A3F0") == ()
            assert (await load_customer(connection, seq)) == await known(home, FULL)
            assert await load_customer(connection, seq + 1) is None


async def test_attributes_come_back_as_they_were_seen(tmp_path: Path) -> None:
    attributes = {"mrr": "850", "name": "Zoë 👋", "account": 2**70, "tags": ["a", None], "blank": ""}
    async with house(tmp_path) as home:
        await home.record.write(lambda connection: remember(connection, Profile(FULL, attributes), NOW))
        found = await known(home, FULL)
        assert found is not None
        assert found.profile.attributes == attributes | {"account": str(2**70)}


# -- many at once


async def meet_all(home: House, told: Sequence[CustomerRef], hours: int = 0) -> list[int]:
    """Look-ups that show these, settled together."""
    profiles = [Profile(ref, {}) for ref in told]
    return await home.record.write(lambda connection: remember_all(connection, profiles, NOW + hours * HOUR))


@pytest.mark.parametrize("sharing", [3, 3000])
async def test_an_address_that_thousands_share_costs_no_more_than_one_that_three_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sharing: int
) -> None:
    """The writer holds the door up meanwhile: what counts is what is read, and how often."""
    mail = "info@agency.example"
    rows = [{"customer_id": f"c{n}", "cio_id": f"x{n}", "email": mail, "attributes": {}} for n in range(sharing)]
    read, selects, real = 0, 0, store._known

    def counting(row: object) -> KnownCustomer:
        nonlocal read
        read += 1
        return real(row)  # type: ignore[arg-type]

    def hear(_: object, __: object, statement: str, *___: object) -> None:
        nonlocal selects
        # On Postgres a transaction's own number is asked for as well.
        selects += statement.startswith("SELECT") and "pg_" not in statement

    async with house(tmp_path) as home:
        await home.record.write(lambda c: c.execute(insert(customers), [{**row, "seen_at": NOW} for row in rows]))
        monkeypatch.setattr(store, "_known", counting)
        event.listen(home.record.engines[1], "before_cursor_execute", hear)
        told = [CustomerRef(f"n{n}", f"y{n}", mail) for n in range(50)]

        seqs = await meet_all(home, told, 1)

        assert (read, selects) == (1, 4)
        assert len(set(seqs)) == 50
        assert await meet_all(home, told, 2) == seqs
        assert read == 1 + 2 * 50 + 1
        found = await known(home, CustomerRef(None, None, mail))
        assert found is not None
        assert found.seq == seqs[-1]


async def test_a_row_that_a_neighbour_in_the_batch_turns_out_to_own_is_told_by_its_new_number(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        one = await meet(home, CustomerRef("42", "a3f0", "old@x.io"))
        assert await meet_all(home, [CustomerRef(None, None, "jo@x.io"), FULL]) == [one, one]
        assert await refs(home) == {one: FULL}


class TakenBack(Exception):
    """Takes a trial back before it is committed."""


async def outcome(home: House, before: Sequence[CustomerRef], batches: Sequence[Sequence[CustomerRef]]) -> list[str]:
    """Who is there after these look-ups; nothing of them is kept."""
    found: list[str] = []

    async def trial(connection: AsyncConnection) -> None:
        for hours, ref in enumerate(before):
            await remember(connection, Profile(ref), NOW + hours * HOUR)
        told = [await remember_all(connection, [Profile(ref) for ref in batch], NOW + 5 * HOUR) for batch in batches]
        rows = (await connection.execute(select(customers))).all()
        assert {seq for seqs in told for seq in seqs} <= {row.seq for row in rows} or len(batches) > 1
        found.extend(sorted(f"{row.customer_id} {row.cio_id} {row.email}" for row in rows))
        raise TakenBack

    with pytest.raises(TakenBack):
        await home.record.write(trial)
    return found


async def test_a_batch_does_what_its_look_ups_would_have_done_one_after_the_other(tmp_path: Path) -> None:
    """In one order or another: who is who does not depend on what was settled together."""
    rng = random.Random(7)

    def somebody() -> CustomerRef:
        return CustomerRef(*(rng.choice([None, f"{kind}1", f"{kind}2"]) for kind in ("id", "cio", "mail")))

    async with house(tmp_path) as home:
        for _ in range(60):
            before, batch = [somebody() for _ in range(3)], list({somebody(): None for _ in range(4)})
            together = await outcome(home, before, [batch])
            for order in itertools.permutations(batch):
                if await outcome(home, before, [[each] for each in order]) == together:
                    break
            else:
                pytest.fail(f"{together} of {before} and {batch}")


async def test_a_customer_recalled_before_a_merge_is_found_after_it(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        by_mail, other = await meet(home, NAMES["mail"]), await meet(home, CustomerRef("43"))
        recalled = [await known(home, NAMES["mail"]), await known(home, CustomerRef("43"))]
        one = await meet(home, FULL, 1)
        # The row of the mail address lives on: it gained the other names.
        assert one == by_mail
        two = await meet(home, CustomerRef("7", "c7"), 1)
        assert await meet(home, CustomerRef("7", "c7", "jo@y.io"), 2) == two
        gone = await meet(home, CustomerRef(None, None, "jo@z.io"))
        recalled.append(await known(home, CustomerRef(None, None, "jo@z.io")))
        assert await meet(home, CustomerRef("7", "c7", "jo@z.io"), 3) == two != gone
        async with home.record.read() as connection:
            assert await rows_now(connection, [each for each in recalled if each]) == [one, other, two]


async def test_of_an_address_that_many_share_a_person_is_shown_those_who_had_it_last(tmp_path: Path) -> None:
    mail = "info@agency.example"
    rows = [{"customer_id": f"c{n}", "email": mail, "attributes": {}, "seen_at": NOW + n * HOUR} for n in range(1500)]
    async with house(tmp_path) as home:
        await home.record.write(lambda c: c.execute(insert(customers), rows))
        async with home.record.read() as connection:
            assert await customers_named(connection, mail) == tuple(range(1500 - MOST_OF_AN_ADDRESS + 1, 1501))
