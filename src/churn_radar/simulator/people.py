"""The customers of the simulated workspace: invented people at invented companies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True)
class Person:
    """One customer: identifiers (None where there is none) and attributes, every value a string."""

    id: str | None
    cio_id: str | None
    email: str | None
    attributes: Mapping[str, str] = field(default_factory=dict)


_TODAY = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
_COLUMNS = ("plan_type", "mrr", "industry", "usage_tier", "tenure_days")

# id | cio_id | mail | name | plan | mrr | industry | usage | tenure in days | last active, days and hours ago.
# `-` is an identifier or attribute that the customer does not have; `""` is an attribute that is there, but blank.
_TABLE = """
cust_1001 | 03000001 | jane@acme.co | Jane Doe | pro | 850 | fintech | high | 342 | 2 9
cust_1002 | 03000002 | marek@ledgerloom.example | Marek Zelenka | business | 2400 | fintech | medium | 611 | 1 3
cust_1003 | 03000003 | priya@coinharbor.example | Priya Raman | enterprise | 11800 | fintech | high | 1280 | 0 5
cust_1004 | 03000004 | tobias@pocketteller.example | Tobias Lind | starter | 49 | fintech | low | 41 | 6 2
cust_1005 | 03000005 | amara@threadandtwine.example | Amara Okoye | pro | 320 | e-commerce | medium | 214 | 3 7
cust_1006 | 03000006 | luc.garnier@petitpanier.example | Luc Garnier | business | 1450 | e-commerce | high | 498 | 1 1
cust_1007 | 03000007 | hello@moonjar.example | Wren Halloway | free | 0 | e-commerce | low | 12 | 9 4
cust_1008 | 03000008 | dana.whitlock@bigbarn.example | Dana Whitlock | enterprise | 7600 | e-commerce | high | 933 | 0 2
cust_1009 | 03000009 | sofia.brandt@clinicflow.example | Sofia Brandt | pro | 640 | healthcare | medium | 187 | 4 6
cust_1010 | 0300000a | n.haddad@northward.example | Nadia Haddad | enterprise | 9200 | healthcare | high | 1502 | 0 8
cust_1011 | 0300000b | owen@stillwaters.example | Owen Pryce | starter | 79 | healthcare | low | 95 | 21 3
cust_1012 | 0300000c | keiko.mori@brightdesk.example | Keiko Mori | business | 480 | education | medium | 377 | 2 2
cust_1013 | 0300000d | felix@lernpfad.example | Felix Oster | pro | 210 | education | low | 58 | 13 5
cust_1014 | 0300000e | ines@hillcrest.example | Ines Caldeira | enterprise | 3900 | education | high | 1120 | 1 6
cust_1015 | 0300000f | sam.ferrow@quizkite.example | Sam Ferrow | free | "" | education | low | 7 | 5 9
cust_1016 | 03000010 | ruth@parcelwing.example | Ruth Achterberg | business | 1980 | logistics | high | 702 | 0 4
cust_1017 | 03000011 | deepak@freightfern.example | Deepak Nair | pro | $1,200 | logistics | medium | 265 | 3 3
cust_1018 | 03000012 | bo.larsen@kajline.example | Bo Larsen | enterprise | 5400 | logistics | medium | 841 | 8 1
cust_1019 | 03000013 | grace@keysandgables.example | Grace Tembo | pro | 560 | real estate | high | 431 | 1 9
cust_1020 | 03000014 | martin@plotpoint.example | Martin Vasek | starter | 99 | real estate | medium | 150 | 11 2
cust_1021 | 03000015 | helen.strand@cornerstone.example | Helen Strand | business | 870 | real estate | low | 289 | 17 7
cust_1022 | 03000016 | yuki@lanternlight.example | Yuki Arai | pro | 150 | gaming | high | 121 | 0 3
cust_1023 | 03000017 | leo.marchetti@ninelives.example | Leo Marchetti | enterprise | 6200 | gaming | high | 560 | 2 8
cust_1024 | 03000018 | pixel@oakandember.example | Robin Teal | free | 0 | gaming | low | 3 | 2 1
cust_1025 | 03000019 | carla@dailyharbor.example | Carla Nunes | business | 720 | media | medium | 333 | 5 5
cust_1026 | 0300001a | theo@longformclub.example | Theo Winter | pro | 95 | media | low | 77 | 26 4
cust_1027 | 0300001b | irina@forgeworks.example | Irina Volkova | enterprise | 4300 | manufacturing | low | 1044 | 31 6
cust_1028 | 0300001c | paul.egger@werkzeughof.example | Paul Egger | business | N/A | manufacturing | medium | 205 | 7 7
cust_1029 | 0300001d | alma@harborinn.example | Alma Quist | starter | 59 | hospitality | medium | 180 | 10 8
cust_1030 | 0300001e | jonas.weil@alpenstay.example | Jonas Weil | pro | 505 | hospitality | high | 399 | 1 2
cust_1031 | 0300001f | mina.solberg@briefcase.example | Mina Solberg | business | 500 | legal | medium | 466 | 4 1
ops+eu@trailhead.example | 03000020 | ops+eu@trailhead.example | Noor Bakker | pro | 730 | travel | medium | 238 | 2 4
team/42 | 03000021 | amir@fieldnote.example | Amir Sadeghi | pro | 410 | - | - | - | 15 2
- | 03000022 | viola.engel@greenledger.example | Viola Engel | pro | 690 | fintech | medium | 156 | 3 8
- | 03000023 | info@papermoon.example | Eli Navarro | starter | 29 | media | low | 64 | 19 1
- | 03000024 | - | Sun-hee Baek | business | 1100 | travel | high | 512 | 0 9
"""


def _read(line: str) -> Person:
    cells = [cell.strip() for cell in line.split("|")]
    customer_id, cio_id, email = (None if cell == "-" else cell for cell in cells[:3])
    first_name, _, last_name = cells[3].partition(" ")
    values = dict(zip(_COLUMNS, cells[4:9], strict=True))
    days, hours = map(int, cells[9].split())
    created = _TODAY - timedelta(days=int(values["tenure_days"].replace("-", "30")))
    attributes = {
        "first_name": first_name,
        "last_name": last_name,
        **({"email": email} if email else {}),
        **{name: "" if value == '""' else value for name, value in values.items() if value != "-"},
        "last_active_at": _unix(_TODAY - timedelta(days=days, hours=hours)),
        "created_at": _unix(created),
    }
    return Person(customer_id, cio_id, email, attributes)


def _unix(moment: datetime) -> str:
    return str(int(moment.timestamp()))


PEOPLE: tuple[Person, ...] = tuple(map(_read, _TABLE.strip().splitlines()))
