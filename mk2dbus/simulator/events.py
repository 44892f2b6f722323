"""What happened inside the simulator, kept so that tests and people can look at it."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What an event is about."""

    UNANSWERED = "unanswered"
    """A frame that a real adapter or device would not answer either; the reason says why."""
    LOST = "lost"
    """A reply that was due and never left: cancelled by a later frame, or by a fault that was asked for."""
    GARBAGE = "garbage"
    """Bytes received that are no frame."""
    PANEL = "panel"
    """A panel frame that reached the bus: it commands the inverter (§3.2)."""
    STORED = "stored"
    """A setting written to EEPROM."""
    RAM_WRITTEN = "ram written"
    """A RAM variable, or a setting in RAM only."""
    VIOLATION = "violation"
    """What a client must not do with what is outstanding (§3): it works or not, as luck has it."""
    NOTE = "note"
    """Allowed but noteworthy, or a change of state: asleep, awake, reset."""
    RECEIVED = "received"
    """A frame from the client, at the time its last byte arrived."""
    SENT = "sent"
    """A frame to the client, at the time its first byte may leave."""


_TRAFFIC = frozenset({Kind.RECEIVED, Kind.SENT})


@dataclass(frozen=True, slots=True)
class Event:
    """One event: seconds on the simulator's clock, what, why, and the bytes it is about."""

    time: float
    kind: Kind
    reason: str
    data: bytes = b""

    def __str__(self) -> str:
        return f"{self.time:.3f} {self.kind}: {self.reason} {self.data.hex(' ').upper()}".rstrip()


class EventLog:
    """The last events, and how many of each there were since the start.

    Traffic is kept apart from the rest, so that frames do not push out what happened.
    """

    def __init__(self, keep: int = 2000) -> None:
        self.events: deque[Event] = deque(maxlen=keep)
        self.traffic: deque[Event] = deque(maxlen=keep)
        self.counts: Counter[Kind] = Counter()
        """Events of each kind since the start, those no longer kept included."""
        self.reasons: Counter[tuple[Kind, str]] = Counter()
        """The same by kind and reason. Reasons are fixed texts, so this does not grow without end."""

    def add(self, time: float, kind: Kind, reason: str = "", data: bytes = b"") -> None:
        """Record an event; ``reason`` is a fixed text, details go into ``data``."""
        (self.traffic if kind in _TRAFFIC else self.events).append(Event(time, kind, reason, data))
        self.counts[kind] += 1
        if kind not in _TRAFFIC:
            self.reasons[kind, reason] += 1

    def of(self, kind: Kind) -> list[Event]:
        """The kept events of one kind, oldest first."""
        return [event for event in (self.traffic if kind in _TRAFFIC else self.events) if event.kind is kind]

    def clear(self) -> None:
        """Forget everything, counts too."""
        self.events.clear()
        self.traffic.clear()
        self.counts.clear()
        self.reasons.clear()
