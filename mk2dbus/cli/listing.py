"""``mk2dbus list`` and ``mk2dbus get``."""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mk2dbus.bus.client import Client, ItemView, Shown
from mk2dbus.bus.errors import CallFailed

from .common import (
    DONE,
    FAILED,
    Stop,
    add_bus_arguments,
    command,
    complain,
    connected,
    in_order,
    naming,
    print_columns,
)
from .names import chosen, resolve
from .values import same, show

_DEVICE = re.compile(r"/Devices/(\d+)/(?:(Settings|RamVars|RamOnly)/)?\w")

_IDENTITY, _SETTINGS, _FLAGS, _RAM_VARIABLES, _RAM_ONLY = range(5)
_KINDS = (
    "identity and measurements",
    "settings",
    "flags",
    "RAM variables",
    "settings and flags in RAM only (what was last written)",
)
_FOLDERS = {None: _IDENTITY, "Settings": _SETTINGS, "RamVars": _RAM_VARIABLES, "RamOnly": _RAM_ONLY}

_HEAD = ("PATH", "VALUE", "UNIT", "MIN", "MAX", "DEFAULT", "WRITABLE")


def add_parsers(subparsers: Any) -> None:
    """Add ``list`` and ``get``."""
    parser = subparsers.add_parser(
        "list",
        help="show objects with value, unit, limits and default",
        description="Show objects, grouped by device and kind. RAM variables are read from the device now.",
    )
    add_bus_arguments(parser)
    parser.add_argument(
        "globs",
        nargs="*",
        metavar="GLOB",
        help="only these, e.g. '/Ac/*', '*Voltage', /Devices/0/Settings; a name without / in front may "
        "stand anywhere",
    )
    parser.add_argument("--changed", action="store_true", help="only what differs from its default")
    parser.add_argument("--known", action="store_true", help="only what is known right now")
    parser.add_argument("--writable", action="store_true", help="only what can be written")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON, with the descriptions")
    form.add_argument("--csv", action="store_true", help="as CSV, with the descriptions")
    parser.set_defaults(run=command(_list))

    parser = subparsers.add_parser("get", help="print the value of objects")
    add_bus_arguments(parser)
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="as shown by list, or its end where that is unambiguous (AbsorptionVoltage); a folder prints "
        "what is below",
    )
    parser.set_defaults(run=command(_get))


# --- list ----------------------------------------------------------------------------------------------


async def _list(arguments: argparse.Namespace) -> int:
    async with connected(arguments) as client:
        items = await client.paths_and_values()
        paths = chosen(arguments.globs, items)
        # These are read when somebody asks, and have no default to differ from.
        if not arguments.changed:
            await client.fetch(path for path in paths if "/RamVars/" in path and items[path][0] is None)
        views = [
            view
            for view in await client.views(paths)
            if (view.writable or not arguments.writable)
            and (_changed(view) or not arguments.changed)
            and (view.value is not None or not arguments.known)
        ]
    views.sort(key=_place)
    if arguments.json:
        json.dump([_record(view) for view in views], sys.stdout, indent=2, ensure_ascii=False)
        print()
    elif arguments.csv:
        _print_csv(views)
    else:
        _print_table(views)
        _tell_progress(items)
    return DONE


def _changed(view: ItemView) -> bool:
    return view.value is not None and view.default is not None and not same(view.value, view.default)


def is_flag(view: ItemView) -> bool:
    """Whether an item below Settings is a flag, and no setting."""
    return (
        (view.minimum, view.maximum) == (0, 1)
        and isinstance(view.minimum, int)
        and view.text in ("no", "yes", "---")
    )


def _group(view: ItemView) -> tuple[int, int]:
    """Number of the device (-1: the system) and kind."""
    found = _DEVICE.match(view.path)
    if found is None:
        return -1, 0
    kind = _FOLDERS[found[2]]
    return int(found[1]), _FLAGS if kind == _SETTINGS and is_flag(view) else kind


def _place(view: ItemView) -> tuple[tuple[int, int], list[str | int]]:
    return _group(view), in_order(view.path)


def _print_table(views: Sequence[ItemView]) -> None:
    rows: list[tuple[str, ...]] = [_HEAD]
    group = None
    for view in views:
        if _group(view) != group:
            group = _group(view)
            rows += [("",), ("System" if group[0] < 0 else f"Device {group[0]}: {_KINDS[group[1]]}",)]
        rows.append(
            (
                view.path,
                view.text,
                view.unit,
                show(view.minimum),
                show(view.maximum),
                show(view.default),
                "yes" if view.writable else "",
            )
        )
    print_columns(rows)


def _tell_progress(items: Mapping[str, tuple[Shown, str]]) -> None:
    """Settings that are still being read are missing from the table; say so."""
    for path, (progress, _) in items.items():
        if path.endswith("/Settings/ReadProgress") and isinstance(progress, int) and progress < 100:
            device = path.split("/")[2]
            print(f"mk2dbus: {progress}% of the settings of device {device} are read so far", file=sys.stderr)


def _record(view: ItemView) -> dict[str, Any]:
    return {
        "path": view.path,
        "value": view.value,
        "text": view.text,
        "unit": view.unit,
        "min": view.minimum,
        "max": view.maximum,
        "default": view.default,
        "writable": view.writable,
        "description": view.description,
    }


def _print_csv(views: Sequence[ItemView]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("path", "value", "text", "unit", "min", "max", "default", "writable", "description"))
    for view in views:
        record = _record(view)
        record["writable"] = "yes" if view.writable else "no"
        if isinstance(view.value, tuple):
            record["value"] = " ".join(map(str, view.value))
        writer.writerow(record.values())


# --- get -----------------------------------------------------------------------------------------------


async def _get(arguments: argparse.Namespace) -> int:
    code = DONE
    async with connected(arguments) as client:
        short = any(not name.startswith("/") for name in arguments.paths)
        paths = await client.paths_and_values() if short else {}
        for name in arguments.paths:
            try:
                await _print_value(client, resolve(name, paths), named=len(arguments.paths) > 1)
            except Stop as stop:
                code = complain(str(stop), FAILED)
            except CallFailed as error:
                code = complain(naming(name, error), FAILED)
    return code


async def _print_value(client: Client, path: str, named: bool) -> None:
    # GetValue first: it waits for a value that has to be read from the device.
    await client.value(path)
    text = await client.text(path)
    if isinstance(text, dict):
        for below, item_text in text.items():
            print(path.rstrip("/") + "/" + below, item_text)
    elif named:
        print(path, text)
    else:
        print(text)
