"""A port with listeners: whoever wants to know what goes over it, both ways."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from mk2dbus.decode.decoder import Decoder, Direction
from mk2dbus.mk2.errors import PortLost
from mk2dbus.mk2.transport import Receiver
from mk2dbus.vebus.driver import OpenPort, OwnedPort

log = logging.getLogger(__name__)
wire_log = logging.getLogger("mk2dbus.wire")

Listener = Callable[[Direction, bytes, float], None]
"""Gets bytes as they are sent or received, and the time of the event loop."""


class WireLog:
    """A listener that logs each frame with its meaning, at DEBUG."""

    def __init__(self) -> None:
        self._decoder = Decoder()

    def __call__(self, direction: Direction, data: bytes, now: float) -> None:
        for entry in self._decoder.feed(direction, data, now):
            wire_log.debug("%s", entry)


class TappedPort:
    """An open port that tells listeners what goes over it; what they do wrong does not reach the line."""

    def __init__(self, port: OwnedPort, listeners: Sequence[Listener]) -> None:
        self._port = port
        self._listeners = list(listeners)
        self._receiver: Receiver | None = None

    @property
    def baudrate(self) -> int:
        return self._port.baudrate

    def write(self, data: bytes) -> None:
        self._tell(Direction.SENT, data)
        self._port.write(data)

    def attach(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._port.attach(self)

    def detach(self) -> None:
        self._port.detach()

    def data_received(self, data: bytes) -> None:
        self._tell(Direction.RECEIVED, data)
        assert self._receiver is not None
        self._receiver.data_received(data)

    def connection_lost(self, error: PortLost) -> None:
        assert self._receiver is not None
        self._receiver.connection_lost(error)

    def rest(self, seconds: float) -> None:
        self._port.rest(seconds)

    def set_baudrate(self, baudrate: int) -> None:
        self._port.set_baudrate(baudrate)

    async def close(self) -> None:
        await self._port.close()

    def _tell(self, direction: Direction, data: bytes) -> None:
        now = asyncio.get_running_loop().time()
        for listener in self._listeners[:]:
            try:
                listener(direction, data, now)
            except Exception:  # a defect in what only looks on must not take the inverter off the bus
                log.exception("a listener failed and is left out from here on")
                self._listeners.remove(listener)


def tapped(open_port: OpenPort, listeners: Callable[[], Sequence[Listener]]) -> OpenPort:
    """Opens ports with listeners; each port gets its own, as it begins a conversation of its own."""

    async def open() -> OwnedPort:
        return TappedPort(await open_port(), listeners())

    return open
