"""A conversation with the simulator's core: frames there, frames back, time as the line needs it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mk2dbus.mk2.framing import Frame, FrameCutter, adapter_frame
from mk2dbus.simulator import Core

SETTLED_S = 60.0
QUIET_S = 0.2
"""Time to wait for a reply: longer than the longest takes at 2400 baud."""


class Conversation:
    """Talks to a core. Time is a number that only this class moves."""

    def __init__(self, profile: str = "multiplus2", long: bool = True, settle_s: float = SETTLED_S) -> None:
        self.core = Core(profile)
        self.now = 0.0
        self._cutter = FrameCutter()
        self._received: list[Frame] = []
        self.core.run(0.0)
        self.now = settle_s
        self.core.run(self.now)
        if long:
            self.ask(adapter_frame("S", bytes((3, 0, 0, 1, 0x90, 0, 4))))
        self.core.log.clear()

    def ask(self, request: Frame | str | bytes, wait_s: float = QUIET_S) -> list[str]:
        """Send a frame; everything that comes back within a time, as hex, but for ``V`` frames unasked."""
        raw = bytes.fromhex(request) if isinstance(request, str) else bytes(request)
        frames = self.listen(wait_s, raw)
        wants_version = raw[2:3] in (b"V", b"R")
        return [str(frame) for frame in frames if wants_version or frame.data[:1] != b"V"]

    def winmon(self, *data: int, slot: str = "X", wait_s: float = QUIET_S) -> list[bytes]:
        """Send a winmon command; the data of the replies, from the reply code on."""
        replies = self.ask(adapter_frame(slot, bytes(data)), wait_s)
        return [bytes.fromhex(reply)[3:-1] for reply in replies]

    def listen(self, wait_s: float, data: bytes = b"") -> list[Frame]:
        """Let time pass, after sending bytes; the frames that came."""
        self.core.feed(data, self.now)
        end = self.now + wait_s
        frames: list[Frame] = []
        while self.now < end:
            self.now = min(max(self.core.deadline, self.now), end)
            frames += self._cutter.feed(self.core.run(self.now))
        return frames


@pytest.fixture
def talk() -> Callable[..., Conversation]:
    """Begins conversations."""
    return Conversation
