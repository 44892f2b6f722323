"""Answers every call to the service: one handler that looks the path up in the tree.

Answers come from memory and at once; what has to wait for the device (writes, values never read yet) waits in
a task of its own, so it holds up nobody else.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from mk2dbus.items import WriteFailed

from . import busitem
from .access import Access
from .connection import Connection
from .errors import ErrorReply, Malformed
from .interfaces import Answer, Interface, ObjectKind, Target
from .introspect import STANDARD_INTROSPECTABLE
from .names import (
    ERROR_PREFIX,
    FAILED,
    INVALID_ARGS,
    LIMITS_EXCEEDED,
    UNKNOWN_INTERFACE,
    UNKNOWN_METHOD,
    UNKNOWN_OBJECT,
)
from .peer import STANDARD_PEER
from .properties import STANDARD_PROPERTIES
from .tree import ROOT, Tree
from .wire import Body, Message

log = logging.getLogger(__name__)

MAX_WAITING, MAX_WAITING_EACH = 8192, 1024
"""Calls that may wait for the device at a time, of all clients and of one: bounds for memory, far above what
clients need. One that floods takes no room from the others."""

_STANDARD = (STANDARD_PROPERTIES, STANDARD_INTROSPECTABLE, STANDARD_PEER)

LEAF = ObjectKind("leaf", (busitem.LEAF, *_STANDARD))
FOLDER = ObjectKind("folder", (busitem.FOLDER, *_STANDARD))
ROOT_FOLDER = ObjectKind("root", (busitem.ROOT_FOLDER, *_STANDARD))
NO_OBJECT = ObjectKind("nothing", (STANDARD_PEER,))


class Server:
    """Handles calls for a tree."""

    def __init__(self, tree: Tree, access: Access) -> None:
        self._tree = tree
        self._access = access
        self._waiting: dict[asyncio.Task[None], str] = {}
        """By the client that waits."""
        self._clients: Counter[str] = Counter()
        self._extended: dict[str, ObjectKind] = {}

    def extend(self, path: str, interface: Interface) -> None:
        """Give the folder at ``path`` one more interface, for as long as there is a folder.

        Raises:
            ValueError: there is a leaf, or the folder has an interface of that name already.
        """
        base = self._extended.get(path, ROOT_FOLDER if path == ROOT else FOLDER)
        if path in self._tree:
            raise ValueError(f"{path} is a leaf; only folders can be extended")
        if base.has_interface(interface.name):
            raise ValueError(f"{path} has the interface {interface.name} already")
        self._extended[path] = ObjectKind(base.name, (*base.interfaces, interface))

    def handle(self, connection: Connection, call: Message) -> None:
        """Answer a call on the connection it came from; never raises for what a caller did."""
        try:
            answer = self._dispatch(call)
        except (ErrorReply, WriteFailed) as error:
            connection.reply_error(call, _error_name(error), str(error))
            return
        if isinstance(answer, Body):
            connection.reply(call, answer)
            return
        task = asyncio.get_running_loop().create_task(_answer_later(connection, call, answer))
        self._waiting[task] = call.sender
        self._clients[call.sender] += 1
        task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        client = self._waiting.pop(task)
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]

    async def close(self) -> None:
        """Wait until every call that waits is answered; :meth:`Access.close` comes first and bounds that."""
        if self._waiting:
            await asyncio.wait(self._waiting)

    def _dispatch(self, call: Message) -> Answer:
        target = self._target(call.path)
        found = target.kind.methods.get((call.interface, call.member))
        if found is None:
            raise _unknown(target, call)
        method, signature = found
        if call.truncated:
            raise ErrorReply(LIMITS_EXCEEDED, f"the arguments of {call.member} are too long")
        if call.signature != signature:
            raise ErrorReply(
                INVALID_ARGS, f"{call.member} takes arguments of type {signature!r}, not {call.signature!r}"
            )
        if self._clients[call.sender] >= MAX_WAITING_EACH or len(self._waiting) >= MAX_WAITING:
            raise ErrorReply(LIMITS_EXCEEDED, "too many calls wait for the device")
        try:
            arguments = call.arguments() if signature else []
        except Malformed as error:
            raise ErrorReply(INVALID_ARGS, f"arguments of {call.member}: {error}") from error
        return method.handler(target, arguments)

    def _target(self, path: str) -> Target:
        tree = self._tree
        item = tree.get(path)
        if item is not None:
            kind = LEAF
        elif tree.is_folder(path):
            kind = self._extended.get(path, ROOT_FOLDER if path == ROOT else FOLDER)
        else:
            kind = NO_OBJECT
        return Target(tree, self._access, kind, path, item)


async def _answer_later(connection: Connection, call: Message, answer: Coroutine[Any, Any, Body]) -> None:
    try:
        connection.reply(call, await answer)
    except (ErrorReply, WriteFailed) as error:
        connection.reply_error(call, _error_name(error), str(error))
    except Exception:
        log.exception("%s of %s on %s failed", call.member, call.sender, call.path)
        connection.reply_error(call, FAILED, "internal error, the log of the service has more")


def _error_name(error: ErrorReply | WriteFailed) -> str:
    return error.name if isinstance(error, ErrorReply) else ERROR_PREFIX + type(error).__name__


def _unknown(target: Target, call: Message) -> ErrorReply:
    if target.kind is NO_OBJECT:
        return ErrorReply(UNKNOWN_OBJECT, f"there is no object {call.path}")
    if call.interface and not target.kind.has_interface(call.interface):
        return ErrorReply(UNKNOWN_INTERFACE, f"{call.path} has no interface {call.interface!r}")
    return ErrorReply(
        UNKNOWN_METHOD, f"{call.path} has no method {call.member!r} of {call.interface or 'any interface'}"
    )
