"""org.freedesktop.DBus.Properties: the same items for busctl, gdbus, D-Feet and all that introspects."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from mk2dbus.items import WriteFailed

from .access import WriterBroken
from .errors import ErrorReply
from .interfaces import Answer, Interface, Method, Target
from .library import Variant, encode, variant
from .names import (
    BUS_ITEM,
    FAILED,
    PROPERTIES,
    PROPERTY_READ_ONLY,
    UNKNOWN_INTERFACE,
    UNKNOWN_PROPERTY,
)
from .tree import Item
from .values import limit_variant, plain, unwrapped, value_variant
from .wire import NOTHING, Body

log = logging.getLogger(__name__)

VALUE = "Value"


@dataclass(frozen=True, slots=True)
class Property:
    """A property of a leaf: type, how it is read, and on which items it exists."""

    name: str
    signature: str
    read: Callable[[Item], object]
    exists: Callable[[Item], bool] = lambda _: True

    def variant(self, item: Item) -> Variant:
        """What Get answers. A property of type ``v`` is a variant *in* the variant, as its type says."""
        return variant(self.signature, self.read(item))


LEAF_PROPERTIES = {
    entry.name: entry
    for entry in (
        Property(VALUE, "v", lambda item: value_variant(item.leaf.kind, item.value)),
        Property("Text", "s", lambda item: item.text),
        Property(
            "Min",
            "v",
            lambda item: limit_variant(item.leaf.kind, item.limits.minimum),
            lambda item: item.limits.minimum is not None,
        ),
        Property(
            "Max",
            "v",
            lambda item: limit_variant(item.leaf.kind, item.limits.maximum),
            lambda item: item.limits.maximum is not None,
        ),
        Property(
            "Default",
            "v",
            lambda item: limit_variant(item.leaf.kind, item.limits.default),
            lambda item: item.limits.default is not None,
        ),
        Property("Unit", "s", lambda item: item.leaf.unit),
        Property("Writeable", "b", lambda item: item.writable),
        Property("Description", "s", lambda item: item.leaf.meaning),
    )
}


def properties_of(item: Item) -> list[Property]:
    """The properties that an item has now."""
    return [entry for entry in LEAF_PROPERTIES.values() if entry.exists(item)]


def _find(target: Target, interface: str, name: str) -> tuple[Item, Property]:
    """The property a call means; an empty interface stands for any."""
    _check_interface(target, interface)
    if target.item is not None and interface in ("", BUS_ITEM):
        found = LEAF_PROPERTIES.get(name)
        if found is not None and found.exists(target.item):
            return target.item, found
    raise ErrorReply(
        UNKNOWN_PROPERTY, f"{target.path} has no property {name!r} of {interface or 'any interface'}"
    )


def _check_interface(target: Target, interface: str) -> None:
    if interface and not target.kind.has_interface(interface):
        raise ErrorReply(UNKNOWN_INTERFACE, f"{target.path} has no interface {interface!r}")


def _get(target: Target, arguments: list[Any]) -> Answer:
    interface, name = arguments
    item, found = _find(target, interface, name)
    if found.name == VALUE and item.value is None and item.fetch is not None:
        return _get_fetched(target, item, found)
    return _one(item, found)


async def _get_fetched(target: Target, item: Item, found: Property) -> Body:
    await target.access.fetched(item)
    return _one(item, found)


def _one(item: Item, found: Property) -> Body:
    return Body("v", encode("v", [found.variant(item)]))


def _get_all(target: Target, arguments: list[Any]) -> Answer:
    (interface,) = arguments
    _check_interface(target, interface)
    values = {}
    if target.item is not None and interface in ("", BUS_ITEM):
        values = {entry.name: entry.variant(target.item) for entry in properties_of(target.item)}
    return Body("a{sv}", encode("a{sv}", [values]))


def _set(target: Target, arguments: list[Any]) -> Answer:
    interface, name, argument = arguments
    item, found = _find(target, interface, name)
    if found.name != VALUE:
        raise ErrorReply(PROPERTY_READ_ONLY, f"property {name} of {target.path} cannot be set")
    return _outcome(target.access.write(item, plain(unwrapped(argument))))


async def _outcome(outcome: Coroutine[None, None, None]) -> Body:
    try:
        await outcome
    except WriteFailed as error:
        log.info("write failed: %s", error)
        raise
    except WriterBroken as error:
        raise ErrorReply(FAILED, str(error)) from error
    return NOTHING


STANDARD_PROPERTIES = Interface(
    PROPERTIES,
    (
        Method("Get", _get, takes=(("interface", "s"), ("name", "s")), gives=(("value", "v"),)),
        Method("GetAll", _get_all, takes=(("interface", "s"),), gives=(("values", "a{sv}"),)),
        Method("Set", _set, takes=(("interface", "s"), ("name", "s"), ("value", "v"))),
    ),
)
