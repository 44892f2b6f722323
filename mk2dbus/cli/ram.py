"""``mk2dbus read-ram`` and ``mk2dbus write-ram``: RAM variables by number, with an object or without."""

from __future__ import annotations

import argparse
import math
import re
from typing import Any

from mk2dbus.bus.client import Shown
from mk2dbus.bus.errors import CallFailed, NotOffered

from .common import (
    DONE,
    FAILED,
    add_bus_arguments,
    add_yes_argument,
    asks,
    command,
    complain,
    confirmed,
    connected,
)
from .numbers import whole_within
from .values import number, show

MAX_ID = 0xFFFF
MAX_DEVICE = 0xFF

_RANGE = re.compile(r"(\w+)-(\w+)")


def add_parsers(subparsers: Any) -> None:
    """Add ``read-ram`` and ``write-ram``."""
    parser = subparsers.add_parser(
        "read-ram",
        help="read RAM variables by number",
        description="Read RAM variables now, whether the service has an object for them or not, and print "
        "number, word (decimal and hex) and value; --- where the device tells no scale.",
    )
    _add_arguments(parser)
    parser.add_argument(
        "ids", nargs="+", type=_ids, metavar="ID", help="a number (128, 0x80) or a range (128-140)"
    )
    parser.set_defaults(run=command(_read))

    parser = subparsers.add_parser(
        "write-ram",
        help="write a RAM variable by number",
        description="Write a RAM variable in the unit of its own scale, and print what it then has. Nothing "
        "is stored: it is gone with the next reset. Asks on a terminal.",
    )
    _add_arguments(parser)
    parser.add_argument("id", type=_id, metavar="ID", help="a number: 128, 0x80")
    parser.add_argument("value", type=_value, metavar="VALUE")
    add_yes_argument(parser)
    parser.set_defaults(run=command(_write))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bus_arguments(parser)
    parser.add_argument(
        "--device",
        type=whole_within(0, MAX_DEVICE),
        default=0,
        metavar="N",
        help="as in /Devices/N (default: 0)",
    )


def _id(text: str) -> int:
    id = number(text)
    if not isinstance(id, int) or not 0 <= id <= MAX_ID:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to {MAX_ID}")
    return id


def _ids(text: str) -> range:
    found = _RANGE.fullmatch(text)
    first, last = (_id(found[1]), _id(found[2])) if found else (_id(text), _id(text))
    if first > last:
        raise argparse.ArgumentTypeError(f"{text!r} is empty")
    return range(first, last + 1)


def _value(text: str) -> float:
    value = number(text)
    if value is None or not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return value


def _line(id: int, value: Shown, raw: int) -> str:
    return f"{id:<5}  {raw:<5}  0x{raw:04X}  {'---' if value is None else show(value)}"


def _naming(id: int, error: Exception) -> str:
    return str(error) if "RAM variable" in str(error) else f"RAM variable {id}: {error}"


async def _read(arguments: argparse.Namespace) -> int:
    code = DONE
    async with connected(arguments) as client:
        for id in (id for ids in arguments.ids for id in ids):
            try:
                value, raw = await client.read_ram(arguments.device, id)
            except NotOffered:
                raise
            except CallFailed as error:
                code = complain(_naming(id, error), FAILED)
                continue
            print(_line(id, value, raw))
    return code


async def _write(arguments: argparse.Namespace) -> int:
    id = arguments.id
    async with connected(arguments) as client:
        if asks(arguments.yes):
            value, _ = await client.read_ram(arguments.device, id)
            before = "---" if value is None else show(value)
            print(f"RAM variable {id} of device {arguments.device}: {before} → {show(arguments.value)}")
            if not await confirmed("Write?"):
                return complain("nothing was written", FAILED)
        try:
            value, raw = await client.write_ram(arguments.device, id, arguments.value)
        except NotOffered:
            raise
        except CallFailed as error:
            return complain(_naming(id, error), FAILED)
    print(_line(id, value, raw))
    return DONE
