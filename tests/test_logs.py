"""The log: said once, counted, in order, never a flood; priorities for the journal; the hourly summary."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clock import simulated

from mk2dbus.logs import (
    LINES_PER_MINUTE,
    MAX_REMEMBERED,
    SUMMARY_S,
    JournalFormatter,
    QuietHandler,
    Summary,
    catch_up,
    configure,
    in_journal,
    summarise,
)


class Log:
    """A handler on a clock of its own, and what it wrote."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.stream = io.StringIO()
        self.handler = QuietHandler(self.stream, lambda: self.now)
        self.handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))

    def say(self, text: str, *args: object, level: int = logging.WARNING, name: str = "a") -> None:
        self.handler.handle(logging.LogRecord(name, level, __file__, 1, text, args, None))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.handler.catch_up()

    @property
    def lines(self) -> list[str]:
        """What was written since the last look."""
        text = self.stream.getvalue()
        self.stream.seek(0)
        self.stream.truncate()
        return text.splitlines()


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    yield log
    log.handler.close()


def test_a_repeated_fault_is_counted(log: Log) -> None:
    for _ in range(5):
        log.say("no reply to %s", "ReadRam")
        log.wait(60)
    assert log.lines == ["a WARNING no reply to ReadRam"]
    log.wait(300)
    assert log.lines == ["a WARNING no reply to ReadRam (4 more times in the last 10 minutes)"]
    log.wait(10_000)
    assert log.lines == []
    log.say("no reply to %s", "ReadRam")
    assert log.lines == ["a WARNING no reply to ReadRam"]


def test_what_goes_on_is_counted_on(log: Log) -> None:
    log.say("full")
    for _ in range(3 * 600):
        log.wait(1)
        log.say("full")
    assert log.lines == [
        "a WARNING full",
        "a WARNING full (599 more times in the last 10 minutes)",
        *["a WARNING full (600 more times in the last 10 minutes)"] * 2,
    ]


def test_levels_and_loggers_are_apart(log: Log) -> None:
    log.say("x")
    log.say("x", level=logging.ERROR)
    log.say("x", name="b")
    log.say("y")
    assert log.lines == ["a WARNING x", "a ERROR x", "b WARNING x", "a WARNING y"]


@pytest.mark.parametrize("last", ["lost", "found"])
@pytest.mark.parametrize("first", ["lost", "found"])
@pytest.mark.parametrize("pause", [1.0, 7.0, 25.0, 50.0])
def test_the_last_line_is_what_is_so(log: Log, first: str, last: str, pause: float) -> None:
    """Back and forth: whenever it stops, a minute later the log ends with the truth."""
    other = {"lost": "found", "found": "lost"}
    for count in range(1, 40):
        state = first if count % 2 else other[first]
        log.say(state)
        log.wait(pause)
        if count >= 10 and state == last:
            break
    written = len(log.lines)
    assert written <= 2 + 2 * (1 + count * pause / 60)
    log.say(other[last])
    log.say(last)
    log.wait(61)
    log.wait(61)
    end = log.lines[-1]
    assert re.fullmatch(rf"a WARNING {last} \(\d+ more times? in the last (minute|2 minutes)\)", end)


def test_a_count_is_said_before_another_line(log: Log) -> None:
    log.say("lost")
    log.say("lost")
    log.say("found")
    assert log.lines == [
        "a WARNING lost",
        "a WARNING lost (1 more time in the last minute)",
        "a WARNING found",
    ]
    log.wait(3600)
    assert log.lines == []


def test_a_flood_is_limited(log: Log) -> None:
    for number in range(1000):
        log.say("refused: %d", number, level=logging.INFO)
    log.say("an error all the same", level=logging.ERROR)
    assert log.lines == [
        *[f"a INFO refused: {number}" for number in range(LINES_PER_MINUTE)],
        "a ERROR an error all the same",
    ]
    log.wait(60)
    assert log.lines == [f"a INFO {1000 - LINES_PER_MINUTE} lines were left out in the last minute"]
    log.say("calm again", level=logging.INFO)
    assert log.lines == ["a INFO calm again"]


def test_memory_is_bounded(log: Log) -> None:
    for number in range(3000):
        log.say("refused: %d", number)
        log.wait(2)
    assert len(log.handler._said) <= MAX_REMEMBERED
    assert len(log.handler._minutes) <= 1
    assert len(log.lines) == 3000


def test_a_bad_call_harms_nothing(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    log.say("%d of them", "many")
    assert "TypeError" in capsys.readouterr().err
    log.say("fine")
    assert log.lines == ["a WARNING fine"]


def test_debug_goes_through(log: Log) -> None:
    for _ in range(500):
        log.say("frame", level=logging.DEBUG)
    assert len(log.lines) == 500


def test_counts_are_said_at_the_end() -> None:
    log = Log()
    for _ in range(3):
        log.say("stuck")
    for number in range(LINES_PER_MINUTE + 4):
        log.say("%d", number, level=logging.INFO)
    assert len(log.lines) == 2 + LINES_PER_MINUTE
    log.say("0", level=logging.INFO)
    log.handler.close()
    assert log.lines == [
        "a INFO 0 (1 more time in the last minute)",
        "a INFO 4 lines were left out in the last minute",
    ]


def test_a_percent_sign_survives(log: Log) -> None:
    log.say("at %s", "100 % of x")
    log.say("at %s", "100 % of x")
    log.wait(601)
    assert log.lines[-1] == "a WARNING at 100 % of x (1 more time in the last 10 minutes)"


def test_every_line_for_the_journal_has_its_priority() -> None:
    formatter = JournalFormatter("%(levelname)s %(message)s")
    for level, priority in (("CRITICAL", 2), ("ERROR", 3), ("WARNING", 4), ("INFO", 6), ("DEBUG", 7)):
        record = logging.LogRecord("a", logging.getLevelName(level), __file__, 1, "one\ntwo", None, None)
        assert formatter.format(record) == f"<{priority}>{level} one\n<{priority}>two"


def test_the_journal_is_told_by_its_stream(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        status = os.fstat(file.fileno())
        assert in_journal(file, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        assert not in_journal(file, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"})
        assert not in_journal(file, {})
    assert not in_journal(io.StringIO(), {"JOURNAL_STREAM": "1:2"})


def test_configured_twice_says_all_once(monkeypatch: pytest.MonkeyPatch) -> None:
    root, own = logging.getLogger(), logging.getLogger("mk2dbus")
    before, levels = root.handlers[:], (root.level, own.level)
    stream = io.StringIO()
    try:
        configure("info", io.StringIO())
        configure("info", stream)
        logging.getLogger("mk2dbus.test").info("hello")
        logging.getLogger("mk2dbus.test").debug("not this")
        logging.getLogger("elsewhere").info("nor this")
    finally:
        root.handlers[:] = before
        root.setLevel(levels[0])
        own.setLevel(levels[1])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO mk2dbus.test: hello\n", stream.getvalue())


def test_the_summary_tells_differences() -> None:
    counted = {"retries": 5, "dropped bytes": 7}
    busy = 100.0
    now = 0.0
    summary = Summary(lambda: counted, lambda: busy, lambda: now)
    counted = {"retries": 8, "dropped bytes": 7, "reconnects": 1}
    busy, now = 1540.0, 3600.0
    assert summary.take() == "in the last hour: retries 3, dropped bytes 0, reconnects 1, line 40 % busy"
    # A counter that began anew.
    counted = {"retries": 2, "dropped bytes": 9, "reconnects": 1}
    busy, now = 360.0, 7200.0
    assert summary.take() == "in the last hour: retries 2, dropped bytes 2, reconnects 0, line 10 % busy"


@simulated
async def test_once_an_hour() -> None:
    stream = io.StringIO()
    handler = QuietHandler(stream, asyncio.get_running_loop().time)
    logger = logging.getLogger("mk2dbus.logs")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    counted = {"retries": 0}
    summary = Summary(lambda: counted, clock=asyncio.get_running_loop().time)
    task = asyncio.create_task(summarise(summary))
    try:
        await asyncio.sleep(SUMMARY_S - 1)
        assert stream.getvalue() == ""
        counted = {"retries": 4}
        await asyncio.sleep(2 * SUMMARY_S + 20)
        assert stream.getvalue().splitlines() == [
            "in the last hour: retries 4",
            *["in the last hour: retries 0"] * 2,
        ]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        logger.removeHandler(handler)
        logger.setLevel(before)


@simulated
async def test_counts_come_without_another_line() -> None:
    stream = io.StringIO()
    handler = QuietHandler(stream, asyncio.get_running_loop().time)
    task = asyncio.create_task(catch_up(handler))
    for _ in range(2):
        handler.handle(logging.LogRecord("a", logging.WARNING, __file__, 1, "stuck", None, None))
    await asyncio.sleep(615)
    assert stream.getvalue().splitlines() == ["stuck", "stuck (1 more time in the last 10 minutes)"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


SCRIPT = """
import logging, sys
from mk2dbus.logs import configure
configure("info")
log = logging.getLogger("mk2dbus.x")
for _ in range(3):
    log.warning("again")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("defect")
"""


async def test_a_real_process_in_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with path.open("w") as file:
        status = os.fstat(file.fileno())
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SCRIPT),
            stderr=file,
            env=os.environ | {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"},
        )
        assert await process.wait() == 0
    lines = path.read_text().splitlines()
    assert lines[0] == "<4>WARNING mk2dbus.x: again"
    assert lines[1] == "<4>WARNING mk2dbus.x: again (2 more times in the last minute)"
    assert lines[2] == "<3>ERROR mk2dbus.x: defect"
    assert lines[-1] == "<3>ZeroDivisionError: division by zero"
    assert all(line.startswith("<3>") for line in lines[2:])
