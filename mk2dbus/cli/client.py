"""The commands that talk to a running service: ``list``, ``get``, ``set``; ``monitor`` has its own module."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from mk2dbus.bus.client import Client, ItemView, Shown
from mk2dbus.bus.errors import BusError, BusUnreachable, CallFailed, ServiceNotFound

from .monitor import monitor

DONE, FAILED, USAGE = 0, 1, 2
"""Exit codes: done; refused or failed request; wrong usage, or no service or bus to talk to."""

Command = Callable[[argparse.Namespace, Client], Awaitable[int]]


def add_parsers(subparsers: Any) -> None:
    """Add the commands to what ``ArgumentParser.add_subparsers`` returned.

    Each sets ``run``: an async function from the namespace to the exit code.
    """
    command = subparsers.add_parser("list", help="show every object with value, unit, limits and default")
    _add_bus_arguments(command)
    command.set_defaults(run=_run(_list))

    command = subparsers.add_parser("get", help="print the value of objects")
    _add_bus_arguments(command)
    command.add_argument(
        "paths", nargs="+", metavar="PATH", help="as shown by list; a folder prints what is below"
    )
    command.set_defaults(run=_run(_get))

    command = subparsers.add_parser("set", help="write values and print what the device then has")
    _add_bus_arguments(command)
    command.add_argument("assignments", nargs="+", metavar="PATH VALUE", help="one or more pairs")
    command.set_defaults(run=_run(_set))

    command = subparsers.add_parser(
        "monitor", help="watch values: a table on a terminal, else a line per change"
    )
    _add_bus_arguments(command)
    command.set_defaults(run=_run(monitor))


def _add_bus_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--service", metavar="NAME", help="bus name or its suffix; default: the only one there is"
    )
    parser.add_argument(
        "--bus",
        default="system",
        metavar="system|session|ADDRESS",
        help="where the service is (default: system)",
    )


def _run(command: Command) -> Callable[[argparse.Namespace], Awaitable[int]]:
    """Connect, do the command, turn errors into one line and an exit code."""

    async def run(arguments: argparse.Namespace) -> int:
        try:
            client = await Client.open(arguments.bus, arguments.service)
            try:
                code = await command(arguments, client)
                sys.stdout.flush()
                return code
            finally:
                client.close()
        except (BusUnreachable, ServiceNotFound) as error:
            return _complain(str(error), USAGE)
        except BusError as error:
            return _complain(str(error), FAILED)
        except BrokenPipeError:
            # Whoever read our output has enough. Python would complain again when it closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE

    return run


def _complain(text: str, code: int) -> int:
    print(f"mk2dbus: {' '.join(text.split())}", file=sys.stderr)
    return code


async def _list(arguments: argparse.Namespace, client: Client) -> int:
    print_table(await client.views(sorted(await client.paths_and_values(), key=_in_order)))
    return DONE


def _in_order(path: str) -> list[tuple[int, str]]:
    """Sorts numbers in paths as numbers: /Devices/2 before /Devices/10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in path.split("/")]


def print_table(views: Sequence[ItemView]) -> None:
    """One line per item, columns aligned."""
    rows = [("PATH", "VALUE", "UNIT", "MIN", "MAX", "DEFAULT", "WRITABLE")]
    rows += [
        (
            view.path,
            view.text,
            view.unit,
            show(view.minimum),
            show(view.maximum),
            show(view.default),
            "yes" if view.writable else "",
        )
        for view in views
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def show(value: Shown) -> str:
    """A bare value: 14.4, 3; nothing when it is not known."""
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)


async def _get(arguments: argparse.Namespace, client: Client) -> int:
    code = DONE
    for path in arguments.paths:
        try:
            # GetValue first: it waits for a value that has to be read from the device.
            await client.value(path)
            text = await client.text(path)
        except CallFailed as error:
            code = _complain(f"{path}: {error}", FAILED)
            continue
        if isinstance(text, dict):
            for below, item_text in text.items():
                print(path.rstrip("/") + "/" + below, item_text)
        elif len(arguments.paths) > 1:
            print(path, text)
        else:
            print(text)
    return code


async def _set(arguments: argparse.Namespace, client: Client) -> int:
    words = arguments.assignments
    if len(words) % 2:
        return _complain(f"set takes pairs of PATH and VALUE; {words[-1]!r} is left over", USAGE)
    for path, word in zip(words[::2], words[1::2], strict=True):
        try:
            view = await client.view(path)
            await client.set(path, word if isinstance(view.value, str) else _number_or_text(word))
            print(path, (await client.view(path)).text)
        except CallFailed as error:
            return _complain(f"{path}: {error}" if path not in str(error) else str(error), FAILED)
    return DONE


def _number_or_text(word: str) -> int | float | str:
    for kind in (lambda text: int(text, 0), float):
        try:
            number: int | float = kind(word)
        except ValueError:
            continue
        return number
    return word
