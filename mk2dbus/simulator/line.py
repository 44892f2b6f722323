"""The serial line: when bytes arrive and leave at a speed, and ways to damage them (mk2-protocol.md §1).

No input or output, and no clock. A byte takes ten bit times in either direction. All times are reckoned from
the line itself, not from when somebody got round to looking, so that delays of the host do not add up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mk2dbus.mk2.framing import Frame, FrameCutter

BITS_PER_BYTE = 10
INCOMPLETE_S = 0.3
"""Time after which a frame that does not go on is dropped."""
CHUNK_S = 0.016
"""Bytes to the client are handed over in pieces of about this length, as USB serial adapters do by default;
the end of a frame comes at its own time."""

Damage = Callable[[bytes], bytes | Iterable[tuple[float, bytes]]]
"""A fault on the line: gets bytes, gives what is left of them, or pieces each with a pause (s) before it."""


def byte_time(baudrate: int) -> float:
    """Seconds a byte takes; none for baud rate 0 (unpaced)."""
    return BITS_PER_BYTE / baudrate if baudrate else 0.0


def damaged(damage: Damage | None, data: bytes) -> list[tuple[float, bytes]]:
    """What a fault makes of bytes: pieces with the pause before each."""
    if damage is None:
        return [(0.0, data)]
    result = damage(data)
    return [(0.0, result)] if isinstance(result, bytes) else list(result)


def at_wrong_speed(data: bytes, sender: int, listener: int) -> bytes:
    """What a listener makes of bytes sent at another speed."""
    if sender < listener:
        # Every start bit alone is a whole byte of zeros, and more; the number does not matter to a cutter.
        return bytes(len(data))
    return b"\xf8" * -(-len(data) * listener // sender)


class Receiver:
    """Bytes from the client on their way to the adapter: arrival times, and the frames they make.

    Args:
        garbage: called with the number of bytes that are no frame, and the time.
    """

    def __init__(self, garbage: Callable[[int, float], None]) -> None:
        self._garbage = garbage
        self._cutter = FrameCutter()
        self._dropped = 0
        self._free_at = 0.0
        self._written = 0.0
        self._ready: deque[tuple[float, float, Frame]] = deque()

    def push(self, data: bytes, now: float, baudrate: int) -> None:
        """Bytes the client wrote at ``now``; they arrive one after the other behind those still under way."""
        at = max(now, self._free_at)
        self._give_up(at)
        self._written = now
        byte_s = byte_time(baudrate)
        for index in range(len(data)):
            at += byte_s
            self._take(at, self._cutter.feed(data[index : index + 1]))
        if data:
            self._free_at = at

    def clear(self) -> None:
        """Forget bytes under way (the line was cut)."""
        self._cutter.clear()
        self._dropped = self._cutter.dropped_bytes
        self._ready.clear()
        self._free_at = 0.0

    @property
    def deadline(self) -> float | None:
        """When the next frame is complete, or an incomplete one is given up."""
        if self._ready:
            return self._ready[0][0]
        return self._free_at + INCOMPLETE_S if self._cutter.pending else None

    def pop(self, now: float) -> list[tuple[float, float, Frame]]:
        """Frames whose last byte has arrived by ``now``, with the times when it did and was written."""
        self._give_up(now)
        frames = []
        while self._ready and self._ready[0][0] <= now:
            frames.append(self._ready.popleft())
        return frames

    def _give_up(self, now: float) -> None:
        at = self._free_at + INCOMPLETE_S
        while self._cutter.pending and now >= at:
            self._take(at, self._cutter.give_up())

    def _take(self, at: float, frames: list[Frame]) -> None:
        self._ready.extend((at, self._written, frame) for frame in frames)
        dropped = self._cutter.dropped_bytes - self._dropped
        if dropped:
            self._dropped = self._cutter.dropped_bytes
            self._garbage(dropped, at)


@dataclass(slots=True)
class _Run:
    """Bytes that leave without a gap, from ``start`` on."""

    start: float
    byte_s: float
    data: bytes
    sent: int = 0

    @property
    def end(self) -> float:
        return self.start + len(self.data) * self.byte_s

    def gone_by(self, now: float) -> int:
        if not self.byte_s or now >= self.end:
            return len(self.data) if now >= self.start else 0
        # The margin is for times that are multiples of byte_s but for rounding.
        return max(0, int((now - self.start) / self.byte_s + 1e-6))


class Transmitter:
    """Bytes from the adapter on their way to the client."""

    def __init__(self) -> None:
        self._runs: deque[_Run] = deque()
        self._free_at = 0.0
        self._last_take = 0.0

    @property
    def backlog(self) -> int:
        """Bytes that have not left yet."""
        return sum(len(run.data) - run.sent for run in self._runs)

    def push(self, data: bytes, now: float, baudrate: int) -> float:
        """Bytes that are to leave from ``now`` on, behind those before them; when the last is through."""
        if data:
            run = _Run(max(now, self._free_at), byte_time(baudrate), data)
            self._runs.append(run)
            self._free_at = run.end
        return max(now, self._free_at)

    def clear(self) -> None:
        """Forget what has not left (no power)."""
        self._runs.clear()
        self._free_at = 0.0

    @property
    def deadline(self) -> float | None:
        """When to call :meth:`take` again: at the end of a run, in between once per :data:`CHUNK_S`."""
        if not self._runs:
            return None
        run = self._runs[0]
        if not run.byte_s:
            return run.start
        next_byte = run.start + (run.sent + 1) * run.byte_s
        return min(run.end, max(next_byte, self._last_take + CHUNK_S))

    def take(self, now: float) -> bytes:
        """Bytes that are through by ``now``."""
        self._last_take = now
        through = b""
        while self._runs:
            run = self._runs[0]
            count = run.gone_by(now)
            through += run.data[run.sent : count]
            run.sent = max(run.sent, count)
            if run.sent < len(run.data):
                break
            self._runs.popleft()
        return through
