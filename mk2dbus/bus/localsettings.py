"""The settings service of Venus, "localsettings": keeps texts under paths of ours, where it is on the bus.

It may come after us, go, come back or never be there, and it may hang: nobody here waits long for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mk2dbus.items import Disconnected, NoReply, Refused
from mk2dbus.pauses import doubling

from .connection import Connection
from .errors import BusError, CallFailed, CallTimedOut, ConnectionLost, Malformed
from .library import Variant, decode, variant
from .names import (
    BUS_ITEM,
    DAEMON,
    ITEMS_CHANGED,
    NO_REPLY,
    PROPERTIES_CHANGED,
    SETTINGS,
    SETTINGS_INTERFACE,
)
from .values import ITEMS
from .wire import Message

log = logging.getLogger(__name__)

FIRST_WAIT_S = 0.3
"""Time that the values have to come before the name of the service is requested without them."""

ANSWER_S = 3.0
"""For an answer; less than a write may take in all."""

FIRST_PAUSE_S, LAST_PAUSE_S = 1.0, 60.0
"""Between two attempts to add settings."""


class SettingsUser(Protocol):
    """Whose settings they are."""

    def settings(self) -> Mapping[str, str]:
        """Path → default, as they should be added now. The paths are always the same."""
        ...

    async def joined(self, values: Mapping[str, str]) -> None:
        """The settings are there, with these values; those that were refused are left out."""
        ...

    def changed(self, path: str, value: str) -> None:
        """Somebody, perhaps we, changed a setting."""
        ...


class LocalSettings:
    """Adds the settings of a user to the settings service whenever it appears, and follows them there.

    Args:
        folder: what the paths of all settings begin with.
    """

    def __init__(self, folder: str, user: SettingsUser) -> None:
        self._folder = folder
        self._user = user
        self._connection: Connection | None = None
        self._owner = ""
        self._owners_heard = 0
        self._joining: asyncio.Task[None] | None = None
        self._kept: frozenset[str] = frozenset()
        self._early: dict[str, str] = {}
        """What changed while the answer to AddSettings was on its way: newer than that, or the same."""

    def keeps(self, path: str) -> bool:
        """Whether the settings service is there and has this setting."""
        return path in self._kept

    async def set(self, path: str, value: str) -> None:
        """Write a setting; returns when the settings service has it.

        Raises:
            Refused: it does not take the value, or does not have the setting.
            NoReply: no answer in time, or it went away meanwhile.
            Disconnected: it is not there.
        """
        if self._connection is None or not self._owner:
            raise Disconnected(f"{path} was not written: {SETTINGS} is not on the bus")
        try:
            answer = await self._connection.call(
                self._owner, path, BUS_ITEM, "SetValue", "v", [variant("s", value)], timeout_s=ANSWER_S
            )
        except CallFailed as error:
            if error.name == NO_REPLY:
                raise NoReply(f"{path} was not confirmed: {SETTINGS} went away") from error
            raise Refused(f"{SETTINGS} does not take {path}: {error}") from error
        except CallTimedOut as error:
            raise NoReply(f"{path} was not confirmed: {error}") from error
        except BusError as error:
            raise Disconnected(f"{path} was not confirmed: {error}") from error
        if answer != [0]:
            raise Refused(f"{SETTINGS} does not take {path}: it answers {answer}")

    async def connected(self, connection: Connection) -> None:
        """See :class:`.service.Follower`. Waits for the values at most :data:`FIRST_WAIT_S`."""
        self._meet("")
        self._connection = connection
        heard = self._owners_heard
        try:
            for rule in (
                f"sender='{DAEMON}',member='NameOwnerChanged',arg0='{SETTINGS}'",
                f"sender='{SETTINGS}',interface='{BUS_ITEM}',member='{PROPERTIES_CHANGED}',"
                f"path_namespace='{self._folder}'",
                f"sender='{SETTINGS}',interface='{BUS_ITEM}',member='{ITEMS_CHANGED}',path='/'",
            ):
                await connection.add_match(f"type='signal',{rule}")
            (owner,) = await connection.call_daemon("GetNameOwner", "s", [SETTINGS])
        except CallFailed as error:
            log.debug("no %s: %s", SETTINGS, error)
            return
        # What a signal said meanwhile is newer, whichever of the two is handled first.
        if heard == self._owners_heard:
            self._meet(owner)
        joining = self._joining
        if joining is not None:
            await asyncio.wait({joining}, timeout=FIRST_WAIT_S)
            if not joining.done():
                log.warning("%s does not answer; going on without", SETTINGS)

    def hear(self, signal: Message) -> None:
        """See :class:`.service.Follower`."""
        if signal.sender == DAEMON:
            if signal.member == "NameOwnerChanged" and signal.signature == "sss":
                name, _, owner = signal.arguments()
                if name == SETTINGS:
                    self._owners_heard += 1
                    self._meet(str(owner))
            return
        # Anybody can send us a signal; only the owner of the name speaks for the settings.
        if not self._owner or signal.sender != self._owner or signal.interface != BUS_ITEM:
            return
        try:
            for path, parts in _changes(signal).items():
                if path in self._user.settings() and "Value" in parts:
                    self._take(path, parts["Value"])
        except Malformed as error:
            log.warning("a signal of %s was left out: %s", SETTINGS, error)

    async def close(self) -> None:
        """See :class:`.service.Follower`."""
        joining = self._joining
        self._meet("")
        self._connection = None
        if joining is not None:
            await asyncio.gather(joining, return_exceptions=True)

    def _take(self, path: str, value: Variant) -> None:
        if value.signature == "s":
            if path in self._kept:
                self._user.changed(path, value.value)
            else:
                self._early[path] = value.value
        elif path in self._kept and value.value == []:
            log.info("%s was removed from %s; adding it again", path, SETTINGS)
            self._join(pause_s=FIRST_PAUSE_S)

    def _meet(self, owner: str) -> None:
        """The settings service has this address now; empty: it is not there."""
        self._owner = owner
        self._join()

    def _join(self, pause_s: float = 0.0) -> None:
        if self._joining is not None:
            self._joining.cancel()
            self._joining = None
        self._kept = frozenset()
        self._early.clear()
        if self._connection is not None and self._owner:
            self._joining = asyncio.get_running_loop().create_task(
                self._add_settings(self._connection, self._owner, pause_s), name="settings"
            )

    async def _add_settings(self, connection: Connection, owner: str, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        for pause in doubling(FIRST_PAUSE_S, LAST_PAUSE_S):
            try:
                values = await self._added(connection, owner)
            except CallTimedOut as error:
                log.debug("settings were not added: %s", error)
                await asyncio.sleep(pause)
            except ConnectionLost:
                return
            except BusError as error:
                log.warning("%s cannot be used: %s", SETTINGS, error)
                return
            else:
                break
        values.update({path: value for path, value in self._early.items() if path in values})
        self._kept = frozenset(values)
        try:
            await self._user.joined(values)
        except Exception:
            log.exception("taking over the settings failed in a way it should not")

    async def _added(self, connection: Connection, owner: str) -> dict[str, str]:
        settings = self._user.settings()
        wanted = [
            {"path": variant("s", path), "default": variant("s", default)}
            for path, default in settings.items()
        ]
        answer = await connection.call(
            owner, "/", SETTINGS_INTERFACE, "AddSettings", "aa{sv}", [wanted], timeout_s=ANSWER_S
        )
        return _values(answer, settings)


def _changes(signal: Message) -> Mapping[str, Mapping[str, Variant]]:
    """Path → what of it changed, whichever way it was told."""
    if signal.truncated:
        raise Malformed(f"{signal.member} of {signal.path} is too long")
    match signal.member, signal.signature:
        case "PropertiesChanged", "a{sv}":
            (parts,) = decode(signal)
            return {signal.path: parts}
        case "ItemsChanged", signature if signature == ITEMS and signal.path == "/":
            (items,) = decode(signal)
            changes: Mapping[str, Mapping[str, Variant]] = items
            return changes
    raise Malformed(f"{signal.member} of {signal.path} with {signal.signature!r}")


def _values(answer: Sequence[Any], settings: Mapping[str, str]) -> dict[str, str]:
    """The values in an answer of AddSettings. What makes no sense in it is left out, and said."""
    values: dict[str, str] = {}
    results = answer[0] if len(answer) == 1 and isinstance(answer[0], list) else []
    for result in results:
        try:
            path, error = result["path"].value, result["error"].value
            value = result["value"] if error == 0 else None
        except (KeyError, TypeError, AttributeError):
            log.warning("%s answers %r, which makes no sense", SETTINGS, result)
            continue
        if path not in settings:
            log.warning("%s speaks of %r, which nobody asked for", SETTINGS, path)
        elif value is None:
            log.warning("%s does not take %s: error %s", SETTINGS, path, error)
        elif value.signature != "s":
            log.warning("%s has %r as %s, which is no text", SETTINGS, value.value, path)
        else:
            values[path] = value.value
    return values
