"""``mk2dbus backup`` and ``mk2dbus diff``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .archive import Archive, SavedDevice, load, save
from .common import (
    DONE,
    USAGE,
    Stop,
    add_bus_arguments,
    command,
    connected,
    print_columns,
)
from .compare import differences, firmware, pairs, product, read_only_differences
from .numbers import within
from .snapshot import WAIT_S, snapshot

DIFFERENT = 1
"""Exit code of ``diff``, as with the program of that name."""

NOW = "NOW"


def add_parsers(subparsers: Any) -> None:
    """Add ``backup`` and ``diff``."""
    parser = subparsers.add_parser(
        "backup",
        help="save all settings and flags to a file",
        description="Save all settings and flags of all devices as TOML, or as JSON when FILE ends in "
        ".json. Waits until the service has read them all.",
    )
    add_bus_arguments(parser)
    add_wait_argument(parser)
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    parser.set_defaults(run=command(_backup))

    parser = subparsers.add_parser(
        "diff",
        help="compare a backup with the system, or with another",
        description="Compare a backup with what the system has now, or two backups. Exit code 0: all "
        "settings, flags, products and firmwares are the same; 1: some differ; 2: it could not be found out.",
    )
    add_bus_arguments(parser)
    add_wait_argument(parser)
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("other", type=Path, nargs="?", metavar="FILE", help="default: what the system has")
    parser.set_defaults(run=command(_diff, failed=USAGE))


def add_wait_argument(parser: argparse.ArgumentParser) -> None:
    """``--wait``, for :func:`snapshot`."""
    parser.add_argument(
        "--wait",
        type=within(0, 86400),
        default=WAIT_S,
        metavar="S",
        help="give up when the service, still reading the settings, makes no progress for so many seconds "
        "(default: %(default)g)",
    )


async def _backup(arguments: argparse.Namespace) -> int:
    path: Path = arguments.file
    _check_target(path, arguments.force)
    async with connected(arguments) as client:
        archive = (await snapshot(client, arguments.wait)).archive
    _check_target(path, arguments.force)
    save(archive, path)
    for device in archive.devices:
        print(
            f"{device.title}: {len(device.settings)} settings and {len(device.flags)} flags, "
            f"{len(device.read_only)} read-only values"
        )
        if device.unknown:
            names = ", ".join(device.unknown)
            print(f"mk2dbus: device {device.number} has no value for {names}", file=sys.stderr)
    return DONE


def _check_target(path: Path, force: bool) -> None:
    if path.is_dir():
        raise Stop(f"{path} is a folder")
    if path.exists() and not force:
        raise Stop(f"{path} exists already; --force overwrites it")
    if not path.resolve().parent.is_dir():
        raise Stop(f"cannot write {path}: there is no folder {path.resolve().parent}")


async def _diff(arguments: argparse.Namespace) -> int:
    one = load(arguments.file)
    if arguments.other is not None:
        return _compare(one, load(arguments.other), (str(arguments.file), str(arguments.other)))
    try:
        async with connected(arguments) as client:
            other = (await snapshot(client, arguments.wait)).archive
    except Stop as stop:
        raise Stop(str(stop), USAGE) from stop
    return _compare(one, other, (str(arguments.file), NOW))


def _compare(one: Archive, other: Archive, names: tuple[str, str]) -> int:
    rows: list[tuple[str, ...]] = []
    for left, right in pairs(one, other):
        if left is None or right is None:
            missing, device = (names[0], right) if left is None else (names[1], left)
            assert device is not None
            rows += [("",), (f"{device.title} (not in {missing})",)]
            continue
        found = [(entry.name, *entry.texts()) for entry in differences(left, right)]
        found = _identity_rows(left, right) + found
        if found:
            rows += [("",), (left.title,), *found]
        for entry in read_only_differences(left, right):
            texts = " and ".join(entry.texts())
            note(f"read-only {entry.name} of device {left.number} differs too: {texts}")
        if left.serial and right.serial and left.serial != right.serial:
            note(f"device {left.number} is another one: {left.serial} and {right.serial}")
    if not rows:
        return DONE
    print_columns([("NAME", *names), *rows])
    return DIFFERENT


def _identity_rows(left: SavedDevice, right: SavedDevice) -> list[tuple[str, str, str]]:
    rows = []
    if left.product_id != right.product_id:
        rows.append(("product", product(left), product(right)))
    if left.firmware != right.firmware:
        rows.append(("firmware", firmware(left), firmware(right)))
    return rows


def note(text: str) -> None:
    """Something to know that changes nothing."""
    print(f"mk2dbus: {text}", file=sys.stderr)
