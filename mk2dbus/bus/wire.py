"""D-Bus messages as bytes: cutting a stream into messages, headers both ways, simple arguments. No I/O.

Section numbers are those of the D-Bus specification, "Message Protocol". Bodies with containers in them are
left to the library, see `library.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from .errors import Malformed

LITTLE_ENDIAN, BIG_ENDIAN = "<", ">"

MAX_MESSAGE = 4 << 20
"""Longest message that is taken in, in bytes; the bus allows 32 MiB and more, nobody has that to tell us."""

_PROTOCOL_VERSION = 1
_BYTE_ORDERS = {ord("l"): LITTLE_ENDIAN, ord("B"): BIG_ENDIAN}
_LENGTHS = {endian: struct.Struct(f"{endian}III") for endian in _BYTE_ORDERS.values()}
_UINT32 = {endian: struct.Struct(f"{endian}I") for endian in _BYTE_ORDERS.values()}
_FIXED = 16  # byte order, type, flags, version, length of the body, serial, length of the fields
_PAD = bytes(8)
_NO_REPLY_EXPECTED = 0x1

_SIZES = {"y": 1, "b": 4, "n": 2, "q": 2, "i": 4, "u": 4, "h": 4, "x": 8, "t": 8, "d": 8}
_CODES = {"y": "B", "b": "I", "n": "h", "q": "H", "i": "i", "u": "I", "h": "I", "x": "q", "t": "Q", "d": "d"}


class MessageType(IntEnum):
    METHOD_CALL = 1
    METHOD_RETURN = 2
    ERROR = 3
    SIGNAL = 4


class Field(IntEnum):
    """Header fields."""

    PATH = 1
    INTERFACE = 2
    MEMBER = 3
    ERROR_NAME = 4
    REPLY_SERIAL = 5
    DESTINATION = 6
    SENDER = 7
    SIGNATURE = 8


_TEXT_FIELDS: dict[int, int] = {
    code: place
    for place, code in enumerate(
        (
            Field.PATH,
            Field.INTERFACE,
            Field.MEMBER,
            Field.ERROR_NAME,
            Field.DESTINATION,
            Field.SENDER,
            Field.SIGNATURE,
        )
    )
}
_LONG_TEXTS, _SHORT_TEXT = (b"\1s\0", b"\1o\0"), b"\1g\0"  # types of variants as they stand in a header


class Body(NamedTuple):
    """What a message carries, encoded in little endian."""

    signature: str
    data: bytes


NOTHING = Body("", b"")


class Argument(NamedTuple):
    """A variant as it came. ``value`` is None for containers: no item takes one, so they are not decoded."""

    signature: str
    value: int | float | str | Argument | None


@dataclass(slots=True)
class Message:
    """A message; ``body`` is still encoded, in the byte order ``endian``."""

    type: int
    serial: int = 0
    path: str = ""
    interface: str = ""
    member: str = ""
    error_name: str = ""
    reply_serial: int = 0
    destination: str = ""
    sender: str = ""
    signature: str = ""
    no_reply: bool = False
    body: bytes = b""
    endian: str = LITTLE_ENDIAN
    truncated: bool = False
    """The body was longer than :data:`MAX_MESSAGE` and is not here."""

    def arguments(self) -> list[int | float | str | Argument]:
        """The body, where its signature holds simple types and variants only.

        Raises:
            Malformed: another type, or the body does not fit.
        """
        reader = Reader(self.body, self.endian)
        return [reader.variant() if token == "v" else reader.simple(token) for token in self.signature]


class Reader:
    """Reads simple values from the front of encoded data."""

    def __init__(self, data: bytes, endian: str, position: int = 0) -> None:
        self._data = data
        self._endian = endian
        self.position = position

    def align(self, size: int) -> None:
        self.position += -self.position % size

    def simple(self, token: str) -> int | float | str:
        """The next value of a type that is no container. Malformed when there is none."""
        try:
            if token in "so":
                return self._text(int(self.simple("u")))
            if token == "g":
                return self._text(int(self.simple("y")))
            size = _SIZES[token]
            self.align(size)
            number: int | float
            (number,) = struct.unpack_from(self._endian + _CODES[token], self._data, self.position)
        except (KeyError, struct.error, IndexError, UnicodeDecodeError) as error:
            raise Malformed(f"no {token!r} at byte {self.position} of {len(self._data)}") from error
        self.position += size
        return bool(number) if token == "b" else number

    def variant(self, depth: int = 0) -> Argument:
        """The next variant; what a container holds is left out (and nothing behind it can be read)."""
        signature = str(self.simple("g"))
        if signature in _SIZES or signature in ("s", "o", "g"):
            return Argument(signature, self.simple(signature))
        if signature == "v" and depth < 1:
            return Argument(signature, self.variant(depth + 1))
        return Argument(signature, None)

    def _text(self, length: int) -> str:
        end = self.position + length
        if end >= len(self._data):
            raise IndexError("text ends behind the message")
        text = self._data[self.position : end].decode()
        self.position = end + 1
        return text


class Cutter:
    """Cuts what the socket brings into messages. Holds at most one message of :data:`MAX_MESSAGE` bytes.

    A longer one is passed on without its body, so that it can be answered.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0

    def feed(self, data: bytes) -> None:
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        self._buffer += data

    def messages(self) -> Iterator[Message | Malformed]:
        """Take the messages that are complete, one by one. One that cannot be read comes as its error.

        Raises:
            Malformed: the stream itself makes no sense; where the next message begins is not known.
        """
        buffer = self._buffer
        while len(buffer) >= _FIXED:
            endian, fields, body = self._lengths()
            whole = fields + body
            truncated = whole > MAX_MESSAGE
            if truncated and fields > MAX_MESSAGE:
                raise Malformed(f"a header of {fields} bytes")
            wanted = fields if truncated else whole
            if len(buffer) < wanted:
                return
            header, content = bytes(buffer[:fields]), bytes(buffer[fields:wanted])
            if truncated:
                self._skip = max(0, whole - len(buffer))
            del buffer[:whole]
            try:
                message = decode_header(header, endian)
            except Malformed as error:
                yield error
                continue
            message.body = content
            message.truncated = truncated
            yield message

    def _lengths(self) -> tuple[str, int, int]:
        """Byte order, length of the header with its padding, length of the body."""
        buffer = self._buffer
        endian = _BYTE_ORDERS.get(buffer[0])
        if endian is None or buffer[3] != _PROTOCOL_VERSION:
            raise Malformed(f"no message begins with {buffer[:4].hex(' ')}")
        body, _serial, fields = _LENGTHS[endian].unpack_from(buffer, 4)
        return endian, _FIXED + fields + -fields % 8, body


def decode_header(data: bytes, endian: str) -> Message:
    """Read a header; fields the specification does not know (yet) are passed over, as it demands.

    Everything that comes goes through here, so this reads the types of known fields without detours.
    """
    uint32 = _UINT32[endian].unpack_from
    texts = [""] * len(_TEXT_FIELDS)
    reply_serial = 0
    position = _FIXED
    try:
        serial, fields = uint32(data, 8)[0], uint32(data, 12)[0]
        while position < _FIXED + fields:
            position += -position % 8
            code, kind = data[position], data[position + 1 : position + 4]
            if kind in _LONG_TEXTS:
                start = position + 8
                position = start + uint32(data, start - 4)[0]
            elif kind == _SHORT_TEXT:
                start = position + 5
                position = start + data[start - 1]
            else:
                reader = Reader(data, endian, position + 1)
                value = reader.variant().value
                position = reader.position
                if value is None:
                    raise Malformed(f"header field {code} holds a container")
                if code == Field.REPLY_SERIAL and isinstance(value, int):
                    reply_serial = value
                continue
            if position >= len(data):
                raise IndexError("text ends behind the header")
            if code in _TEXT_FIELDS:
                texts[_TEXT_FIELDS[code]] = data[start:position].decode()
            position += 1
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise Malformed(f"no header field at byte {position} of {len(data)}") from error
    path, interface, member, error_name, destination, sender, signature = texts
    return Message(
        data[1],
        serial,
        path,
        interface,
        member,
        error_name,
        reply_serial,
        destination,
        sender,
        signature,
        bool(data[2] & _NO_REPLY_EXPECTED),
        endian=endian,
    )


def encode_header(message: Message, body_length: int, endian: str = LITTLE_ENDIAN) -> bytes:
    """The header, up to where the body begins."""
    fields = b""
    for code, token, value in (
        (Field.PATH, "o", message.path),
        (Field.INTERFACE, "s", message.interface),
        (Field.MEMBER, "s", message.member),
        (Field.ERROR_NAME, "s", message.error_name),
        (Field.REPLY_SERIAL, "u", message.reply_serial),
        (Field.DESTINATION, "s", message.destination),
        (Field.SIGNATURE, "g", message.signature),
    ):
        if value:
            fields += _PAD[: -len(fields) % 8] + (
                struct.pack(f"{endian}BBBxI", code, 1, ord("u"), value)
                if isinstance(value, int)
                else _text_field(code, token, value, endian)
            )
    fixed = struct.pack(
        f"{endian}BBBBIII",
        ord("l" if endian == LITTLE_ENDIAN else "B"),
        message.type,
        _NO_REPLY_EXPECTED if message.no_reply else 0,
        _PROTOCOL_VERSION,
        body_length,
        message.serial,
        len(fields),
    )
    return fixed + fields + _PAD[: -len(fields) % 8]


def encode_reply(serial: int, reply_serial: int, destination: str, signature: str, body_length: int) -> bytes:
    """The header of an answer in little endian: as :func:`encode_header` makes it, several times faster."""
    length, tail = _reply_tail(destination, signature)
    return _REPLY.pack(_REPLY_START, body_length, serial, length, _REPLY_SERIAL_START, reply_serial) + tail


_REPLY = struct.Struct("<4sIII4sI")
_REPLY_START = bytes((ord("l"), MessageType.METHOD_RETURN, 0, _PROTOCOL_VERSION))
_REPLY_SERIAL_START = bytes((Field.REPLY_SERIAL, 1, ord("u"), 0))


@lru_cache(maxsize=512)
def _reply_tail(destination: str, signature: str) -> tuple[int, bytes]:
    """Length of all fields of a reply, and what follows its first one."""
    tail = b""
    for code, token, text in ((Field.DESTINATION, "s", destination), (Field.SIGNATURE, "g", signature)):
        if text:
            tail += _PAD[: -len(tail) % 8] + _text_field(code, token, text, LITTLE_ENDIAN)
    return 8 + len(tail), tail + _PAD[: -len(tail) % 8]


@lru_cache(maxsize=512)
def _text_field(code: Field, token: str, text: str, endian: str) -> bytes:
    data = text.encode()
    if token == "g":
        return struct.pack("BBBxB", code, 1, ord(token), len(data)) + data + b"\0"
    return struct.pack(f"{endian}BBBxI", code, 1, ord(token), len(data)) + data + b"\0"
