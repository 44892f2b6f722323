"""Received bytes with the time they came: frames, and an end for those that stay incomplete."""

from __future__ import annotations

import logging
from collections import deque

from mk2dbus.mk2.framing import Frame, FrameCutter, hex_bytes

log = logging.getLogger(__name__)

INCOMPLETE_TIMEOUT_S = 0.3
"""How long the beginning of a frame may wait for its end (§2)."""


class Incoming:
    """Cuts frames out of what is received. Times are those of the event loop."""

    def __init__(self) -> None:
        self.received_bytes = 0
        self._cutter = FrameCutter()
        self._arrivals: deque[tuple[int, float]] = deque()
        """Of the bytes not done with: how many were there after they came, and when that was."""
        self._reported = 0

    @property
    def dropped_bytes(self) -> int:
        """Bytes that were part of no good frame."""
        return self._cutter.dropped_bytes

    @property
    def begun_bytes(self) -> int:
        """How much of an incomplete frame is here."""
        return self._cutter.begun_bytes

    @property
    def missing_bytes(self) -> int:
        """How many bytes more it takes until anything can happen; 1 as long as that is not known."""
        return self._cutter.missing_bytes

    @property
    def deadline(self) -> float | None:
        """When the incomplete frame that waits is given up, if one does."""
        if not self._cutter.pending:
            return None
        began = next(time for end, time in self._arrivals if end > self._cutter.position)
        return began + INCOMPLETE_TIMEOUT_S

    def feed(self, data: bytes, now: float) -> list[Frame]:
        """Take received bytes; the frames that are complete now."""
        self.received_bytes += len(data)
        self._arrivals.append((self.received_bytes, now))
        dropped = self._cutter.dropped_bytes
        frames = self._cutter.feed(data)
        if self._cutter.dropped_bytes != dropped:
            log.debug("dropped %d byte(s) in %s", self._cutter.dropped_bytes - dropped, hex_bytes(data))
        self._forget_arrivals()
        return frames

    def give_up(self) -> list[Frame]:
        """Drop the beginning of the frame that stays incomplete; the frames found behind it."""
        frames = self._cutter.give_up()
        self._forget_arrivals()
        return frames

    def clear(self) -> None:
        """Forget a frame that is incomplete."""
        self._cutter.clear()
        self._forget_arrivals()

    def take_damaged(self) -> int:
        """How many frames were damaged since this was asked before, about."""
        damaged = self._cutter.dropped_stretches - self._reported
        self._reported += damaged
        return damaged

    def _forget_arrivals(self) -> None:
        while self._arrivals and self._arrivals[0][0] <= self._cutter.position:
            self._arrivals.popleft()
