"""``mk2dbus set``: write values, after showing what will change."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mk2dbus.bus.client import Client
from mk2dbus.bus.errors import BusError, CallFailed, NotOffered
from mk2dbus.bus.names import UNKNOWN_OBJECT

from .common import (
    DONE,
    FAILED,
    USAGE,
    Stop,
    add_bus_arguments,
    add_yes_argument,
    asks,
    command,
    complain,
    confirmed,
    connected,
    naming,
)
from .names import ram_only, resolve, stored
from .values import complaint, parse, text_of

_EMPTY = "(empty)"
"""A text without characters, as of a name that nobody gave."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A value for an item, and how the change reads."""

    path: str
    value: int | float | str
    before: str
    after: str

    def __str__(self) -> str:
        before, after = self.before or _EMPTY, self.after or _EMPTY
        return f"{self.path} {after} (as it is)" if before == after else f"{self.path} {before} → {after}"


def add_parsers(subparsers: Any) -> None:
    """Add ``set``."""
    parser = subparsers.add_parser(
        "set",
        help="write values",
        usage="%(prog)s [OPTION…] PATH VALUE [PATH VALUE…] | PATH=VALUE…",
        description="Write values one after the other; each is done when the device has confirmed it. Stops "
        "at the first that is not. Shows what will change and asks, on a terminal; scripts are not asked.",
    )
    add_bus_arguments(parser)
    parser.add_argument(
        "words",
        nargs="+",
        metavar="PATH VALUE",
        help="pairs, or PATH=VALUE. PATH as shown by list, or its end where that is unambiguous "
        "(AbsorptionVoltage). VALUE is a number, one of the texts of an enumeration (on, yes), or 'default'",
    )
    parser.add_argument(
        "--ram-only", action="store_true", help="settings and flags take effect but are not stored"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show the change and what would be sent; send nothing"
    )
    add_yes_argument(parser)
    parser.set_defaults(run=command(_set))


def pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    """Names and values from the command line.

    Raises:
        Stop: a name without a value.
    """
    found = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if not equals:
            following = next(rest, None)
            if following is None:
                raise Stop(f"set takes pairs of PATH and VALUE; {word!r} is left over", USAGE)
            value = following
        found.append((name, value))
    return found


async def _set(arguments: argparse.Namespace) -> int:
    wanted = pairs(arguments.words)
    async with connected(arguments) as client:
        assignments = await _planned(client, wanted, arguments.ram_only)
        if arguments.dry_run:
            return await _preview(client, assignments)
        if asks(arguments.yes):
            for assignment in assignments:
                print(assignment)
            if not await confirmed("Write?"):
                return complain("nothing was written", FAILED)
        return await _write(client, assignments)


async def _planned(client: Client, wanted: Sequence[tuple[str, str]], in_ram: bool) -> list[Assignment]:
    """What to write, checked as far as that is possible from here.

    Raises:
        Stop: one of them cannot be; nothing was written.
    """
    short = in_ram or any(not name.startswith("/") for name, _ in wanted)
    paths = await client.paths_and_values() if short else {}
    planned: dict[str, str] = {}
    assignments = []
    for name, word in wanted:
        path = resolve(name, paths)
        if in_ram:
            path = ram_only(path)
            if path not in paths:
                raise Stop(f"{path} does not exist: the device cannot set it in RAM only")
        assignment = await _assignment(client, path, word, planned.get(path))
        planned[path] = assignment.after
        assignments.append(assignment)
    return assignments


async def _assignment(client: Client, path: str, word: str, before: str | None) -> Assignment:
    try:
        view = await client.view(path)
        if view.value is None and not view.text:
            raise Stop(f"{path} holds no value")
        choices = {} if isinstance(view.value, (float, str)) else await client.choices(path)
        value = parse(word, view, choices)
        wrong = complaint(view, value)
        if wrong is not None:
            raise Stop(wrong)
        if before is None:
            before = view.text if view.value is not None else await _stored_text(client, path)
    except CallFailed as error:
        raise Stop(naming(path, error)) from error
    return Assignment(path, value, before, text_of(value, view, choices))


async def _stored_text(client: Client, path: str) -> str:
    """The text of what is stored, for something under RamOnly that nobody wrote yet."""
    if stored(path) == path:
        return "---"
    try:
        view = await client.view(stored(path))
    except CallFailed as error:
        if error.name != UNKNOWN_OBJECT:
            raise
        return "---"
    return f"{view.text} (stored)"


async def _preview(client: Client, assignments: Sequence[Assignment]) -> int:
    code = DONE
    for assignment in assignments:
        print(assignment)
        try:
            await print_preview(client, assignment.path, assignment.value)
        except NotOffered:
            raise
        except CallFailed as error:
            code = complain(naming(assignment.path, error), FAILED)
    return code


async def print_preview(client: Client, path: str, value: float | str) -> None:
    """The requests that a write would send, indented.

    Raises:
        CallFailed: the write would be refused at once.
    """
    for line in await client.preview(path, value) or ["nothing is sent to the device"]:
        print(f"    {line}")


async def _write(client: Client, assignments: Sequence[Assignment]) -> int:
    for index, assignment in enumerate(assignments):
        path = assignment.path
        try:
            await client.set(path, assignment.value)
        except BusError as error:
            return complain(naming(path, error) + _state(assignments, index), FAILED)
        print(replace(assignment, after=(await client.view(path)).text))
    return DONE


def _state(assignments: Sequence[Assignment], failed: int) -> str:
    """What of several assignments was done, and what not."""
    if len(assignments) == 1:
        return ""
    done = ", ".join(assignment.path for assignment in assignments[:failed]) or "nothing"
    left = ", ".join(assignment.path for assignment in assignments[failed + 1 :]) or "nothing"
    return f" (done: {done}; not tried: {left})"
