"""What the simulated researcher advises for each event, plan and tenure; invented, like the industry notes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class EventMove:
    """Advice for one kind of event: how to read it, what it forbids, when and where to make contact."""

    phrase: str
    verdict: str
    reason: str
    tactic: str
    mail_rule: str
    first: str
    then: str
    sign: str


EVENTS = {
    "complained": EventMove(
        phrase="reported one of your mails as spam",
        verdict="Treat it as a lost channel and a damaged sender reputation, not yet as a lost account",
        reason="**The mail felt imposed.** A complaint is the quickest way out when the offered one did not work or was"
        " not trusted; it says more about frequency and targeting than about the product.",
        tactic="**Apologise by hand, once.** Teams whose account manager rang within two days, said what went wrong and"
        " asked for nothing kept clearly more of these accounts than silent ones did.",
        mail_rule="No automated mail may go to this address again. Use these as scripts for a call or an in-app note,"
        " and send them only if the customer asks for mail.",
        first="Suppress the address everywhere today. The account's owner rings within 24 to 48 hours; no second call"
        " in the same week.",
        then="Then one in-app note after ten days, and a check-in 30 days before renewal. Mail returns only on their"
        " written wish.",
        sign="an answered call or in-app note",
    ),
    "unsubscribed": EventMove(
        phrase="unsubscribed from your mail",
        verdict="The mail has lost them before the product has, and there are about two weeks to find out which",
        reason="**They were mailed as a segment.** Opting out is most often a verdict on relevance: messages built for"
        " every account, sent to one whose work had moved on.",
        tactic="**Offer less mail, not none.** Where the opt-out page gave a choice of a monthly digest or product"
        " notices alone, around a fifth of those leaving took it, and they renewed like any other account.",
        mail_rule="Marketing mail is over, and these three are no campaign: they come from a named person, one to one,"
        " where your terms allow contact about the service. Otherwise make them in-app notes.",
        first="First contact within 48 hours, by the account's owner in person: by phone or in-app where you can.",
        then="A second touch on day 5 and a third on day 12; then stop until something changes.",
        sign="a visit to the preference page, or a topic switched on again",
    ),
    "bounced": EventMove(
        phrase="has a mail address that bounced",
        verdict="Nobody decided to leave yet: the contact has probably changed jobs, and the account has no owner",
        reason="**Your contact is gone.** A hard bounce at a paying company usually means a departure or a merger, and"
        " the successor will meet the product first as a line on an invoice.",
        tactic="**Re-contact through a second door.** Billing contacts and other seats restored a named owner in over"
        " half of such cases, when tried in the first week.",
        mail_rule="The old address is dead, so do not retry it: repeated bounces cost sender reputation. Send these to"
        " the new contact, once found.",
        first="Find a second contact within two working days: other seats, the billing address, the company's front"
        " desk. Tell whoever is logged in that notices are not arriving.",
        then="Send the first mail on the day the new contact is known, the second five working days later, the third a"
        " week after that.",
        sign="a corrected address, or a new administrator",
    ),
}
OTHER_EVENT = EventMove(
    phrase="gave a churn signal",
    verdict="One signal is a reason to look, not yet a reason to discount",
    reason="**Attention drifted first.** Signals of this kind follow a fall in use by three to six weeks; the cause is"
    " usually older than the event.",
    tactic="**Ask before you offer.** A short call with one open question found the true cause more often than any"
    " survey, and cost less than any discount.",
    mail_rule="Send these one to one from a named person, and stop at the first reply.",
    first="First contact within two working days, by the account's owner.",
    then="A second touch on day 6 and a third on day 14; then wait for a change in use.",
    sign="a reply of any kind",
)
GRAVEST_FIRST = ("complained", "unsubscribed", "bounced")


@dataclass(frozen=True, slots=True)
class PlanMove:
    """Advice for one plan: the lead offer, a fallback, the condition, and what a concession costs.

    `months` is the dearest concession in months of revenue, None where there is no price to cut; out of as many
    accounts as `one_in` says, one that stays a year pays for it.
    """

    lead: str
    fallback: str
    condition: str
    months: Decimal | None
    one_in: str
    ask: str


PLANS = {
    "pro": PlanMove(
        lead="20 % off for three months, given when they book a 30-minute set-up session",
        fallback="a pause of up to two months that keeps their data and settings",
        condition="Once a year per account, never by mass mail, and withdrawn after 14 days.",
        months=Decimal("0.6"),
        one_in="one account in twenty",
        ask="Book 30 minutes, keep three months at a fifth less",
    ),
    "business": PlanMove(
        lead="right-size the seats first, then 10 % off a yearly commitment on what is left",
        fallback="a quarterly review with a named specialist at the present price",
        condition="Tie it to a second active team within 60 days, and put an end date on it.",
        months=Decimal("1.2"),
        one_in="one account in ten",
        ask="See a seat plan that fits, before the next invoice",
    ),
    "enterprise": PlanMove(
        lead="no discount in the opening: a review between sponsors, and a 90-day plan with one agreed measure",
        fallback="two months' credit at renewal, against a 24-month term",
        condition="Have legal and security answers ready beforehand; a concession without them reads as doubt.",
        months=Decimal(2),
        one_in="one account in six",
        ask="Forty minutes between your sponsor and ours",
    ),
    "starter": PlanMove(
        lead="one month free when a first result is reached, not before",
        fallback="a step down to the free plan with everything kept for a year",
        condition="Give it a few minutes of a person's time at most: an hour costs more than the account brings in.",
        months=Decimal(1),
        one_in="one account in twelve",
        ask="Finish one thing this week, and the month is on us",
    ),
    "free": PlanMove(
        lead="nothing to discount: a 14-day look at the one paid feature their use points to",
        fallback="a quiet monthly digest in place of the present mails",
        condition="Spend little of a person's time here, unless use suggests a larger company behind it.",
        months=None,
        one_in="",
        ask="Try one paid feature for two weeks",
    ),
}
OTHER_PLAN = PlanMove(
    lead="a service offer before a price offer: a set-up session with a specialist",
    fallback="a pause of one or two months that keeps everything",
    condition="Limit it to one concession a year, with an end date in writing.",
    months=None,
    one_in="",
    ask="Half an hour with someone who can mend it",
)


def tenure_reason(days: int | None) -> str:
    """The reason that an account's age suggests."""
    if days is None:
        return (
            "**Tenure is unknown.** We assume an account past its first renewal; check this first, since a newcomer"
            " leaves over set-up and an old hand over price or neglect."
        )
    if days < 90:
        return (
            f"**{days} days in, still arriving.** Losses this early are nearly always about set-up: the first result"
            " did not come before the first bill."
        )
    if days < 365:
        return (
            f"**{days} days in, short of the first renewal.** The enthusiasm of the purchase is used up, and the yearly"
            " question of what it brought has no ready answer."
        )
    return (
        f"**{days} days in, taken for granted.** Long-standing accounts seldom leave over a fault; they leave because"
        " nobody has shown them anything new for a year."
    )
