"""What there is to join for some customers, read inside the transaction that then lets their signals join it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.briefs import kinds_of_briefs, recent_briefs
from churn_radar.store.joined import kinds_told, leaders_under_way
from churn_radar.store.tables import Status
from churn_radar.work.joining import Joining, JoinRule, RecentBrief


async def joinable(
    connection: AsyncConnection, customer_seqs: Collection[int], rule: JoinRule, now: datetime
) -> Joining:
    """The leaders under way and the briefs from within the cool-down."""
    if not customer_seqs or not rule.cool_down:
        return Joining(rule)
    leaders = await leaders_under_way(connection, customer_seqs)
    recent = await recent_briefs(connection, customer_seqs, since=now - rule.cool_down)
    kinds: dict[int, set[str]] = {}
    told: dict[int, set[str]] = {}
    if rule.stronger_anew:
        kinds = await kinds_of_briefs(connection, [seq for seq, _ in recent.values()])
        asked = [leader.seq for leader in leaders if leader.status is Status.RESEARCHING]
        told = await kinds_told(connection, asked) if asked else {}
    return Joining(
        rule,
        leaders=leaders,
        briefs={customer: RecentBrief(seq, kinds.get(seq, set()) | {kind}) for customer, (seq, kind) in recent.items()},
        told=told,
    )
