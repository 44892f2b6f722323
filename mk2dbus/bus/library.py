"""The one place that knows which D-Bus library is installed.

dbus-next and its successor dbus-fast describe types and encode bodies the same way; dbus-fast is taken when
it is there, as it does so several times faster (and dbus-next cannot be imported on Python 3.15 and later).
``MK2DBUS_DBUS_LIBRARY=dbus_next`` or ``dbus_fast`` in the environment forces one.

What is used of them is `Variant`, `Marshaller` and `Unmarshaller`, and not their `MessageBus`: its writer
takes a full socket (EAGAIN) for the end of the connection in both, it reads on without end while it cannot
write, and its reader ends the connection at a message it cannot decode. Mending that would mean replacing
private methods that differ between the two and between versions; a connection of our own is shorter, see
`connection.py`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from importlib.util import find_spec
from io import BytesIO
from typing import Any, Protocol

from .check import check_body
from .errors import Malformed
from .wire import Message, MessageType, encode_header

LIBRARY_VARIABLE = "MK2DBUS_DBUS_LIBRARY"
LIBRARIES = ("dbus_fast", "dbus_next")


class Variant(Protocol):
    """A value with its D-Bus signature."""

    signature: str
    value: Any


class _Message(Protocol):
    body: list[Any]


class _Marshaller(Protocol):
    def marshall(self) -> bytearray: ...


class _Unmarshaller(Protocol):
    def unmarshall(self) -> _Message | None: ...


def _choose() -> str:
    forced = os.environ.get(LIBRARY_VARIABLE)
    if forced:
        if forced not in LIBRARIES:
            raise ImportError(f"{LIBRARY_VARIABLE} is {forced!r}; it takes {' or '.join(LIBRARIES)}")
        return forced
    for name in LIBRARIES:
        if find_spec(name) is not None:
            return name
    raise ImportError(f"neither of {', '.join(LIBRARIES)} is installed")


NAME = _choose()
"""The library in use."""

_signature: Any = importlib.import_module(f"{NAME}.signature")
_marshaller: Any = importlib.import_module(f"{NAME}._private.marshaller")
_unmarshaller: Any = importlib.import_module(f"{NAME}._private.unmarshaller")


def variant(signature: str, value: object) -> Variant:
    """A variant to send; the library's own exceptions when the value does not fit the signature."""
    made: Variant = _signature.Variant(signature, value)
    return made


def encode(signature: str, values: Sequence[object]) -> bytes:
    """The body of a message in little endian, as :func:`.wire.encode_header` announces it."""
    marshaller: _Marshaller = _marshaller.Marshaller(signature, list(values))
    return bytes(marshaller.marshall())


def decode(message: Message) -> list[Any]:
    """The values in the body of a message that we trust to be reasonable: an answer to our own question.

    Calls from others are read by :meth:`.wire.Message.arguments`: dbus-next keeps every signature it ever
    met, so strangers could fill the memory with them.

    Raises:
        Malformed: the body does not fit its signature.
    """
    if not message.body:
        return []
    check_body(message.signature, message.body, message.endian)
    # Only the body is the library's business: it gets it below a header with nothing unknown in it.
    plain = Message(MessageType.METHOD_RETURN, serial=1, reply_serial=1, signature=message.signature)
    head = encode_header(plain, len(message.body), message.endian)
    unmarshaller: _Unmarshaller = _unmarshaller.Unmarshaller(BytesIO(head + message.body))
    try:
        decoded = unmarshaller.unmarshall()
    # The libraries raise IndexError, struct.error, bare Exception and more for bodies that are not right.
    except Exception as error:
        raise Malformed(f"cannot decode a body of type {message.signature!r}: {error!r}") from error
    if decoded is None:
        raise Malformed(f"a body of type {message.signature!r} ends early")
    return decoded.body
