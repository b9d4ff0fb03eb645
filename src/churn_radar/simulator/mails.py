"""The win-back mails of a brief: three outlines with subject line, body and call to action. No I/O."""

from __future__ import annotations

import random

from churn_radar.simulator.industries import Industry
from churn_radar.simulator.moves import EventMove, PlanMove

_OPENINGS = (
    (
        "Did we get in the way?",
        "Says in one sentence that you noticed, and asks a single question: what were you trying to get done when we"
        " stopped being useful? No links, no pictures, five lines at most.",
    ),
    (
        "One question before {moment}",
        "Names the piece of work that lies ahead and asks what would make it easier. Signed by a person with a direct"
        " number; no product news.",
    ),
    (
        "What should we have done differently?",
        "Owns up to the noise, promises that nothing automatic will follow, and asks for one honest line in reply.",
    ),
)
_PROOFS = (
    (
        "Your last quarter, in one figure",
        "Shows a single number from their own account ({proof}) beside the quarter before. Says where it fell, and"
        " what usually brings it back.",
    ),
    (
        "How a team like yours managed to {outcome}",
        "Tells one short story from a company of their size: the problem, the change, the result, and how many hours"
        " it took. Ends with one figure from their own account: {proof}.",
    ),
    (
        "Three things you are paying for and not using",
        "Lists what their plan already holds that helps to {outcome}, with the time each takes to set up. Puts {proof}"
        " at the top.",
    ),
)
_CLOSINGS = (
    (
        "A fair way to stay, and an easy way to go",
        "Makes the offer below in two sentences, with its end date. A third says how to export everything and leave:"
        " that is the one that earns trust.",
    ),
    (
        "Keep it, pause it or close it",
        "Sets three choices side by side, with what each costs and what becomes of their data. The offer below is the"
        " first; no countdown, no second reminder.",
    ),
    (
        "Shall we get ready for {moment} together?",
        "Proposes one concrete task to finish together, names who will help, and attaches the offer below to it. Says"
        " that silence will be taken as a no.",
    ),
)
_STAGES = ("A question, no pitch", "Proof from their own account", "The offer, with a way out")


def three_mails(dice: random.Random, notes: Industry, event: EventMove, plan: PlanMove) -> str:
    """The section's text: how the event limits mail, then `### Email 1` to `### Email 3`."""
    actions = ("Reply with one line", "Look at the figure with us, 15 minutes", plan.ask)
    written = [event.mail_rule]
    for number, (stage, variants, action) in enumerate(
        zip(_STAGES, (_OPENINGS, _PROOFS, _CLOSINGS), actions, strict=True), start=1
    ):
        subject, body = dice.choice(variants)
        filled = {"moment": notes.moment, "outcome": notes.outcome, "proof": notes.proof}
        written.append(
            f"### Email {number}: {stage}\n\n"
            f"**Subject:** {subject.format(**filled)}\n\n"
            f"{body.format(**filled)}\n\n"
            f"**Call to action:** {action}."
        )
    return "\n\n".join(written)
