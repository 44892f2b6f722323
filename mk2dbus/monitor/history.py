"""The last minutes of a value."""

from __future__ import annotations

from collections import deque

SPANS_S = (60, 300, 600)
"""Lengths that a graph shows: the shortest that has everything, so that it is not empty at first."""


class History:
    """A sample per second, for as long as the longest graph. ``now`` is any clock that does not jump."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, float | None]] = deque(maxlen=SPANS_S[-1])
        self._drawn: tuple[tuple[int, int, int], list[float | None]] | None = None

    def add(self, now: float, value: float | None) -> None:
        """Note a value, unless this second has one; one that is not known leaves a gap."""
        second = int(now)
        if not self._samples or self._samples[-1][0] != second:
            self._samples.append((second, value))

    def span_s(self, now: float) -> int:
        """How far back a graph should reach."""
        age = now - self._samples[0][0] if self._samples else 0.0
        return next((span for span in SPANS_S if age <= span), SPANS_S[-1])

    def columns(self, now: float, count: int) -> list[float | None]:
        """Means of ``count`` equal parts of the span, the newest last; None where nothing is known.

        The borders of the parts stay where they are as time goes on, so that a graph moves by whole columns.
        """
        span = self.span_s(now)
        key = (span, count, self._samples[-1][0] if self._samples else 0)
        # Most drawings are within the same second.
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = key, self._means(span / count, count)
        return self._drawn[1]

    def _means(self, step: float, count: int) -> list[float | None]:
        if not self._samples:
            return [None] * count
        first = _columns(self._samples[-1][0], step)[-1] - count + 1
        totals = [0.0] * count
        samples = [0] * count
        for second, value in self._samples:
            if value is None:
                continue
            for column in _columns(second, step):
                if 0 <= column - first < count:
                    totals[column - first] += value
                    samples[column - first] += 1
        return [total / number if number else None for total, number in zip(totals, samples, strict=True)]

    def greatest(self) -> float:
        """The largest magnitude there is; 0 when there is none."""
        return max((abs(value) for _, value in self._samples if value is not None), default=0.0)


def _columns(second: int, step: float) -> range:
    """The columns that a second belongs to: one, or where it is longer than a column all that begin in it."""
    start = int(second // step)
    return range(start, max(start + 1, int((second + 1) // step)))
