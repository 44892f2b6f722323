"""Follows what a service tells, also over restarts of the service and of the bus."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

from mk2dbus.bus.client import Client, ItemView
from mk2dbus.bus.errors import BusError, BusUnreachable, ConnectionLost, ServiceNotFound

Changes = Mapping[str, Mapping[str, Any]]
T = TypeVar("T")

SERVICE, BUS = "service", "bus"
"""What can be gone."""

_RETRY_S = 1.0
"""Between two looks for a bus that is gone."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class View(Protocol):
    """How values get to the person."""

    async def start(self) -> None: ...

    def items(self, changes: Changes) -> None:
        """Path → key (Value, Text) → what it is now."""

    def there(self, there: bool, what: str = SERVICE) -> None:
        """The service, or the bus, came or went."""

    async def close(self) -> None: ...


class Present:
    """The service for those who ask it, over the connection of now; see :meth:`find_again`."""

    def __init__(self, bus: str, client: Client) -> None:
        self._bus = bus
        self.client = client

    @classmethod
    @asynccontextmanager
    async def opened(cls, bus: str, service: str | None) -> AsyncIterator[Present]:
        """Raises what :meth:`.client.Client.open` raises."""
        present = cls(bus, await Client.open(bus, service))
        try:
            yield present
        finally:
            present.client.close()

    async def find_again(self) -> bool:
        """Connect anew after the bus was gone; whether bus and service are there."""
        try:
            found = await Client.open(self._bus, self.client.service)
        except (BusUnreachable, ServiceNotFound):
            return False
        self.client.close()
        self.client = found
        return True

    async def view(self, path: str) -> ItemView:
        return await self.client.view(path)

    async def choices(self, path: str) -> dict[int, str]:
        return await self.client.choices(path)

    async def set(self, path: str, value: float | str) -> None:
        await self.client.set(path, value)


class Ending:
    """Whether and why the monitor ends: what went wrong first, if anything did."""

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self.error: BaseException | None = None

    def __call__(self, error: BaseException | None = None) -> None:
        if self.error is None:
            self.error = error
        self.told.set()


async def follow(present: Present, make_view: Callable[[Ending], View]) -> int:
    """Show values until the person or a signal ends it. Goes on by itself when service or bus come back.

    Raises:
        BrokenPipeError: nobody reads our output any more.
    """
    loop = asyncio.get_running_loop()
    end = Ending()
    for number in _SIGNALS:
        loop.add_signal_handler(number, end)
    view = make_view(end)
    try:
        await view.start()
        while not end.told.is_set():
            try:
                await _watch(present.client, view, end)
            except ConnectionLost:
                view.there(False, BUS)
                await _found_again(present, end)
                view.there(True, BUS)
    finally:
        await view.close()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
    if end.error is not None:
        raise end.error
    return 0


async def _found_again(present: Present, end: Ending) -> None:
    """Wait for bus and service, or for the end."""
    while not end.told.is_set() and not await present.find_again():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(end.told.wait(), _RETRY_S)


async def _watch(client: Client, view: View, end: Ending) -> None:
    """Bring everything there is, then what changes; everything again each time the service comes back.

    Raises:
        ConnectionLost: the bus is gone.
    """
    came = asyncio.Event()
    heard: dict[str, Mapping[str, Any]] = {}

    def on_items(changes: Changes) -> None:
        heard.update(changes)
        view.items(changes)

    def on_owner(there: bool) -> None:
        view.there(there)
        if there:
            came.set()

    await client.watch(_guarded(on_items, end), _guarded(on_owner, end))
    came.set()
    while not end.told.is_set():
        if came.is_set():
            came.clear()
            heard.clear()
            items = await _everything(client)
            # What was heard meanwhile is at least as new as the answer.
            view.items({path: parts for path, parts in items.items() if path not in heard})
        await _first_of(end.told, came, client.lost)
        if client.lost.done():
            raise ConnectionLost(f"the bus is gone: {client.lost.result()}")


def _guarded(handler: Callable[[T], None], end: Ending) -> Callable[[T], None]:
    """What a handler raises ends the monitor, and not only the message that it was about."""

    def call(argument: T) -> None:
        try:
            handler(argument)
        except Exception as error:
            end(error)

    return call


async def _everything(client: Client) -> Changes:
    """All that the service has; nothing when it just went."""
    try:
        items = await client.paths_and_values()
    except ConnectionLost:
        raise
    except BusError:
        return {}
    return {path: {"Value": value, "Text": text} for path, (value, text) in items.items()}


async def _first_of(stop: asyncio.Event, came: asyncio.Event, lost: asyncio.Future[str]) -> None:
    waits = [asyncio.create_task(event.wait()) for event in (stop, came)]
    try:
        futures: list[asyncio.Future[Any]] = [*waits, lost]
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
