"""How soon a page begins to arrive with many briefs in the record, and how soon who watches sees a signal.

The briefs are those of customers of their own, over the last month, all at risk: more than any month brings. Each page
is asked for by one browser after the other, as people do, in turns with an empty route of FastAPI.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import asdict, dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from benchmarks.figures import Figure, Result
from churn_radar.app import create_app, running_service
from churn_radar.intake.events import ChurnEvent, to_arrival, understand
from churn_radar.intake.payload import Event
from churn_radar.research.prompt import build_prompt
from churn_radar.research.sections import parse_sections
from churn_radar.serving import listening, server_for
from churn_radar.settings import Environment, IsolatedSettings
from churn_radar.simulator.research import write_brief
from churn_radar.sockets import bind
from churn_radar.store.at_risk import day_of
from churn_radar.store.record import Record
from churn_radar.store.tables import at_risk, brief_names, briefs, customers, risk_days, signals
from churn_radar.triage.account import Account
from churn_radar.work.steps import utc_now

BATCH = 2000
WANTED = "under 50 ms"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    briefs: int = 100_000
    rounds: int = 5
    requests: int = 40


QUICK = Sizes(briefs=2_000, rounds=2, requests=10)


async def measure(folder: Path, sizes: Sizes) -> Result:
    """Time to the first byte of each page, and the delay of live updates."""
    settings = IsolatedSettings(
        environment=Environment.DEVELOPMENT, database_url=f"sqlite:///{folder / 'record.db'}", log_level="error"
    )
    empty = FastAPI(openapi_url=None)

    @empty.get("/")
    async def nothing() -> dict[str, str]:
        return {}

    async with running_service(settings, with_worker=False, sinks=[]) as service:
        await fill(service.record, sizes.briefs)
        asked = {
            "empty FastAPI route": "/",
            "Today": "/desk/today",
            "Briefs": "/desk/briefs",
            "Briefs, by filters that nothing fits": "/desk/briefs?persona=nobody&plan=pro",
            "Briefs, by the beginning of an address": "/desk/briefs?q=jo12@",
            "One brief": f"/desk/briefs/brf_{sizes.briefs // 2:032x}",
        }
        samples: dict[str, list[float]] = {name: [] for name in asked}
        async with (
            _serving(create_app(service)) as url,
            _serving(empty) as reference,
            httpx.AsyncClient(trust_env=False, timeout=30) as http,
        ):
            for path in asked.values():
                if path != "/":
                    (await http.get(url + path)).raise_for_status()
            for _ in range(sizes.rounds):
                for name, path in asked.items():
                    base = reference if path == "/" else url
                    found = sorted([await _first_byte(http, base + path) for _ in range(sizes.requests)])
                    samples[name].append(round(found[len(found) // 2] * 1000, 2))
            delays = [await _delay(http, url, service.record, number) for number in range(sizes.rounds)]
    figures = [
        Figure(name=name, unit="ms", samples=values, plot="first byte")
        if path == "/"
        else Figure(name=name, unit="ms", samples=values, plot="first byte", wanted=WANTED, goal=50)
        for (name, path), values in zip(asked.items(), samples.values(), strict=True)
    ]
    figures.append(Figure(name="signal committed to seen by who watches", unit="ms", samples=delays, plot="live"))
    return Result(
        name="pages",
        title="Pages",
        about=f"Time to the first byte with {sizes.briefs:,} briefs in the record (SQLite), all of them at risk.",
        figures=figures,
        notes=[f"median of {sizes.requests} requests a round, one after another, on one connection"],
    )


async def fill(record: Record, count: int) -> None:
    """So many briefs, each of a customer of its own; past the code that writes one, which would take many minutes."""
    account = Account(plan="pro", mrr=Decimal(850), industry="fintech", tenure_days=342)
    prompt = build_prompt(kinds=["unsubscribed"], persona="Pro Fintech User", account=account, currency="USD")
    answer = write_brief(prompt, seed=1)
    sections = parse_sections(answer.content).as_dict()
    personas = [f"High-MRR {name} (Pro plan)" for name in ("Fintech", "Media", "Health", "Travel")] + [
        f"Industry {n} User" for n in range(40)
    ]
    now = utc_now()

    def row(n: int) -> dict[str, Any]:
        at = now - timedelta(minutes=n % 40_000)
        mrr = float((n * 37) % 4000)
        return {
            "seq": n,
            "brief_id": f"brf_{n:032x}",
            "signal_seq": n,
            "customer_seq": n,
            "customer_id": f"cust_{n}",
            "email": f"jo{n}@host{n % 900}.example",
            "event_type": ("unsubscribed", "bounced", "complained")[n % 3],
            "persona_type": personas[n % len(personas)],
            "plan": ("pro", "business")[n % 2],
            "mrr": mrr,
            "currency": "USD",
            "account": {**asdict(account), "mrr": "850"},
            "research_brief": answer.content,
            "sections": sections,
            "sources": answer.sources,
            "unsupported_claims": [],
            "credits_used": 40,
            "clarified": False,
            "extra": {},
            "prompt": prompt,
            "attributes_source": "live",
            "notes": [],
            "signal_received_at": at,
            "created_at": at,
            "counted_at": at,
        }

    for start in range(1, count + 1, BATCH):
        rows = [row(n) for n in range(start, min(start + BATCH, count + 1))]

        async def write(connection: AsyncConnection, rows: list[dict[str, Any]] = rows) -> None:
            await connection.execute(
                insert(customers),
                [
                    {
                        "seq": r["seq"],
                        "customer_id": r["customer_id"],
                        "email": r["email"],
                        "attributes": {},
                        "seen_at": now,
                    }
                    for r in rows
                ],
            )
            await connection.execute(insert(signals), [_signal(r) for r in rows])
            await connection.execute(insert(briefs), rows)
            await connection.execute(insert(at_risk), [{"brief_seq": r["seq"]} for r in rows])
            await connection.execute(
                insert(brief_names),
                [{"name": n, "brief_seq": r["seq"]} for r in rows for n in (r["customer_id"], r["email"])],
            )

        await record.write(write)
    cells: dict[tuple[int, str, str], list[int]] = {}
    for n in range(1, count + 1):
        one = row(n)
        cell = cells.setdefault((day_of(one["created_at"]), one["persona_type"], one["event_type"]), [0, 0])
        cell[0] += 1
        cell[1] += round(one["mrr"] * 100)

    async def sums(connection: AsyncConnection) -> None:
        await connection.execute(
            insert(risk_days),
            [
                {
                    "currency": "USD",
                    "day": day,
                    "persona_type": persona,
                    "event_type": kind,
                    "briefs": number,
                    "mrr": mrr,
                    "open_briefs": number,
                    "open_mrr": mrr,
                }
                for (day, persona, kind), (number, mrr) in cells.items()
            ],
        )

    await record.write(sums)


def _signal(brief: dict[str, Any]) -> dict[str, Any]:
    at = brief["created_at"]
    return {
        "seq": brief["seq"],
        "signal_id": f"sig_{brief['seq']:032x}",
        "event_key": f"k{brief['seq']}",
        "kind": brief["event_type"],
        "metric": brief["event_type"],
        "object_type": "email",
        "source": "webhook",
        "customer_id": brief["customer_id"],
        "email": brief["email"],
        "customer_seq": brief["seq"],
        "received_at": at,
        "updated_at": at,
        "forced": False,
        "status": "briefed",
        "brief_seq": brief["seq"],
    }


@asynccontextmanager
async def _serving(app: Any) -> AsyncIterator[str]:
    with closing(bind("127.0.0.1", 0)) as listener:
        async with listening(server_for(app), listener) as url:
            yield url


async def _first_byte(http: httpx.AsyncClient, url: str) -> float:
    began = time.perf_counter()
    async with http.stream("GET", url) as answer:
        answer.raise_for_status()
        took = time.perf_counter() - began
        await answer.aread()
    return took


async def _delay(http: httpx.AsyncClient, url: str, record: Record, number: int) -> float:
    """Milliseconds from a signal's commit until a browser that watches has it."""
    async with http.stream("GET", f"{url}/desk/live") as stream:
        lines = stream.aiter_lines()
        async for line in lines:
            if line.startswith("id: "):
                break
        told = {
            "event_id": f"live-{number}-{time.time_ns()}",
            "object_type": "customer",
            "metric": "unsubscribed",
            "data": {"customer_id": f"live_{number}"},
        }
        understood = understand(Event.model_validate(told), ("unsubscribed",))
        assert isinstance(understood, ChurnEvent)
        await record.accept(to_arrival(understood, received_at=utc_now(), source="webhook"))
        began = time.perf_counter()
        async for line in lines:
            if line.startswith("id: "):
                return round((time.perf_counter() - began) * 1000, 1)
    return 0.0
