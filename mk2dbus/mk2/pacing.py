"""When bytes leave and replies come, by reckoning; so that whoever waits for an answer finds a line that is
busy and not blocked.

Requests of telemetry and background are sent just in time: when the replies still due last no longer than it
takes until theirs can begin. The line stays as full as it would with more of them under way, and what a
client asks waits for little. Reckoned from the speed of the line (§1) and the sizes that requests declare.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mk2dbus.mk2.exchange import Exchange

BITS_PER_BYTE = 10
"""Start bit, eight data bits, stop bit."""

LATENCY_S = 0.02
"""What an inverter takes to answer: 10 to 30 ms (§1)."""

SLACK_S = 0.03
"""How much longer it may take, the way through USB included, before the line runs empty."""

BACKLOG_S = 0.04
"""How much may be unsent when another request is added that nobody waits for."""

SLOT_S = 0.05
"""How soon another slot must be free again when the last one is taken by what nobody waits for."""

OVERDUE_S = 0.1
"""A reply so much later than reckoned is not reckoned with any more."""


class Pacing:
    """Reckons for a line with a speed in baud; 0: unpaced."""

    def __init__(self, baudrate: int) -> None:
        self.byte_s = BITS_PER_BYTE / baudrate if baudrate else 0.0
        self._free_at = 0.0

    def written(self, size: int, now: float) -> float:
        """So many bytes were written; when the last of them has left."""
        self._free_at = max(self._free_at, now) + size * self.byte_s
        return self._free_at

    def all_left(self, now: float) -> None:
        """All that was sent is answered, so it has left, however fast the line really is."""
        self._free_at = min(self._free_at, now)

    def replies_through(self, due: Iterable[Exchange], now: float, begun: int = 0) -> float:
        """When the replies due are all through, those apart that are overdue.

        Args:
            due: exchanges on the line in the order in which they were sent.
            begun: bytes of the next reply that are here.
        """
        at = now - begun * self.byte_s
        for exchange in due:
            if exchange.request.has_reply and not overdue(exchange, now):
                at = max(at, exchange.left_at + LATENCY_S) + exchange.request.reply_bytes * self.byte_s
        return max(at, now)

    def slot_soon(self, due: Sequence[Exchange], now: float, begun: int = 0) -> float:
        """When the first slot in use is :data:`SLOT_S` from being free again; arguments as above."""
        for index, exchange in enumerate(due):
            if exchange.letter and not overdue(exchange, now):
                return self.replies_through(due[: index + 1], now, begun) - SLOT_S
        return now

    def earliest(self, exchange: Exchange, through: float, hurry: bool) -> float:
        """When an exchange may be sent that nobody waits for.

        Args:
            through: see :meth:`replies_through`.
            hurry: somebody who is waited for cannot be served yet, and shall find all bytes sent.
        """
        asking = exchange.request.request_bytes * self.byte_s
        begin = through - asking - LATENCY_S - SLACK_S
        room = self._free_at - (0.0 if hurry else BACKLOG_S)
        # What is unsent goes first in any case: then this one is not early.
        return room if begin <= self._free_at else max(begin, room)


def overdue(exchange: Exchange, now: float) -> bool:
    """Whether a reply is so late that it may never come."""
    return now > exchange.expected_at + OVERDUE_S
