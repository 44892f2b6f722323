"""Writing to the disk beside the event loop: a card may take seconds for it, and nothing else can wait."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

CLOSE_S = 1.8
"""Time for what is still to be written when the service stops; it has 2 s in all."""
LEAST_S = 0.1
"""Of that, for the writing itself, however long the rest took."""


def _ignore(_: object) -> None:
    """For work of which nobody wants to hear."""


class Disk(Protocol):
    """Does what goes to the disk."""

    def submit(
        self, work: Callable[[], T], done: Callable[[T], None] = _ignore, *, file: Path | None = None
    ) -> Callable[[], bool]:
        """Do ``work`` after all that was submitted before; ``done`` gets what it returned.

        Work that writes the whole of a ``file`` takes the place of the one before that has not begun; nobody
        hears of that one any more. Work must not raise.

        Returns:
            What takes it back; whether that was possible: it has not begun then, and will not.
        """
        ...


class AtOnce:
    """A disk for who has nothing better to do meanwhile."""

    def submit(
        self, work: Callable[[], T], done: Callable[[T], None] = _ignore, *, file: Path | None = None
    ) -> Callable[[], bool]:
        done(work())
        return lambda: False


@dataclass(slots=True, eq=False)
class _Job:
    work: Callable[[], Any]
    done: Callable[[Any], None]
    file: Path | None


class DiskThread:
    """One thread that does the work, in order; whoever is to hear of it does on the event loop.

    A disk that stands still may hold it for ever: the process does not wait for it in the end.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[_Job] = deque()
        self._change = threading.Condition()
        self._closed = False
        self._close_by: float | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def submit(
        self, work: Callable[[], T], done: Callable[[T], None] = _ignore, *, file: Path | None = None
    ) -> Callable[[], bool]:
        """See :meth:`Disk.submit`.

        Raises:
            RuntimeError: it was closed.
        """
        job = _Job(work, done, file)
        with self._change:
            if self._closed:
                raise RuntimeError("nothing is written any more")
            for place, waiting in enumerate(self._jobs):
                if file is not None and waiting.file == file:
                    self._jobs[place] = job
                    break
            else:
                self._jobs.append(job)
            self._change.notify()
        return lambda: self._take_back(job)

    def close_soon(self) -> None:
        """The service is stopping: from now on runs the time that :meth:`close` has."""
        if self._close_by is None:
            self._close_by = self._loop.time() + CLOSE_S

    async def close(self) -> None:
        """Wait until all is written, a bounded time, and end."""
        self.close_soon()
        assert self._close_by is not None
        with self._change:
            self._closed = True
            self._change.notify()
        await asyncio.wait({self._ended}, timeout=max(self._close_by - self._loop.time(), LEAST_S))
        if self._ended.done():
            self._thread.join()
        else:
            log.warning("the disk does not take what was to be kept last; the service ends without it")

    def _take_back(self, job: _Job) -> bool:
        with self._change:
            if job not in self._jobs:
                return False
            self._jobs.remove(job)
        return True

    # --- in the thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                result = job.work()
            except Exception:
                # A defect; what comes after it must be written all the same.
                log.exception("writing to the disk failed in a way it should not")
                continue
            self._tell(job.done, result)
        self._tell(self._ended.set_result, None)

    def _next(self) -> _Job | None:
        """The next work, as soon as there is some; ``None`` when there will be none."""
        with self._change:
            while not self._jobs and not self._closed:
                self._change.wait()
            return self._jobs.popleft() if self._jobs else None

    def _tell(self, done: Callable[[T], None], result: T) -> None:
        try:
            self._loop.call_soon_threadsafe(done, result)
        except RuntimeError:
            # The loop did not wait for the disk: there is nobody to be told.
            log.debug("written after the end of the service")
