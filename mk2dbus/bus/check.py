"""Whether the body of a message is what its signature says. The libraries trust in that: dbus-fast reads
beyond the end of a body that is not, and takes the process with it.

Section "Marshaling" of the D-Bus specification. Bounds and types are looked at, not what texts hold.
"""

from __future__ import annotations

import struct

from .errors import Malformed

MAX_DEPTH = 64
"""Containers within containers; the specification allows as many."""
MAX_SIGNATURE = 255

_FIXED = {"y": 1, "b": 4, "n": 2, "q": 2, "i": 4, "u": 4, "h": 4, "x": 8, "t": 8, "d": 8}
_ALIGNED = {**_FIXED, "s": 4, "o": 4, "g": 1, "a": 4, "(": 8, "{": 8, "v": 1}


def check_body(signature: str, body: bytes, endian: str) -> None:
    """Look through a body.

    Raises:
        Malformed: it does not fit its signature, or that is none.
    """
    walk = _Walk(body, endian)
    walk.all(signature, 0)
    if walk.position != len(body):
        raise Malformed(f"{len(body) - walk.position} byte(s) more than {signature!r} has")


class _Walk:
    def __init__(self, data: bytes, endian: str) -> None:
        self.position = 0
        self._data = data
        self._uint32 = struct.Struct(f"{endian}I")

    def all(self, signature: str, depth: int) -> None:
        """Values of all the types in a signature."""
        at = 0
        while at < len(signature):
            end = _end(signature, at, 0)
            self._value(signature[at:end], depth)
            at = end

    def _value(self, kind: str, depth: int) -> None:
        """A value of one complete type."""
        if depth > MAX_DEPTH:
            raise Malformed("containers are nested too deep")
        code = kind[0]
        self._align(_ALIGNED[code])
        if code in _FIXED:
            self._pass(_FIXED[code])
        elif code in "so":
            self._pass(self._length() + 1)
        elif code == "g":
            self._pass(self._byte() + 1)
        elif code == "v":
            self._variant(depth)
        elif code == "a":
            self._array(kind[1:], depth)
        else:
            self.all(kind[1:-1], depth + 1)

    def _variant(self, depth: int) -> None:
        start = self.position + 1
        self._pass(self._byte() + 1)
        signature = self._data[start : self.position - 1].decode("latin-1")
        if not signature or _end(signature, 0, 0) != len(signature):
            raise Malformed(f"a variant of type {signature!r}")
        self._value(signature, depth + 1)

    def _array(self, kind: str, depth: int) -> None:
        length = self._length()
        self._align(_ALIGNED[kind[0]])
        end = self.position + length
        if end > len(self._data):
            raise Malformed("an array ends behind the message")
        if kind in _FIXED:
            self._pass(length - length % _FIXED[kind])
        while self.position < end:
            self._value(kind, depth + 1)
        if self.position != end:
            raise Malformed("an array ends within a value")

    def _length(self) -> int:
        start = self.position
        self._pass(4)
        length: int = self._uint32.unpack_from(self._data, start)[0]
        return length

    def _byte(self) -> int:
        self._pass(1)
        return self._data[self.position - 1]

    def _align(self, size: int) -> None:
        self._pass(-self.position % size)

    def _pass(self, count: int) -> None:
        self.position += count
        if self.position > len(self._data):
            raise Malformed("the message ends too early")


def _end(signature: str, at: int, depth: int) -> int:
    """Where the complete type that begins there ends.

    Raises:
        Malformed: none begins there.
    """
    if at >= len(signature) or depth > MAX_DEPTH or len(signature) > MAX_SIGNATURE:
        raise Malformed(f"{signature!r} is no signature")
    code = signature[at]
    if code == "a":
        return _end(signature, at + 1, depth + 1)
    if code in "({":
        inner = at + 1
        while inner < len(signature) and signature[inner] not in ")}":
            inner = _end(signature, inner, depth + 1)
        if inner == at + 1 or signature[inner : inner + 1] != {"(": ")", "{": "}"}[code]:
            raise Malformed(f"{signature!r} is no signature")
        return inner + 1
    if code not in _ALIGNED:
        raise Malformed(f"{signature!r} is no signature")
    return at + 1
