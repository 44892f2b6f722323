"""The settings service of Venus, played: its interface as clients see it, and some bad days."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from mk2dbus.bus.connection import Connection
from mk2dbus.bus.library import decode, encode, variant
from mk2dbus.bus.names import BUS_ITEM, SETTINGS, SETTINGS_INTERFACE, UNKNOWN_METHOD, UNKNOWN_OBJECT
from mk2dbus.bus.wire import Body, Message

OK, REFUSED = 0, -1
TYPE_DIFFERS = -5  # AddSettings: the setting is there with another type

CLASS_AND_INSTANCE = "ClassAndVrmInstance"


class SettingsService:
    """Keeps settings over restarts, as a file would. Its attributes change what it does from then on."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.settings: dict[str, Any] = {}
        self.defaults: dict[str, Any] = {}
        self.written: list[tuple[str, Any]] = []
        self.calls: list[str] = []
        self.hangs = False
        """Calls are taken and never answered."""
        self.errors: dict[str, int] = {}
        """Path → what AddSettings and SetValue answer instead of doing anything."""
        self.answer: Body | None = None
        """What AddSettings answers instead of what it did."""
        self.tells: Callable[[str, Any], None] = self.tell_properties
        self.then: Callable[[], None] = lambda: None
        """Done right behind the answer of AddSettings."""
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        assert self._connection is not None
        return self._connection

    async def start(self) -> None:
        self._connection = await Connection.open(self.address, on_call=self._handle)
        await self._connection.request_name(SETTINGS)

    async def stop(self) -> None:
        """Leave the bus; at once, calls that wait are not answered."""
        self.connection.close()
        self._connection = None
        await asyncio.sleep(0)

    def change(self, path: str, value: Any) -> None:
        """As a user does in the GUI."""
        self.settings[path] = value
        self.tells(path, value)

    def remove(self, path: str) -> None:
        del self.settings[path]
        self.tells(path, None)

    def tell_properties(self, path: str, value: Any) -> None:
        """As localsettings does."""
        self.connection.signal(
            path, BUS_ITEM, "PropertiesChanged", Body("a{sv}", encode("a{sv}", [_parts(value)]))
        )

    def tell_items(self, path: str, value: Any) -> None:
        """As newer services do."""
        body = Body("a{sa{sv}}", encode("a{sa{sv}}", [{path: _parts(value), "/Settings/Other": _parts(3)}]))
        self.connection.signal("/", BUS_ITEM, "ItemsChanged", body)

    def _handle(self, connection: Connection, call: Message) -> None:
        self.calls.append(call.member)
        if self.hangs:
            return
        match call.interface, call.member, call.signature:
            case interface, "AddSettings", "aa{sv}" if interface == SETTINGS_INTERFACE and call.path == "/":
                results = [self._add(wanted) for wanted in decode(call)[0]]
                connection.reply(call, self.answer or Body("aa{sv}", encode("aa{sv}", [results])))
                self.then()
            case interface, "SetValue", "v" if interface == BUS_ITEM:
                if call.path in self.settings:
                    (value,) = decode(call)
                    connection.reply(call, Body("i", encode("i", [self._set(call.path, value.value)])))
                else:
                    connection.reply_error(call, UNKNOWN_OBJECT, f"no setting {call.path}")
            case _:
                connection.reply_error(call, UNKNOWN_METHOD, call.member)

    def _add(self, wanted: dict[str, Any]) -> dict[str, Any]:
        path, default = wanted["path"].value, wanted["default"].value
        assert set(wanted) <= {"path", "default", "min", "max", "silent"}
        error = self.errors.get(path, OK)
        result = {"path": variant("s", path), "error": variant("i", error)}
        if error == OK:
            self.defaults[path] = default
            if path not in self.settings:
                self.settings[path] = self._free(path, default)
                self.tells(path, self.settings[path])
            result["value"] = _variant(self.settings[path])
        return result

    def _free(self, path: str, value: Any) -> Any:
        """A class has each instance once."""
        if not path.endswith(f"/{CLASS_AND_INSTANCE}"):
            return value
        device_class, _, first = value.partition(":")
        taken = {kept for other, kept in self.settings.items() if other != path}
        numbers = itertools.count(int(first))
        return next(free for number in numbers if (free := f"{device_class}:{number}") not in taken)

    def _set(self, path: str, value: Any) -> int:
        if self.errors.get(path, OK) != OK:
            return self.errors[path]
        self.written.append((path, value))
        if self.settings[path] != value:
            self.change(path, value)
        return OK


def _parts(value: Any) -> dict[str, Any]:
    return {"Value": _variant(value), "Text": variant("s", "" if value is None else str(value))}


def _variant(value: Any) -> Any:
    match value:
        case None:
            return variant("ai", [])
        case str():
            return variant("s", value)
        case float():
            return variant("d", value)
    return variant("i", value)
