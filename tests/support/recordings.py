"""The recordings of real adapters, read from the file."""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).parents[1] / "captures" / "recordings.txt"


def recorded(direction: str = "<>") -> list[bytes]:
    """All recorded frames, in order: ``>`` those sent to the adapter, ``<`` those received from it."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    frames = [bytes.fromhex(line[1:]) for line in lines if line[:1] in ("<", ">") and line[0] in direction]
    assert frames
    return frames
