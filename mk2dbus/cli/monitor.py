"""``mk2dbus monitor``: a live display on a terminal, else a line per change."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from mk2dbus.bus.client import Client
from mk2dbus.bus.errors import BusError, ConnectionLost
from mk2dbus.monitor.glyphs import ASCII, UNICODE
from mk2dbus.monitor.scene import FIGURES, Page, Scene

from .common import add_bus_arguments, command, connected

Changes = Mapping[str, Mapping[str, Any]]
T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LIBRARY = "prompt_toolkit"
_NO_LIBRARY = (
    f"mk2dbus: for the full display please install {_LIBRARY}: pip install '{_LIBRARY}>=3.0.36,<4', "
    "or on Debian python3-prompt-toolkit"
)
_COERCED = ("LC_CTYPE", "C.UTF-8")
"""What Python makes of a C locale for its own use, PEP 538; it says nothing about the terminal."""


class View(Protocol):
    """How values get to the person."""

    async def start(self) -> None: ...

    def items(self, changes: Changes) -> None:
        """Path → key (Value, Text) → what it is now."""

    def there(self, there: bool) -> None:
        """The service came or went."""

    async def close(self) -> None: ...


class Lines:
    """A line ``path text`` per item and per change; only what is in ``folders``, if there are any."""

    def __init__(self, folders: Sequence[str] = ()) -> None:
        self._folders = tuple(folders)

    async def start(self) -> None:
        """Nothing to prepare."""

    def items(self, changes: Changes) -> None:
        for path, parts in changes.items():
            if "Text" in parts and (not self._folders or path.startswith(self._folders)):
                print(path, parts["Text"])
        sys.stdout.flush()

    def there(self, there: bool) -> None:
        print(
            f"mk2dbus: the service is {'back' if there else 'gone; waiting for it'}",
            file=sys.stderr,
            flush=True,
        )

    async def close(self) -> None:
        """Nothing to put back."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to show it. ``ascii`` None: as the locale is."""

    notes: Sequence[str] = ()
    line: bool = False
    ascii: bool | None = None


class Ending:
    """Whether and why the monitor ends: what went wrong first, if anything did."""

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self.error: BaseException | None = None

    def __call__(self, error: BaseException | None = None) -> None:
        if self.error is None:
            self.error = error
        self.told.set()


def add_parsers(subparsers: Any) -> None:
    """Add ``monitor``."""
    parser = subparsers.add_parser(
        "monitor",
        help="watch values: a display on a terminal, else a line per change",
        description="Watch a VE.Bus system: state, power flow, LEDs, alarms and the last minutes, until q or "
        "Ctrl-C. ? shows the keys. Into a pipe or file, and on a terminal that cannot do more (TERM=dumb), "
        "a line per item and per change. NO_COLOR is respected.",
    )
    add_bus_arguments(parser)
    parser.add_argument("--line", action="store_true", help="the figures of the line to the adapter")
    parser.add_argument(
        "--ascii",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="draw with plain ASCII; default: where the locale has no UTF-8",
    )
    parser.add_argument(
        "--note", action="append", default=[], metavar="TEXT", help="a line to show in the display"
    )
    parser.set_defaults(run=command(_monitor))


async def _monitor(arguments: argparse.Namespace) -> int:
    options = Options(arguments.note, arguments.line, arguments.ascii)
    async with connected(arguments) as client:
        return await monitor(client, options)


async def monitor(client: Client, options: Options) -> int:
    """Show values until the person or a signal ends it. Goes on by itself when the service comes back.

    Raises:
        ConnectionLost: the bus is gone.
        BrokenPipeError: nobody reads our output any more.
    """
    loop = asyncio.get_running_loop()
    end = Ending()
    for number in _SIGNALS:
        loop.add_signal_handler(number, end)
    view = _view(client, options, end)
    try:
        await view.start()
        await _watch(client, view, end)
    finally:
        await view.close()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
    if end.error is not None:
        raise end.error
    return 0


def _view(client: Client, options: Options, end: Ending) -> View:
    """The display where there is a terminal that can do it, else lines."""
    lines = Lines(FIGURES if options.line else ())
    if not sys.stdout.isatty() or os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        return lines
    try:
        from mk2dbus.monitor.screen import Screen
        from mk2dbus.monitor.terminal import Terminal
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != _LIBRARY:
            raise
        print(_NO_LIBRARY, file=sys.stderr, flush=True)
        return lines
    ascii_only = not _has_utf8() if options.ascii is None else options.ascii
    scene = Scene(
        client.service,
        ASCII if ascii_only else UNICODE,
        notes=options.notes,
        page=Page.LINE if options.line else Page.OVERVIEW,
    )
    colour = not os.environ.get("NO_COLOR")
    return Screen(scene, client, end, partial(Terminal, colour=colour))


def _has_utf8() -> bool:
    """Whether locale and stdout have UTF-8; the first variable that is set counts, as for setlocale."""
    if (sys.stdout.encoding or "").casefold().replace("-", "") != "utf8":
        return False
    coerced = os.environ.get("LANG", "C") in ("", "C", "POSIX")
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        value = os.environ.get(name, "")
        if value and not (coerced and (name, value) == _COERCED):
            return "utf8" in value.casefold().replace("-", "")
    return False


async def _watch(client: Client, view: View, end: Ending) -> None:
    """Bring everything there is, then what changes; everything again each time the service comes back."""
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
