"""One request on its way, and whether several may be on their way at a time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from mk2dbus.mk2.errors import Mk2Error
from mk2dbus.mk2.framing import Frame, adapter_frame
from mk2dbus.mk2.request import AdapterRequest, Request, Winmon


class Priority(IntEnum):
    """Who goes first when several requests wait. Within one priority: who came first."""

    CONTROL = 0
    """Panel frames, which keep a rhythm."""
    CLIENT = 1
    """Somebody waits for the answer."""
    TELEMETRY = 2
    BACKGROUND = 3


@dataclass(slots=True, eq=False)
class Exchange:
    """One request on its way. Ordered by priority, then by arrival."""

    request: Request[Any]
    address: int | None
    priority: Priority
    serial: int
    future: asyncio.Future[Any]
    attempts_left: int
    wanted_by: Exchange | None = None
    """Who needs the address that this one sets."""
    letter: int = 0
    sent_at: float = 0.0
    deadline: float = 0.0
    crowded: bool = False
    """Whether another one was on the line together with it."""
    parts: list[bytes] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return (self.wanted_by or self).future.done()

    def fail(self, error: Mk2Error) -> None:
        """Tell who waits; one whose address cannot be set fails with that."""
        future = (self.wanted_by or self).future
        if not future.done():
            future.set_exception(error)

    def __lt__(self, other: Exchange) -> bool:
        return (self.priority, self.serial) < (other.priority, other.serial)


class Crowding:
    """Finds out whether the adapter takes several commands at a time, as the protocol says it does (§3).

    Commands that stay unanswered while others are answered speak against it; on a noisy line a few do so too.
    """

    LIMIT = 4.0
    """Points at which it is decided; an unanswered command counts one."""
    RELIEF = 0.2
    """What an answered one takes back."""

    def __init__(self) -> None:
        self._points = 0.0

    def answered(self, exchange: Exchange) -> None:
        """An exchange had its reply."""
        if exchange.crowded:
            self._points = max(0.0, self._points - self.RELIEF)

    def unanswered(self, exchange: Exchange, last_answer: float | None) -> bool:
        """An exchange had no reply; whether that is enough to send one at a time from now on."""
        if exchange.crowded and last_answer is not None and last_answer > exchange.sent_at:
            self._points += 1
        return self._points >= self.LIMIT


def encoded(request: Request[Any], letter: int) -> list[Frame]:
    """What to send for a request; winmon commands with the letter of their slot."""
    if isinstance(request, Winmon):
        return [adapter_frame(chr(letter), payload) for payload in request.payloads()]
    assert isinstance(request, AdapterRequest)
    return [request.frame()]
