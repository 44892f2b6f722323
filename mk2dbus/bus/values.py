"""Values of items as D-Bus values, and back."""

from __future__ import annotations

from collections.abc import Iterable

from mk2dbus.items import Kind, Number, Value

from .library import Variant, encode, variant
from .tree import Change, Item, Tree
from .wire import Argument, Body

ITEMS = "a{sa{sv}}"
"""Type of the answer of GetItems and of the body of ItemsChanged: path → what is known of the item."""

_NUMBERS = frozenset("ybnqiuxtd")
_ELEMENTS = 8  # where the first element of an array of dictionary entries begins, in bytes
_PAD = bytes(8)


def value_variant(kind: Kind, value: Value) -> Variant:
    """A value as clients see it; not known is an empty array of integers."""
    if value is None:
        return variant("ai", [])
    return variant(kind.value, list(value) if isinstance(value, tuple) else value)


def limit_variant(kind: Kind, limit: Number | None) -> Variant:
    """A minimum, maximum or default in the type of its item."""
    if limit is None:
        return variant("ai", [])
    return variant("d", float(limit)) if kind is Kind.REAL else variant("i", int(limit))


def value_body(item: Item) -> Body:
    """The answer to GetValue; encoded once per value."""
    if item.body is None:
        item.body = encode("v", [value_variant(item.leaf.kind, item.value)])
    return Body("v", item.body)


def all_items(tree: Tree) -> Body:
    """The answer to GetItems; only what changed since the last time is encoded anew."""
    if tree.encoded is None:
        entries = []
        for item in tree.items():
            if item.entry is None:
                item.entry = _entry(item, _present(item))
            entries.append(item.entry)
        tree.encoded = _join(entries)
    return Body(ITEMS, tree.encoded)


def changed_items(changes: Iterable[tuple[Item, Change]]) -> Body:
    """The body of ItemsChanged. A limit that is gone is told as an invalid value."""
    return Body(ITEMS, _join([_entry(item, change) for item, change in changes]))


def _present(item: Item) -> Change:
    limits = item.limits
    present = Change.VALUE
    if limits.minimum is not None:
        present |= Change.MINIMUM
    if limits.maximum is not None:
        present |= Change.MAXIMUM
    if limits.default is not None:
        present |= Change.DEFAULT
    return present


def _entry(item: Item, parts: Change) -> bytes:
    """One dictionary entry as it stands in the encoded array: they all begin at a multiple of 8."""
    kind, limits = item.leaf.kind, item.limits
    told: dict[str, Variant] = {}
    if Change.VALUE in parts:
        told["Value"] = value_variant(kind, item.value)
        told["Text"] = variant("s", item.text)
    if Change.MINIMUM in parts:
        told["Min"] = limit_variant(kind, limits.minimum)
    if Change.MAXIMUM in parts:
        told["Max"] = limit_variant(kind, limits.maximum)
    if Change.DEFAULT in parts:
        told["Default"] = limit_variant(kind, limits.default)
    return encode(ITEMS, [{item.leaf.path: told}])[_ELEMENTS:]


def _join(entries: list[bytes]) -> bytes:
    """An array of entries that are encoded already."""
    data = bytearray(_ELEMENTS)
    for entry in entries:
        data += _PAD[: -len(data) % 8]
        data += entry
    data[:4] = (len(data) - _ELEMENTS).to_bytes(4, "little")
    return bytes(data)


class _Unsuitable:
    """A D-Bus value that no item takes; stands for it in error texts."""

    def __init__(self, signature: str) -> None:
        self._signature = signature

    def __repr__(self) -> str:
        return f"a value of D-Bus type {self._signature}"


def plain(argument: Argument) -> object:
    """What a client sent, as :meth:`mk2dbus.items.Leaf.accept` takes it.

    Object paths and signatures are no texts, file descriptors no numbers, containers nothing at all.
    """
    if argument.signature in _NUMBERS or argument.signature == "s":
        return argument.value
    return _Unsuitable(argument.signature)


def unwrapped(argument: Argument) -> Argument:
    """A variant out of the variant around it, where there is one: some clients put it in, others do not."""
    inner = argument.value
    return inner if isinstance(inner, Argument) else argument
