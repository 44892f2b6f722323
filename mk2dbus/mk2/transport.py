"""What the link needs of a serial port, and a port of whom it serves."""

from __future__ import annotations

from typing import Protocol

from mk2dbus.mk2.errors import PortLost


class Receiver(Protocol):
    """Who gets what a port receives."""

    def data_received(self, data: bytes) -> None:
        """Bytes came in."""

    def connection_lost(self, error: PortLost) -> None:
        """The port has gone; nothing more will come."""


class Port(Protocol):
    """The serial port as the link needs it."""

    @property
    def baudrate(self) -> int: ...

    def attach(self, receiver: Receiver) -> None:
        """Give what comes from now on to this receiver, and to nobody else. What comes while nobody is
        attached is thrown away.

        Raises:
            PortLost: the port has gone.
        """

    def detach(self) -> None:
        """Give it to nobody."""

    def write(self, data: bytes) -> None:
        """Send; never blocks. After the port is lost it does nothing: the receiver is told of the loss."""

    def rest(self, seconds: float) -> None:
        """What comes within so long may be given together, afterwards."""

    def set_baudrate(self, baudrate: int) -> None:
        """Change the speed at once, also for what was written and has not left yet.

        Raises:
            PortLost: the port has gone.
        """
