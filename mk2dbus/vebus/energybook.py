"""Energy added up over the life of a system, and kept on disk (mk2-protocol.md §4.3).

One file for each adapter has the totals, and the last counters of each device with the time since the machine
was switched on. So a service that is restarted counts on without a gap. Energy is lost, and none is made up,
of the time until the first reading after the machine itself was restarted, after a device was reset or
replaced, or after nothing was read for longer than :func:`mk2dbus.vebus.counters.longest_gap_s`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mk2dbus.disk import AtOnce, Disk
from mk2dbus.files import write_atomically
from mk2dbus.vebus.counters import Moment, Reading, RollingCounters

log = logging.getLogger(__name__)

SAVE_S = 60.0
"""The file is written no more often than this, and when the service ends."""

SYSTEM = "system"
"""Account of the system: what all devices count, in the order of the ten counters."""
SYSTEM_COUNTERS = 10

_FORMAT = 1
_MAX_SIZE = 1 << 20
_MAX_STEPS = 1 << 62
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

Clock = Callable[[], Moment]


def loop_clock() -> Moment:
    """Time of the event loop."""
    return Moment("", asyncio.get_running_loop().time())


def machine_clock() -> Clock:
    """Time since the machine was switched on, sleep included.

    Not the time of day: that jumps, above all on a machine without a clock of its own.
    """
    try:
        epoch = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError as error:
        log.info("energy of the time in which the service does not run is not counted: %s", error)
        epoch = f"process {time.time_ns()}"
    return lambda: Moment(epoch, time.clock_gettime(time.CLOCK_BOOTTIME))


@dataclass(slots=True)
class Content:
    """What is kept: steps by account, and the last reading by source."""

    totals: dict[str, list[int]] = field(default_factory=dict)
    last: dict[str, Reading] = field(default_factory=dict)


class EnergyFile:
    """The file of one adapter. What cannot be understood is put aside, never overwritten."""

    def __init__(self, directory: Path, adapter: str) -> None:
        self.path = directory / f"{adapter}.energy.json"
        self._complaint: str | None = None
        self._in_the_way = False
        """The file is there and cannot be read: it may hold what must not be lost."""

    def load(self) -> Content:
        """What was kept; nothing where there is no file, or none that makes sense (said in the log)."""
        try:
            if self.path.stat().st_size > _MAX_SIZE:
                raise ValueError("too large")
            return _decode(json.loads(self.path.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return Content()
        except OSError as error:
            self._in_the_way = True
            self._complain(f"{self.path} cannot be read, energy is counted from 0: {error.strerror}")
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            log.warning("%s cannot be understood, energy is counted from 0: %s", self.path, error)
            self._in_the_way = True
            self._put_aside()
        return Content()

    def save(self, content: Content) -> bool:
        """Whether it was written. When that is not possible it is said once; the service goes on without."""
        if self._in_the_way:
            self._put_aside()
        if self._in_the_way:
            return False
        try:
            write_atomically(self.path, json.dumps(_encode(content)))
        except OSError as error:
            self._complain(f"energy cannot be kept in {self.path}, only in memory: {error.strerror}")
            return False
        self._complaint = None
        return True

    def _put_aside(self) -> None:
        names = (f"{self.path.name}.broken{number or ''}" for number in itertools.count())
        try:
            aside = next(path for name in names if not (path := self.path.with_name(name)).exists())
            self.path.rename(aside)
        except FileNotFoundError:
            self._in_the_way = False
        except OSError as error:
            self._complain(f"energy is kept in memory only, {self.path} is in the way: {error.strerror}")
        else:
            self._in_the_way = False
            log.warning("%s is now %s", self.path, aside.name)

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            log.warning("%s", text)


class EnergyBook:
    """Totals by account, and the counters that feed them by source. Energy is in steps of 65536 J.

    Args:
        file: where it is kept; ``None``: in memory only.
        clock: must have the same epoch in the next run of the service, if that is to count on.
        disk: writes the file.
    """

    def __init__(
        self, file: EnergyFile | None = None, clock: Clock = loop_clock, disk: Disk | None = None
    ) -> None:
        self._file = file
        self._clock = clock
        self._disk = disk or AtOnce()
        content = Content() if file is None else file.load()
        self._totals = content.totals
        self._last = content.last
        self._sources: dict[str, RollingCounters] = {}
        self._read = False
        """Something was read that is not in the file, nor on its way there."""
        self._counted = False
        """Totals or sources have changed, likewise."""
        self._written: Moment | None = None

    def count(
        self,
        account: str,
        source: str,
        counters: Sequence[int],
        modulus: int,
        *,
        found_anew: bool = False,
        opening: bool = False,
    ) -> tuple[int, ...]:
        """Add what the counters of a source have made since they were last read; the totals.

        ``found_anew``: see :meth:`RollingCounters.advance`. ``opening``: a new account begins with what the
        counters say, not at 0.

        Raises:
            Jump: the reading is left out.
        """
        now = Reading(self._clock(), tuple(counters))
        rolling = self._sources.get(source)
        if rolling is None:
            rolling = self._sources[source] = RollingCounters(modulus, self._last.get(source))
        known = rolling.last is not None
        steps = rolling.advance(now, found_anew=found_anew)
        totals = self._totals.get(account)
        if totals is None:
            totals = list(counters) if opening else [0] * len(counters)
        self._totals[account] = [total + step for total, step in zip(totals, steps, strict=True)]
        self._last[source] = now
        self._read = True
        self._counted |= any(steps) or not known
        return tuple(self._totals[account])

    def began_anew(self, source: str, counters: Sequence[int]) -> bool:
        """Whether counters say that their source was reset since they were last read."""
        last = self._last.get(source)
        return last is not None and any(last.counters) and not any(counters)

    def save_at_times(self) -> None:
        """Write the file if there is something new, and the last time was long enough ago."""
        if self._counted:
            now = self._clock()
            elapsed = None if self._written is None else self._written.until(now)
            if elapsed is None or elapsed >= SAVE_S:
                self._save(now)

    def save(self) -> None:
        """Write the file if anything was read since: the service ends."""
        if self._read:
            self._save(self._clock())

    def _save(self, now: Moment) -> None:
        self._written = now
        if self._file is None:
            return
        # Readings of another epoch are of no use any more.
        self._last = {
            source: reading for source, reading in self._last.items() if reading.at.epoch == now.epoch
        }
        work = partial(self._file.save, Content(dict(self._totals), dict(self._last)))
        self._read = self._counted = False
        self._disk.submit(work, self._saved, file=self._file.path)

    def _saved(self, written: bool) -> None:
        if not written:
            self._read = self._counted = True


def _encode(content: Content) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "unit": "65536 J",
        "totals": content.totals,
        "last": {
            source: {
                "epoch": reading.at.epoch,
                "seconds": round(reading.at.seconds, 3),
                "counters": reading.counters,
            }
            for source, reading in content.last.items()
        },
    }


def _decode(content: Any) -> Content:
    if content["format"] != _FORMAT:
        raise ValueError(f"format {content['format']}")
    totals = {str(account): list(_numbers(totals)) for account, totals in content["totals"].items()}
    for account, numbers in totals.items():
        if len(numbers) != (SYSTEM_COUNTERS if account == SYSTEM else 1):
            raise ValueError(f"{len(numbers)} totals of {account}")
    return Content(
        totals=totals,
        last={str(source): _decode_reading(entry) for source, entry in content["last"].items()},
    )


def _decode_reading(entry: Mapping[str, Any]) -> Reading:
    epoch, seconds = entry["epoch"], entry["seconds"]
    if not isinstance(epoch, str) or type(seconds) not in (int, float) or not math.isfinite(seconds):
        raise ValueError(f"a reading at {epoch} {seconds}")
    return Reading(Moment(epoch, float(seconds)), _numbers(entry["counters"]))


def _numbers(numbers: object) -> tuple[int, ...]:
    if not isinstance(numbers, list) or any(
        type(number) is not int or not 0 <= number < _MAX_STEPS for number in numbers
    ):
        raise ValueError(f"{numbers} instead of steps")
    return tuple(numbers)
