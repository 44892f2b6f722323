"""The other end: what the command-line tools ask the service over the bus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import names
from .connection import Connection
from .errors import CallFailed, NotOffered, ServiceNotFound
from .library import Variant, decode, variant
from .wire import Message

SET_TIMEOUT_S = 10.0
"""The service answers a write within 5 s."""

_AT_ONCE = 64  # calls that are under way at a time when every item is asked for

_READ_AT_ONCE = 16
"""Values the service reads for us at a time: the last of them waits too, and it waits 3 s for each."""

Shown = int | float | str | tuple[int, ...] | None
"""A value as it came over the bus; ``None`` when the service does not know it."""


@dataclass(frozen=True, slots=True)
class ItemView:
    """One object as the service shows it. ``None`` limits do not exist."""

    path: str
    value: Shown
    text: str
    unit: str
    writable: bool
    description: str
    minimum: Shown
    maximum: Shown
    default: Shown


class Client:
    """A connection to one service. Made by :meth:`open`; to be closed.

    Calls raise what :meth:`.connection.Connection.call` raises.
    """

    def __init__(self, connection: Connection, service: str) -> None:
        self._connection = connection
        self.service = service
        self._on_items: Callable[[Mapping[str, Mapping[str, Any]]], None] | None = None
        self._on_owner: Callable[[bool], None] | None = None

    @classmethod
    async def open(cls, bus: str, service: str | None = None) -> Client:
        """Connect and find the service: the one called ``service``, or the only one there is.

        Raises:
            BusUnreachable: see :meth:`.connection.Connection.open`.
            ServiceNotFound: none there, or several and ``service`` does not say which.
        """
        holder: list[Client] = []
        connection = await Connection.open(
            bus, on_signal=lambda signal: holder[0]._hear(signal) if holder else None
        )
        try:
            client = cls(connection, await _find(connection, service))
        except BaseException:
            connection.close()
            raise
        holder.append(client)
        return client

    @property
    def lost(self) -> asyncio.Future[str]:
        """Done when the bus is gone, with the reason."""
        return self._connection.lost

    def close(self) -> None:
        self._connection.close()

    async def paths_and_values(self) -> dict[str, tuple[Shown, str]]:
        """Path → value and text of every item."""
        (items,) = await self._connection.call(self.service, "/", names.BUS_ITEM, "GetItems")
        return {path: (_plain(parts["Value"]), parts["Text"].value) for path, parts in items.items()}

    async def views(self, paths: Iterable[str]) -> list[ItemView]:
        """Everything about some items, in the order given; those that are not there (any more) left out."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def ask(path: str) -> ItemView | None:
            async with gate:
                try:
                    return await self.view(path)
                except CallFailed as error:
                    if error.name != names.UNKNOWN_OBJECT:
                        raise
                    return None

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(path)) for path in paths]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [view for task in tasks if (view := task.result()) is not None]

    async def view(self, path: str) -> ItemView:
        """Everything about one item."""
        (found,) = await self._connection.call(
            self.service, path, names.PROPERTIES, "GetAll", "s", [names.BUS_ITEM]
        )
        return ItemView(
            path=path,
            value=_plain(found.get("Value")),
            text=_plain_text(found.get("Text")),
            unit=_plain_text(found.get("Unit")),
            writable=bool(_plain(found.get("Writeable"))),
            description=_plain_text(found.get("Description")),
            minimum=_plain(found.get("Min")),
            maximum=_plain(found.get("Max")),
            default=_plain(found.get("Default")),
        )

    async def value(self, path: str) -> Shown | dict[str, Shown]:
        """The value at a path; of a folder, what is below it by relative path.

        Waits a moment for a value that the service has to read from the device first.
        """
        (answer,) = await self._connection.call(self.service, path, names.BUS_ITEM, "GetValue")
        if answer.signature == "a{sv}":
            return {below: _plain(value) for below, value in answer.value.items()}
        return _plain(answer)

    async def text(self, path: str) -> str | dict[str, str]:
        """The text at a path; of a folder, what is below it by relative path."""
        (answer,) = await self._connection.call(self.service, path, names.BUS_ITEM, "GetText")
        if isinstance(answer, str):
            return answer
        return {below: text.value for below, text in answer.value.items()}

    async def fetch(self, paths: Iterable[str]) -> None:
        """Have the service read values that it does not know yet, some at a time; each takes a moment."""
        gate = asyncio.Semaphore(_READ_AT_ONCE)

        async def ask(path: str) -> None:
            async with gate:
                try:
                    await self.value(path)
                except CallFailed as error:
                    if error.name != names.UNKNOWN_OBJECT:
                        raise

        try:
            async with asyncio.TaskGroup() as group:
                for path in paths:
                    group.create_task(ask(path))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def set(self, path: str, value: float | str) -> None:
        """Write a value. CallFailed has the reason when it was not done."""
        await self._connection.call(
            self.service,
            path,
            names.PROPERTIES,
            "Set",
            "ssv",
            [names.BUS_ITEM, "Value", _packed(value)],
            timeout_s=SET_TIMEOUT_S,
        )

    async def choices(self, path: str) -> dict[int, str]:
        """The values of an enumeration with their meaning; empty for other items and other services."""
        try:
            (texts,) = await self._raw("Choices", "s", [path])
        except NotOffered:
            return {}
        return {int(number): str(text) for number, text in texts.items()}

    async def preview(self, path: str, value: float | str) -> list[str]:
        """What a write would send, a line per request; nothing is sent. Fails as the write would at once.

        Raises:
            NotOffered: the service has no such thing.
        """
        (text,) = await self._raw("Preview", "sv", [path, _packed(value)])
        return str(text).splitlines()

    async def read_ram(self, device: int, id: int) -> tuple[Shown, int]:
        """Value (``None``: the device tells no scale) and word of any RAM variable. Raises as `preview`."""
        value, raw = await self._raw("ReadRam", "iq", [device, id])
        return _plain(value), int(raw)

    async def write_ram(self, device: int, id: int, value: float) -> tuple[Shown, int]:
        """Write a RAM variable; what it has afterwards, as :meth:`read_ram`."""
        now, raw = await self._raw("WriteRam", "iqd", [device, id, float(value)])
        return _plain(now), int(raw)

    async def _raw(self, member: str, signature: str, body: list[object]) -> list[Any]:
        try:
            return await self._connection.call(
                self.service, names.DEVICES, names.RAW, member, signature, body, timeout_s=SET_TIMEOUT_S
            )
        except CallFailed as error:
            if error.name in (names.UNKNOWN_INTERFACE, names.UNKNOWN_METHOD):
                raise NotOffered(error.name, f"{self.service} has no {names.RAW}.{member}") from error
            raise

    async def watch(
        self,
        on_items: Callable[[Mapping[str, Mapping[str, Any]]], None],
        on_owner: Callable[[bool], None],
    ) -> None:
        """Hear of changes from now on.

        ``on_items`` gets path → key (Value, Text, Min, Max, Default) → plain value; ``on_owner`` whether the
        service is on the bus, each time that changes.
        """
        self._on_items, self._on_owner = on_items, on_owner
        await self._connection.add_match(
            f"type='signal',sender='{self.service}',interface='{names.BUS_ITEM}',member='{names.ITEMS_CHANGED}'"
        )
        await self._connection.add_match(
            f"type='signal',sender='{names.DAEMON}',member='NameOwnerChanged',arg0='{self.service}'"
        )

    def _hear(self, signal: Message) -> None:
        if signal.member == names.ITEMS_CHANGED and self._on_items is not None:
            (items,) = decode(signal)
            self._on_items(
                {path: {key: _plain(value) for key, value in parts.items()} for path, parts in items.items()}
            )
        elif signal.member == "NameOwnerChanged" and self._on_owner is not None:
            _name, _old, new = signal.arguments()
            self._on_owner(bool(new))


def _packed(value: float | str) -> Variant:
    match value:
        case str():
            return variant("s", value)
        case int() if -(2**31) <= value < 2**31:
            return variant("i", int(value))
        case int() if -(2**63) <= value < 2**63:
            return variant("x", value)
        case _:
            return variant("d", float(value))


async def _find(connection: Connection, service: str | None) -> str:
    (on_bus,) = await connection.call_daemon("ListNames")
    if service is not None:
        # The suffix will do, as it is what `run --name` takes.
        full = service if "." in service else names.SERVICE_PREFIX + service
        if full in on_bus:
            return full
        raise ServiceNotFound(f"{full} is not on the bus: is mk2dbus running, and on this bus?")
    found = sorted(name for name in on_bus if name.startswith(names.SERVICE_PREFIX))
    if not found:
        raise ServiceNotFound(
            f"no {names.SERVICE_PREFIX}* on the bus: is mk2dbus running, and on this bus (--bus)?"
        )
    if len(found) > 1:
        raise ServiceNotFound(f"several services on the bus, choose one with --service: {', '.join(found)}")
    return str(found[0])


def _plain(value: Any) -> Shown:
    """Out of its variants; the empty list, which stands for "not known", as None."""
    while hasattr(value, "signature"):
        value = value.value
    plain: Shown = value
    if isinstance(value, list):
        plain = tuple(value) or None
    return plain


def _plain_text(value: Any) -> str:
    plain = _plain(value)
    return plain if isinstance(plain, str) else ""
