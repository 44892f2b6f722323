"""One request on its way."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from mk2dbus.mk2.errors import Mk2Error
from mk2dbus.mk2.framing import Frame, adapter_frame
from mk2dbus.mk2.request import AdapterRequest, Lane, Request, Winmon

SLOTS = b"XYZ"
"""Letters of the winmon slots; in lower case they ask in the addressed form."""


class Priority(IntEnum):
    """Who goes first when several requests wait. Within one priority: who came first."""

    CONTROL = 0
    """Panel frames, which keep a rhythm."""
    CLIENT = 1
    """Somebody waits for the answer."""
    TELEMETRY = 2
    BACKGROUND = 3

    @property
    def urgent(self) -> bool:
        """Whether the others leave room on the line for it."""
        return self <= Priority.CLIENT


@dataclass(slots=True, eq=False)
class Exchange:
    """One request on its way. Ordered by priority, then by arrival. Times are those of the event loop."""

    request: Request[Any]
    address: int | None
    priority: Priority
    serial: int
    future: asyncio.Future[Any]
    attempts_left: int
    addressed: bool | None = None
    """Whether to send it in the addressed form; ``None``: as the adapter takes it."""
    asked_at: float = 0.0
    wanted_by: Exchange | None = None
    """Who needs the address that this one sets."""
    letter: int = 0
    """Of its slot, while it is on the line."""
    times_sent: int = 0
    sent_at: float = 0.0
    left_at: float = 0.0
    """When its last byte has left, by reckoning."""
    expected_at: float = 0.0
    """When its reply is through, by reckoning."""
    deadline: float = 0.0
    together_with: int = 0
    """How many that were sent before it were answered after it was sent."""
    crowded: bool = False
    """Whether another one was on the line together with it."""
    beside_info: bool = False
    """Whether an ``F`` was on the line together with what the adapter answers itself, one of them this."""
    in_address_form: bool = False
    """Whether it was sent in the addressed form."""
    parts: list[bytes] = field(default_factory=list)
    lane: Lane = field(init=False)

    def __post_init__(self) -> None:
        self.lane = self.request.lane

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


def encoded(request: Request[Any], letter: int, address: int | None = None) -> list[Frame]:
    """What to send for a request; winmon commands with the letter of their slot.

    With an ``address`` winmon commands take the addressed form: the letter in lower case, the address last.
    """
    if isinstance(request, Winmon):
        if address is None:
            return [adapter_frame(chr(letter), payload) for payload in request.payloads()]
        tail = bytes((address,))
        return [adapter_frame(chr(letter).lower(), payload + tail) for payload in request.payloads()]
    assert isinstance(request, AdapterRequest)
    return [request.frame()]
