"""How an interface is declared: once, for the calls it answers and the introspection that describes it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .access import Access
from .errors import ErrorReply
from .names import UNKNOWN_OBJECT
from .tree import Item, Tree
from .wire import Body

Answer = Body | Coroutine[Any, Any, Body]
"""What a method returns: the answer, or something that will have it later."""


class Target(NamedTuple):
    """What a call is about: the object at ``path``, with ``item`` when it is a leaf."""

    tree: Tree
    access: Access
    kind: ObjectKind
    path: str
    item: Item | None

    @property
    def leaf(self) -> Item:
        """The item of methods that only leaves have."""
        if self.item is None:
            raise ErrorReply(UNKNOWN_OBJECT, f"{self.path} holds no value")
        return self.item


Handler = Callable[[Target, list[Any]], Answer]
"""Answers a call; raises ErrorReply, or WriteFailed for what the device or its limits do not allow.

The arguments fit the declared types, variants are `wire.Argument`.
"""


@dataclass(frozen=True, slots=True)
class Method:
    """A method; ``takes`` and ``gives`` are (name, type) of each argument."""

    name: str
    handler: Handler
    takes: tuple[tuple[str, str], ...] = ()
    gives: tuple[tuple[str, str], ...] = ()

    @property
    def signature(self) -> str:
        return "".join(kind for _, kind in self.takes)


@dataclass(frozen=True, slots=True)
class Signal:
    name: str
    carries: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface as one kind of object has it."""

    name: str
    methods: tuple[Method, ...]
    signals: tuple[Signal, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectKind:
    """What objects of one kind (leaf, folder, root, nothing) understand."""

    name: str
    interfaces: tuple[Interface, ...]
    methods: dict[tuple[str, str], tuple[Method, str]] = field(init=False, default_factory=dict)
    """(interface, member) → method and the types it takes; the interface may be left out in a call."""

    def __post_init__(self) -> None:
        for interface in self.interfaces:
            for method in interface.methods:
                self.methods[interface.name, method.name] = method, method.signature
                self.methods.setdefault(("", method.name), (method, method.signature))

    def has_interface(self, name: str) -> bool:
        return any(interface.name == name for interface in self.interfaces)
