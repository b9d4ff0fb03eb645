"""One bound for the bodies that are still coming in: nobody has proved to be the sender before the last byte is there.

The limit on a body alone would be no bound: a thousand senders that each hold back their last byte hold a thousand
bodies. What comes in one piece, as nearly every event does, is never counted.
"""

from __future__ import annotations

# An event has one or two thousand bytes, and its connection costs as much again: below this nobody is turned away,
# however many large bodies are under way.
UNCOUNTED_BYTES = 8 * 1024


class NoRoom(Exception):
    """Too much is under way for this body to grow."""


class Room:
    """Bytes of unfinished bodies, over all requests of one event loop; at most `most_bytes`."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.taken = 0

    def grow(self, taken: int, size: int) -> int:
        """Make room for a body that has grown to `size` bytes, `taken` of which are counted; returns how many now are.

        Raises NoRoom, with nothing more counted.
        """
        if size <= UNCOUNTED_BYTES:
            return taken
        if self.taken + size - taken > self.most_bytes:
            raise NoRoom
        self.taken += size - taken
        return size

    def leave(self, taken: int) -> None:
        """Give back what was counted for a body."""
        self.taken -= taken
