"""What a look at something came to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum


class Level(Enum):
    """How a thing is."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing has to be done."""
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """How one thing is, and what to do."""

    level: Level
    about: str
    """One or two words: port, policy."""
    text: str
    advice: str = ""

    def record(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self) | {"level": self.level.value}


def ok(about: str, text: str) -> Finding:
    return Finding(Level.OK, about, text)


def note(about: str, text: str, advice: str = "") -> Finding:
    return Finding(Level.NOTE, about, text, advice)


def fail(about: str, text: str, advice: str) -> Finding:
    return Finding(Level.FAIL, about, text, advice)
