"""Energy counters that roll over: what their differences are, and which of them to believe (§4.3).

A difference is counted at once when it can be energy. A jump that no known device makes in the time that has
passed may be a damaged reply, or counters that began anew: it waits for the next reading, and is left out
unless that follows from it. Counters that are near 0 then began anew, and those of a device that was away;
else the jump is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STEP_J = 65536
"""Energy of one step of a counter."""
J_PER_KWH = 3_600_000

FASTEST_STEPS_PER_S = 0.5
"""No VE.Bus unit passes on more than this, 32.8 kW: the largest transfer switch is one of 100 A."""
SPARE_STEPS = 16
"""What is believed beyond that, so that nothing true is left out: a device may count in lumps."""


class Jump(Exception):
    """Counters that cannot follow from those read before."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A time that compares with others of the same epoch only.

    Attributes:
        epoch: the run of a clock that it was read from, e.g. of the machine since it was switched on.
        seconds: since the epoch began.
    """

    epoch: str
    seconds: float

    def until(self, later: Moment) -> float | None:
        """Seconds from this moment to a later one, ``None`` when that cannot be told."""
        elapsed = later.seconds - self.seconds
        return elapsed if self.epoch == later.epoch and elapsed >= 0 else None


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters of a source, and when they were read."""

    at: Moment
    counters: tuple[int, ...]


def longest_gap_s(modulus: int) -> float:
    """Time between two readings after which their difference is not counted.

    The fastest counter has made half of its turn by then: it cannot have passed a whole one unseen.
    """
    return modulus / 2 / FASTEST_STEPS_PER_S


class RollingCounters:
    """The counters of one source.

    Args:
        modulus: at which they roll over.
        last: what was read before, where that is known.
    """

    def __init__(self, modulus: int, last: Reading | None = None) -> None:
        self.last = last
        self._modulus = modulus
        self._doubtful: Reading | None = None
        """A jump, until the next reading says what it was."""
        self._was_away = False
        """The device was away when the jump came: then it began anew."""

    def advance(self, now: Reading, *, found_anew: bool = False) -> tuple[int, ...]:
        """Take a reading; the steps that each counter made since the one before.

        None of them did where there is none before, or it was too long ago. ``found_anew``: the device was
        away since, so that counters at 0 mean that it began anew.

        Raises:
            Jump: the reading is left out.
        """
        nothing = (0,) * len(now.counters)
        before = self.last
        began_anew = found_anew and not any(now.counters)
        if before is None or began_anew or not self._in_reach(before, now):
            steps: tuple[int, ...] | None = nothing
        else:
            steps = self._steps(before, now)
        if steps is None and before is not None and self._doubtful is not None:
            # When this one follows from it, it was no damage.
            steps = self._steps(self._doubtful, now)
            away = found_anew or self._was_away
            if steps is not None and not away and not self._began_anew(before, self._doubtful):
                jump = self._differences(before, self._doubtful)
                steps = tuple(first + second for first, second in zip(jump, steps, strict=True))
        if steps is None:
            self._doubtful = now
            self._was_away = self._was_away or found_anew
            raise Jump(f"from {_show(before)} to {_show(now)}")
        self.last, self._doubtful, self._was_away = now, None, False
        return steps

    def _in_reach(self, before: Reading, now: Reading) -> bool:
        elapsed = before.at.until(now.at)
        return (
            elapsed is not None
            and elapsed <= longest_gap_s(self._modulus)
            and len(before.counters) == len(now.counters)
        )

    def _steps(self, before: Reading, now: Reading) -> tuple[int, ...] | None:
        """Differences, ``None`` when there is one that cannot be."""
        most = _most(before, now)
        steps = self._differences(before, now)
        return steps if all(step <= most for step in steps) else None

    def _differences(self, before: Reading, now: Reading) -> tuple[int, ...]:
        return tuple(
            (new - old) % self._modulus for old, new in zip(before.counters, now.counters, strict=True)
        )

    @staticmethod
    def _began_anew(before: Reading, now: Reading) -> bool:
        """Whether the counters are where they would be, had they begun at 0 since."""
        return all(counter <= _most(before, now) for counter in now.counters)


def _most(before: Reading, now: Reading) -> float:
    """Steps that a counter can have made between two readings; none where their times do not compare."""
    elapsed = before.at.until(now.at)
    return -1 if elapsed is None else SPARE_STEPS + elapsed * FASTEST_STEPS_PER_S


def kilowatt_hours(steps: int) -> float:
    """Energy of a number of steps."""
    return steps * STEP_J / J_PER_KWH


def _show(reading: Reading | None) -> Sequence[int]:
    return () if reading is None else reading.counters
