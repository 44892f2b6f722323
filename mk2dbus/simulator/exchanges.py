"""Which requests were waiting for their replies when: what shows that a client uses the slots, and how.

Seen from the client: a request is outstanding from when it was written until the last byte of its reply is
through. Letters are those of the commands; `x` `y` `z` count as `X` `Y` `Z`, `Q` is a query of type 0x21.
A request that will get no reply is never outstanding.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass

from .events import EventLog, Kind

WINMON_LETTERS = frozenset("WXYZ")
MOST_WINMON = 3
"""Winmon commands that may be outstanding at once (§3)."""
_ROUNDING_S = 1e-6
_MOST_OPEN = 32
"""Most outstanding requests that are followed."""


@dataclass(slots=True)
class Exchange:
    """One request and its reply.

    Attributes:
        letter: of the command.
        written: when the client wrote the request's last byte, s.
        through: when the last byte of the reply has left, s; infinite while it is due.
        beside: letters of what else was outstanding when it was written.
    """

    letter: str
    written: float
    beside: str
    through: float = math.inf

    def open_at(self, time: float) -> bool:
        return self.written <= time < self.through - _ROUNDING_S


class Exchanges:
    """All exchanges, the last ones one by one.

    Args:
        log: where breaches of the protocol go (:attr:`.events.Kind.VIOLATION`).
    """

    def __init__(self, log: EventLog, keep: int = 2000) -> None:
        self._log = log
        self._open: list[Exchange] = []
        self.kept: deque[Exchange] = deque(maxlen=keep)
        """The last exchanges, oldest first."""
        self.counts: Counter[str] = Counter()
        """Exchanges by letter."""
        self.most = 0
        """Most requests outstanding at once."""
        self.most_winmon = 0
        """Most winmon commands outstanding at once."""
        self.levels: Counter[int] = Counter()
        """How many requests were written when so many were outstanding, themselves included."""

    def begin(self, letter: str, written: float, now: float) -> Exchange:
        """A request arrived; notes what must not be outstanding together with it (§3)."""
        # A flood of requests must not make this slow: the oldest are forgotten.
        self._open = [one for one in self._open[-_MOST_OPEN:] if one.open_at(written)]
        beside = "".join(one.letter for one in self._open)
        winmon = sum(other in WINMON_LETTERS for other in beside)
        if letter in WINMON_LETTERS:
            winmon += 1
            self.most_winmon = max(self.most_winmon, winmon)
            if letter in beside:
                self._breach(now, "slot used again while outstanding", letter + beside)
            if winmon > MOST_WINMON:
                self._breach(now, "more than three winmon outstanding", letter + beside)
        elif letter == "F" and "F" in beside:
            self._breach(now, "two F outstanding", beside)
        elif letter == "S" and "F" in beside:
            self._breach(now, "S while an F is outstanding", beside)
        exchange = Exchange(letter, written, beside)
        self._open.append(exchange)
        self.kept.append(exchange)
        self.counts[letter] += 1
        self.most = max(self.most, len(self._open))
        self.levels[len(self._open)] += 1
        return exchange

    def end(self, letter: str, through: float) -> None:
        """The oldest outstanding request of that letter has its reply, or will never have one."""
        for exchange in self._open:
            if exchange.letter == letter and math.isinf(exchange.through):
                exchange.through = through
                return

    def end_all(self, now: float) -> None:
        """Nothing will be answered any more (no power, reset)."""
        for exchange in self._open:
            exchange.through = min(exchange.through, now)
        self._open.clear()

    def open_count(self, written: float) -> int:
        """How many of the requests followed now were outstanding when another was written."""
        return sum(one.open_at(written) for one in self._open)

    def outstanding_at(self, time: float) -> str:
        """Letters of what was outstanding at a time, as far as it is kept."""
        return "".join(one.letter for one in self.kept if one.open_at(time))

    def clear(self) -> None:
        """Forget the past; what is outstanding stays so."""
        self.kept.clear()
        self.counts.clear()
        self.levels.clear()
        self.most = self.most_winmon = 0

    def _breach(self, now: float, reason: str, letters: str) -> None:
        self._log.add(now, Kind.VIOLATION, reason, letters.encode())
