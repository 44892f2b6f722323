"""The service on the bus: a tree of items under a name, kept there whatever happens to the bus."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

from mk2dbus.pauses import doubling
from mk2dbus.pulse import Beat, no_beat

from .access import Access
from .announcer import Announcer, Changes
from .connection import Connection
from .errors import BusError, ConnectionLost
from .interfaces import Interface
from .names import BUS_ITEM, DAEMON, ITEMS_CHANGED
from .server import Server
from .tree import ROOT, Tree
from .values import changed_items
from .wire import Message

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LAST_PAUSE_S = 0.2, 2.0

CONNECT_S = 10.0
"""Connecting, and taking the name, takes less."""
BEAT_S = 5.0
"""How often it is said that all is well."""

RELEASE_TIMEOUT_S = 0.5
"""The daemon takes the name back when the connection ends anyhow; this is only the polite way."""


class Follower(Protocol):
    """Uses the connection of the service for something of its own."""

    async def connected(self, connection: Connection) -> None:
        """There is a new connection, and no name on it yet; the name waits until this returns.

        May raise BusError, which is as if the connection had failed.
        """
        ...

    def hear(self, signal: Message) -> None:
        """A signal came. It may be from anybody who knows our address."""
        ...

    async def close(self) -> None:
        """The service stops; the connection is still there. Leaves no task."""
        ...


class BusService:
    """Serves a tree on the bus. Nothing happens before :meth:`connect` or :meth:`start`.

    Call :meth:`start` when every path is in place: that is when others can see the name. Then await
    :meth:`run` for as long as the service lives, and :meth:`close` in the end, whatever came before.
    """

    def __init__(
        self, tree: Tree, bus: str = "system", access: Access | None = None, beat: Beat = no_beat
    ) -> None:
        self._beat = beat
        self._tree = tree
        self._bus = bus
        self._access = access or Access()
        self._server = Server(tree, self._access)
        self._announcer: Announcer | None = None
        self._connection: Connection | None = None
        self._followers: list[Follower] = []
        self._name = ""
        self._owned = False
        self._name_lost = asyncio.Event()

    @property
    def owns_name(self) -> bool:
        """Whether clients can find the service right now."""
        return self._owned and self._connection is not None and not self._connection.lost.done()

    def extend(self, path: str, interface: Interface) -> None:
        """Give a folder one more interface; see :meth:`.server.Server.extend`."""
        self._server.extend(path, interface)

    def follow(self, follower: Follower) -> None:
        """Have somebody use every connection from the next on."""
        self._followers.append(follower)

    async def connect(self) -> None:
        """Connect, before there is a name. Nothing to do when connected.

        Raises:
            BusUnreachable: no bus at the address, or it does not let us in.
            ConnectionLost, CallTimedOut: the bus went away again meanwhile.
        """
        if self._connection is not None and not self._connection.lost.done():
            return
        connection = await Connection.open(self._bus, on_call=self._server.handle, on_signal=self._on_signal)
        try:
            for follower in self._followers:
                await follower.connected(connection)
        except BaseException:
            connection.close()
            raise
        connection.on_drained = self._wake
        self._connection = connection

    async def start(self, name: str) -> None:
        """Put the name on the bus; connects first when that is still to do.

        Raises:
            BusUnreachable: see :meth:`connect`.
            NameTaken: it has another owner.
            NameRefused: the bus does not let us own it.
            ConnectionLost, CallTimedOut: the bus went away meanwhile.
        """
        self._name = name
        self._access.standstill.start()
        if self._announcer is None:
            loop = asyncio.get_running_loop()
            self._announcer = Announcer(self._tree, self._tell, self._ready, loop)
            self._tree.on_change = self._wake
        await self.connect()
        await self._take_name()

    async def run(self) -> None:
        """Keep the service on the bus until cancelled: connect and take the name again when lost."""
        while True:
            if self.owns_name:
                log.warning("%s is off the bus: %s", self._name, await self._loss())
            for pause in doubling(FIRST_PAUSE_S, LAST_PAUSE_S):
                self._beat(pause + CONNECT_S)
                await asyncio.sleep(pause)
                try:
                    await self.connect()
                    await self._take_name()
                except BusError as error:
                    log.debug("not back yet: %s", error)
                else:
                    break
            log.warning("%s is on the bus again", self._name)

    async def finish(self) -> None:
        """Let running writes end (at most 1 s) and answer them; later ones are refused."""
        await self._access.close()
        await self._server.close()

    async def close(self) -> None:
        """Let running writes end (at most 1 s), give the name back, end the connection. Leaves no task."""
        self._tree.on_change = None
        self._access.standstill.stop()
        if self._announcer is not None:
            self._announcer.stop()
        await self.finish()
        for follower in self._followers:
            await follower.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                if self._owned:
                    async with asyncio.timeout(RELEASE_TIMEOUT_S):
                        await connection.release_name(self._name)
            except (BusError, TimeoutError) as error:
                log.debug("the name was not given back: %s", error)
            finally:
                self._owned = False
                connection.close()

    async def _take_name(self) -> None:
        if self._connection is None:
            raise ConnectionLost("not connected to the bus")
        # Nobody could have heard of earlier changes; from here on each is kept until it is told.
        self._tree.take_changes()
        self._name_lost.clear()
        await self._connection.request_name(self._name)
        self._owned = True
        self._wake()

    async def _loss(self) -> str:
        """Wait until connection or name are lost; the reason."""
        connection = self._connection
        if connection is None:
            return "closed"
        taken = asyncio.create_task(self._name_lost.wait(), name="name lost")
        try:
            either: list[asyncio.Future[Any]] = [taken, connection.lost]
            while not any(one.done() for one in either):
                self._beat(BEAT_S)
                await asyncio.wait(either, timeout=BEAT_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            taken.cancel()
        self._owned = False
        return connection.lost.result() if connection.lost.done() else "another program took the name"

    def _on_signal(self, signal: Message) -> None:
        if signal.sender == DAEMON and signal.member == "NameLost" and signal.arguments() == [self._name]:
            self._owned = False
            self._name_lost.set()
        for follower in self._followers:
            follower.hear(signal)

    def _wake(self) -> None:
        if self._announcer is not None:
            self._announcer.wake()

    def _ready(self) -> bool:
        return self._connection is not None and self.owns_name and not self._connection.stalled

    def _tell(self, changes: Changes) -> None:
        if self._connection is not None:
            self._connection.signal(ROOT, BUS_ITEM, ITEMS_CHANGED, changed_items(changes))
