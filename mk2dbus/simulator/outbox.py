"""Frames that the adapter has to send later, and which commands wait for them."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from mk2dbus.mk2.framing import Frame


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A frame that leaves, and the letter of the command whose reply is complete with it, or empty."""

    frame: Frame
    answers: str = ""


@dataclass(slots=True)
class _Pending:
    """A frame that is due later; ``letter`` of the command it answers, or empty; ``last`` of its reply."""

    due: float
    order: int
    frame: Frame
    letter: str
    last: bool
    cancelled: bool = False

    def __lt__(self, other: _Pending) -> bool:
        return (self.due, self.order) < (other.due, other.order)


class Outbox:
    """Frames in the order in which they are due."""

    def __init__(self) -> None:
        self._queue: list[_Pending] = []
        self.waiting: Counter[str] = Counter()
        """Frames still due, by the letter of the command that they answer."""
        self.put_count = 0
        """Frames put in since the start."""

    @property
    def deadline(self) -> float | None:
        """When the next frame is due."""
        return self._queue[0].due if self._queue else None

    def put(self, due: float, frame: Frame, letter: str = "", last: bool = True) -> None:
        """A frame to be sent at a time; ``last``: with it the reply is complete."""
        self.put_count += 1
        heapq.heappush(self._queue, _Pending(due, self.put_count, frame, letter, last))
        if letter:
            self.waiting[letter] += 1

    def take(self, now: float) -> Iterator[Outgoing]:
        """Frames that are due by ``now``."""
        while self._queue and self._queue[0].due <= now:
            pending = heapq.heappop(self._queue)
            if not pending.cancelled:
                self._release(pending.letter)
                yield Outgoing(pending.frame, pending.letter if pending.last else "")

    def cancel(self, letter: str) -> list[Frame]:
        """Do not answer a command; the frames that will not be sent."""
        cancelled = [one for one in self._queue if one.letter == letter and not one.cancelled]
        for pending in cancelled:
            pending.cancelled = True
            self._release(letter)
        return [pending.frame for pending in cancelled]

    def clear(self) -> None:
        """Send nothing of all that."""
        self._queue.clear()
        self.waiting.clear()

    def _release(self, letter: str) -> None:
        """One frame less to wait for."""
        if letter:
            self.waiting[letter] -= 1
            if not self.waiting[letter]:
                del self.waiting[letter]
