"""``mk2dbus monitor``: a live table on a terminal, else a line per change."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mk2dbus.bus.client import Client
from mk2dbus.bus.errors import BusError, ConnectionLost

from .common import add_bus_arguments, command, connected

REFRESH_S = 0.25
"""Least time between two drawings of the table."""

# What a person at the inverter wants to see, in groups; what the service does not have is left out.
_GROUPS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Inverter/charger",
        (
            ("Product", "/ProductName"),
            ("Serial number", "/Serial"),
            ("Connected", "/Connected"),
            ("State", "/State"),
            ("Mode", "/Mode"),
            ("Error", "/VebusError"),
        ),
    ),
    (
        "Battery",
        (
            ("Voltage", "/Dc/0/Voltage"),
            ("Current", "/Dc/0/Current"),
            ("Power", "/Dc/0/Power"),
            ("Temperature", "/Dc/0/Temperature"),
            ("State of charge", "/Soc"),
        ),
    ),
    (
        "AC input",
        (
            ("Active input", "/Ac/ActiveIn/ActiveInput"),
            ("Current limit", "/Ac/ActiveIn/CurrentLimit"),
            ("Power", "/Ac/ActiveIn/P"),
            *((f"L{n} {what}", f"/Ac/ActiveIn/L{n}/{what}") for n in (1, 2, 3) for what in "VIPF"),
        ),
    ),
    (
        "AC output",
        (
            ("Power", "/Ac/Out/P"),
            *((f"L{n} {what}", f"/Ac/Out/L{n}/{what}") for n in (1, 2, 3) for what in "VIPF"),
        ),
    ),
    (
        "Alarms",
        tuple(
            (name, f"/Alarms/{name}")
            for name in (
                "HighTemperature",
                "LowBattery",
                "Overload",
                "Ripple",
                "TemperatureSensor",
                "VoltageSensor",
                "VeBusError",
            )
        ),
    ),
    (
        "LEDs",
        tuple(
            (name, f"/Leds/{name}")
            for name in (
                "Mains",
                "Bulk",
                "Absorption",
                "Float",
                "Inverter",
                "Overload",
                "LowBattery",
                "Temperature",
            )
        ),
    ),
)
# Of a phase or device that is not there only dashes could be shown.
_ALWAYS = frozenset({"/State", "/Mode", "/Connected", "/Dc/0/Voltage", "/Dc/0/Current"})
_UNKNOWN = "---"


class View(Protocol):
    """How values get to the person."""

    def values(self, texts: Mapping[str, str]) -> None:
        """These items have these texts now."""

    def there(self, there: bool) -> None:
        """The service came or went."""

    def close(self) -> None: ...


class Lines:
    """Plain lines ``path text``, for pipes and files."""

    def values(self, texts: Mapping[str, str]) -> None:
        for path, text in texts.items():
            print(path, text)
        sys.stdout.flush()

    def there(self, there: bool) -> None:
        print(
            f"mk2dbus: the service is {'back' if there else 'gone; waiting for it'}",
            file=sys.stderr,
            flush=True,
        )

    def close(self) -> None:
        """Nothing to put back."""


class Table:
    """The important values on the whole terminal; puts back what was on it before."""

    def __init__(self, service: str, notes: Sequence[str] = ()) -> None:
        self._service = service
        self._notes = notes
        self._texts: dict[str, str] = {}
        self._there = True
        self._loop = asyncio.get_running_loop()
        self._due: asyncio.TimerHandle | None = None
        # Screen of its own, no cursor.
        sys.stdout.write("\x1b[?1049h\x1b[?25l")
        self._loop.add_signal_handler(signal.SIGWINCH, self._draw)

    def values(self, texts: Mapping[str, str]) -> None:
        self._texts.update(texts)
        if self._due is None:
            self._due = self._loop.call_later(REFRESH_S, self._draw)

    def there(self, there: bool) -> None:
        self._there = there
        if not there:
            self._texts.clear()
        self._draw()

    def close(self) -> None:
        self._loop.remove_signal_handler(signal.SIGWINCH)
        if self._due is not None:
            self._due.cancel()
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()

    def _draw(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        # Not shutil's, which believes COLUMNS and LINES after a resize.
        size = os.get_terminal_size(sys.stdout.fileno())
        columns, rows = size.columns or 80, size.lines or 24
        lines = self.lines(columns)[:rows]
        # Each line clears its own rest, so nothing flickers.
        sys.stdout.write("\x1b[H" + "\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")
        sys.stdout.flush()

    def lines(self, columns: int) -> list[str]:
        """The table, no line wider than ``columns``: groups side by side where there is room."""
        state = "Ctrl-C ends" if self._there else "gone; waiting for it (Ctrl-C ends)"
        lines = [self._service[:columns], state[:columns], ""]
        groups = [group for title, rows in _GROUPS if (group := self._group(title, rows))]
        width = max((len(line) for group in groups for line in group), default=0) + 3
        beside = max(1, columns // width) if groups else 1
        for start in range(0, len(groups), beside):
            row = groups[start : start + beside]
            for index in range(max(map(len, row))):
                cells = [(group[index] if index < len(group) else "").ljust(width) for group in row]
                lines.append("".join(cells).rstrip()[:columns])
            lines.append("")
        for note in self._notes:
            lines += [note[at : at + columns] for at in range(0, len(note), columns)]
        return lines

    def _group(self, title: str, rows: tuple[tuple[str, str], ...]) -> list[str]:
        shown = [
            (label, self._texts[path])
            for label, path in rows
            if path in self._texts and (path in _ALWAYS or self._texts[path] != _UNKNOWN)
        ]
        return [title, *(f"  {label:<18}{text:>12}" for label, text in shown)] if shown else []


def add_parsers(subparsers: Any) -> None:
    """Add ``monitor``."""
    parser = subparsers.add_parser(
        "monitor", help="watch values: a table on a terminal, else a line per change"
    )
    add_bus_arguments(parser)
    parser.add_argument(
        "--note", action="append", default=[], metavar="TEXT", help="a line to show below the table"
    )
    parser.set_defaults(run=command(_monitor))


async def _monitor(arguments: argparse.Namespace) -> int:
    async with connected(arguments) as client:
        return await monitor(client, arguments.note)


async def monitor(client: Client, notes: Sequence[str] = ()) -> int:
    """Show values until Ctrl-C or SIGTERM. Goes on by itself when the service comes back."""
    view: View = Table(client.service, notes) if sys.stdout.isatty() else Lines()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    came = asyncio.Event()

    def on_items(items: Mapping[str, Mapping[str, Any]]) -> None:
        view.values({path: parts["Text"] for path, parts in items.items() if "Text" in parts})

    def on_owner(there: bool) -> None:
        view.there(there)
        if there:
            came.set()

    failed: list[BaseException] = []

    def guarded(handler: Any) -> Any:
        """A reader of our output that is gone ends the monitor, not only the drawing of one change."""

        def call(argument: Any) -> None:
            try:
                handler(argument)
            except BrokenPipeError as error:
                failed.append(error)
                stop.set()

        return call

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        await client.watch(guarded(on_items), guarded(on_owner))
        came.set()
        while not stop.is_set():
            if came.is_set():
                came.clear()
                await _show_all(client, view)
            await _first_of(stop, came, client.lost)
            if client.lost.done():
                raise ConnectionLost(f"the bus is gone: {client.lost.result()}")
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        view.close()
    if failed:
        raise failed[0]
    return 0


async def _show_all(client: Client, view: View) -> None:
    """Everything the service has; nothing when it just went."""
    try:
        items = await client.paths_and_values()
    except ConnectionLost:
        raise
    except BusError:
        return
    view.values({path: text for path, (_, text) in items.items()})


async def _first_of(stop: asyncio.Event, came: asyncio.Event, lost: asyncio.Future[str]) -> None:
    waits = [asyncio.create_task(event.wait()) for event in (stop, came)]
    try:
        futures: list[asyncio.Future[Any]] = [*waits, lost]
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
