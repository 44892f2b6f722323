"""Reading and writing of items for both interfaces, where that may take time.

A write or fetch that was begun is a task of its own: whether its client lives or dies, it is ended properly.
When its time is over it is cancelled: nothing is sent any more once the client was told that the outcome is
not known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from mk2dbus.items import Disconnected, InvalidValue, NoReply, ReadOnly, Refused, WriteFailed

from .standstill import Standstill
from .tree import FetchFunction, Item, WriteFunction

T = TypeVar("T")

log = logging.getLogger(__name__)

WRITE_BOUND_S = 4.8
"""Time for a write until its caller is answered; the contract says 5 s, the rest is for the way back."""

FETCH_BOUND_S = 3.0
"""Time that reading a value nobody read before may take until its caller gets what is there."""

CANCEL_BOUND_S = 0.1
"""Time for what is cancelled to end; it has nothing to wait for."""

CLOSE_BOUND_S = 1.0
"""Time for running writes to end when the service stops; it has 2 s in all."""


class WriterBroken(Exception):
    """A write function raised what it should not; the log has the details."""


class Access:
    """Starts writes and fetches, owns their tasks, and bounds the wait for them."""

    def __init__(self, write_bound_s: float = WRITE_BOUND_S, fetch_bound_s: float = FETCH_BOUND_S) -> None:
        self._write_bound_s = write_bound_s
        self._fetch_bound_s = fetch_bound_s
        self._tasks: set[asyncio.Task[Any]] = set()
        self._fetches: dict[Item, asyncio.Task[None]] = {}
        self._closed = False
        self.standstill = Standstill()
        """To be started by whoever serves a bus."""

    def check_age(self, what: str) -> None:
        """A write may be one that its client has given up long ago.

        Raises:
            Refused: it may.
        """
        lasted = self.standstill.lately
        if lasted is not None:
            error = Refused(
                f"{what} was not written: the service stood still for {lasted:.0f} s, and this may have "
                "waited as long; write it again"
            )
            log.warning("%s", error)
            raise error

    def write(self, item: Item, value: object) -> Coroutine[None, None, None]:
        """Check a value and begin to write it, both before this returns: so writes begin in order of arrival.

        The coroutine that it returns waits for the outcome.

        Raises:
            WriteFailed: at once when the value is not right; from the coroutine when the write failed.
            WriterBroken: from the coroutine.
        """
        accepted = item.accept(value)
        if item.write is None:
            raise ReadOnly(f"{item.leaf.path} is read-only")
        if self._closed:
            raise Disconnected(f"{item.leaf.path} was not written: the service is stopping")
        self.check_age(item.leaf.path)
        task = self._own(_write(item.leaf.path, item.write, accepted), f"write {item.leaf.path}")
        return self._outcome(item, task)

    def write_default(self, item: Item) -> Coroutine[None, None, None]:
        """Write the factory default; as :meth:`write`, InvalidValue when there is none."""
        if item.writable and item.limits.default is None:
            raise InvalidValue(f"{item.leaf.path} has no default")
        return self.write(item, item.limits.default)

    async def fetched(self, item: Item) -> None:
        """Wait until a value that was never read is there, a bounded time. Those who wait share one fetch."""
        fetch = self._fetches.get(item)
        if fetch is None:
            if self._closed or item.fetch is None:
                return
            fetch = self._own(_fetch(item.leaf.path, item.fetch), f"fetch {item.leaf.path}")
            self._fetches[item] = fetch
            fetch.add_done_callback(lambda _: self._fetches.pop(item, None))
        await asyncio.wait({fetch}, timeout=self._fetch_bound_s)

    def perform(self, work: Coroutine[Any, Any, T], what: str) -> Coroutine[None, None, T]:
        """Begin an exchange with the device that belongs to no item; ``what`` names it in errors and log.

        The coroutine that it returns waits for the outcome, as long as for a write.

        Raises:
            WriteFailed: from the coroutine: what the work raised, NoReply when the time is over,
                Disconnected when the service stops.
        """
        return self._result(self._own(work, what), what)

    async def close(self) -> None:
        """Let what runs end, a bounded time, then cancel it. Later writes are refused."""
        self._closed = True
        for fetch in self._fetches.values():
            fetch.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_BOUND_S)
            for task in late:
                log.warning("%s was cut off: the service stops", task.get_name())
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _own(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _outcome(self, item: Item, task: asyncio.Task[Exception | None]) -> None:
        path = item.leaf.path
        if not await self._ended(task):
            raise NoReply(f"{path} was not confirmed within 5 s; whether it was written is not known")
        if task.cancelled():
            raise Disconnected(f"{path} was not confirmed: the service is stopping")
        failed = task.result()
        if failed is not None:
            raise failed

    async def _result(self, task: asyncio.Task[T], what: str) -> T:
        # One that begins while the service stops would hold it up.
        if self._closed:
            task.cancel()
        if not await self._ended(task):
            raise NoReply(f"{what}: not confirmed within 5 s; whether it was done is not known")
        if task.cancelled():
            raise Disconnected(f"{what}: not confirmed, the service is stopping")
        return task.result()

    async def _ended(self, task: asyncio.Task[Any]) -> bool:
        """Wait for a task; whether it ended in time. If not it is cancelled."""
        await asyncio.wait({task}, timeout=self._write_bound_s)
        if task.done():
            return True
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_BOUND_S)
        return task.done() and not task.cancelled()


async def _write(path: str, write: WriteFunction, value: int | float | str) -> Exception | None:
    """Returns its failure instead of raising it: there may be nobody left who waits for it."""
    try:
        await write(value)
    except WriteFailed as error:
        return error
    except Exception:
        log.exception("writing %s failed in a way it should not", path)
        return WriterBroken(f"{path} was not written: internal error, the log of the service has more")
    return None


async def _fetch(path: str, fetch: FetchFunction) -> None:
    try:
        await fetch()
    except Exception:
        log.exception("reading %s failed in a way it should not", path)
