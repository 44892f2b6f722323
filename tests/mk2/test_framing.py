"""Frames on a good line and on a bad one."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.recordings import recorded

from mk2dbus.mk2.framing import (
    MAX_LENGTH,
    Frame,
    FrameCutter,
    FrameType,
    Leds,
    adapter_frame,
    checksum,
    hex_bytes,
)

VECTORS = [
    bytes.fromhex(text)
    for text in (
        "05 38 04 6C 00 00 0A",
        "05 38 04 6E 00 00 E8",
        "05 38 05 00 00 00 3B",
        "05 3F 00 11 00 00 A7",
        "05 3F C0 72 00 00 70",
        "06 21 00 00 00 00 00 C7",
        "06 21 FF FF FF FF 80 4D",
        "06 21 FF FF FF FF 83 4A",
        "07 21 00 00 00 00 01 00 C5",
        "05 3F 07 00 00 00 C2",
        "05 3F 04 00 00 00 C5",
        "02 FF 4E B1",
    )
]
REAL = list(dict.fromkeys([*VECTORS, *recorded()]))
"""Every frame known, once."""

TYPES = sorted(FrameType)
SWAPPED = (0x21, 0x38, 0x3D, 0x3F)
"""Types whose checksum adds bytes with swapped nibbles."""
GAP = bytes(MAX_LENGTH + 2)
"""Zeros cannot begin a frame, and no frame that began before them reaches over them."""

each_real = pytest.mark.parametrize("raw", REAL, ids=hex_bytes)


def cut(*pieces: bytes, into: FrameCutter | None = None) -> list[bytes]:
    """Frames that a cutter finds in pieces, as bytes; at the end what stays pending is given up."""
    cutter = into or FrameCutter()
    start, before = cutter.position, cutter.dropped_bytes
    fed = 0
    found = []
    for piece in pieces:
        fed += len(piece)
        found += cutter.feed(piece)
        waiting = fed - (cutter.position - start)
        assert 0 <= waiting <= MAX_LENGTH + 1
        assert cutter.pending == (waiting > 0)
    while cutter.pending:
        found += cutter.give_up()
    frames = [bytes(frame) for frame in found]
    assert cutter.position - start == fed
    assert cutter.dropped_bytes - before + sum(map(len, frames)) == fed
    return frames


def singly(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def holds_in_order(found: Iterable[bytes], wanted: Iterable[bytes]) -> bool:
    rest = iter(found)
    return all(frame in rest for frame in wanted)


# --- one frame -----------------------------------------------------------------------------------------


@each_real
def test_round_trip(raw: bytes) -> None:
    [frame] = FrameCutter().feed(raw)
    assert bytes(frame) == raw
    assert frame.type == raw[1]
    assert str(frame) == hex_bytes(raw)


@each_real
def test_every_split(raw: bytes) -> None:
    assert cut(raw) == [raw]
    assert cut(*singly(raw)) == [raw]
    for at in range(len(raw) + 1):
        assert cut(raw[:at], raw[at:]) == [raw]


@each_real
def test_three_in_a_row(raw: bytes) -> None:
    assert cut(3 * raw) == 3 * [raw]
    assert cut(*singly(3 * raw)) == 3 * [raw]


@each_real
def test_nothing_comes_out_before_the_last_byte(raw: bytes) -> None:
    cutter = FrameCutter()
    for byte in singly(raw[:-1]):
        assert cutter.feed(byte) == []
        assert cutter.pending
    assert len(cutter.feed(raw[-1:])) == 1
    assert (cutter.pending, cutter.position, cutter.dropped_bytes) == (False, len(raw), 0)


@each_real
def test_any_other_byte_is_a_wrong_checksum(raw: bytes) -> None:
    swapped = (3, 5) if raw[1] in SWAPPED else ()
    for at in range(2, len(raw)):
        # With its swapped nibbles added, a byte counts 17 × (high + low nibble): another can count the same.
        if at in swapped and at < len(raw) - 1:
            continue
        for other in range(256):
            wrong = raw[:at] + bytes((other,)) + raw[at + 1 :]
            assert (wrong in cut(wrong)) == (other == raw[at])


@pytest.mark.parametrize("raw", [raw for raw in REAL if raw[1] in SWAPPED], ids=hex_bytes)
def test_plain_checksum_is_wrong_for_swapped_types(raw: bytes) -> None:
    plain = raw[:-1] + bytes((-sum(raw[:-1]) & 0xFF,))
    assert plain != raw
    assert cut(plain) == []


def test_leds_are_taken_off_the_data() -> None:
    raw = bytes.fromhex("87 FF 58 86 34 81 1F 1F A9")
    [frame] = FrameCutter().feed(raw)
    assert frame == Frame(FrameType.ADAPTER, b"X\x86\x34\x81", Leds(on=0x1F, blink=0x1F))


def test_leds_on_every_type() -> None:
    for kind in TYPES:
        frame = Frame(kind, b"\x01\x02\x03", Leds(0x09, 0x02))
        assert bytes(frame)[0] == 0x80 | 6
        assert FrameCutter().feed(bytes(frame)) == [frame]


@pytest.mark.parametrize("text", ["80 FF 81", "81 FF 80", "82 FF 01 7E"])
def test_leds_that_do_not_fit(text: str) -> None:
    """The flag says two LED bytes, the length leaves no room for them; the sum is right."""
    raw = bytes.fromhex(text)
    assert sum(raw) & 0xFF == 0
    assert cut(raw) == []


def test_shortest_and_longest() -> None:
    shortest = Frame(FrameType.ADAPTER)
    longest = Frame(FrameType.INFO, bytes(range(MAX_LENGTH - 1)))
    assert bytes(shortest) == bytes.fromhex("01 FF 00")
    assert cut(bytes(shortest) + bytes(longest)) == [bytes(shortest), bytes(longest)]
    with pytest.raises(ValueError, match="longer"):
        bytes(Frame(FrameType.INFO, bytes(MAX_LENGTH)))
    with pytest.raises(ValueError, match="longer"):
        bytes(Frame(FrameType.INFO, bytes(MAX_LENGTH - 2), Leds(0, 0)))


def test_a_longer_one_is_no_frame() -> None:
    message = bytes((MAX_LENGTH + 1, FrameType.INFO)) + bytes(MAX_LENGTH)
    cutter = FrameCutter()
    assert cutter.feed(message + bytes((checksum(message),))) == []
    assert not cutter.pending


@given(st.integers(0, 255).filter(lambda byte: byte not in TYPES), st.binary(max_size=8))
def test_an_unknown_type_is_no_frame(kind: int, data: bytes) -> None:
    raw = bytes(Frame(kind, data))
    assert raw not in cut(raw)


# --- among other bytes ---------------------------------------------------------------------------------


@each_real
def test_inside_garbage(raw: bytes) -> None:
    rng = random.Random(1)
    for _ in range(20):
        before, after = rng.randbytes(rng.randrange(60)), rng.randbytes(rng.randrange(60))
        assert raw in cut(before + GAP + raw + after)


@given(st.lists(st.sampled_from([byte for byte in range(256) if byte not in TYPES])), st.sampled_from(REAL))
def test_garbage_without_types_costs_nothing(garbage: list[int], raw: bytes) -> None:
    """No frame can begin in it; the one behind must be there without waiting, and nothing else."""
    cutter = FrameCutter()
    assert [bytes(frame) for frame in cutter.feed(bytes(garbage) + raw)] == [raw]
    assert cutter.dropped_bytes == len(garbage)


@given(st.binary(max_size=200), st.sampled_from(REAL), st.binary(max_size=50), st.randoms())
def test_never_raises_and_never_loses_the_last_good_frame(
    garbage: bytes, raw: bytes, tail: bytes, chance: random.Random
) -> None:
    stream = garbage + GAP + raw + tail
    splits = sorted(chance.randrange(len(stream) + 1) for _ in range(4))
    pieces = [stream[a:b] for a, b in zip([0, *splits], [*splits, len(stream)], strict=True)]
    found = cut(*pieces)
    assert raw in found
    # Where the pieces end makes no difference.
    assert found == cut(stream)


@pytest.mark.parametrize("start", ["28 FF", "28 20", "A8 FF", "10 41", "05", "28 FF 28 FF 28 FF", "FF 28"])
def test_a_stray_start_does_not_swallow_what_follows(start: str) -> None:
    cutter = FrameCutter()
    frames = REAL[12:15]
    assert cut(bytes.fromhex(start) + b"".join(frames), into=cutter) == frames
    assert cutter.dropped_bytes == len(bytes.fromhex(start))


def test_give_up_drops_one_byte_at_a_time() -> None:
    cutter = FrameCutter()
    first, second = bytes.fromhex("04 FF 41 01 00 BB"), bytes.fromhex("02 FF 56 A9")
    assert cutter.feed(b"\x28\xff" + first + second[:2]) == []
    assert [bytes(frame) for frame in cutter.give_up()] == [first]
    # The noise is gone; the real frame goes on.
    assert (cutter.dropped_bytes, cutter.position) == (2, 8)
    assert cutter.pending
    assert [bytes(frame) for frame in cutter.feed(second[2:])] == [second]
    assert not cutter.pending


def test_give_up_and_clear_of_nothing() -> None:
    cutter = FrameCutter()
    assert cutter.give_up() == []
    cutter.clear()
    assert (cutter.pending, cutter.position, cutter.dropped_bytes) == (False, 0, 0)


def test_clear_forgets_the_incomplete() -> None:
    cutter = FrameCutter()
    raw = bytes.fromhex("04 FF 41 01 00 BB")
    cutter.feed(raw[:4])
    cutter.clear()
    assert (cutter.pending, cutter.position, cutter.dropped_bytes) == (False, 4, 4)
    assert cut(raw[4:], into=cutter) == []
    assert cut(raw, into=cutter) == [raw]


@pytest.mark.parametrize("byte", [0x00, 0xFF])
def test_runs_of_one_byte(byte: int) -> None:
    cutter = FrameCutter()
    raw = bytes.fromhex("04 FF 41 01 00 BB")
    assert cut(bytes((byte,)) * 5000, raw, bytes((byte,)) * 5000, into=cutter) == [raw]
    assert cutter.dropped_bytes == 10_000


@pytest.mark.parametrize("pattern", [b"\x28\xff", b"\x28", b"\x28\xff\x00", b"\xff\x28\x20", b"\x81\x80"])
def test_an_endless_trickle_stays_bounded(pattern: bytes) -> None:
    """``cut`` checks after each piece that no more than one frame is kept."""
    cut(*singly(pattern * 1500))


def test_a_flood_stays_bounded() -> None:
    cutter = FrameCutter()
    noise = random.Random(2).randbytes(200_000)
    frames = cutter.feed(noise)
    assert len(noise) - cutter.position <= MAX_LENGTH + 1
    assert cutter.dropped_bytes + sum(len(bytes(frame)) for frame in frames) == cutter.position
    # Noise has a known type 10 times in 256, a plausible length 80 times, a right checksum once.
    assert 1 <= len(frames) <= 3 * len(noise) * (10 / 256) * (80 / 256) / 256


# --- a damaged stream ----------------------------------------------------------------------------------

STREAM = [bytes(frame) for frame in recorded("<")]


def damaged_streams() -> Iterator[tuple[str, bytes, int]]:
    """Each way to damage the stream at each position; the frame that has the damage (-1: none has it)."""
    whole = b"".join(STREAM)
    owner = [number for number, raw in enumerate(STREAM) for _ in raw]
    starts = {sum(map(len, STREAM[:number])) for number in range(len(STREAM))}
    for at, byte in enumerate(whole):
        before, after = whole[:at], whole[at + 1 :]
        inside = -1 if at in starts else owner[at]
        yield f"lost at {at}", before + after, owner[at]
        for flip in (0x01, 0x10, 0x80, 0xFF):
            yield f"flipped {flip:02X} at {at}", before + bytes((byte ^ flip,)) + after, owner[at]
        for extra in (0x00, 0x02, 0x28, 0x55, 0xFF):
            yield f"{extra:02X} inserted at {at}", before + bytes((extra, byte)) + after, inside
        # After the last byte of a frame the second one is noise between two good frames.
        last = at + 1 in starts or at + 1 == len(whole)
        first = at in starts
        yield f"doubled at {at}", before + bytes((byte, byte)) + after, -1 if first or last else owner[at]


def test_damage_costs_the_damaged_frame_alone() -> None:
    """All frames without the damage come out, whatever is damaged, wherever.

    Except where eight bits of checksum cannot tell: a false frame, made of a wrong start and bytes of good
    frames, has the right checksum by chance and takes the good ones with it. Nothing can be done about
    that; it must stay as rare as chance has it.
    """
    streams = 0
    by_chance = []
    for what, stream, hit in damaged_streams():
        streams += 1
        wanted = [raw for number, raw in enumerate(STREAM) if number != hit]
        found = cut(stream)
        if not holds_in_order(found, wanted):
            false = [frame for frame in found if frame not in STREAM]
            assert false, f"{what}: a good frame is lost without a false one"
            by_chance.append(what)
    assert streams > 3000
    assert len(by_chance) <= streams / 256, by_chance


def test_damage_in_pieces_is_the_same() -> None:
    for what, stream, _ in list(damaged_streams())[::37]:
        assert cut(*singly(stream)) == cut(stream), what


# --- any frame -----------------------------------------------------------------------------------------


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    leds = draw(st.none() | st.builds(Leds, st.integers(0, 255), st.integers(0, 255)))
    room = MAX_LENGTH - 1 - (2 if leds else 0)
    return Frame(draw(st.sampled_from(TYPES)), draw(st.binary(max_size=room)), leds)


@given(st.lists(frames(), max_size=6))
def test_any_frames_round_trip(sent: list[Frame]) -> None:
    cutter = FrameCutter()
    assert cutter.feed(b"".join(map(bytes, sent))) == sent
    assert (cutter.pending, cutter.dropped_bytes) == (False, 0)


@given(frames())
def test_the_checksum_closes_the_sum(frame: Frame) -> None:
    raw = bytes(frame)
    assert checksum(raw[:-1]) == raw[-1]
    if frame.type not in SWAPPED:
        assert sum(raw) & 0xFF == 0


def test_adapter_frame() -> None:
    assert str(adapter_frame("A", b"\x01\x00")) == "04 FF 41 01 00 BB"
