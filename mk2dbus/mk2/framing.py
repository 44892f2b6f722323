"""Frames of the MK2 protocol: how they look on the line, and how to find them in a stream of bytes.

``<length> <type> <data…> <checksum>``: length counts type and data; all bytes, checksum included, sum to 0
modulo 256. Source: mk2-protocol.md §2. No input or output here, and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

MAX_LENGTH = 40
"""Longest length byte taken for a frame. The longest reply known, access levels (winmon 3C) with LED status
appended, has 26; a larger bound makes noise look like the start of a frame for longer."""

_LENGTH_MASK = 0x7F
_LEDS_APPENDED = 0x80


class FrameType(IntEnum):
    """Frame types seen on the line (§2)."""

    INFO = 0x20
    """Info frame: AC, DC, configuration; also the answers of a DMC and a BMS."""
    QUERY = 0x21
    """Query to the bus, for instance for a Digital Multi Control."""
    SPECIAL_38 = 0x38
    SPECIAL_3C = 0x3C
    SPECIAL_3D = 0x3D
    COMMAND = 0x3F
    """Wake and sleep."""
    PANEL = 0x40
    """Panel frame of another panel."""
    AC_INPUT = 0x41
    """AC input configuration."""
    SPECIAL_80 = 0x80
    ADAPTER = 0xFF
    """Adapter command or its reply; data[0] is the command letter."""


_KNOWN_TYPES = frozenset(map(int, FrameType))
_SWAPPED_CHECKSUM_TYPES = frozenset(
    {FrameType.QUERY, FrameType.SPECIAL_38, FrameType.SPECIAL_3D, FrameType.COMMAND}
)
_SWAPPED_INDICES = (1, 3, 5)


@dataclass(frozen=True, slots=True)
class Leds:
    """LED status appended to a frame: bit masks of lit and blinking LEDs (§3.1)."""

    on: int
    blink: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, either direction, without length and checksum."""

    type: int
    data: bytes = b""
    leds: Leds | None = None

    def __bytes__(self) -> bytes:
        """The frame as it goes over the line.

        Raises:
            ValueError: longer than a frame can be.
        """
        payload = bytes((self.type,)) + self.data
        flag = 0
        if self.leds is not None:
            payload += bytes((self.leds.on, self.leds.blink))
            flag = _LEDS_APPENDED
        if len(payload) > MAX_LENGTH:
            raise ValueError(f"a frame of {len(payload)} bytes is longer than {MAX_LENGTH}")
        message = bytes((len(payload) | flag,)) + payload
        return message + bytes((checksum(message),))

    def __str__(self) -> str:
        return hex_bytes(bytes(self))


def hex_bytes(data: bytes) -> str:
    """Bytes as the documents write them: ``04 FF 41 01 00 BB``."""
    return data.hex(" ").upper()


def checksum(message: bytes) -> int:
    """The byte that follows ``message`` (length byte to last data byte) on the line (§2)."""
    total = sum(message)
    if message[1] in _SWAPPED_CHECKSUM_TYPES:
        for index in _SWAPPED_INDICES:
            if index < len(message):
                byte = message[index]
                total += (byte << 4 | byte >> 4) & 0xFF
    return -total & 0xFF


def adapter_frame(letter: str, data: bytes = b"") -> Frame:
    """A frame of type 0xFF: a command letter and its data (§3)."""
    return Frame(FrameType.ADAPTER, letter.encode("ascii") + data)


class FrameCutter:
    """Cuts frames out of received bytes, in whatever pieces they come.

    There is no start marker on the line, so a frame is what has a plausible length, a known type and the
    right checksum. Anything else is skipped byte by byte, so that the frames behind noise are found. A start
    that looks right but does not go on is given up by :meth:`give_up`, which the caller calls when
    :attr:`pending` has been true for too long.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skipping = False
        self.dropped_bytes = 0
        """Bytes skipped since construction."""
        self.dropped_stretches = 0
        """Stretches of bytes skipped between two good frames: about as many as there were damaged frames."""
        self.position = 0
        """How many bytes are done with, as frames or dropped: where in the stream the pending one begins."""

    @property
    def pending(self) -> bool:
        """Whether the beginning of a frame is waiting for its end."""
        return bool(self._buffer)

    @property
    def missing_bytes(self) -> int:
        """How many bytes more it takes until anything can happen; 1 as long as that is not known."""
        if len(self._buffer) < 2:
            return 1
        return (self._buffer[0] & _LENGTH_MASK) + 2 - len(self._buffer)

    @property
    def begun_bytes(self) -> int:
        """How much of an incomplete frame is here."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """Take received bytes; the frames that are complete now, in order.

        Keeps at most one incomplete frame (``MAX_LENGTH`` + 1 bytes).
        """
        self._buffer += data
        return self._cut()

    def give_up(self) -> list[Frame]:
        """Drop the first byte of the frame that stays incomplete; the frames found behind it.

        The rest is looked through again: what was taken for a length byte may have been noise before a
        real frame.
        """
        if self._buffer:
            self._skip(1)
        return self._cut()

    def clear(self) -> None:
        """Forget a frame that is incomplete (the port was closed)."""
        self._skip(len(self._buffer))

    def _skip(self, count: int) -> None:
        del self._buffer[:count]
        self.position += count
        self._drop(count)

    def _drop(self, count: int) -> None:
        self.dropped_bytes += count
        if count and not self._skipping:
            self._skipping = True
            self.dropped_stretches += 1

    def _cut(self) -> list[Frame]:
        frames = []
        buffer = self._buffer
        start = 0
        while start < len(buffer):
            length = buffer[start] & _LENGTH_MASK
            plausible = 1 <= length <= MAX_LENGTH
            if plausible and start + 1 < len(buffer):
                plausible = buffer[start + 1] in _KNOWN_TYPES
            if plausible and start + length + 2 > len(buffer):
                break
            frame = _parse(bytes(buffer[start : start + length + 2])) if plausible else None
            if frame is None:
                self._drop(1)
                start += 1
            else:
                self._skipping = False
                frames.append(frame)
                start += length + 2
        del buffer[:start]
        self.position += start
        return frames


def _parse(message: bytes) -> Frame | None:
    """A frame from length byte to checksum, or ``None`` when the checksum is wrong."""
    if checksum(message[:-1]) != message[-1]:
        return None
    payload = message[1:-1]
    if not message[0] & _LEDS_APPENDED:
        return Frame(payload[0], payload[1:])
    if len(payload) < 3:
        return None
    return Frame(payload[0], payload[1:-2], Leds(payload[-2], payload[-1]))
