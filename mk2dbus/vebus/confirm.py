"""What is believed on a noisy line. Eight bits of checksum let one damaged frame of a hundred or two through;
bounds (:mod:`.plausible`) stop only what cannot be at all.

As long as no frame was damaged lately, whatever comes is believed at once. Otherwise what stays the same must
be said twice in a row, and what is measured must be near one of the readings before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from mk2dbus.items import Value
from mk2dbus.mk2 import errors
from mk2dbus.mk2.link import Link
from mk2dbus.vebus.readings import Values

T = TypeVar("T")

MOST_TIMES = 5
"""How often something is asked until two answers in a row are the same."""

_KEPT = 3
"""Readings that the next one is compared with."""
_SHARE = 0.05
"""Readings that differ by less than this are near."""
_NEAR = {"V": 2.0, "I": 1.0, "P": 50.0, "S": 50.0, "F": 0.5, "Voltage": 0.5, "Current": 5.0, "Power": 50.0}
"""And those that differ by less than this, by the last part of their path."""


async def confirmed(link: Link, ask: Callable[[], Awaitable[T]], known: T | None = None) -> T:
    """An answer that seldom changes; on a noisy line one that was given twice in a row.

    Args:
        ask: makes the request.
        known: what was answered before, if anything.

    Raises:
        NotSupported: as an answer like others. Else what ``ask`` raises; NoReply when no two answers agree.
    """
    before: T | errors.NotSupported | None = known
    for _ in range(MOST_TIMES):
        answer: T | errors.NotSupported
        try:
            answer = await ask()
        except errors.NotSupported as refused:
            answer = refused
        if not link.noisy or _same(answer, before):
            if isinstance(answer, errors.NotSupported):
                raise answer
            return answer
        before = answer
    raise errors.NoReply(f"on a noisy line no two of {MOST_TIMES} answers were the same")


def _same(one: object, other: object) -> bool:
    if isinstance(one, errors.NotSupported) and isinstance(other, errors.NotSupported):
        return one.position == other.position
    return one == other


class Readings:
    """The last readings of one poll."""

    def __init__(self) -> None:
        self._past: deque[Values] = deque(maxlen=_KEPT)

    def add(self, values: Values) -> None:
        """Keep one."""
        self._past.append(values)

    def support(self, values: Values) -> bool:
        """Whether another one may be believed on a noisy line."""
        past = tuple(self._past)
        return all(
            _fits(path, value, [reading[path] for reading in past if path in reading])
            for path, value in values.items()
        )


def _fits(path: str, value: Value, past: Sequence[Value]) -> bool:
    if any(_near(path, value, one) for one in past):
        return True
    # What is another value each time cannot be confirmed by the next.
    jumps = not any(_near(path, one, other) for index, one in enumerate(past) for other in past[index + 1 :])
    return len(past) == _KEPT and jumps and isinstance(value, float)


def _near(path: str, one: Value, other: Value) -> bool:
    if not (isinstance(one, float) and isinstance(other, float)):
        return one == other
    far = max(_NEAR.get(path.rpartition("/")[2], 0.0), _SHARE * max(abs(one), abs(other)))
    return abs(one - other) <= far
