"""Values as bytes, for what clients ask for all the time: several times faster than the library does it.

Little endian; D-Bus specification, "Marshaling". Dictionary entries begin at a multiple of 8, which makes an
encoded one fit at every place of every dictionary.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from mk2dbus.items import Kind, Value

_PADDING = tuple(bytes(count) for count in range(8))
_INT32, _UINT32, _DOUBLE = struct.Struct("<i"), struct.Struct("<I"), struct.Struct("<d")


def string(text: str) -> bytes:
    """A string; begins at a multiple of 4."""
    data = text.encode()
    return _UINT32.pack(len(data)) + data + b"\0"


def variant(kind: Kind, value: Value, name: bytes = b"") -> bytes:
    """A variant, behind the name (a string) of a dictionary entry or alone; begins at a multiple of 8.

    ``None`` is an empty array of integers. The value must be in the type of its kind.
    """
    if value is None:
        start, content = name + b"\2ai\0", _UINT32.pack(0)
    elif isinstance(value, str):
        start, content = name + b"\1s\0", string(value)
    elif isinstance(value, tuple):
        start = name + b"\2ai\0"
        content = _UINT32.pack(4 * len(value)) + struct.pack(f"<{len(value)}i", *value)
    elif kind is Kind.REAL:
        start = name + b"\1d\0"
        return start + _PADDING[-len(start) % 8] + _DOUBLE.pack(value)
    else:
        start, content = name + b"\1i\0", _INT32.pack(int(value))
    return start + _PADDING[-len(start) % 4] + content


def padded(entry: bytes) -> bytes:
    """A dictionary entry with what lies between it and the next."""
    return entry + _PADDING[-len(entry) % 8]


def dictionary_entry(name: str, entries: Sequence[bytes]) -> bytes:
    """The entry of a dictionary whose values are dictionaries; not padded, as the entries in it are not."""
    content = b""
    for entry in entries:
        content += _PADDING[-len(content) % 8] + entry
    start = string(name)
    start += _PADDING[-len(start) % 4] + _UINT32.pack(len(content))
    return start + _PADDING[-len(start) % 8] + content


def dictionary(padded_entries: Sequence[bytes], last: Sequence[bytes]) -> bytes:
    """A dictionary; begins at a multiple of 8. There is no padding behind the last entry, if there is one."""
    entries = [*padded_entries, *last]
    return b"".join([_UINT32.pack(sum(map(len, entries))), _PADDING[4], *entries])


def dictionary_variant(entries: Sequence[bytes]) -> bytes:
    """A variant with a dictionary name → variant; the entries are not padded."""
    return b"\5a{sv}\0\0" + dictionary([padded(entry) for entry in entries[:-1]], entries[-1:])
