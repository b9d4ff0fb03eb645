"""When a brief may build on the research of an earlier one, and what it then says of itself. Pure.

Mavera documents that a follow-up in a thread costs 30 to 50 % less than a new question. Two customers of one persona,
on one plan, after one kind of event need nearly the same research, so the second is asked about in the first one's
thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from churn_radar.errors import GiveUp

# A thread grows with each follow-up (some 700 words of brief), and Mave reads all of it. Nothing is documented of how
# long one may become; twenty briefs are some 20,000 words, which today's models hold with room to spare.
MOST_FOLLOW_UPS = 20


@dataclass(frozen=True, slots=True)
class Opening:
    """A brief that opened a thread: the brief's public id, and Mavera's id of the thread."""

    brief_id: str
    thread_id: str


def thread_is_lost(error: GiveUp) -> bool:
    """Whether a refused follow-up may be the thread's fault, so that a new question is worth asking.

    Documented for a thread that Mavera does not know is 404. Any other answer that refuses the request as such (400
    with the field's name, 403 for a thread of another workspace) counts too: a thread that cannot be continued is of no
    more use for another reason, and when the message itself was at fault the new question is refused as well, for free.
    """
    return error.status is not None


def reuse_note(opening: Opening) -> str:
    """What a reader should know of a brief that continues a thread."""
    return (
        f"Builds on the research of brief {opening.brief_id} (same persona, plan and kind of event), whose Mavera"
        " thread it continues; sources may be those of that brief"
    )
