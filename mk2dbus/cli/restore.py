"""``mk2dbus restore``: write what differs from a backup, and say how far that came."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mk2dbus.bus.client import Client, ItemView
from mk2dbus.bus.errors import BusError, CallFailed, NotOffered
from mk2dbus.bus.names import ERROR_PREFIX
from mk2dbus.items import OutOfRange

from .archive import Archive, SavedDevice, load
from .assign import print_preview
from .backup import add_wait_argument, note
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
    naming,
    print_columns,
)
from .compare import differences, identity
from .snapshot import RESET_REQUIRED, Snapshot, setting_path, snapshot
from .values import complaint, same, text_of

_OUT_OF_RANGE = ERROR_PREFIX + OutOfRange.__name__


def add_parsers(subparsers: Any) -> None:
    """Add ``restore``."""
    parser = subparsers.add_parser(
        "restore",
        help="write the settings and flags of a backup that differ",
        description="Show what differs from a backup, ask (on a terminal), then write that, one by one, each "
        "read back from the device. Stops at the first that fails and says what was done. Refuses a backup "
        "of another product or firmware. Exit code 0: the devices have all that the file has.",
    )
    add_bus_arguments(parser)
    add_wait_argument(parser)
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument(
        "--force",
        action="store_true",
        help="also from another product or firmware, leaving out what the device does not take",
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be sent; send nothing")
    add_yes_argument(parser)
    parser.set_defaults(run=command(_restore))


@dataclass(frozen=True, slots=True)
class Change:
    """A value to write, and how the change reads."""

    device: int
    name: str
    value: int | float
    view: ItemView
    now: str
    wanted: str

    @property
    def path(self) -> str:
        return self.view.path


@dataclass(slots=True)
class Plan:
    """What a restore will do. ``problems`` is what it cannot, a line each."""

    changes: list[Change] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


async def _restore(arguments: argparse.Namespace) -> int:
    archive = load(arguments.file)
    async with connected(arguments) as client:
        now = await snapshot(client, arguments.wait)
        strange = list(_strangers(archive, now.archive))
        plan = await _plan(client, archive, now)
        _show(archive, plan)
        if (strange or plan.problems) and not arguments.force:
            for line in strange + plan.problems:
                note(line)
            return complain("nothing was written; --force restores what can be restored", FAILED)
        for line in strange:
            note(line)
        for line in plan.problems:
            note(f"left out: {line}")
        code = FAILED if plan.problems else DONE
        if not plan.changes:
            print("nothing differs" if not plan.problems else "nothing else differs")
            return code
        if arguments.dry_run:
            return max(code, await _preview(client, plan.changes))
        if asks(arguments.yes) and not await confirmed(f"Write {_count(plan.changes)}?"):
            return complain("nothing was written", FAILED)
        return max(code, await _Writing(client, plan.changes).run())


# --- what to do ----------------------------------------------------------------------------------------


def _strangers(archive: Archive, now: Archive) -> Iterable[str]:
    """Why the file may not be one of this system, a line each."""
    present = {device.number: device for device in now.devices}
    serials = {device.serial: device.number for device in now.devices if device.serial}
    for saved in archive.devices:
        device = present.get(saved.number)
        if device is None:
            yield f"there is no device {saved.number} ({identity(saved)})"
            continue
        if (saved.product_id, saved.firmware) != (device.product_id, device.firmware):
            yield f"device {saved.number} is a {identity(device)}; the file is of a {identity(saved)}"
        elsewhere = serials.get(saved.serial, saved.number)
        if elsewhere != saved.number:
            yield f"device {saved.number} of the file, {saved.serial}, is device {elsewhere} now"
        elif saved.serial and device.serial and saved.serial != device.serial:
            note(f"device {saved.number} is {device.serial}; the file is of {saved.serial}")


async def _plan(client: Client, archive: Archive, now: Snapshot) -> Plan:
    plan = Plan()
    present = {device.number: device for device in now.archive.devices}
    for saved in archive.devices:
        if saved.number in present:
            await _plan_device(client, saved, present[saved.number], now, plan)
    return plan


async def _plan_device(
    client: Client, saved: SavedDevice, device: SavedDevice, now: Snapshot, plan: Plan
) -> None:
    unknown = set(device.unknown)
    for difference in differences(saved, device):
        name, wanted = difference.name, difference.one
        # Something the file knows nothing of, or has as read-only.
        if wanted is None or name not in saved.writable:
            continue
        path = setting_path(saved.number, name)
        view = now.views.get(path)
        if view is None or name in unknown:
            what = "has no value for" if view else "has no"
            plan.problems.append(f"device {saved.number} {what} {name}")
            continue
        wrong = complaint(view, wanted.value)
        if wrong is not None:
            plan.problems.append(wrong)
            continue
        choices = await client.choices(path) if isinstance(view.value, int) else {}
        text = text_of(wanted.value, view, choices)
        plan.changes.append(Change(saved.number, name, wanted.value, view, view.text, text))


def _show(archive: Archive, plan: Plan) -> None:
    if not plan.changes:
        return
    rows: list[tuple[str, ...]] = [("NAME", "NOW", "FILE")]
    titles = {device.number: device.title for device in archive.devices}
    shown = None
    for change in plan.changes:
        if change.device != shown:
            shown = change.device
            rows += [("",), (titles[shown],)]
        rows.append((change.name, change.now, change.wanted))
    print_columns(rows)
    print()


def _count(changes: Sequence[Change]) -> str:
    return "1 value" if len(changes) == 1 else f"{len(changes)} values"


async def _preview(client: Client, changes: Sequence[Change]) -> int:
    code = DONE
    for change in changes:
        print(f"{change.path} {change.now} → {change.wanted}")
        try:
            await print_preview(client, change.path, change.value)
        except NotOffered:
            raise
        except CallFailed as error:
            if error.name == _OUT_OF_RANGE:
                print(f"    would be refused now, and is tried again after the others: {error}")
            else:
                code = complain(naming(change.path, error), FAILED)
    return code


# --- doing it ------------------------------------------------------------------------------------------


class _FailedError(Exception):
    """A value was not written."""

    def __init__(self, change: Change, reason: str) -> None:
        super().__init__(reason)
        self.change = change


class _Writing:
    """Writes values one by one; knows at any time what is done and what is not."""

    def __init__(self, client: Client, changes: Sequence[Change]) -> None:
        self._client = client
        self._done: list[Change] = []
        self._left = list(changes)

    async def run(self) -> int:
        try:
            await self._write_all()
        except _FailedError as failure:
            complain(str(failure), FAILED)
            await self._report(failure.change)
            return FAILED
        except asyncio.CancelledError:
            await self._report(None)
            raise
        print(f"{_count(self._done)} written and read back")
        for device in sorted({change.device for change in self._done}):
            await self._tell_reset(device)
        return DONE

    async def _write_all(self) -> None:
        """Write all. What is out of range because of another setting comes again after the others.

        Raises:
            _FailedError: at the first that cannot be written.
        """
        while self._left:
            refused: list[tuple[Change, CallFailed]] = []
            done = len(self._done)
            for change in list(self._left):
                try:
                    await self._write(change)
                except CallFailed as error:
                    # Within the limits of the item itself, so another setting is in the way.
                    refused.append((change, error))
                else:
                    self._left.remove(change)
                    self._done.append(change)
            if refused and len(self._done) == done:
                change, reason = refused[0]
                raise _FailedError(change, naming(change.path, reason)) from reason

    async def _write(self, change: Change) -> None:
        """Write a value and see that it is there.

        Raises:
            CallFailed: out of range.
            _FailedError: it failed otherwise.
        """
        try:
            await self._client.set(change.path, change.value)
            view = await self._client.view(change.path)
        except BusError as error:
            if isinstance(error, CallFailed) and error.name == _OUT_OF_RANGE:
                raise
            raise _FailedError(change, naming(change.path, error)) from error
        if not same(view.value, change.value) and view.text != change.wanted:
            raise _FailedError(change, f"{change.path} reads {view.text} after {change.wanted} was written")
        print(f"{change.path} {change.now} → {view.text}", flush=True)

    async def _report(self, failed: Change | None) -> None:
        """Say what state is left: a line each for what is done, what failed, what was not tried."""
        left = [change for change in self._left if change is not failed]
        _list("done", self._done)
        if failed is not None:
            try:
                now = (await self._client.view(failed.path)).text
            except BusError:
                now = "not known"
            _list(f"failed (it is {now} now)", [failed])
        _list("not done", left)

    async def _tell_reset(self, device: int) -> None:
        path = setting_path(device, RESET_REQUIRED)
        try:
            needed = (await self._client.view(path)).value == 1
        except CallFailed:
            return
        if needed:
            note(f"device {device} uses some of them after a reset only: mk2dbus set /SystemReset 1")


def _list(what: str, changes: Sequence[Change]) -> None:
    several = len({change.device for change in changes}) > 1
    names = [f"{change.device}/{change.name}" if several else change.name for change in changes]
    print(f"{what}: {', '.join(names) or 'nothing'}", file=sys.stderr)
