"""Writes briefs that read as a research agent's: six answers in Markdown, put together from the notes. No I/O.

The same message and seed give the same brief; the message's facts decide what is advised, the seed how it is said. In
a thread, what a follow-up does not tell is as the thread's first message told it.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

from churn_radar.simulator.citations import consult, find_sources, validate
from churn_radar.simulator.facts import Facts, read_facts, read_headings
from churn_radar.simulator.industries import Industry, industry_notes
from churn_radar.simulator.mails import three_mails
from churn_radar.simulator.moves import (
    EVENTS,
    GRAVEST_FIRST,
    OTHER_EVENT,
    OTHER_PLAN,
    PLANS,
    EventMove,
    PlanMove,
    tenure_reason,
)

_QUESTIONS = (
    "Before I start: which region are most of these accounts in, and may discounts be part of the answer at all?",
    "I can take this in two directions. Shall I study the loss of the mail channel alone, or the whole account?",
    "To narrow this down, **which competitors do accounts like this one usually move to?**",
)


@dataclass(frozen=True, slots=True)
class Brief:
    """What Mave answers: Markdown, and what comes with it."""

    content: str
    sources: list[dict[str, object]] = field(default_factory=list)
    validation: dict[str, object] = field(default_factory=dict)
    personas_used: list[dict[str, str]] = field(default_factory=list)


def ask_back(message: str, *, seed: int) -> Brief:
    """A clarifying question, which Mave's triage may ask in place of doing the research."""
    return Brief(random.Random(f"{seed}:{message}").choice(_QUESTIONS))


def write_brief(message: str, *, seed: int, opening: str = "") -> Brief:
    """A brief of about 350 to 700 words with the six headings that the message asks for, in its order.

    `opening` is the message that opened the thread, where this one continues it.
    """
    told = message
    if opening:
        # A reply that tells of no event, as to a question, changes nothing. Of a fact told twice the first is read.
        told = f"{message}\n{opening}" if read_facts(message).events else opening
    dice = random.Random(f"{seed}:{told}")
    facts = read_facts(told)
    notes = industry_notes(facts.industry)
    event = next((EVENTS[name] for name in GRAVEST_FIRST if name in facts.events), OTHER_EVENT)
    plan = PLANS.get((facts.plan or "").lower(), OTHER_PLAN)
    sources = find_sources(dice, notes, facts.industry or "general")
    reasons = dice.choice((3, 4))
    answers = (
        _reasons(dice, facts, notes, event, reasons, len(sources)),
        _tactics(dice, notes, event, 6 - reasons, len(sources)),
        three_mails(dice, notes, event, plan),
        _offer(facts, plan),
        _timing(facts, notes, event),
        _signals(dice, notes, event),
    )
    headings = read_headings(message, opening)
    sections = [f"## {title}\n\n{answer}" for title, answer in zip(headings, answers, strict=True)]
    content = "\n\n".join([_summary(facts, event), *sections])
    return Brief(content, sources, validate(dice), consult(dice))


def _summary(facts: Facts, event: EventMove) -> str:
    others = [name for name in facts.events if EVENTS.get(name) not in (None, event)]
    also = f" (also recorded: {' and '.join(others)})" if others else ""
    known = [("the industry", facts.industry), ("the plan", facts.plan), ("the revenue", facts.mrr)]
    missing = [name for name, value in known if value is None]
    assumed = f" Not given: {', '.join(missing)}; the advice below assumes a typical account." if missing else ""
    use = re.search(r"\((\w+) usage\)", facts.persona or "")
    in_use = f" Usage is {use[1].lower()}, {_usage_meaning(use[1].lower())}." if use else ""
    return (
        f"**In short.** A customer of the kind *{facts.persona or 'unnamed persona'}* {event.phrase}{also}."
        f" {event.verdict}.{in_use}{assumed}"
    )


def _usage_meaning(tier: str) -> str:
    meanings = {
        "high": "so the product still earns its place and only the conversation has failed",
        "low": "so the event confirms a drift that began earlier",
    }
    return meanings.get(tier, "so there is habit to build on")


def _reasons(dice: random.Random, facts: Facts, notes: Industry, event: EventMove, count: int, sources: int) -> str:
    ranked = [event.reason, *dice.sample(notes.reasons, count - 2), tenure_reason(facts.tenure_days)]
    lines = [f"{place}. {reason} [{1 + (place - 1) % sources}]" for place, reason in enumerate(ranked, start=1)]
    return "\n".join(lines)


def _tactics(dice: random.Random, notes: Industry, event: EventMove, count: int, sources: int) -> str:
    chosen = [event.tactic, *dice.sample(notes.tactics, count - 1)]
    dice.shuffle(chosen)
    lines = [f"- {tactic} [{1 + place % sources}]" for place, tactic in enumerate(chosen, start=1)]
    start = dice.choice(
        (
            f"All three work because they help the customer to {notes.outcome}, not because they please.",
            "Start with the first; add the others only if it brings an answer.",
            "Each needs a named owner and an end date; without both, expect half the effect.",
        )
    )
    return "\n".join(lines) + f"\n\n{start}"


def _offer(facts: Facts, plan: PlanMove) -> str:
    lines = [
        f"- **Lead with:** {plan.lead}.",
        f"- **Fall back to:** {plan.fallback}.",
        f"- **Limits:** {plan.condition}",
    ]
    if plan.months is not None and facts.mrr:
        cost, year = facts.mrr * plan.months, facts.mrr * 12
        lines.append(
            f"- **What it costs:** at most {facts.money(cost)} against {facts.money(year)} a year;"
            f" it pays for itself if it keeps {plan.one_in} for a year."
        )
    return "\n".join(lines)


def _timing(facts: Facts, notes: Industry, event: EventMove) -> str:
    day = re.match(r"\d{4}-\d{2}-\d{2}", facts.last_active or "")
    seen = f"Last active on {day[0]}: mention nothing older than that in the first contact. " if day else ""
    return f"{seen}{event.first} {event.then}\n\n{notes.quiet}"


def _signals(dice: random.Random, notes: Industry, event: EventMove) -> str:
    watched = [event.sign, *notes.signals]
    dice.shuffle(watched)
    lines = [f"- {sign[0].upper()}{sign[1:]}" for sign in watched]
    rule = dice.choice(
        (
            "Two of these within 14 days: stop the sequence and let the account's owner ring. None within 30 days:"
            " treat the renewal as at risk and tell finance.",
            "On the first of these, drop the offer from what is left of the sequence: it is no longer needed. After 21"
            " days without any, ask once whether they want help to leave.",
            "Any of these counts as an answer: reply the same day, by hand. Hold further mail until use has been steady"
            " for four weeks.",
        )
    )
    return "\n".join(lines) + f"\n\n{rule}"
