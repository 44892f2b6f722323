"""``mk2dbus capture`` and ``mk2dbus replay``: the traffic of a port, to a file and out of it.

A capture is how a device that is not understood is reported: one command, one file, nothing commanded.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from mk2dbus import logs
from mk2dbus.bus.tree import Tree
from mk2dbus.decode.decoder import Decoder, Direction, Entry, Sort
from mk2dbus.decode.errors import CannotRecord, NotARecording
from mk2dbus.decode.recording import Item, Note, Recorder, Title, Traffic, about_port, read
from mk2dbus.decode.tap import Listener, TappedPort, tapped
from mk2dbus.host.adapters import adapters
from mk2dbus.mk2.errors import PortUnusable
from mk2dbus.mk2.port import open_port
from mk2dbus.vebus.driver import Driver, OpenPort, OwnedPort
from mk2dbus.vebus.infocache import InfoCache

from .common import DONE, USAGE, Stop, command
from .numbers import within
from .private import add_serial_numbers_argument

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CARRIER = re.compile(r"^(?:[W-Zx-z] [0-9A-F]{2}(?: device \d+)?|[A-Z]) ")
"""What carried a request, in the text of an entry: letter, winmon code, device."""

DEFAULT_SECONDS = 90.0
"""At 2400 baud all settings are read in half a minute; the rest is what a service at work does."""


_SERVICE_RECORDS = " (a service records by itself with: mk2dbus run --capture FILE)"


def add_parsers(subparsers: Any) -> None:
    """Add ``capture`` and ``replay``."""
    parser = subparsers.add_parser(
        "capture",
        help="record the traffic with an inverter, for a report",
        description="Find the inverter, read all that it tells, and record every byte both ways in a text "
        "file. Only requests that read are sent; nothing is commanded or stored. The port must be free: stop "
        "the service first, or have it record by itself (mk2dbus run --capture FILE). Ctrl-C ends it sooner.",
    )
    parser.add_argument("--tty", metavar="PORT", help="serial port (default: the only adapter there is)")
    parser.add_argument(
        "--seconds",
        type=within(1, 86400),
        default=DEFAULT_SECONDS,
        metavar="N",
        help=f"how long (default: {DEFAULT_SECONDS:g})",
    )
    add_serial_numbers_argument(parser)
    parser.add_argument("file", type=Path, metavar="FILE", help="a new file")
    parser.set_defaults(run=command(_capture))

    parser = subparsers.add_parser(
        "replay",
        help="show what a recording says",
        description="Show each frame of a recording with its meaning: a file of mk2dbus capture, a log of "
        "mk2dbus run --log-level debug, or lines such as → 02 FF 56 A9 and ← 07 FF 56 …, also with > and <.",
    )
    parser.add_argument("--stats", action="store_true", help="only count")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.set_defaults(run=command(_replay))


# --- capture -------------------------------------------------------------------------------------------


class _Counted:
    """Counts what goes over the line."""

    def __init__(self) -> None:
        self._sorts: Counter[Sort] = Counter()

    def count(self, entry: Entry) -> None:
        self._sorts[entry.sort] += 1

    def listener(self) -> Listener:
        """Counts a port."""
        decoder = Decoder()

        def listen(direction: Direction, data: bytes, now: float) -> None:
            for entry in decoder.feed(direction, data, now):
                self.count(entry)

        return listen

    def text(self) -> str:
        return ", ".join(f"{self._sorts[sort]} {sort.value}" for sort in Sort)


async def _capture(arguments: argparse.Namespace) -> int:
    tty, path = arguments.tty or _only_adapter(), arguments.file
    if path.exists():
        raise Stop(f"{path} exists; give another name, or remove it", USAGE)
    logs.configure("info")
    counted = _Counted()
    try:
        port = await open_port(tty)
    except PortUnusable as error:
        raise Stop(f"{error}{_SERVICE_RECORDS if 'in use' in str(error) else ''}") from error
    try:
        recorder = Recorder(path, [about_port(tty)], anonymous=not arguments.with_serial_numbers)
    except CannotRecord as error:
        await port.close()
        raise Stop(str(error)) from error
    _say(f"recording {tty} to {path} for {arguments.seconds:g} s; Ctrl-C ends it sooner")
    try:
        found = await _work(port, partial(open_port, tty), recorder, counted, arguments.seconds)
    finally:
        recorder.close()
    _say(f"{path} has {counted.text()}; found {found or 'no inverter'}")
    return DONE


def _only_adapter() -> str:
    found = adapters()
    if len(found) != 1:
        there = ", ".join(f"/dev/{adapter.port}" for adapter in found) or "none"
        raise Stop(f"which adapter? There is {there}; give one with --tty PORT", USAGE)
    return f"/dev/{found[0].port}"


async def _work(
    port: OwnedPort, open_again: OpenPort, recorder: Recorder, counted: _Counted, seconds: float
) -> str | None:
    """Do what the service does, without a bus and without anybody who could write; the product found."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.set)
    tree = Tree()

    def listeners() -> list[Listener]:
        return [recorder.feed, counted.listener()]

    # An empty cache: what a device tells of itself is to be in the recording.
    with tempfile.TemporaryDirectory(prefix="mk2dbus-") as folder:
        driver = Driver(tree, tapped(open_again, listeners), InfoCache(Path(folder)))
        driver.place()
        tasks = [
            asyncio.create_task(driver.run(TappedPort(port, listeners())), name="driver"),
            asyncio.create_task(stop.wait(), name="stop"),
        ]
        try:
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            product = tree.value("/ProductName")
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return product if isinstance(product, str) else None


def _say(text: str) -> None:
    """For the person; the log is there too."""
    print(text, file=sys.stderr, flush=True)


# --- replay --------------------------------------------------------------------------------------------


class _Replay:
    """Shows, or only counts, what a recording holds."""

    def __init__(self, show: bool) -> None:
        self._show = show
        self._decoder = Decoder()
        self._counted = _Counted()
        self._requests: Counter[str] = Counter()
        self._bytes: Counter[Direction] = Counter()
        self._held: list[str] | None = []
        """Lines before the first traffic: whether the file is a recording is not known there."""
        self._first: float | None = None
        self._last = 0.0

    def take(self, item: Item) -> None:
        match item:
            case Traffic():
                self._traffic(item)
            case Title():
                self.finish()
                self._decoder = Decoder()
                self._print(item.text)
            case Note():
                self._print(item.text)

    def finish(self) -> None:
        self._entries(self._decoder.finish(), None)

    def _traffic(self, item: Traffic) -> None:
        if item.time is not None:
            if self._first is None:
                self._first = item.time
            self._last = item.time - self._first
        held, self._held = self._held, None
        for line in held or ():
            self._print(line)
        self._bytes[item.direction] += len(item.data)
        entries = self._decoder.feed(item.direction, item.data, self._last)
        self._entries(entries, self._last if item.time is not None else None)

    def _entries(self, entries: Iterable[Entry], time: float | None) -> None:
        for entry in entries:
            self._counted.count(entry)
            if entry.sort is Sort.REQUEST:
                self._requests[_CARRIER.sub("", entry.text)] += 1
            self._print(f"{f'{time:9.3f} ' if time is not None else ''}{entry}")

    def _print(self, text: str) -> None:
        if not self._show:
            return
        if self._held is not None:
            self._held.append(text)
        else:
            print(text)

    def print_stats(self) -> None:
        print(self._counted.text())
        sent, received = self._bytes[Direction.SENT], self._bytes[Direction.RECEIVED]
        print(
            f"{sent} bytes sent, {received} bytes received" + (f", {self._last:.1f} s" if self._last else "")
        )
        for text, number in self._requests.most_common():
            print(f"{number:7}  {text}")


async def _replay(arguments: argparse.Namespace) -> int:
    replay = _Replay(show=not arguments.stats)
    try:
        for item in read(arguments.file):
            replay.take(item)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise Stop(f"cannot read {arguments.file}: {error.strerror}") from error
    except NotARecording as error:
        raise Stop(str(error)) from error
    finally:
        replay.finish()
    if arguments.stats:
        replay.print_stats()
    return DONE
