"""Inputs for the targets: random ones, and good ones with something wrong in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from support.recordings import recorded

from mk2dbus.bus.library import encode, variant
from mk2dbus.bus.wire import Message, MessageType, encode_header
from mk2dbus.mk2.framing import FrameType, checksum


def mutated(data: bytes, random: Random) -> bytes:
    """With one to three things changed."""
    result = bytearray(data)
    for _ in range(random.randint(1, 3)):
        place = random.randrange(len(result) + 1)
        match random.randrange(6):
            case 0:
                result[place:place] = random.randbytes(random.randint(1, 4))
            case 1:
                del result[place : place + random.randint(1, 3)]
            case 2 if place < len(result):
                result[place] ^= 1 << random.randrange(8)
            case 3 if place < len(result):
                result[place] = random.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
            case 4:
                result += result[place : place + 8]
            case _:
                del result[place:]
    return bytes(result)


def frame(random: Random) -> bytes:
    """Length, type and checksum are right; the rest is anything."""
    kind = random.choice((FrameType.ADAPTER,) * 4 + tuple(FrameType))
    data = random.randbytes(random.randrange(30))
    if kind == FrameType.ADAPTER:
        data = bytes((random.choice(b"XYZVLSAFHDW"), random.choice((*range(0x80, 0xA0), 0, 1)))) + data
    payload = bytes((kind,)) + data
    message = bytes((len(payload) | 0x80 * (random.random() < 0.1),)) + payload
    return message + bytes((checksum(message),))


def resealed(data: bytes, random: Random) -> bytes:
    """A recorded frame with other contents, and the checksum that goes with them."""
    changed = bytearray(data[:-1])
    for _ in range(random.randint(1, 4)):
        changed[random.randrange(2, max(3, len(changed))) % len(changed)] = random.randrange(256)
    if len(changed) < 2:
        return data
    return bytes(changed) + bytes((checksum(bytes(changed)),))


def _line(random: Random) -> bytes:
    pieces = []
    for _ in range(random.randint(1, 6)):
        match random.randrange(5):
            case 0:
                pieces.append(random.randbytes(random.randrange(40)))
            case 1:
                pieces.append(frame(random))
            case 2:
                pieces.append(mutated(random.choice(_FRAMES), random))
            case 3:
                pieces.append(resealed(random.choice(_FRAMES), random))
            case _:
                pieces.append(random.choice(_FRAMES))
    return b"".join(pieces)


def _messages() -> Sequence[bytes]:
    found = []
    for member, signature, body in (
        ("GetValue", "", []),
        ("SetValue", "v", [variant("d", 56.5)]),
        ("SetValue", "v", [variant("v", variant("i", 3))]),
        ("SetValue", "v", [variant("a{sv}", {"a": variant("ai", [1, 2])})]),
        ("Set", "ssv", ["com.victronenergy.BusItem", "Value", variant("s", "x")]),
        ("GetDescription", "si", ["", 5]),
        ("GetItems", "", []),
    ):
        data = encode(signature, body) if signature else b""
        message = Message(
            MessageType.METHOD_CALL,
            serial=7,
            path="/Devices/0/Settings/AbsorptionVoltage",
            interface="com.victronenergy.BusItem",
            member=member,
            destination="com.victronenergy.vebus.sim0",
            sender=":1.5",
            signature=signature,
        )
        found.append(encode_header(message, len(data)) + data)
    return found


def _bus(random: Random) -> bytes:
    if random.random() < 0.1:
        return random.randbytes(random.randrange(200))
    pieces = [random.choice(_MESSAGES) for _ in range(random.randint(1, 3))]
    return b"".join(mutated(piece, random) if random.random() < 0.7 else piece for piece in pieces)


_FILES = (
    b'{"format": 1, "texts": {"CustomName": "Galley", "DeviceInstance": "257"}}',
    b'{"format": 1, "unit": "65536 J", "totals": {"system": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}, "last": '
    b'{"device 0 HQ 2729560": {"epoch": "x", "seconds": 5.5, "counters": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}}}',
    b'{"format": 1, "version": 2729560, "new": true, "settings": {"2": [-100, 0, 5760, 4800, 6400, 0], "3": '
    b'null}, "ram": {"4": [-100, 0]}}',
    b'format = 1\nproduct = "x"\n[device.0]\nversion = 2729560\n[device.0.settings]\nFloatVoltage = 54.0\n',
    b"# mk2dbus recording 1\n 0.0 \xe2\x86\x92 02 FF 56 A9\n 0.07 \xe2\x86\x90 07 FF 56 24 DB 11 00 42 52\n",
    b"[title]\n> 02 FF 56 A9\n< 07 FF 56 24 DB 11 00 42 52\n",
)


def _files(random: Random) -> bytes:
    if random.random() < 0.1:
        return random.randbytes(random.randrange(100))
    return mutated(random.choice(_FILES), random)


_FRAMES = recorded()
_MESSAGES = _messages()

INPUTS: Mapping[str, Callable[[Random], bytes]] = {
    "line": _line,
    "decoder": _line,
    "bus": _bus,
    "reader": _bus,
    "files": _files,
}
"""What makes inputs for a target, by its name."""
