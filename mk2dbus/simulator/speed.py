"""The speed of the adapter's line: 2400 baud, the change to 115200 (`N`), and how that goes wrong (§1)."""

from __future__ import annotations

from enum import StrEnum
from random import Random

LOW_BAUDRATE = 2400
HIGH_BAUDRATE = 115200
SYNC_BYTE = 0x55
SYNC_COUNT = 5
SYNC_WITHIN_S = 1.0
"""Time within which the five bytes 0x55 must follow an ``N``; else the adapter goes back to 2400 baud."""
DEAF_S = 0.02
"""Time after an ``N`` in which the adapter hears nothing; clients wait about 50 ms."""
SETTLING_S = 0.08
"""Time after the five bytes in which it takes no frames; clients wait 100 ms."""


class SpeedFault(StrEnum):
    """What goes wrong with high speed."""

    NONE = "none"
    IGNORED = "ignored"
    """Takes no notice of ``N``: stays at 2400."""
    OLD_SPEED = "old-speed"
    """Hears at 115200 and talks at 2400."""
    SILENT = "silent"
    """Goes to 115200 and says nothing there; hears ``R``."""
    NOISE = "noise"
    """Goes to 115200 and says noise there; hears ``R``."""
    DEAD = "dead"
    """Dies half-way, at 2400: says nothing, hears nothing but ``R``."""
    BAD_FRAMES = "bad-frames"
    """Works at 115200, but a share of the frames is damaged, in both directions."""


class Speed:
    """At what speed the adapter listens and talks.

    Args:
        seed: of noise and damage.
    """

    def __init__(self, seed: int = 1) -> None:
        self.fault = SpeedFault.NONE
        self.bad_share = 0.05
        """Share of damaged frames of :attr:`SpeedFault.BAD_FRAMES`."""
        self._random = Random(seed)
        self.reset()

    def reset(self) -> None:
        """Power-on, or ``R``."""
        self.listening = LOW_BAUDRATE
        self.talking = LOW_BAUDRATE
        self.sync_missing = 0
        """Bytes 0x55 still to come after an ``N``."""
        self.sync_until = 0.0
        self._deaf_until = 0.0
        self._settled_at = 0.0
        self.dead = False

    def set(self, baudrate: int) -> None:
        """Be at a speed without having been asked, as after a crash of the last client."""
        self.reset()
        self.listening = self.talking = baudrate

    def ask_high(self, now: float) -> bool:
        """An ``N`` arrived; ``False``: it is ignored."""
        if self.fault is SpeedFault.IGNORED:
            return False
        if self.fault is SpeedFault.DEAD:
            self.dead = True
            return True
        self.listening = self.talking = HIGH_BAUDRATE
        self.sync_missing = SYNC_COUNT
        self.sync_until = now + SYNC_WITHIN_S
        self._deaf_until = now + DEAF_S
        return True

    def take_sync(self, byte: int, now: float) -> bool:
        """A byte received while :attr:`sync_missing`; ``False``: it is none of the five."""
        if byte != SYNC_BYTE or now < self._deaf_until:
            return False
        self.sync_missing -= 1
        if not self.sync_missing:
            self._settled_at = now + SETTLING_S
            if self.fault is SpeedFault.OLD_SPEED:
                self.talking = LOW_BAUDRATE
        return True

    def give_up_sync(self, now: float) -> bool:
        """Whether the five bytes were waited for in vain; then the speed is the old one again."""
        if not self.sync_missing or now < self.sync_until:
            return False
        self.reset()
        return True

    def settled(self, now: float) -> bool:
        """Whether frames are taken."""
        return not self.sync_missing and now >= self._settled_at

    @property
    def high(self) -> bool:
        return self.listening == HIGH_BAUDRATE

    @property
    def mute(self) -> bool:
        """Whether nothing is said at all."""
        return self.dead or (self.high and self.fault is SpeedFault.SILENT)

    def misheard(self) -> bool:
        """Whether the frame that arrives now is damaged."""
        return self.high and self.fault is SpeedFault.BAD_FRAMES and self._random.random() < self.bad_share

    def spoilt(self, frame: bytes) -> bytes:
        """What leaves in place of a frame."""
        if self.high and self.fault is SpeedFault.NOISE:
            return self._random.randbytes(len(frame))
        if self.misheard():
            place = self._random.randrange(len(frame))
            flipped = frame[place] ^ 1 << self._random.randrange(8)
            return frame[:place] + bytes((flipped,)) + frame[place + 1 :]
        return frame
