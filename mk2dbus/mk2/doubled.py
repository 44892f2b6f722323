"""Replies that come twice: which answers they make doubtful.

The second copy of a reply comes when the slot may belong to the next command already and answers that one,
whose own reply answers the one after it, and so on. It shows when a reply comes that nobody waits for: then
all that this slot answered lately may have been the answer to another question.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from dataclasses import dataclass
from typing import Any

from mk2dbus.mk2.exchange import Exchange
from mk2dbus.mk2.request import Winmon

log = logging.getLogger(__name__)

DOUBT_S = 1.0
"""So long after an answer another reply in its slot makes it doubtful."""

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
        latest.append(_Answered(exchange.request, exchange.address, exchange.parts, now))

    def unexpected(self, letter: int, payload: bytes, now: float) -> list[tuple[Winmon[Any], int]]:
        """A reply came in a slot where none was due; the commands, and where they went, that are in doubt."""
        answered = [one for one in self._answered.pop(letter, ()) if now <= one.at + DOUBT_S]
        if not answered or not answered[-1].request.is_reply(payload):
            return []
        self._expected_until = now + WATCHED_S
        if answered[-1].parts == [payload]:
            return []
        for one in answered:
            log.debug("a reply too many in slot %c: is %s answered rightly?", letter, one.request)
        return [(one.request, one.address) for one in answered if one.address is not None]
