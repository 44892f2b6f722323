"""The items of the service by path, and what changed since it was last told. No D-Bus in here."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from enum import Flag, auto

from mk2dbus.items import INT32_MAX, INT32_MIN, NO_LIMITS, Kind, Leaf, Limits, ReadOnly, Value

WriteFunction = Callable[[int | float | str], Awaitable[None]]
"""Brings a checked value to the device; returns when it is there, else raises a ``WriteFailed``."""

FetchFunction = Callable[[], Awaitable[None]]
"""Reads the value from the device and hands it to :meth:`Tree.update`."""

ROOT = "/"

_PATH = re.compile(r"(/[A-Za-z0-9_]+)+")


class Change(Flag):
    """What of an item changed; the rest need not be told."""

    NOTHING = 0
    VALUE = auto()
    MINIMUM = auto()
    MAXIMUM = auto()
    DEFAULT = auto()


class Item:
    """One leaf as it is now. ``value`` and ``limits`` are changed through the tree alone."""

    __slots__ = ("body", "entry", "fetch", "leaf", "limits", "told", "value", "write")

    def __init__(
        self,
        leaf: Leaf,
        value: Value,
        limits: Limits,
        write: WriteFunction | None,
        fetch: FetchFunction | None,
    ) -> None:
        self.leaf = leaf
        self.value = value
        self.limits = limits
        self.write = write
        self.fetch = fetch
        self.told: tuple[Value, Limits] | None = None
        """Value and limits as they were last told to listeners; ``None``: the item is news itself."""
        self.body: bytes | None = None
        self.entry: bytes | None = None
        """Room for what the server derives from value and limits; emptied when they change."""

    @property
    def writable(self) -> bool:
        """Whether a write can succeed at all: declared so, and somebody there to do it."""
        return self.leaf.writable and self.write is not None

    @property
    def text(self) -> str:
        return self.leaf.text(self.value)

    def accept(self, value: object) -> int | float | str:
        """As :meth:`mk2dbus.items.Leaf.accept`, with the limits of now."""
        if not self.writable:
            raise ReadOnly(f"{self.leaf.path} is read-only")
        return self.leaf.accept(value, self.limits)

    def _set(self, value: Value, limits: Limits) -> None:
        self.value = value
        self.limits = limits
        self.body = self.entry = None

    def _changes(self) -> Change:
        if self.told is None:
            changes = Change.VALUE
            told = NO_LIMITS
        else:
            value, told = self.told
            changes = Change.NOTHING if _same(value, self.value) else Change.VALUE
        if told is self.limits:
            return changes
        if told.minimum != self.limits.minimum:
            changes |= Change.MINIMUM
        if told.maximum != self.limits.maximum:
            changes |= Change.MAXIMUM
        if told.default != self.limits.default:
            changes |= Change.DEFAULT
        return changes


class Tree:
    """All items, the folders above them, and the changes nobody was told of yet.

    A folder is every prefix of a leaf's path, and ``/`` always; it goes with its last leaf.
    """

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        # Folder -> names below it. A dict, as a set would list them in another order at each start.
        self._folders: dict[str, dict[str, None]] = {ROOT: {}}
        self._touched: dict[str, Item] = {}
        self._removed: dict[str, Item] = {}
        self.encoded: bytes | None = None
        """Room for what the server derives from all items; emptied when one changes, comes or goes."""
        self.on_change: Callable[[], None] | None = None
        """Called after each change, so that somebody may come and :meth:`take_changes`."""

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __contains__(self, path: str) -> bool:
        return path in self._items

    def get(self, path: str) -> Item | None:
        """The item at ``path``, ``None`` when there is no leaf."""
        return self._items.get(path)

    def value(self, path: str) -> Value:
        """The value of a leaf; KeyError when there is none at ``path``."""
        return self._items[path].value

    def is_folder(self, path: str) -> bool:
        return path in self._folders

    def children(self, folder: str) -> tuple[str, ...]:
        """Names of what lies directly below a folder; nothing below a leaf."""
        return tuple(self._folders.get(folder, ()))

    def items(self) -> Iterator[Item]:
        return iter(self._items.values())

    def items_below(self, folder: str) -> Iterator[Item]:
        """Every item below a folder, at any depth."""
        prefix = folder if folder == ROOT else f"{folder}/"
        for name in self._folders.get(folder, ()):
            path = prefix + name
            item = self._items.get(path)
            if item is not None:
                yield item
            else:
                yield from self.items_below(path)

    def add(
        self,
        leaf: Leaf,
        value: Value = None,
        *,
        limits: Limits = NO_LIMITS,
        write: WriteFunction | None = None,
        fetch: FetchFunction | None = None,
    ) -> None:
        """Put an item into the tree; it is announced like a change.

        ``fetch`` is for a value that is read from the device when somebody asks for it.

        Raises:
            ValueError: the path is not one, is there already, or is folder and leaf at once.
        """
        path = leaf.path
        if not _PATH.fullmatch(path):
            raise ValueError(f"{path!r} is not a path of an item")
        if path in self._items or path in self._folders:
            raise ValueError(f"{path} exists already")
        above = [path[:end] or ROOT for end, char in enumerate(path) if char == "/"]
        for folder in above:
            if folder in self._items:
                raise ValueError(f"{path} would lie below the leaf {folder}")
        item = Item(leaf, _normal(leaf, value), limits, write, fetch)
        self._items[path] = item
        for folder, below in zip(above, [*above[1:], path], strict=True):
            self._folders.setdefault(folder, {})[_name(below)] = None
        self._removed.pop(path, None)
        self._touch(item)
        self._changed()

    def remove(self, path: str) -> None:
        """Take an item out; listeners are told an invalid value. KeyError when it is not there."""
        item = self._items.pop(path)
        self._touched.pop(path, None)
        item._set(None, NO_LIMITS)
        if item.told is not None and item._changes():
            self._removed[path] = item
        while path != ROOT and not self._folders.get(path):
            self._folders.pop(path, None)
            parent = path.rpartition("/")[0] or ROOT
            del self._folders[parent][_name(path)]
            path = parent
        self._changed()

    def update(self, values: Mapping[str, Value]) -> None:
        """Set several values at once; ``None`` is "not known", and what NaN and too large numbers become.

        Raises:
            KeyError: a path is not in the tree; nothing was set.
            TypeError: a value is of another kind than its item; nothing was set.
        """
        fresh = [(item := self._items[path], _normal(item.leaf, value)) for path, value in values.items()]
        changed = [(item, value) for item, value in fresh if not _same(item.value, value)]
        for item, value in changed:
            item._set(value, item.limits)
            self._touch(item)
        if changed:
            self._changed()

    def set_limits(self, path: str, limits: Limits) -> None:
        """Change the limits of an item. KeyError when it is not there."""
        item = self._items[path]
        if item.limits != limits:
            item._set(item.value, limits)
            self._touch(item)
            self._changed()

    def take_changes(self) -> list[tuple[Item, Change]]:
        """What differs from what was last told, which it counts as from now on."""
        taken = []
        for item in (*self._removed.values(), *self._touched.values()):
            changes = item._changes()
            if changes:
                taken.append((item, changes))
            item.told = (item.value, item.limits)
        self._removed.clear()
        self._touched.clear()
        return taken

    def has_changes(self) -> bool:
        """Whether :meth:`take_changes` may have something (it may still all have changed back)."""
        return bool(self._touched or self._removed)

    def _touch(self, item: Item) -> None:
        self._touched[item.leaf.path] = item

    def _changed(self) -> None:
        self.encoded = None
        if self.on_change is not None and self.has_changes():
            self.on_change()


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _same(one: Value, other: Value) -> bool:
    return one == other and type(one) is type(other)


def _normal(leaf: Leaf, value: Value) -> Value:
    """The value in the type of the leaf, ``None`` where D-Bus has no such value."""
    if value is None:
        return None
    match leaf.kind:
        case Kind.TEXT if isinstance(value, str):
            # A text with NUL or a lone surrogate ends the connection of whoever sends it.
            return value.replace("\0", "").encode(errors="replace").decode()
        case Kind.LIST if isinstance(value, tuple):
            return value if all(INT32_MIN <= number <= INT32_MAX for number in value) else None
        case Kind.REAL if isinstance(value, (int, float)):
            return float(value) if math.isfinite(value) else None
        case Kind.INTEGER if isinstance(value, int):
            return int(value) if INT32_MIN <= value <= INT32_MAX else None
    raise TypeError(f"{leaf.path} is of kind {leaf.kind.name}, it cannot be {value!r}")
