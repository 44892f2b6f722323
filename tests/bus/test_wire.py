"""Messages as bytes: both ways, in any chunks, and nonsense."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk2dbus.bus import library
from mk2dbus.bus.errors import Malformed
from mk2dbus.bus.wire import (
    BIG_ENDIAN,
    LITTLE_ENDIAN,
    MAX_MESSAGE,
    Argument,
    Cutter,
    Message,
    MessageType,
    decode_header,
    encode_header,
)

# A GetText call as dbus-send made it, and the answer of a service.
CALL = bytes.fromhex(
    "6c 01 00 01 00 00 00 00 02 00 00 00 62 00 00 00  01 01 6f 00 05 00 00 00 2f 4d 6f 64 65 00 00 00"
    "06 01 73 00 05 00 00 00 61 2e 62 2e 63 00 00 00  02 01 73 00 19 00 00 00 63 6f 6d 2e 76 69 63 74"
    "72 6f 6e 65 6e 65 72 67 79 2e 42 75 73 49 74 65  6d 00 00 00 00 00 00 00 03 01 73 00 07 00 00 00"
    "47 65 74 54 65 78 74 00".replace(" ", "")
)

names = st.text("abcXYZ_09.:", min_size=1, max_size=40)
messages = st.builds(
    Message,
    type=st.sampled_from(MessageType),
    serial=st.integers(1, 2**32 - 1),
    path=names,
    interface=names,
    member=names,
    error_name=names,
    reply_serial=st.integers(1, 2**32 - 1),
    destination=names,
    signature=st.sampled_from(["", "s", "a{sv}"]),
    no_reply=st.booleans(),
)


def cut(data: bytes, chunk: int) -> list[Message | Malformed]:
    cutter = Cutter()
    found: list[Message | Malformed] = []
    for start in range(0, len(data), chunk):
        cutter.feed(data[start : start + chunk])
        found += cutter.messages()
    return found


def test_a_recorded_call() -> None:
    data = bytearray(CALL)
    # Its length field, from what follows it.
    data[12:16] = (len(CALL) - 16).to_bytes(4, "little")
    message = decode_header(bytes(data), LITTLE_ENDIAN)
    assert (message.path, message.destination) == ("/Mode", "a.b.c")
    assert (message.interface, message.member) == ("com.victronenergy.BusItem", "GetText")
    assert message.serial == 2
    assert not message.no_reply


@given(messages, st.binary(max_size=50), st.sampled_from([LITTLE_ENDIAN, BIG_ENDIAN]), st.integers(1, 200))
def test_what_is_encoded_is_decoded_in_any_chunks(
    message: Message, body: bytes, endian: str, chunk: int
) -> None:
    message.endian, message.body = endian, body
    data = encode_header(message, len(body), endian) + body
    assert cut(data * 3, chunk) == [message] * 3


@given(st.binary(max_size=300))
def test_nonsense_is_called_so(data: bytes) -> None:
    for prefix in (b"", b"l\1\0\1", b"B\2\0\1"):
        try:
            found = cut(prefix + data, 1000)
        except Malformed:
            continue
        assert all(isinstance(message, (Message, Malformed)) for message in found)


@given(st.binary(max_size=40), st.sampled_from(["v", "ss", "ssv", "si", "s", "(y)", "as"]))
def test_arguments_that_do_not_fit_are_called_so(body: bytes, signature: str) -> None:
    message = Message(MessageType.METHOD_CALL, signature=signature, body=body)
    try:
        message.arguments()
    except Malformed:
        pass
    else:
        assert signature not in ("(y)", "as") or not body


@given(st.binary(max_size=40), st.sampled_from(["v", "a{sv}", "as", "ad", "(ii)"]))
def test_answers_that_do_not_fit_are_called_so(body: bytes, signature: str) -> None:
    with contextlib.suppress(Malformed):
        assert isinstance(
            library.decode(Message(MessageType.METHOD_RETURN, signature=signature, body=body)), list
        )


@pytest.mark.parametrize("endian", [LITTLE_ENDIAN, BIG_ENDIAN])
def test_arguments_in_both_byte_orders(endian: str) -> None:
    body = b""
    for text in (b"a", b"bcd"):
        body += bytes(-len(body) % 4) + struct.pack(f"{endian}I", len(text)) + text + b"\0"
    body += b"\1d\0"
    body += bytes(-len(body) % 8) + struct.pack(f"{endian}d", 1.5)
    message = Message(MessageType.METHOD_CALL, signature="ssv", body=body, endian=endian)
    assert message.arguments() == ["a", "bcd", Argument("d", 1.5)]


def test_unknown_header_fields_are_passed_over() -> None:
    message = Message(MessageType.METHOD_CALL, serial=1, path="/Mode", member="GetText")
    data = bytearray(encode_header(message, 0))
    data += bytes(-len(data) % 8) + bytes([77, 1, ord("t"), 0, 0, 0, 0, 0]) + bytes(8)
    data[12:16] = (len(data) - 16).to_bytes(4, "little")
    assert cut(bytes(data), 1000) == [message]


def test_a_message_that_cannot_be_read_does_not_hide_the_next() -> None:
    good = encode_header(Message(MessageType.METHOD_CALL, serial=1, path="/Mode", member="GetText"), 0)
    bad = bytearray(good)
    bad[16:20] = bytes([1, 2, ord("a"), ord("s")])
    first, second = cut(bytes(bad) + good, 1000)
    assert isinstance(first, Malformed)
    assert isinstance(second, Message)
    assert second.path == "/Mode"


def test_a_long_message_comes_without_its_body_and_takes_no_memory() -> None:
    long = Message(MessageType.METHOD_CALL, serial=1, path="/Mode", member="SetValue", signature="v")
    short = Message(MessageType.METHOD_CALL, serial=2, path="/State", member="GetValue")
    cutter = Cutter()
    cutter.feed(encode_header(long, MAX_MESSAGE * 2))
    (found,) = cutter.messages()
    assert isinstance(found, Message)
    assert found.truncated
    assert found.path == "/Mode"
    left = MAX_MESSAGE * 2
    while left:
        piece = min(left, 1 << 16)
        cutter.feed(bytes(piece))
        assert list(cutter.messages()) == []
        assert len(cutter._buffer) == 0
        left -= piece
    cutter.feed(encode_header(short, 0))
    assert list(cutter.messages()) == [short]
