"""How good the line is: good and damaged frames of the last minute."""

from __future__ import annotations

import math
from collections import deque

QUALITY_WINDOW_S = 60.0
_PARTS = 10

BAD_SHARE = 0.03
"""Share of bad frames in a minute from which on the line is bad: "a few per cent"."""

FEWEST_BAD = 5
"""Bad frames below which it is not."""

NOISY_S = 300.0
"""How long after a damaged frame the line counts as noisy."""


class Quality:
    """Good and bad frames of the last minute. Times are those of the event loop."""

    FEWEST = 60
    """Frames below which nothing is said about a share."""

    def __init__(self) -> None:
        self.damaged_at = -math.inf
        """When the last damaged frame came."""
        self._found_bad = False
        self._parts: deque[list[float]] = deque(maxlen=_PARTS)
        """Of each part of the minute: beginning, good frames, damaged stretches, replies that stayed out."""

    def restart(self) -> None:
        """Another speed, or the like: what was before says nothing of the line as it is now."""
        self._parts.clear()
        self._found_bad = False

    def good(self, now: float, count: int = 1) -> None:
        self._part(now)[1] += count

    def damaged(self, now: float, count: int) -> None:
        self.damaged_at = now
        self._part(now)[2] += count

    def unanswered(self, now: float) -> None:
        """A reply stayed out while others came: it, or its request, may have been damaged."""
        self._part(now)[3] += 1

    def noisy(self, now: float) -> bool:
        """Whether frames were damaged lately."""
        return now < self.damaged_at + NOISY_S

    def bad_frames(self, now: float) -> int:
        """Damaged frames of the last minute. A damaged reply is noticed twice and counted once."""
        self._forget(now)
        damaged, unanswered = sum(part[2] for part in self._parts), sum(part[3] for part in self._parts)
        return int(max(damaged, unanswered))

    def bad_share(self, now: float) -> float:
        """Share of bad frames in the last minute; 0 as long as there were too few to tell."""
        bad = self.bad_frames(now)
        total = bad + sum(part[1] for part in self._parts)
        return bad / total if total >= self.FEWEST else 0.0

    def turned_bad(self, now: float) -> float | None:
        """The share of bad frames when it is too high for the first time since the (re)start."""
        share = self.bad_share(now)
        if self._found_bad or share <= BAD_SHARE or self.bad_frames(now) < FEWEST_BAD:
            return None
        self._found_bad = True
        return share

    def _part(self, now: float) -> list[float]:
        if not self._parts or now >= self._parts[-1][0] + QUALITY_WINDOW_S / _PARTS:
            self._parts.append([now, 0, 0, 0])
        return self._parts[-1]

    def _forget(self, now: float) -> None:
        while self._parts and self._parts[0][0] <= now - QUALITY_WINDOW_S:
            self._parts.popleft()
