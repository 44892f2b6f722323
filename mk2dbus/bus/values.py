"""Values of items as D-Bus values, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mk2dbus.items import NO_LIMITS, Kind, Number, Value

from . import encoding
from .library import Variant, variant
from .tree import Change, Item, Tree
from .wire import Argument, Body

ITEMS = "a{sa{sv}}"
"""Type of the answer of GetItems and of the body of ItemsChanged: path → what is known of the item."""

_NUMBERS = frozenset("ybnqiuxtd")


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
        item.body = encoding.variant(item.leaf.kind, item.value)
    return Body("v", item.body)


def text_body(item: Item) -> Body:
    """The answer to GetText."""
    return Body("s", encoding.string(item.text))


def all_items(tree: Tree) -> Body:
    """The answer to GetItems; only what changed since the last time is encoded anew."""
    if tree.encoded is None:
        items = list(tree.items())
        kept = [item.entry or _kept_entry(item) for item in items[:-1]]
        tree.encoded = encoding.dictionary(kept, [_entry(item, _present(item)) for item in items[-1:]])
    return Body(ITEMS, tree.encoded)


def changed_items(changes: Sequence[tuple[Item, Change]]) -> Body:
    """The body of ItemsChanged. A limit that is gone is told as an invalid value."""
    # What is told of an item without limits is what GetItems says of it, too.
    entries = [
        item.entry or _kept_entry(item)
        if change is Change.VALUE and item.limits is NO_LIMITS
        else encoding.padded(_entry(item, change))
        for item, change in changes[:-1]
    ]
    return Body(ITEMS, encoding.dictionary(entries, [_entry(item, change) for item, change in changes[-1:]]))


def folder_values(items: Iterable[tuple[str, Item]]) -> Body:
    """The answer to GetValue of a folder: a variant with name → value."""
    return Body(
        "v",
        encoding.dictionary_variant(
            [encoding.variant(item.leaf.kind, item.value, encoding.string(name)) for name, item in items]
        ),
    )


def folder_texts(items: Iterable[tuple[str, Item]]) -> Body:
    """The answer to GetText of a folder: a variant with name → text."""
    return Body(
        "v",
        encoding.dictionary_variant(
            [encoding.variant(Kind.TEXT, item.text, encoding.string(name)) for name, item in items]
        ),
    )


_VALUE, _TEXT, _MINIMUM, _MAXIMUM, _DEFAULT = map(encoding.string, ("Value", "Text", "Min", "Max", "Default"))


def _present(item: Item) -> Change:
    limits = item.limits
    present = Change.VALUE
    if limits is NO_LIMITS:
        return present
    if limits.minimum is not None:
        present |= Change.MINIMUM
    if limits.maximum is not None:
        present |= Change.MAXIMUM
    if limits.default is not None:
        present |= Change.DEFAULT
    return present


def _kept_entry(item: Item) -> bytes:
    """All there is to tell of an item, padded, and kept until it changes."""
    item.entry = encoding.padded(_entry(item, _present(item)))
    return item.entry


def _entry(item: Item, parts: Change) -> bytes:
    """What is told of an item: a dictionary entry path → parts."""
    kind, limits = item.leaf.kind, item.limits
    told = []
    if Change.VALUE in parts:
        told.append(encoding.variant(kind, item.value, _VALUE))
        told.append(encoding.variant(Kind.TEXT, item.text, _TEXT))
    # Flags are slow to test, and most items have no limits.
    if parts is not Change.VALUE:
        if Change.MINIMUM in parts:
            told.append(encoding.variant(kind, limits.minimum, _MINIMUM))
        if Change.MAXIMUM in parts:
            told.append(encoding.variant(kind, limits.maximum, _MAXIMUM))
        if Change.DEFAULT in parts:
            told.append(encoding.variant(kind, limits.default, _DEFAULT))
    return encoding.dictionary_entry(item.leaf.path, told)


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
