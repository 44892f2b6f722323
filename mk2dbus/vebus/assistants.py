"""The list of assistants in the RAM of a device (mk2-protocol.md §4.6)."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from mk2dbus.mk2 import errors
from mk2dbus.mk2.exchange import Priority
from mk2dbus.mk2.winmon import ReadRam

log = logging.getLogger(__name__)

FIRST_ID, LAST_ID = 128, 255
CURRENT_SENSOR, ESS = 1, 5
"""Ids of assistants."""


class HasRam(Protocol):
    """A device whose RAM can be read."""

    async def confirmed(self, command: ReadRam, priority: Priority) -> tuple[int, ...]:
        """What it answers, asked again where the line is noisy."""


@dataclass(frozen=True, slots=True)
class Assistant:
    """One entry of the list.

    Attributes:
        kind: assistant id, e.g. 5 for ESS.
        header: RAM id of its header.
        size: number of words after the header.
    """

    kind: int
    header: int
    size: int

    @property
    def words(self) -> range:
        """RAM ids of its words, the header excepted."""
        return range(self.header + 1, self.header + 1 + self.size)


def of_kind(assistants: Iterable[Assistant] | None, kind: int, size: int) -> list[Assistant]:
    """Those with an id that have the words they need; none where the list was not read."""
    return [one for one in assistants or () if one.kind == kind and one.size >= size]


async def read_assistants(device: HasRam, priority: Priority = Priority.BACKGROUND) -> tuple[Assistant, ...]:
    """Walk the list: a header, its words, the next header; 0 ends it. Without assistants it is empty.

    A list that does not end is no good one; of it only those are taken that have room for their words.

    Raises:
        NoReply, LinkClosed, PortLost: the list could not be read to its end.
    """
    at = FIRST_ID
    found: list[Assistant] = []
    while at <= LAST_ID:
        try:
            (header,) = await device.confirmed(ReadRam((at,)), priority)
        except errors.NotSupported:
            return tuple(found)
        if header == 0:
            return tuple(found)
        assistant = Assistant(header >> 4, at, header & 0x0F)
        at += 1 + assistant.size
        if at <= LAST_ID + 1:
            found.append(assistant)
    log.warning("the list of assistants of %s has no end; it has %s", device, [one.kind for one in found])
    return tuple(found)
