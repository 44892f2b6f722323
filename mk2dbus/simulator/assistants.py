"""Assistants: small programs in a device, with their words in the list at RAM variable 128 (§4.6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .plant import Generator
from .unit import EssControl

LIST_START = 128
"""First RAM id of the list."""
LIST_END = 0xFF
SETPOINT_VALID_S = 60.0
"""Time after which an ESS setpoint that is not written again expires."""
JOULES_PER_STEP = 65536
SENSOR_ID = 1
ESS_ID = 5

_LOCATION_BITS = 5
_CHARGE_DISABLED, _FEED_IN_DISABLED = 0x01, 0x02


@dataclass(slots=True, eq=False)
class Assistant:
    """An assistant: its id, and its words behind the header."""

    id: int
    words: list[int] = field(default_factory=list)

    @property
    def header(self) -> int:
        return self.id << 4 | len(self.words)

    def advance(self, seconds: float, mains_v: float, output_v: float) -> None:
        """Let time pass."""

    def restart(self) -> None:
        """Begin anew, with the device."""

    def written(self, index: int) -> None:
        """A client wrote a word."""


class Ess(Assistant):
    """The ESS assistant: setpoint (s16, W into the grid), and bits that disable charging and feed-in."""

    __slots__ = ("_valid_s",)

    def __init__(self) -> None:
        super().__init__(ESS_ID, [0, 0])
        self._valid_s = 0.0

    @property
    def control(self) -> EssControl:
        """What it asks of its phase now."""
        setpoint, bits = self.words
        return EssControl(
            feed_in_w=float(_signed(setpoint)) if self._valid_s else None,
            charge_disabled=bool(bits & _CHARGE_DISABLED),
            feed_in_disabled=bool(bits & _FEED_IN_DISABLED),
        )

    def advance(self, seconds: float, mains_v: float, output_v: float) -> None:
        if self._valid_s:
            self._valid_s = max(0.0, self._valid_s - seconds)
            if not self._valid_s:
                self.words[0] = 0

    def restart(self) -> None:
        self.words[:] = (0, 0)
        self._valid_s = 0.0

    def written(self, index: int) -> None:
        if index == 0:
            self._valid_s = SETPOINT_VALID_S


class CurrentSensor(Assistant):
    """An AC current sensor: place, current in 0.01 A, VA, and energy in steps of 65536 J, rolling over.

    Args:
        source: what it measures.
    """

    __slots__ = ("joules", "source")

    def __init__(self, source: Generator) -> None:
        super().__init__(SENSOR_ID, [source.location | source.phase << _LOCATION_BITS, 0, 0, 0])
        self.source = source
        self.joules = 0.0

    def advance(self, seconds: float, mains_v: float, output_v: float) -> None:
        volts = output_v if self.source.location else mains_v
        watts = max(0.0, self.source.power_w) if volts else 0.0
        self.joules += watts * seconds
        self.words[1] = min(round(100 * watts / volts), 0xFFFF) if volts else 0
        self.words[2] = min(round(watts), 0xFFFF)
        self.words[3] = int(self.joules / JOULES_PER_STEP) & 0xFFFF


def list_words(assistants: Sequence[Assistant]) -> Iterator[int]:
    """The words from RAM variable 128 on; what is behind them reads 0, which ends the list."""
    for assistant in assistants:
        yield assistant.header
        yield from assistant.words


def word_at(assistants: Sequence[Assistant], number: int) -> tuple[Assistant, int] | None:
    """Whose word a RAM id is, and which; ``None`` for headers and behind the end."""
    index = number - LIST_START
    for assistant in assistants:
        if index == 0:
            return None
        if index <= len(assistant.words):
            return assistant, index - 1
        index -= 1 + len(assistant.words)
    return None


def _signed(word: int) -> int:
    return word - 0x10000 if word >= 0x8000 else word
