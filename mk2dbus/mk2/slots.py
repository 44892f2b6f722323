"""The slots X, Y, Z of winmon commands (§5): whose turn it is, and which rest.

A reply carries the letter of its slot and nothing else that tells which command it answers. So the letter
changes with every command, and one whose reply stayed out rests until that cannot come any more. When all
rest, winmon commands wait: a slow answer is better than the answer to another question.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mk2dbus.mk2.exchange import SLOTS, Exchange


class Slots:
    """Letters free, in turn, and at rest. Times are those of the event loop."""

    def __init__(self) -> None:
        self._next = 0
        self._rest_until: dict[int, float] = {}

    @property
    def resting(self) -> bool:
        """Whether any letter rests."""
        return bool(self._rest_until)

    def free(self, on_line: Iterable[Exchange]) -> list[int]:
        """Letters that may be used beside those on the line, the next in turn first."""
        taken = {exchange.letter for exchange in on_line} | self._rest_until.keys()
        turn = (*SLOTS[self._next :], *SLOTS[: self._next])
        return [letter for letter in turn if letter not in taken]

    def take(self, on_line: Iterable[Exchange]) -> int:
        """The letter for the next command; there must be a free one."""
        letter = self.free(on_line)[0]
        self._next = SLOTS.index(letter) + 1
        return letter

    def rest(self, letter: int, until: float) -> None:
        """A letter is not used until then."""
        self._rest_until[letter] = until

    def came(self, letter: int, until: float) -> None:
        """A frame came for a letter that rests: until then the rest of it."""
        if letter in self._rest_until:
            self._rest_until[letter] = min(self._rest_until[letter], until)

    def expire(self, now: float) -> None:
        """Those that have rested long enough are free."""
        if self._rest_until:
            self._rest_until = {letter: until for letter, until in self._rest_until.items() if now < until}

    def deadlines(self) -> Iterator[float]:
        """When letters are free again."""
        yield from self._rest_until.values()
