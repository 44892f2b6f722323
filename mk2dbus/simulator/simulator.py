"""The simulator on a pseudo-terminal: a thin shell with clock and port around :class:`~.core.Core`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Self

from .adapter import Adapter
from .core import Core
from .device import Device, FrontSwitch
from .events import EventLog
from .plant import Plant
from .profiles import DEFAULT_PROFILE
from .pty import Pty


class Simulator:
    """An adapter with its devices at a port, for as long as the context lasts.

    >>> async with Simulator("multiplus2") as sim:
    ...     await client.open(sim.port)
    ...     sim.plant.mains_voltage = 0

    Everything may be changed while it runs: ``plant`` (mains, load, battery, alarms), ``device`` (settings,
    overrides, front switch), ``adapter`` (silent, stuck), ``core.incoming`` and ``core.outgoing`` (damage on
    the line), :meth:`unplug` and :meth:`plug`. ``log`` has what happened.

    Args:
        profile: name of a profile.
        baudrate: 2400 paces the line like the real one, 0 does not pace it.
        latency_ms: time the inverter takes to answer.
        link: symbolic link to the port; it comes back after :meth:`plug`, with perhaps another device behind.

    Raises:
        UnknownProfileError: no such profile.
    """

    def __init__(
        self,
        profile: str = DEFAULT_PROFILE,
        baudrate: int = 2400,
        latency_ms: float = 15,
        link: Path | None = None,
    ) -> None:
        self.core = Core(profile, baudrate, latency_ms)
        self._link = link
        self._pty: Pty | None = None
        self._port = ""
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dropped_bytes = 0

    async def __aenter__(self) -> Self:
        """Open the port and begin.

        Raises:
            OSError: no pseudo-terminal, or the link cannot be made.
        """
        self._loop = asyncio.get_running_loop()
        self.plug()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unplug()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop = None

    # -- what a test or a person reaches for ---------------------------------------------------------------

    @property
    def port(self) -> str:
        """Path that a client opens; while unplugged the last one."""
        return self._port

    @property
    def plant(self) -> Plant:
        """Battery, mains and loads."""
        return self.core.plant

    @property
    def adapter(self) -> Adapter:
        """The adapter's state and faults."""
        return self.core.adapter

    @property
    def device(self) -> Device:
        """The first device."""
        return self.core.device

    @property
    def devices(self) -> dict[int, Device]:
        """All devices by VE.Bus address."""
        return self.core.devices

    @property
    def log(self) -> EventLog:
        """What happened, what was not answered and why."""
        return self.core.log

    @property
    def dropped_bytes(self) -> int:
        """Bytes for the client that were dropped because the port's buffer was full: nobody read."""
        return self._dropped_bytes + (self._pty.dropped_bytes if self._pty is not None else 0)

    @property
    def plugged(self) -> bool:
        """Whether the cable is in."""
        return self._pty is not None

    def refresh(self) -> None:
        """Come to the present time, and let take effect at once what was changed."""
        self.core.touch()
        self._wake_up()

    def press_panel(self, mode: int, limit_a: float, bit3: bool = False) -> None:
        """Another panel on the bus acts: switch position 1…4 and current limit."""
        self._wake_up()
        self.core.press_panel(mode, limit_a, bit3)
        self._wake_up()

    def turn_front_switch(self, position: FrontSwitch) -> None:
        """Turn the switch on the units; from off to another position it wakes them."""
        self.core.turn_front_switch(position)
        self._wake_up()

    def unplug(self) -> None:
        """Pull the cable: the port vanishes under the client. Adapter and devices live on."""
        if self._pty is None or self._loop is None:
            return
        self._loop.remove_reader(self._pty)
        self._dropped_bytes += self._pty.dropped_bytes
        self._pty.close()
        self._pty = None
        self.core.cut_line()

    def plug(self) -> None:
        """Put the cable in (again).

        Raises:
            OSError: no pseudo-terminal, or the link cannot be made.
        """
        if self._pty is not None or self._loop is None:
            return
        self._pty = Pty(self._link)
        self._port = self._pty.path
        self._loop.add_reader(self._pty, self._on_readable)
        self._wake_up()

    # -- clockwork -----------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        if self._pty is not None and self._loop is not None:
            data = self._pty.read()
            self.core.client_baudrate = self._pty.client_baudrate
            if data:
                self.core.feed(data, self._loop.time())
                self._wake_up()

    def _wake_up(self) -> None:
        """Do what is due, and set the timer for what comes next."""
        if self._loop is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        if self._pty is not None:
            self.core.client_baudrate = self._pty.client_baudrate
        data = self.core.run(self._loop.time())
        if data and self._pty is not None:
            self._pty.write(data)
        self._timer = self._loop.call_at(self.core.deadline, self._wake_up)
