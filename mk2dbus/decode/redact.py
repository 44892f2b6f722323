"""What must not be kept of the traffic: passwords never, serial numbers where a recording is for others."""

from __future__ import annotations

import re
from dataclasses import replace

from mk2dbus.mk2.adapter import ResetDevices
from mk2dbus.mk2.framing import Frame, FrameType
from mk2dbus.mk2.info import Configuration, read_info
from mk2dbus.mk2.speed import SYNC
from mk2dbus.mk2.winmon import GetSerial, SendPassword

_SLOTS = b"WXYZ"
_ADDRESSED_SLOTS = b"xyz"
(_SERIAL,) = GetSerial.replies
_SERIAL_LENGTH = 11
_RESET = ResetDevices().frame().data[:2]
_CHARACTERS = re.compile(rb"[0-9A-Za-z]{4,}")
"""In bytes that are no frame: what may be a piece of a serial number."""


class Redactor:
    """Puts other bytes in the place of private ones; frames stay well-formed.

    Args:
        anonymous: serial numbers and unique numbers of devices too. Each gets a number of its own that stays
            the same, so that devices can still be told apart.
    """

    def __init__(self, anonymous: bool = False) -> None:
        self._anonymous = anonymous
        self._numbers: dict[bytes, int] = {}

    def frame(self, sent: bool, frame: Frame) -> Frame:
        """The frame as it may be kept."""
        letter = frame.data[0] if frame.type == FrameType.ADAPTER and frame.data else 0
        if sent and (letter in _SLOTS or letter in _ADDRESSED_SLOTS):
            return _without_password(frame, address=letter in _ADDRESSED_SLOTS)
        if not self._anonymous:
            return frame
        if letter in _SLOTS and frame.data[1:2] == bytes((_SERIAL,)):
            return replace(frame, data=frame.data[:2] + self._serial(frame.data[2:]))
        if sent and frame.data[:2] == _RESET:
            return replace(frame, data=frame.data[:2] + self._reset(frame.data[2:]))
        if not sent and isinstance(read_info(frame), Configuration):
            return replace(frame, data=self._unique(frame.data[:4]) + frame.data[4:])
        return frame

    def others(self, data: bytes) -> bytes:
        """Bytes that are no frame, as they may be kept."""
        if not self._anonymous or data == SYNC:
            return data
        for private in self._numbers:
            data = data.replace(private, bytes(len(private)))
        return _CHARACTERS.sub(lambda found: b"X" * len(found[0]), data)

    def _number(self, private: bytes) -> int:
        return self._numbers.setdefault(private, len(self._numbers) + 1)

    def _serial(self, serial: bytes) -> bytes:
        if len(serial) < _SERIAL_LENGTH:
            return b"X" * len(serial)
        return f"DEVICE{self._number(serial):05}".encode().ljust(len(serial), b"\0")[: len(serial)]

    def _unique(self, number: bytes) -> bytes:
        return self._number(number).to_bytes(4, "little") if any(number) else number

    def _reset(self, number: bytes) -> bytes:
        """The halves of the number are the other way round there (§3.3); 0 stands for all."""
        told = self._unique(number[2:] + number[:2])
        return told[2:] + told[:2]


def _without_password(frame: Frame, address: bool) -> Frame:
    if frame.data[1:2] != bytes((SendPassword.code,)):
        return frame
    tail = frame.data[-1:] if address else b""
    return replace(frame, data=frame.data[:2] + bytes(max(0, len(frame.data) - 2 - len(tail))) + tail)
