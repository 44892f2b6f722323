"""``mk2dbus watch``: a line for each value that is wanted, and for each change of it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from mk2dbus.bus.client import Shown
from mk2dbus.bus.errors import BusError

from .common import add_bus_arguments, command
from .following import SERVICE, Changes, Ending, Present, View, follow
from .names import chosen, matching

Wanted = Callable[[str], bool]
"""Whether a path is to be shown."""

Told = tuple[Shown, str]
"""Value and text."""

UNKNOWN = "---"

_FRESH_S = 20.0
"""The service keeps a RAM variable fresh for half a minute after somebody asked for it."""


def add_parsers(subparsers: Any) -> None:
    """Add ``watch``."""
    parser = subparsers.add_parser(
        "watch",
        help="print values, and a line for each change",
        description="Print the values that there are and then each change, a line with path and value, until "
        "Ctrl-C. Goes on when the service or the bus comes back; what is not known meanwhile is ---.",
    )
    add_bus_arguments(parser)
    parser.add_argument("globs", nargs="*", metavar="GLOB", help="only these, as for list")
    parser.add_argument(
        "--json",
        action="store_true",
        help="each line an object with time, path, value (null: not known), text",
    )
    parser.set_defaults(run=command(_watch))


class Lines:
    """A line ``path text`` per item and per change of its text; ``---`` for all that is gone."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._shown: dict[str, Told] = {}

    async def start(self) -> None:
        """Nothing to prepare."""

    def items(self, changes: Changes) -> None:
        for path, parts in changes.items():
            if not self._wanted(path):
                continue
            before = self._shown.get(path)
            value, text = before or (None, UNKNOWN)
            now = parts.get("Value", value), str(parts.get("Text", text))
            self._shown[path] = now
            if before is None or self._differ(before, now):
                print(self._line(path, *now))
        sys.stdout.flush()

    def _differ(self, before: Told, now: Told) -> bool:
        return before[1] != now[1]

    def _line(self, path: str, value: Shown, text: str) -> str:
        return f"{path} {text}"

    def there(self, there: bool, what: str = SERVICE) -> None:
        if not there:
            known = [path for path, (value, _) in self._shown.items() if value is not None]
            self.items({path: {"Value": None, "Text": UNKNOWN} for path in known})
        state = "back" if there else "gone; waiting for it"
        print(f"mk2dbus: the {what} is {state}", file=sys.stderr, flush=True)

    async def close(self) -> None:
        """Nothing to put back."""


class JsonLines(Lines):
    """The same as objects, with a line per change of the value."""

    def _differ(self, before: Told, now: Told) -> bool:
        return before[0] != now[0]

    def _line(self, path: str, value: Shown, text: str) -> str:
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        return json.dumps(
            {"time": time, "path": path, "value": value, "text": text}, ensure_ascii=False, allow_nan=False
        )


async def _watch(arguments: argparse.Namespace) -> int:
    kind = JsonLines if arguments.json else Lines

    def view(end: Ending) -> View:
        return kind(wanted(arguments.globs))

    async with Present.opened(arguments.bus, arguments.service) as present:
        paths = list(await present.client.paths_and_values())
        # Without globs it would be every RAM variable there is, again and again.
        asked = [path for path in chosen(arguments.globs, paths) if "/RamVars/" in path and arguments.globs]
        fresh = asyncio.create_task(_keep_fresh(present, asked))
        try:
            return await follow(present, view)
        finally:
            fresh.cancel()


def wanted(globs: Sequence[str]) -> Wanted:
    """By what was given on the command line; everything when that is nothing."""

    @cache
    def fits(path: str) -> bool:
        return not globs or any(matching(glob, [path]) for glob in globs)

    return fits


async def _keep_fresh(present: Present, paths: Sequence[str]) -> None:
    """Have RAM variables read that nothing else needs."""
    while paths:
        with contextlib.suppress(BusError):  # the service is gone for now
            await present.client.fetch(paths)
        await asyncio.sleep(_FRESH_S)
