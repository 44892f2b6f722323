"""What the system is called and which instance it has, and who remembers that.

Both are kept in the file of the service. Where Venus has its settings they are kept there, too, and what is
there wins; but a name that was written while they were away is handed to them when they are back.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from mk2dbus.disk import AtOnce, Disk
from mk2dbus.items import NoReply, OutOfRange, Refused, Value, WriteFailed
from mk2dbus.state import StateFile, StateUnwritable

log = logging.getLogger(__name__)

DEFAULT_INSTANCE = 257
MAX_INSTANCE = 0xFFFF
MAX_NAME = 64
"""Characters."""
DISK_S = 4.5
"""How long a name may take to be kept; the contract gives a write 5 s."""

DEVICE_CLASS = "vebus"
_INSTANCE_PATH, _NAME_PATH = "/DeviceInstance", "/CustomName"
_DIGITS = re.compile("[0-9]{1,5}", re.ASCII)
_CLASS_AND_INSTANCE = re.compile(rf"{DEVICE_CLASS}:([0-9]{{1,5}})", re.ASCII)

# Names in the state file.
_INSTANCE, _NAME, _NAME_OWED = "DeviceInstance", "CustomName", "CustomNameOwed"


class Settings(Protocol):
    """The settings of Venus, see :class:`mk2dbus.bus.localsettings.LocalSettings`."""

    def keeps(self, path: str) -> bool: ...

    async def set(self, path: str, value: str) -> None: ...


def settings_folder(suffix: str) -> str:
    """Where the settings of Venus have those of an adapter; ``suffix`` is the end of its bus name."""
    return f"/Settings/Devices/mk2_{re.sub('[^A-Za-z0-9_]', '_', suffix)}"


class Identity:
    """Name and instance of a system.

    Args:
        folder: see :func:`settings_folder`.
        given: the instance the user asked for, if any.
        show: gets what is to be shown, by path.
        disk: writes the state from now on.
    """

    def __init__(
        self,
        folder: str,
        state: StateFile,
        given: int | None,
        show: Callable[[Mapping[str, Value]], None],
        disk: Disk | None = None,
    ) -> None:
        self._class_and_instance = f"{folder}/ClassAndVrmInstance"
        self._custom_name = f"{folder}/CustomName"
        self._state = state
        self._show = show
        self._disk = disk or AtOnce()
        self._settings: Settings | None = None
        self._writing = asyncio.Lock()
        self._names_heard = 0
        self._owed = bool(state.get(_NAME_OWED, ""))
        """The settings of Venus were away when the name was written."""
        self.name = state.get(_NAME, "")
        self.instance = self._first_instance() if given is None else given

    def _first_instance(self) -> int:
        """The one of before, else the first that no other adapter of this machine has."""
        kept = self._state.get(_INSTANCE, "")
        if _DIGITS.fullmatch(kept) and int(kept) <= MAX_INSTANCE:
            return int(kept)
        with self._state.alone():
            taken = self._state.others(_INSTANCE)
            instance = next(
                number for number in range(DEFAULT_INSTANCE, MAX_INSTANCE) if str(number) not in taken
            )
            # At once: as long as the others are kept from it.
            _complain(_update(self._state, {_INSTANCE: str(instance)}))
        return instance

    def use(self, settings: Settings) -> None:
        """Keep name and instance there from now on, whenever they are there."""
        self._settings = settings

    def settings(self) -> dict[str, str]:
        """The settings to be added, with their defaults: what is known now."""
        return {
            self._class_and_instance: f"{DEVICE_CLASS}:{self.instance}",
            self._custom_name: self.name,
        }

    async def joined(self, values: Mapping[str, str]) -> None:
        """The settings of Venus are there."""
        if self._class_and_instance in values:
            self.changed(self._class_and_instance, values[self._class_and_instance])
        if self._custom_name in values:
            if self._owed:
                await self._hand_over()
            else:
                self.changed(self._custom_name, values[self._custom_name])
        log.info("instance %d and name %r are kept in the settings of Venus", self.instance, self.name)

    def changed(self, path: str, value: str) -> None:
        """A setting changed in the settings of Venus."""
        if path == self._class_and_instance:
            self._take_instance(value)
        elif path == self._custom_name:
            self._names_heard += 1
            self._take_name(value)

    async def write_name(self, value: int | float | str) -> None:
        """Give the system a name; returns when that is kept.

        Raises:
            OutOfRange: too long.
            WriteFailed: what the settings of Venus raise, where they are.
            Refused: it cannot be saved, where they are not.
            NoReply: it is not saved yet; when it is, it will be shown.
        """
        name = str(value)
        if len(name) > MAX_NAME:
            raise OutOfRange(f"{_NAME_PATH} takes at most {MAX_NAME} characters")
        async with self._writing:
            if not self._settings_there():
                await self._keep_name(name)
            # They may have come meanwhile.
            if self._settings is not None and self._settings_there():
                await self._set_name(self._settings, name)

    def _settings_there(self) -> bool:
        return self._settings is not None and self._settings.keeps(self._custom_name)

    async def _keep_name(self, name: str) -> None:
        kept: asyncio.Future[StateUnwritable | None] = asyncio.get_running_loop().create_future()
        heard = self._names_heard

        def done(error: StateUnwritable | None) -> None:
            # Also when nobody waits for it any more.
            if error is None:
                self._owed = True
                if heard == self._names_heard:
                    self._show_name(name)
            kept.set_result(error)

        take_back = self._disk.submit(partial(_update, self._state, {_NAME: name, _NAME_OWED: "yes"}), done)
        taken_back = False
        try:
            await asyncio.wait({kept}, timeout=DISK_S)
        finally:
            if not kept.done():
                taken_back = take_back()
        if taken_back:
            raise Refused(f"{_NAME_PATH} stays as it is: the disk was busy for {DISK_S:g} s")
        if not kept.done():
            raise NoReply(f"{_NAME_PATH}: the disk did not take it within {DISK_S:g} s, it may still do")
        error = kept.result()
        if error is not None:
            raise Refused(f"{_NAME_PATH}: {error}") from error

    async def _hand_over(self) -> None:
        """Bring the name to the settings that was written while they were away."""
        async with self._writing:
            if self._settings is None:
                return
            try:
                await self._set_name(self._settings, self.name)
            except WriteFailed as error:
                log.warning("the name %r is kept here only: %s", self.name, error)

    async def _set_name(self, settings: Settings, name: str) -> None:
        heard = self._names_heard
        await settings.set(self._custom_name, name)
        self._owed = False
        self._remember({_NAME_OWED: None})
        # What was heard since is what it said of this or, who knows, of a later change.
        if heard == self._names_heard:
            self._take_name(name)

    def _take_name(self, name: str) -> None:
        self._remember({_NAME: name})
        self._show_name(name)

    def _show_name(self, name: str) -> None:
        self.name = name
        self._show({_NAME_PATH: name})

    def _take_instance(self, setting: str) -> None:
        found = _CLASS_AND_INSTANCE.fullmatch(setting)
        if found is None or int(found[1]) > MAX_INSTANCE:
            log.warning("%r is no instance of %s; it stays %d", setting, DEVICE_CLASS, self.instance)
            return
        self.instance = int(found[1])
        self._remember({_INSTANCE: str(self.instance)})
        self._show({_INSTANCE_PATH: self.instance})

    def _remember(self, changes: Mapping[str, str | None]) -> None:
        """As a copy for when the settings are away; that may fail."""
        self._disk.submit(partial(_update, self._state, changes), _complain)


def _update(state: StateFile, changes: Mapping[str, str | None]) -> StateUnwritable | None:
    try:
        state.update(changes)
    except StateUnwritable as error:
        return error
    return None


def _complain(error: StateUnwritable | None) -> None:
    if error is not None:
        log.warning("%s; it is forgotten when the settings of Venus are away", error)
