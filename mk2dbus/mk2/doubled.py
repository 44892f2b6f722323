"""Replies that come twice: which answers they make doubtful.

The second copy of a reply comes when the slot may belong to the next command already and answers that one,
whose own reply answers the one after it, and so on. It shows when a reply comes that nobody waits for, or
that does not fit: then what this slot answered may have been the answers to the questions before, as far back
as each reply would fit.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mk2dbus.mk2.exchange import Exchange
from mk2dbus.mk2.request import Winmon

log = logging.getLogger(__name__)

DOUBT_S = 1.0
"""So long after an answer another reply to the same command may come."""

KEPT_ANSWERS = 64
"""Answers remembered for that, for each slot."""

WATCHED_S = 60.0
"""How long after a reply came twice others are expected to."""


@dataclass(slots=True)
class _Answered:
    """A winmon command and what answered it."""

    request: Winmon[Any]
    address: int | None
    parts: list[bytes]
    sent_at: float
    at: float


class DoubledReplies:
    """Remembers the latest answers of each slot. Times are those of the event loop."""

    def __init__(self) -> None:
        self._answered: dict[int, deque[_Answered]] = {}
        self._expected_until = -math.inf

    def expected(self, now: float) -> bool:
        """Whether replies came twice lately."""
        return now < self._expected_until

    def answered(self, exchange: Exchange, now: float) -> None:
        """A winmon command had its answer."""
        assert isinstance(exchange.request, Winmon)
        latest = self._answered.setdefault(exchange.letter, deque(maxlen=KEPT_ANSWERS))
        latest.append(_Answered(exchange.request, exchange.address, exchange.parts, exchange.sent_at, now))

    def unanswered(self, letter: int) -> None:
        """A reply stayed out: one too many would have come instead. The next that comes is a late one."""
        self._answered.pop(letter, None)

    def unexpected(self, letter: int, payload: bytes, now: float) -> list[tuple[Winmon[Any], int]]:
        """A reply came in a slot where none was due, or another.

        Returns:
            The commands whose answers are in doubt, and where they went.
        """
        answered = self._answered.pop(letter, deque())
        if not answered or now > answered[-1].at + DOUBT_S or not answered[-1].request.is_reply(payload):
            return []
        doubtful = list(_one_too_far(answered, payload, now))
        if not self.expected(now):
            # It may have happened in the other slots unseen: the next command can take the place of a reply
            # that is still to come.
            for latest in self._answered.values():
                doubtful += [one for one in latest if now <= one.at + DOUBT_S]
            self._answered.clear()
        self._expected_until = now + WATCHED_S
        for one in doubtful:
            log.debug("a reply too many in slot %c: is %s answered rightly?", letter, one.request)
        return [(one.request, one.address) for one in doubtful if one.address is not None]


def _one_too_far(answered: deque[_Answered], payload: bytes, now: float) -> Iterator[_Answered]:
    """What got the reply to the command before it, if the replies are one too far on: then the last command
    has its own only now, and what answered it is that of the command before."""
    reply, before = [payload], now
    for one in reversed(answered):
        if before > one.at + DOUBT_S or not one.request.is_reply(reply[0]):
            return
        if one.parts != reply:
            yield one
        reply, before = one.parts, one.sent_at
