"""Random damage to the bytes of a line, the same every time for the same seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random


@dataclass(slots=True)
class RandomDamage:
    """A fault for :attr:`.core.Core.incoming` or ``outgoing``: how often what happens, 0…1.

    Attributes:
        loss: a byte is lost.
        flip: a bit of a byte is turned.
        insert: a byte that nobody sent comes before one.
        duplicate: a piece comes twice.
        delay: a piece comes ``delay_s`` late.
        delay_s: how late, s; what follows waits for it.
    """

    loss: float = 0.0
    flip: float = 0.0
    insert: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    delay_s: float = 1.0
    seed: int = 1
    _random: Random = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)

    @property
    def harmless(self) -> bool:
        """Whether it does nothing."""
        return not (self.loss or self.flip or self.insert or self.duplicate or self.delay)

    def __call__(self, data: bytes) -> list[tuple[float, bytes]]:
        """What is left of a piece, with the pause (s) before it."""
        pieces = [self._damaged(data)]
        if self._happens(self.duplicate):
            pieces.append(self._damaged(data))
        pause = self.delay_s if self._happens(self.delay) else 0.0
        return [(pause if not index else 0.0, piece) for index, piece in enumerate(pieces)]

    def _damaged(self, data: bytes) -> bytes:
        if not (self.loss or self.flip or self.insert):
            return data
        left = bytearray()
        for byte in data:
            if self._happens(self.insert):
                left.append(self._random.randrange(256))
            if self._happens(self.loss):
                continue
            left.append(byte ^ 1 << self._random.randrange(8) if self._happens(self.flip) else byte)
        return bytes(left)

    def _happens(self, share: float) -> bool:
        return share > 0 and self._random.random() < share
