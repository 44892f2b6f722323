"""The list of assistants in the RAM of a device (mk2-protocol.md §4.6)."""

from __future__ import annotations

from dataclasses import dataclass

from mk2dbus.mk2 import errors
from mk2dbus.mk2.exchange import Priority
from mk2dbus.mk2.winmon import ReadRam
from mk2dbus.vebus.device import Device

FIRST_ID, LAST_ID = 128, 255


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
        return range(self.header + 1, min(self.header + 1 + self.size, LAST_ID + 1))


async def read_assistants(device: Device, priority: Priority = Priority.BACKGROUND) -> tuple[Assistant, ...]:
    """Walk the list: a header, its words, the next header; 0 ends it. Without assistants it is empty.

    Raises:
        NoReply, LinkClosed, PortLost: the list could not be read to its end.
    """
    at = FIRST_ID
    found: list[Assistant] = []
    while at <= LAST_ID:
        try:
            (header,) = await device.request(ReadRam((at,)), priority)
        except errors.NotSupported:
            break
        if header == 0:
            break
        found.append(Assistant(header >> 4, at, header & 0x0F))
        at += 1 + found[-1].size
    return tuple(found)
