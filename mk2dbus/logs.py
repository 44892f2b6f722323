"""The log: one line for each thing that happens, on stderr.

A fault is said once, with its facts. Said again it is counted, and the count follows: after ten minutes where
nothing else happened in between, after one minute where things go back and forth. A log reads in order all
the same, and its last line is what is so. Whatever goes wrong, a logger gets so many lines a minute.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import count
from time import monotonic
from typing import TextIO

log = logging.getLogger(__name__)

REPEATS_S = 600.0
BACK_AND_FORTH_S = 60.0
"""How long a line is counted and not said again: when it alone repeats; when others come in between."""

MINUTE_S = 60.0
LINES_PER_MINUTE = 60
"""Of one logger and level; a service at work says fewer in a day."""

MAX_REMEMBERED = 256
"""Lines that are watched for repetition; the oldest is forgotten first."""

SUMMARY_S = 3600.0
CATCH_UP_S = 10.0

_LOWEST_PRIORITY = 7
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""As sd-daemon(3) numbers them; DEBUG is 7."""


def in_journal(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether what is written to a stream goes to the journal (systemd.exec(5), ``JOURNAL_STREAM``)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class JournalFormatter(logging.Formatter):
    """Every line with its priority; the journal has its own time stamps."""

    def format(self, record: logging.LogRecord) -> str:
        found = (number for level, number in _PRIORITIES if record.levelno >= level)
        priority = next(found, _LOWEST_PRIORITY)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


@dataclass(slots=True)
class _Said:
    """A line that was said, and what came of it since."""

    record: logging.LogRecord
    since: float
    last: int
    """Number of the line that it was last."""
    more: int = 0
    alone: bool = True
    """Nothing else was said by the same logger meanwhile."""

    @property
    def due(self) -> float:
        return self.since + (REPEATS_S if self.alone else BACK_AND_FORTH_S)


@dataclass(slots=True)
class _Minute:
    """Lines of a logger and level."""

    since: float
    lines: int = 0
    left_out: int = 0


class QuietHandler(logging.StreamHandler[TextIO]):
    """Says a line once and counts its repetitions, and lets no logger flood. DEBUG goes through as it is.

    Lines of one logger keep their order: what was counted is said before another line is.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._said: dict[tuple[str, int, str], _Said] = {}
        self._minutes: dict[tuple[str, int], _Minute] = {}
        self._lines = count()

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno <= logging.DEBUG:
            super().emit(record)
            return
        try:
            self._consider(record)
        except Exception:  # as the handlers of the library do: a bad log call is reported, and harms nothing
            self.handleError(record)

    def _consider(self, record: logging.LogRecord) -> None:
        self.catch_up()
        now = self._clock()
        key = (record.name, record.levelno, record.getMessage())
        known = self._said.get(key)
        for (name, _, _), other in self._said.items():
            if name == record.name and other is not known:
                other.alone = False
        if known is not None:
            known.more += 1
            known.last = next(self._lines)
        elif self._may_say(record, now):
            self._tell_counts(now, logger=record.name)
            if len(self._said) >= MAX_REMEMBERED:
                self._tell_count(self._said.pop(next(iter(self._said))), now)
            self._said[key] = _Said(record, now, next(self._lines))
            super().emit(record)

    def catch_up(self) -> None:
        """Say the counts that are due. Happens before every line; call it where lines may stay away."""
        with self.lock or nullcontext():
            now = self._clock()
            for source, minute in list(self._minutes.items()):
                if now >= minute.since + MINUTE_S:
                    del self._minutes[source]
                    self._tell_left_out(*source, minute.left_out)
            due = {key: said for key, said in self._said.items() if now >= said.due}
            for name in dict.fromkeys(name for name, _, _ in due):
                self._tell_counts(now, logger=name)
            for key, said in due.items():
                # One that was counted is counted on.
                if said.since != now:
                    del self._said[key]

    def settle(self) -> None:
        """Say what is counted so far: the end is near."""
        with self.lock or nullcontext():
            self._tell_counts(self._clock())
            self._said.clear()
            for source, minute in self._minutes.items():
                self._tell_left_out(*source, minute.left_out)
            self._minutes.clear()

    def close(self) -> None:
        """Say what is counted so far, and end."""
        self.settle()
        super().close()

    def _may_say(self, record: logging.LogRecord, now: float) -> bool:
        minute = self._minutes.setdefault((record.name, record.levelno), _Minute(now))
        if minute.lines < LINES_PER_MINUTE:
            minute.lines += 1
            return True
        minute.left_out += 1
        return False

    def _tell_counts(self, now: float, logger: str | None = None) -> None:
        """In the order in which the lines last came up."""
        counted = [
            said
            for (name, _, _), said in self._said.items()
            if said.more and (logger is None or name == logger)
        ]
        for said in sorted(counted, key=lambda said: said.last):
            self._tell_count(said, now)

    def _tell_count(self, said: _Said, now: float) -> None:
        if not said.more:
            return
        times = "1 more time" if said.more == 1 else f"{said.more} more times"
        minutes = max(1, round((now - said.since) / 60))
        when = "minute" if minutes == 1 else f"{minutes} minutes"
        old = said.record
        super().emit(_record(old.name, old.levelno, f"{old.getMessage()} ({times} in the last {when})"))
        said.since, said.more, said.alone = now, 0, True

    def _tell_left_out(self, name: str, level: int, number: int) -> None:
        if number:
            lines = "1 line was" if number == 1 else f"{number} lines were"
            super().emit(_record(name, level, f"{lines} left out in the last minute"))


def _record(name: str, level: int, text: str) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 0, text, None, None)


class Summary:
    """What was counted since the last time, in a line.

    Args:
        totals: counters that only grow, by what they count in the plural: ``{"retries": 3}``. One that is
            lower than before began anew.
        busy_s: how long the line has been busy, all together.
    """

    def __init__(
        self,
        totals: Callable[[], Mapping[str, int]],
        busy_s: Callable[[], float] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._totals = totals
        self._busy_s = busy_s
        self._clock = clock
        self._before = dict(totals())
        self._busy_before = busy_s() if busy_s is not None else 0.0
        self._since = clock()

    def take(self) -> str:
        """The line; what follows is counted from here."""
        now, totals = self._clock(), dict(self._totals())
        parts = [
            f"{name} {total - before if total >= before else total}"
            for name, total in totals.items()
            for before in (self._before.get(name, 0),)
        ]
        if self._busy_s is not None:
            busy = self._busy_s()
            spent = busy - self._busy_before if busy >= self._busy_before else busy
            parts.append(f"line {100 * spent / max(now - self._since, 1.0):.0f} % busy")
            self._busy_before = busy
        minutes = round((now - self._since) / 60)
        self._before, self._since = totals, now
        return f"in the last {'hour' if minutes == 60 else f'{minutes} minutes'}: {', '.join(parts)}"


async def summarise(summary: Summary) -> None:
    """Once an hour, for ever."""
    while True:
        await asyncio.sleep(SUMMARY_S)
        log.info("%s", summary.take())


async def catch_up(handler: QuietHandler) -> None:
    """Have the handler say its counts in time, for ever."""
    while True:
        await asyncio.sleep(CATCH_UP_S)
        handler.catch_up()


def _nowhere() -> TextIO:
    """Where stderr is closed, this takes its place, lest the port does."""
    return os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")


def configure(level: str, stream: TextIO | None = None) -> QuietHandler:
    """Log to a stream (stderr): all of mk2dbus from ``level`` on, warnings of others."""
    stream = stream or sys.stderr or _nowhere()
    handler = QuietHandler(stream)
    if in_journal(stream):
        handler.setFormatter(JournalFormatter("%(levelname)s %(name)s: %(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    for old in root.handlers[:]:
        if isinstance(old, QuietHandler):
            root.removeHandler(old)
    root.addHandler(handler)
    logging.getLogger("mk2dbus").setLevel(level.upper())
    return handler
