"""One direction of a line: the frames in it, and the bytes between them."""

from __future__ import annotations

from dataclasses import dataclass

from mk2dbus.mk2.framing import Frame, FrameCutter

INCOMPLETE_S = 0.3
"""Without another byte for this long the beginning of a frame is given up (mk2-protocol.md §2)."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A frame, or bytes that are none."""

    data: bytes
    frame: Frame | None = None


class Stream:
    """Cuts one direction into pieces; nothing that goes in is lost."""

    def __init__(self) -> None:
        self._cutter = FrameCutter()
        self._bytes = bytearray()
        """Those that are in no piece yet."""
        self._start = 0
        """Where in the stream they begin."""
        self._last = 0.0

    def feed(self, data: bytes, now: float = 0.0) -> list[Piece]:
        """The pieces that are complete with these bytes, which came at ``now`` (seconds, any clock)."""
        pieces = self.expire(now)
        self._last = now
        self._bytes += data
        return pieces + self._pieces(self._cutter.feed(data))

    def expire(self, now: float) -> list[Piece]:
        """What of an unfinished frame can be told when it stays unfinished; nothing while it may go on."""
        return self.flush() if self._cutter.pending and now - self._last > INCOMPLETE_S else []

    def flush(self) -> list[Piece]:
        """All that is left: nothing more will come."""
        frames = []
        while self._cutter.pending:
            frames += self._cutter.give_up()
        return self._pieces(frames)

    def _pieces(self, frames: list[Frame]) -> list[Piece]:
        done = self._cutter.position - self._start
        consumed = bytes(self._bytes[:done])
        del self._bytes[:done]
        self._start += done
        pieces = []
        at = 0
        for frame in frames:
            data = bytes(frame)
            # The first place is the right one: the cutter would have taken the frame at any earlier one.
            begin = consumed.index(data, at)
            if begin > at:
                pieces.append(Piece(consumed[at:begin]))
            pieces.append(Piece(data, frame))
            at = begin + len(data)
        if at < len(consumed):
            pieces.append(Piece(consumed[at:]))
        return pieces
