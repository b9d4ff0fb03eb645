"""What the simulated researcher knows of each industry: invented findings, worded as a real brief words them.

The companies in the examples are made up and unnamed on purpose, and so is every figure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Industry:
    """One industry's notes: three reasons, tactics and signals each, of which a brief takes one to three.

    `moment` is what their calendar turns on, `outcome` what they pay for ("to ..."), `proof` a figure that shows it,
    `quiet` when to leave them alone, `reading` the title of a report about them.
    """

    moment: str
    outcome: str
    proof: str
    quiet: str
    reasons: tuple[str, str, str]
    tactics: tuple[str, str, str]
    signals: tuple[str, str, str]
    reading: str


FINTECH = Industry(
    moment="month-end",
    outcome="close the month two days sooner",
    proof="open items cleared last quarter",
    quiet="Stay away from the first five working days of a month and from quarter-end: finance reads no mail then.",
    reasons=(
        "**One discrepancy nobody explained.** Finance and risk leads forgive a missing feature, but not a number they"
        " could not reconcile; they stop reading first and stop paying at renewal.",
        "**A connection left half done.** Accounts that linked the ledger but never the bank feed do half the work by"
        " hand, and so see half of what they pay for.",
        "**A new entry on the compliance list.** An audit or a licence brings a procurement list, and a tool without"
        " the right report is replaced without a complaint.",
    ),
    tactics=(
        "**Open-items session.** A 60-person lending platform had a specialist clear one month's open items with each"
        " quiet account: 14 of 22 renewed, most of them within the same cycle.",
        "**Compliance pack before it is asked for.** A payroll start-up sent its control report and data map ahead of"
        " audit season; security reviews that ended in a loss fell by about a third.",
        "**Finish the bank feed for them.** A card issuer offered a 45-minute set-up with its own engineer; accounts"
        " with every feed live churned at less than half the rate of the others.",
    ),
    signals=(
        "a bank feed reconnected",
        "an audit export, or the control report downloaded",
        "a second approver invited",
    ),
    reading="Vendor trust in finance teams",
)

ECOMMERCE = Industry(
    moment="the next sales peak",
    outcome="sell to the customers they already have",
    proof="repeat orders that came through their own flows",
    quiet="Leave the four weeks before a sales peak alone unless something is broken; two weeks after it is best.",
    reasons=(
        "**The season ended.** Shops buy for a peak and cut tools in the quiet month after it, starting with whatever"
        " did not show up in the order report.",
        "**A store move broke the catalogue.** After a new theme or platform the product feed drifts, the automations"
        " misfire, and the shop blames the tool.",
        "**Margins shrank.** When advertising costs rise, a monthly fee without a revenue figure beside it is the"
        " easiest line to strike.",
    ),
    tactics=(
        "**Revenue beside the invoice.** A 12-person homeware shop's supplier put attributed orders on every bill;"
        " voluntary churn among shops of that size went from 4.1 to 2.8 % a month.",
        "**Catalogue check after a re-launch.** An apparel platform re-synced feeds for every shop that changed its"
        " theme and wrote to say what it had mended: 6 in 10 lapsed shops sent a campaign again.",
        "**An off-season tier.** A gift retailer's tool let shops drop to a storage-only month; most of those who"
        " paused came back before the next peak.",
    ),
    signals=(
        "a product feed synced again",
        "a draft campaign, even one that is not sent",
        "a look at the order report",
    ),
    reading="Tool spending in small online shops",
)

HEALTHCARE = Industry(
    moment="the next rota",
    outcome="keep the appointment book full and the paperwork safe",
    proof="appointments confirmed without a phone call",
    quiet="Avoid Monday mornings and the first week of a billing period; clinics read mail between 12:30 and 14:00.",
    reasons=(
        "**The champion changed wards.** Practice managers move on, and the successor inherits a login but not the"
        " reason for having it.",
        "**Privacy came first.** A data-protection review stops all mail that is not clinical, and the product goes"
        " quiet together with the newsletter.",
        "**Work happens elsewhere.** When the records system cannot be written to, staff type everything twice, and"
        " whichever system came second loses.",
    ),
    tactics=(
        "**Hand-over call for a new manager.** A network of nine clinics was called within ten days of each staff"
        " change; seven of nine extended for two years.",
        "**Privacy review, done for them.** A scheduling vendor sent a filled-in assessment with its renewal; reviews"
        " that took eleven weeks were done in four.",
        "**Show the no-shows.** A physiotherapy group got one number a week, the appointments saved, and none of its"
        " sites cancelled in the following year.",
    ),
    signals=("a new manager's first login", "reminder templates edited", "a records integration tested again"),
    reading="Software renewal in outpatient care",
)

EDUCATION = Industry(
    moment="the start of term",
    outcome="get a course running before term begins",
    proof="learners who finished a module this term",
    quiet="Exam weeks and the last week of term are lost; decisions fall in the last six weeks of a budget year.",
    reasons=(
        "**The calendar decides.** Use falls to nothing between terms, and a renewal that lands in the gap is judged on"
        " the emptiest month of the year.",
        "**One teacher carried it.** A single enthusiast ran every course; when they change school, the account has"
        " nobody left to miss it.",
        "**The budget line ran out.** It was paid from a project, and no department has taken it into its own budget.",
    ),
    tactics=(
        "**Move the renewal into term.** A language school's vendor shifted 40 contracts to week six; renewals rose"
        " from 71 to 84 %.",
        "**Recruit a second teacher.** A tutoring platform gave a free seat to a colleague of each sole user;"
        " accounts with two active teachers churned about half as often.",
        "**Write the budget note.** A regional college was sent a one-page case with completion figures, ready to"
        " forward, and moved the tool from project money to its own.",
    ),
    signals=("next term's course copied", "a colleague added to a class", "a completion report exported"),
    reading="Renewals and the academic year",
)

LOGISTICS = Industry(
    moment="the Monday dispatch",
    outcome="see late loads before the customer does",
    proof="delays flagged before the customer called",
    quiet="Dispatchers read nothing before 10:00; Tuesday to Thursday after lunch works, peak season does not.",
    reasons=(
        "**The carriers stopped reporting.** When two or three carriers drop their status feed, the map is wrong, and"
        " dispatch goes back to the phone.",
        "**The office bought it, the yard uses it.** The people who pay get mail about features, and the people who"
        " could tell them its worth get none.",
        "**Volumes fell.** Per-shipment prices are weighed again each time freight rates drop.",
    ),
    tactics=(
        "**Carrier feed repair.** A 200-truck haulier's provider rang the silent carriers itself; coverage went from"
        " 61 to 93 %, and the cancellation was withdrawn.",
        "**A number for the yard.** A cold-chain operator pinned the weekly count of delays caught to the dispatch"
        " board; daily use doubled in a month.",
        "**Volume bands.** A parcel broker moved shrinking accounts to a band with a floor in place of losing them:"
        " 8 of 11 grew back within the year.",
    ),
    signals=("a carrier feed back online", "alerts switched on for a new lane", "dispatcher logins before 07:00"),
    reading="Visibility tools at mid-size hauliers",
)

REAL_ESTATE = Industry(
    moment="the next listing",
    outcome="turn an enquiry into a viewing",
    proof="viewings booked from old enquiries",
    quiet="Weekends belong to viewings; Tuesday morning is when agency owners look at costs.",
    reasons=(
        "**Listings dried up.** With fewer homes on the market, a tool priced per listing looks dear exactly when cash"
        " is short.",
        "**Agents left and took the habit along.** Two people used it daily; their successors work from the phone.",
        "**Leads look cold.** Enquiries answered after a day are dead, and the tool that delivered them is blamed for"
        " their quality.",
    ),
    tactics=(
        "**Revive the old enquiries.** A four-office agency was given a list of 300 contacts silent for 90 days; it"
        " booked 26 viewings and kept its contract.",
        "**Answer-time report.** A lettings group saw its reply time beside its neighbours', cut it from nine hours to"
        " two, and took more seats.",
        "**Price by agent.** A portal moved small agencies from listings to seats for the winter, and lost one in"
        " twenty where it had lost one in eight.",
    ),
    signals=("a new listing imported", "an enquiry answered within the hour", "a newly hired agent invited"),
    reading="Agency software in a slow market",
)

GAMING = Industry(
    moment="the next content drop",
    outcome="bring players back for a season",
    proof="lapsed players who came back for the last drop",
    quiet="Studios go silent three weeks before a release; the fortnight after one is when they look at figures again.",
    reasons=(
        "**The title is winding down.** Live operations lose people first, and their tools go with them.",
        "**Alert fatigue.** A team that gets a message for every dip ends up reading none, and cannot tell which mail"
        " was worth the licence.",
        "**They built it themselves.** An engineer made a small version in a quiet month, and it seems good enough"
        " until the next launch.",
    ),
    tactics=(
        "**Launch desk.** A 25-person studio got a named engineer for its release weekend; it renewed before the week"
        " was out.",
        "**One digest a week.** A mobile publisher swapped eleven alerts for a Monday digest: opens went from 9 to"
        " 41 %, and two of three opt-outs were reversed.",
        "**Cost of their own build.** An arcade developer compared its home-made version with the bill over a year and"
        " chose to keep paying.",
    ),
    signals=("a test event from a new build", "a season or cohort defined", "the alert rules edited"),
    reading="Live-operations tooling in small studios",
)

MEDIA = Industry(
    moment="the next subscriber drive",
    outcome="turn casual readers into paying ones",
    proof="readers who converted after a second visit",
    quiet="Newsrooms are unreachable in election and budget weeks; late Thursday, after the planning meeting, is best.",
    reasons=(
        "**Registration stopped growing.** When traffic falls, the tool that converts it looks as if it had stopped"
        " working.",
        "**The editor and the marketer disagree.** A newsroom that dislikes its own pop-ups will see them removed, and"
        " the contract after them.",
        "**Too many newsletters about newsletters.** They send mail for a living, and are quick to cut what they would"
        " not send themselves.",
    ),
    tactics=(
        "**Second-visit play.** A regional daily asked for the address on visit two in place of visit one; sign-ups"
        " rose by a fifth, and the pop-up dispute ended.",
        "**Editor's dashboard.** A magazine group gave desk heads one figure they cared about, finished reads;"
        " usage spread from two desks to nine.",
        "**A plan that follows traffic.** A podcast network moved to a price by active readers, and stayed through a"
        " bad winter.",
    ),
    signals=("a paywall or form test started", "a newsroom user's first login", "audience segments exported"),
    reading="Reader revenue tools",
)

MANUFACTURING = Industry(
    moment="the shift hand-over",
    outcome="keep a line running",
    proof="unplanned stops avoided this quarter",
    quiet="Plants close for two weeks in summer and at year-end; capital decisions are made in September and October.",
    reasons=(
        "**The pilot never left line one.** A tool that one line uses is a hobby to the plant manager, whatever it"
        " saved there.",
        "**The sensors went quiet.** After a firmware or network change the data stopped, and nobody on the floor owns"
        " the ticket.",
        "**It is bought by site and judged by group.** Headquarters compares licences across plants and cancels the"
        " smallest.",
    ),
    tactics=(
        "**Second-line roll-out.** A gearbox maker's supplier spent two days on site to connect the next line; the"
        " three-year contract followed.",
        "**Silent-sensor watch.** A packaging plant got a call within a day of data loss; gaps fell from nine days to"
        " one, and the doubts with them.",
        "**A figure for headquarters.** A pump manufacturer reported avoided stops in money for each plant, and the"
        " group bought centrally.",
    ),
    signals=("data from a machine that was silent", "a maintenance rule changed", "a user added at another plant"),
    reading="From pilot to plant-wide use",
)

HOSPITALITY = Industry(
    moment="the next holiday weekend",
    outcome="fill rooms without paying commission",
    proof="direct bookings from returning guests",
    quiet="Do not call between Friday noon and Monday noon, or in high season; the shoulder months are for decisions.",
    reasons=(
        "**High season hid the problem.** Full houses need no tool; in the first empty month everything is questioned.",
        "**The front desk turned over.** New staff use what they are shown in the first week, and nobody showed them.",
        "**Commission is felt, software is not.** They know what the portals cost, but not what direct bookings saved.",
    ),
    tactics=(
        "**Commission saved, monthly.** A group of six inns got one line a month, the commission it had not paid, and"
        " stopped asking for a discount.",
        "**First-week training by video.** A lakeside hotel's vendor made three two-minute clips for new staff; use"
        " after a change of team held at 80 %.",
        "**Winter at a lower rate.** A mountain lodge paid a third in its closed months and signed for two years.",
    ),
    signals=("rates loaded for next season", "a front-desk login from a new user", "a guest list exported"),
    reading="Direct booking at independent hotels",
)

LEGAL = Industry(
    moment="the billing run",
    outcome="bill the hours they worked",
    proof="hours recovered from drafts",
    quiet="The last three days of a month are for time sheets; partners answer early, before 08:30.",
    reasons=(
        "**Partners decide, associates use.** The people who would miss it are not asked, and the partner sees a fee.",
        "**Confidentiality doubts.** One client's outside-counsel rules can end a tool that the whole firm liked.",
        "**A matter closed.** It was bought for one large case, and nobody said what else it is good for.",
    ),
    tactics=(
        "**Hours recovered.** A 14-lawyer firm got a partner-ready note of unbilled time that the tool had found, and"
        " paid for the year out of one month.",
        "**Client-rules answer sheet.** A litigation boutique was given ready answers to client security questions;"
        " no client has raised it since.",
        "**Matter close-out call.** A vendor rang each time a large matter closed and moved the templates to the next"
        " one: 9 of 13 firms stayed.",
    ),
    signals=("a new matter opened", "a template reused", "a billing export before month-end"),
    reading="Practice tools and partner decisions",
)

TRAVEL = Industry(
    moment="the booking window",
    outcome="sell the second trip",
    proof="second trips booked by earlier guests",
    quiet="January and the weeks before the summer holidays are for selling; call in the lull after.",
    reasons=(
        "**Booking windows shortened.** Campaigns planned months ahead miss travellers who now decide in two weeks.",
        "**The guides know, the system does not.** Guest notes stay on paper, so the mails read like anybody's.",
        "**A poor season.** After cancellations, every tool that is not the booking engine is on the list.",
    ),
    tactics=(
        "**Two-week calendar.** A walking-holiday operator re-timed its mails to the shorter window; bookings from past"
        " guests rose by 18 %.",
        "**Guide notes in the profile.** A small-group tour company had guides record one preference per guest; replies"
        " to its mails tripled.",
        "**Pay by departure.** A sailing school moved to a price per departure after a bad summer, and was back on the"
        " annual plan in spring.",
    ),
    signals=("next season's departures loaded", "a past-guest segment built", "a booking form edited"),
    reading="Repeat business in small-group travel",
)

GENERAL = Industry(
    moment="the next planning round",
    outcome="get the result they bought the product for",
    proof="results reached since sign-up",
    quiet="Avoid the first and last two days of a month; Tuesday to Thursday mornings are answered soonest.",
    reasons=(
        "**The first result came too late, or never.** Accounts that reach no result in their first weeks decide then,"
        " even when they cancel much later.",
        "**The person who bought it has left.** What remains is a login, an invoice, and nobody who could say why.",
        "**Mail without use.** They are told about features they do not have and reminded of work they have done.",
    ),
    tactics=(
        "**Reach one result together.** A 30-person services firm was guided to a single finished task on a call; of"
        " 40 accounts treated so, 27 were active 90 days later.",
        "**Find a second user.** A scheduling tool asked each sole user to name a colleague; accounts with two users"
        " churned about half as often.",
        "**A yearly account of value.** A field-service vendor sent one page on what had been achieved, 60 days before"
        " renewal, and discussed price in a third fewer cases.",
    ),
    signals=("a login after a gap of two weeks", "a colleague invited", "a report exported or a setting changed"),
    reading="What precedes cancellation in subscription software",
)

_BY_NAME = {
    "fintech": FINTECH,
    "finance": FINTECH,
    "banking": FINTECH,
    "ecommerce": ECOMMERCE,
    "retail": ECOMMERCE,
    "healthcare": HEALTHCARE,
    "health": HEALTHCARE,
    "education": EDUCATION,
    "edtech": EDUCATION,
    "logistics": LOGISTICS,
    "realestate": REAL_ESTATE,
    "gaming": GAMING,
    "games": GAMING,
    "media": MEDIA,
    "publishing": MEDIA,
    "manufacturing": MANUFACTURING,
    "hospitality": HOSPITALITY,
    "legal": LEGAL,
    "travel": TRAVEL,
}


def industry_notes(name: str | None) -> Industry:
    """The notes for an industry, however it is spelled (`E-Commerce`, `real estate`); general ones for any other."""
    return _BY_NAME.get(re.sub(r"[^a-z]", "", (name or "").lower()), GENERAL)
