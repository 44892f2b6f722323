"""What the commands that talk to a service share: arguments, connection, errors, questions, tables."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from mk2dbus.bus.client import Client
from mk2dbus.bus.errors import BusError, BusUnreachable, ServiceNotFound

DONE, FAILED, USAGE = 0, 1, 2
"""Exit codes: done; refused or failed request; wrong usage, or no service or bus to talk to."""

_NUMBER = re.compile(r"([0-9]+)")

Run = Callable[[argparse.Namespace], Awaitable[int]]


class Stop(Exception):
    """Ends a command: one line for the person, and the exit code."""

    def __init__(self, text: str, code: int = FAILED) -> None:
        super().__init__(text)
        self.code = code


def add_bus_arguments(parser: argparse.ArgumentParser) -> None:
    """``--service`` and ``--bus``."""
    parser.add_argument(
        "--service", metavar="NAME", help="bus name or its suffix; default: the only one there is"
    )
    parser.add_argument(
        "--bus",
        default="system",
        metavar="system|session|ADDRESS",
        help="where the service is (default: system)",
    )


def add_yes_argument(parser: argparse.ArgumentParser) -> None:
    """``--yes``, for :func:`asks`."""
    parser.add_argument(
        "--yes", action="store_true", help="do not ask; without a terminal on stdin it never asks"
    )


@asynccontextmanager
async def connected(arguments: argparse.Namespace) -> AsyncIterator[Client]:
    """The service that the arguments mean.

    Raises:
        BusUnreachable, ServiceNotFound: see :meth:`.client.Client.open`.
    """
    client = await Client.open(arguments.bus, arguments.service)
    try:
        yield client
    finally:
        client.close()


def command(body: Run, failed: int = FAILED) -> Run:
    """Turn what a command raises into one line and an exit code; ``failed`` is that of a failed request."""

    async def run(arguments: argparse.Namespace) -> int:
        try:
            code = await body(arguments)
            sys.stdout.flush()
            return code
        except Stop as stop:
            return complain(str(stop), stop.code)
        except (BusUnreachable, ServiceNotFound) as error:
            return complain(str(error), USAGE)
        except BusError as error:
            return complain(str(error), failed)
        except BrokenPipeError:
            # Whoever read our output has enough. Python would complain again when it closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE

    return run


def complain(text: str, code: int) -> int:
    """One line on stderr; the exit code, to be returned."""
    print(f"mk2dbus: {' '.join(text.split())}", file=sys.stderr)
    return code


def naming(path: str, error: Exception) -> str:
    """The text of an error, with the path in it."""
    return str(error) if path in str(error) else f"{path}: {error}"


def asks(yes: bool) -> bool:
    """Whether to ask: on a terminal only, as scripts have always been able to write."""
    return not yes and sys.stdin is not None and sys.stdin.isatty()


async def confirmed(question: str) -> bool:
    """Ask on the terminal."""
    print(f"{question} [y/N] ", end="", flush=True)
    return (await _line()).strip().casefold() in ("y", "yes")


async def _line() -> str:
    """A line from the terminal. The loop goes on meanwhile, so that Ctrl-C ends the wait."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline()


def in_order(path: str) -> list[str | int]:
    """Sorts numbers in paths as numbers: /Devices/2 before /Devices/10."""
    return [int(part) if index % 2 else part for index, part in enumerate(_NUMBER.split(path))]


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Rows of cells, aligned; a row of a single cell is a title and takes what room it needs."""
    wide = [row for row in rows if len(row) > 1]
    widths = [max(map(len, column)) for column in zip(*wide, strict=True)]
    for row in rows:
        cells = row if len(row) == 1 else map(str.ljust, row, widths)
        print("  ".join(cells).rstrip())
