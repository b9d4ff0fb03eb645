"""A generated workspace of customers, as large as a benchmark wants it."""

from __future__ import annotations

import random

from churn_radar.simulator.people import Person

INDUSTRIES = ("fintech", "e-commerce", "healthcare", "education", "logistics", "media", "travel", "legal")
USAGE = ("low", "medium", "high")
PAID = ("pro", "business", "enterprise")
MOST_MRR = 40_000


def customer_id(number: int) -> str:
    """The id of customer `number`."""
    return f"c{number}"


def people(count: int, *, worth_researching: float = 0.6, seed: int = 1) -> tuple[Person, ...]:
    """Customers `c0` to `c{count - 1}`; a share of them on plans that are researched, the others on `free`.

    While there are fewer than 40,000 of them no two have the same MRR (whole dollars), so that there is one right
    order of research.
    """
    dice = random.Random(seed)
    revenues = dice.sample(range(1, MOST_MRR), count) if count < MOST_MRR else dice.choices(range(1, MOST_MRR), k=count)
    return tuple(
        Person(
            customer_id(number),
            f"{0x5000000 + number:08x}",
            f"{customer_id(number)}@bench.example",
            {
                "plan_type": dice.choice(PAID) if dice.random() < worth_researching else "free",
                "mrr": str(revenue),
                "industry": dice.choice(INDUSTRIES),
                "usage_tier": dice.choice(USAGE),
                "tenure_days": str(dice.randint(5, 1500)),
                "last_active_at": "1795500000",
                "created_at": "1700000000",
            },
        )
        for number, revenue in enumerate(revenues)
    )
