"""How long to wait between attempts at something that failed."""

from __future__ import annotations

from collections.abc import Iterator


def doubling(first_s: float, last_s: float) -> Iterator[float]:
    """Seconds to wait, for ever: ``doubling(1, 30)`` is 1, 2, 4, 8, 16, 30, 30, …"""
    pause = first_s
    while True:
        yield pause
        pause = min(2 * pause, last_s)
