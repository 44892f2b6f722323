"""``mk2dbus monitor``: a live display on a terminal, else a line per change."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mk2dbus.monitor.glyphs import ASCII, UNICODE
from mk2dbus.monitor.scene import FIGURES, Page, Scene

from .common import add_bus_arguments, command
from .following import Ending, Present, View, follow
from .watch import Lines

_LIBRARY = "prompt_toolkit"
_NO_LIBRARY = (
    f"mk2dbus: for the full display please install {_LIBRARY}: pip install '{_LIBRARY}>=3.0.36,<4', "
    "or on Debian python3-prompt-toolkit"
)
_COERCED = ("LC_CTYPE", "C.UTF-8")
"""What Python makes of a C locale for its own use, PEP 538; it says nothing about the terminal."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to show it. ``ascii`` None: as the locale is."""

    notes: Sequence[str] = ()
    line: bool = False
    ascii: bool | None = None


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
    async with Present.opened(arguments.bus, arguments.service) as present:
        return await follow(present, partial(_view, present, options))


def _view(present: Present, options: Options, end: Ending) -> View:
    """The display where there is a terminal that can do it, else lines."""
    lines = Lines(lambda path: not options.line or path.startswith(FIGURES))
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
        present.client.service,
        ASCII if ascii_only else UNICODE,
        notes=options.notes,
        page=Page.LINE if options.line else Page.OVERVIEW,
    )
    colour = not os.environ.get("NO_COLOR")
    return Screen(scene, present, end, partial(Terminal, colour=colour))


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
