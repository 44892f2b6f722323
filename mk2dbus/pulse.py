"""Whether the tasks that live as long as the service get on: each says when it will be heard of again."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

Beat = Callable[[float], None]
"""Says "I get on, and you hear of me again within so many seconds"."""


def no_beat(within_s: float) -> None:
    """For a task that nobody watches."""


class Pulse:
    """Keeps the promises of tasks. One that waits for something that may never come (a port, a bus, an
    inverter) wakes up now and then and promises anew; so what is missing is no hang."""

    MARGIN_S = 5.0
    """A busy machine is no hang either."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}

    def part(self, name: str) -> Beat:
        """The beat of a task. It is watched from its first beat on."""

        def beat(within_s: float) -> None:
            self._due[name] = self._clock() + within_s + self.MARGIN_S

        return beat

    def late(self) -> list[str]:
        """Names of the tasks that did not keep their promise."""
        now = self._clock()
        return [name for name, due in self._due.items() if now > due]
