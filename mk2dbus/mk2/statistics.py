"""Figures of the line: what went over it, how well, how fast. Counting is cheap; who reads reckons."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from mk2dbus.mk2.pacing import BITS_PER_BYTE
from mk2dbus.mk2.quality import Quality

WINDOW_S = 10.0
"""Over which shares and round-trip times are reckoned."""

_SHORTEST_INTERVAL_S = 0.2
"""Asked again sooner, the figures are those of before."""


@dataclass(slots=True)
class Counters:
    """What happened on the line since the link was made."""

    sent_frames: int = 0
    received_frames: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    replies: int = 0
    """Requests that were answered."""
    retries: int = 0
    timeouts: int = 0
    stray_frames: int = 0
    """Frames that answered nothing and are no unasked ones; late replies among them."""
    bad_frames: int = 0
    """Stretches of received bytes that were part of no good frame."""


@dataclass(frozen=True, slots=True)
class LineFigures:
    """The line in figures. Shares, times and rates are of the last seconds, the others since the start."""

    baudrate: int
    pipeline: int
    """How many winmon commands may be on the line at a time."""
    addressed: bool
    """Winmon commands carry their address."""
    outstanding: int
    """Requests on the line at this moment."""
    sent_bytes: int
    received_bytes: int
    sent_share: float
    """Of what the line can carry from here to the adapter, 0…1."""
    received_share: float
    """Of what the line can carry from the adapter, 0…1."""
    round_trip_mean_s: float | None
    """From request to the end of its reply; ``None``: nothing was answered."""
    round_trip_max_s: float | None
    replies: int
    retries: int
    timeouts: int
    stray_frames: int
    dropped_bytes: int
    bad_frames: int
    bad_frames_per_minute: int


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    sent_bytes: int
    received_bytes: int
    replies: int
    round_trips_s: float
    longest_s: float
    """Since the sample before."""


class RoundTrips:
    """Sum and maximum of the times from request to reply."""

    def __init__(self) -> None:
        self.total_s = 0.0
        self._longest_s = 0.0

    def add(self, seconds: float) -> None:
        self.total_s += seconds
        self._longest_s = max(self._longest_s, seconds)

    def take_longest(self) -> float:
        """The longest since this was asked last."""
        longest, self._longest_s = self._longest_s, 0.0
        return longest


class Sampler:
    """Turns counters into shares and means over the last :data:`WINDOW_S`, from one reading to the next."""

    def __init__(self, counters: Counters, round_trips: RoundTrips, now: float) -> None:
        self._counters = counters
        self._round_trips = round_trips
        self._samples = deque([self._sample(now)])

    def figures(
        self,
        now: float,
        quality: Quality,
        *,
        baudrate: int,
        pipeline: int,
        addressed: bool,
        outstanding: int,
        dropped_bytes: int,
    ) -> LineFigures:
        """All figures at this moment."""
        if now >= self._samples[-1].at + _SHORTEST_INTERVAL_S:
            self._samples.append(self._sample(now))
        while len(self._samples) > 2 and self._samples[1].at <= now - WINDOW_S:
            self._samples.popleft()
        first, last = self._samples[0], self._samples[-1]
        capacity = (last.at - first.at) * baudrate / BITS_PER_BYTE
        answered = last.replies - first.replies
        longest = max((sample.longest_s for sample in list(self._samples)[1:]), default=0.0)
        counters = self._counters
        return LineFigures(
            baudrate=baudrate,
            pipeline=pipeline,
            addressed=addressed,
            outstanding=outstanding,
            sent_bytes=counters.sent_bytes,
            received_bytes=counters.received_bytes,
            sent_share=_share(last.sent_bytes - first.sent_bytes, capacity),
            received_share=_share(last.received_bytes - first.received_bytes, capacity),
            round_trip_mean_s=(last.round_trips_s - first.round_trips_s) / answered if answered else None,
            round_trip_max_s=longest if answered else None,
            replies=counters.replies,
            retries=counters.retries,
            timeouts=counters.timeouts,
            stray_frames=counters.stray_frames,
            dropped_bytes=dropped_bytes,
            bad_frames=counters.bad_frames,
            bad_frames_per_minute=quality.bad_frames(now),
        )

    def _sample(self, now: float) -> _Sample:
        return _Sample(
            now,
            self._counters.sent_bytes,
            self._counters.received_bytes,
            self._counters.replies,
            self._round_trips.total_s,
            self._round_trips.take_longest(),
        )


def _share(count: int, capacity: float) -> float:
    return min(count / capacity, 1.0) if capacity else 0.0
