"""``mk2dbus paths``: every path there can be, out of the declarations; also makes ``docs/paths.md``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from mk2dbus.items import Leaf
from mk2dbus.vebus.paths import declared_leaves
from mk2dbus.vebus.tables import SettingKind, flags, ram_variables, settings
from mk2dbus.vebus.tables import rows as rows_of

from .common import DONE, command, print_columns
from .names import chosen

_NOT_FILLED = {
    "/HardwareVersion": "no request for it is known",
    "/Dc/0/Temperature": "RAM variable 21 is not documented: unit, sign and scale are not certain",
}
"""Leaves that are always invalid, and why."""

_COLUMNS = ("PATH", "TYPE", "ACCESS", "UNIT", "MEANING")

_HEAD = """# Every path

*Made by `mk2dbus paths --markdown` out of the declarations in `mk2dbus/data/`; a test compares.*

`<n>` is a device, counted 0, 1, 2 … in the order of the short addresses; `<k>` an AC current sensor. Types
are those of D-Bus: `d` measured quantities, `i` counted and enumerated ones, `s` texts, `ai` lists. What is
not known right now is an empty array. *Source* names the part of the MK2 protocol that brings the value.
"""
_DEVICE_HEAD = """
## What each device has besides

Only what the device itself says that it supports has an object. Scale, limits and default are its own.

- `/Devices/<n>/RamVars/<Name>`: RAM variables, read when somebody asks and kept fresh for half a minute.
  Those of the assistants have their number for a name, from 128 up.
- `/Devices/<n>/Settings/<Name>`: settings and flags, stored in EEPROM: a write wears a cell.
- `/Devices/<n>/RamOnly/<Name>`: the same settings and flags, in effect but not stored; what was last written.
"""
_MODBUS_HEAD = """
## Victron's Modbus registers for com.victronenergy.vebus

The list of Modbus-TCP registers names the paths that other programs look at. What is there and what is not:
"""


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "paths",
        help="list every path there can be",
        description="List every path there can be on the bus, with type, unit, access and meaning. Needs no "
        "service; `mk2dbus list` shows what a running one has.",
    )
    parser.add_argument("globs", nargs="*", metavar="GLOB", help="only these, as for list, e.g. '/Ac/*'")
    parser.add_argument("--markdown", action="store_true", help="as docs/paths.md, with all there is")
    parser.set_defaults(run=command(_paths))


async def _paths(arguments: argparse.Namespace) -> int:
    if arguments.markdown:
        print(markdown(), end="")
        return DONE
    leaves = {leaf.path: leaf for leaf in declared_leaves()}
    rows = [_COLUMNS]
    for path in chosen(arguments.globs, leaves):
        leaf = leaves[path]
        rows.append((leaf.path, leaf.kind.value, _access(leaf), leaf.unit, leaf.meaning))
    print_columns(rows)
    return DONE


def _access(leaf: Leaf) -> str:
    return "read, write" if leaf.writable else "read"


def markdown() -> str:
    """The whole of ``docs/paths.md``."""
    return (
        "\n".join((_HEAD, *_system(), _DEVICE_HEAD, *_variables(), *_settings(), _MODBUS_HEAD, *_modbus()))
        + "\n"
    )


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _table(*titles: str) -> Iterator[str]:
    yield _row(*titles)
    yield _row(*("---" for _ in titles))


def _system() -> Iterator[str]:
    yield from _table("path", "type", "unit", "access", "meaning", "source")
    for leaf in declared_leaves():
        meaning = leaf.meaning
        if leaf.path in _NOT_FILLED:
            meaning = f"{meaning}; always invalid: {_NOT_FILLED[leaf.path]}".removeprefix("; ")
        yield _row(f"`{leaf.path}`", leaf.kind.value, leaf.unit, _access(leaf), meaning, leaf.source)


def _variables() -> Iterator[str]:
    yield "### RAM variables\n"
    yield from _table("number", "name", "unit", "access", "meaning")
    for row in ram_variables().values():
        if row.name:
            access = "read, write (the device decides)" if row.writable else "read"
            yield _row(row.id, f"`{row.name}`", row.unit, access, row.description)


def _settings() -> Iterator[str]:
    yield "\n### Settings and flags\n"
    yield from _table("setting", "name", "unit", "meaning")
    for setting in settings().values():
        choices = "; ".join(f"{number}={text}" for number, text in setting.texts.items())
        what = "flags, see below" if setting.kind is SettingKind.FLAGS else setting.description
        yield _row(setting.id, f"`{setting.name}`", setting.unit, "; ".join(filter(None, (what, choices))))
    yield ""
    yield from _table("flag", "name", "access", "meaning")
    for flag in flags().values():
        if flag.name:
            access = "read, write" if flag.settable else "read"
            yield _row(flag.number, f"`{flag.name}`", access, flag.description)


def _modbus() -> Iterator[str]:
    yield from _table("register", "path", "here")
    paths = {leaf.path for leaf in declared_leaves()} | {
        leaf.path.replace("<n>", "0") for leaf in declared_leaves()
    }
    for row in rows_of("modbus.csv"):
        here = "yes" if row["path"] in paths else f"no: {row['why_not']}"
        if row["path"] in _NOT_FILLED:
            here = f"always invalid: {_NOT_FILLED[row['path']]}"
        yield _row(row["register"], f"`{row['path']}`", here)
