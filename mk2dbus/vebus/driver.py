"""The inverter side as a whole: the system's items, one session after the other, the port opened again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

from mk2dbus.items import Disconnected, Leaf, NoReply, Refused, WriteFailed
from mk2dbus.mk2 import errors
from mk2dbus.mk2.transport import Port
from mk2dbus.pauses import doubling
from mk2dbus.pulse import Beat, no_beat
from mk2dbus.vebus import charger, ess, panel, system
from mk2dbus.vebus.board import Board, Write
from mk2dbus.vebus.commands import Command, Commands, Written
from mk2dbus.vebus.context import Context
from mk2dbus.vebus.devices import SYSTEM_SETTINGS
from mk2dbus.vebus.energybook import EnergyBook
from mk2dbus.vebus.infocache import InfoCache
from mk2dbus.vebus.options import DEFAULTS, Options
from mk2dbus.vebus.paths import system_leaves
from mk2dbus.vebus.raw import RawAccess
from mk2dbus.vebus.session import Session
from mk2dbus.vebus.statistics import Statistics

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LAST_PAUSE_S = 1.0, 30.0
"""Between attempts to open a lost port: doubled each time."""

WAKE_TIMEOUT_S = 4.5
"""How long a system that sleeps may take to come and do what it is told; the contract gives a write 5 s."""

_OPEN_S = 5.0
"""Opening a port takes less."""

OWN_SOURCE = "service"
"""Leaves whose source begins with this belong to the service, not to the inverter."""


COMMANDS: Commands = {
    **system.COMMANDS,
    **panel.COMMANDS,
    **charger.COMMANDS,
    **ess.COMMANDS,
}
"""How the items of the system are written, by path; those of the devices write themselves."""


class OwnedPort(Port, Protocol):
    """A port that this side closes when it is done with it."""

    async def close(self) -> None: ...


OpenPort = Callable[[], Awaitable[OwnedPort]]


class Driver:
    """Shows a VE.Bus system on a board as long as it runs.

    Args:
        board: gets the system's leaves at once, and a device's when it is found.
        open_port: opens the port anew after it was lost; raises PortUnusable.
        cache: where infos of devices are kept.
        energy: adds up energy; ``None``: in memory only.
        beat: says that this side gets on.
    """

    def __init__(
        self,
        board: Board,
        open_port: OpenPort,
        cache: InfoCache,
        options: Options = DEFAULTS,
        energy: EnergyBook | None = None,
        beat: Beat = no_beat,
    ) -> None:
        self._board = board
        self._open_port = open_port
        self._context = Context(
            board, cache, energy or EnergyBook(), Statistics(board), options=options, beat=beat
        )
        self.raw = RawAccess(self._context.items, COMMANDS)
        self._session: Session | None = None
        self._own = {leaf.path for leaf in system_leaves() if leaf.source.startswith(OWN_SOURCE)}

    def place(self) -> None:
        """Put the leaves of the system on the board, not yet known; those of the service excepted."""
        writers: dict[str, Write] = {
            path: partial(self._command, path, command) for path, command in COMMANDS.items()
        }
        for name, path in SYSTEM_SETTINGS.items():
            writers[path] = partial(self._write_everywhere, name, path)
        for leaf in self.leaves():
            self._board.add(leaf, write=writers.get(leaf.path))
        self._board.update({"/Connected": 0})

    def counted(self) -> Mapping[str, int]:
        """What happened since the start, by what is counted in the plural."""
        totals = self._context.statistics.totals
        return {
            "sessions": self._context.statistics.sessions,
            "retries": totals.retries,
            "time-outs": totals.timeouts,
            "dropped bytes": totals.dropped_bytes,
            "stray frames": totals.stray_frames,
            "implausible replies": totals.implausible,
        }

    def leaves(self) -> Iterator[Leaf]:
        """The system leaves that this side fills."""
        return (leaf for leaf in system_leaves() if leaf.path not in self._own)

    async def run(self, port: OwnedPort) -> None:
        """Serve an open port, and after its loss open it again, for ever."""
        try:
            await self._run(port)
        finally:
            self._context.energy.save()

    async def _run(self, port: OwnedPort) -> None:
        while True:
            self._session = Session(port, self._context)
            try:
                await self._session.run()
            except errors.PortLost as error:
                log.warning("%s; waiting for it to come back", error)
            except Exception:
                # A defect of this program must not leave the inverter without it.
                log.exception("internal error, starting the session anew")
            finally:
                self._session = None
                await port.close()
                self._withdraw()
            port = await self._reopen()
            log.info("the port is back")

    async def _reopen(self) -> OwnedPort:
        complained: str | None = None
        for pause in doubling(FIRST_PAUSE_S, LAST_PAUSE_S):
            self._context.beat(pause + _OPEN_S)
            await asyncio.sleep(pause)
            try:
                return await self._open_port()
            except errors.PortUnusable as error:
                if str(error) != complained:
                    complained = str(error)
                    log.info("%s", error)
        raise AssertionError("the pauses do not end")

    def _withdraw(self) -> None:
        """Without a port nothing is known, not even the adapter."""
        self._board.update({leaf.path: None for leaf in self.leaves()} | {"/Connected": 0})
        self._context.statistics.show()

    async def _command(self, path: str, command: Command[Any], value: Written) -> None:
        session = self._session
        try:
            if session is not None and session.system is not None:
                await session.system.carry_out(command, value)
            elif session is not None and session.asleep and value in command.wakes:
                await _wake_and_run(session, command, value)
            else:
                raise Disconnected("cannot be written: the inverter is not connected")
        except WriteFailed as error:
            raise type(error)(f"{path}: {error}") from error

    async def _write_everywhere(self, name: str, path: str, value: int | float | str) -> None:
        """Store a setting in all devices; the first that refuses ends it."""
        present = [items for items in self._context.items if items.device is not None]
        if not present:
            raise Disconnected(f"{path} cannot be written: the inverter is not connected")
        for done, items in enumerate(present):
            try:
                await items.settings.write(name, value)
            except WriteFailed as error:
                if not done:
                    raise
                # Something was stored, whatever the error says of this one.
                kind = type(error) if isinstance(error, NoReply | Disconnected) else Refused
                raise kind(f"{error}; {done} of {len(present)} devices have it") from error


async def _wake_and_run(session: Session, command: Command[Any], value: Written) -> None:
    """Wake a system that sleeps and command it, as far as there is time for both."""
    so_far = "the system was woken and is not there yet; nothing was commanded"
    try:
        async with asyncio.timeout(WAKE_TIMEOUT_S):
            found = await session.wake()
            so_far = "the system was woken, but it is not known whether it was commanded"
            await found.carry_out(command, value)
    except TimeoutError:
        raise NoReply(so_far) from None
