"""Random damage: as often as asked for, and the same every time."""

from __future__ import annotations

import pytest

from mk2dbus.mk2.framing import adapter_frame
from mk2dbus.simulator import Core, Kind, RandomDamage

DATA = bytes(range(256)) * 40
"""10240 bytes."""


def left(damage: RandomDamage) -> bytes:
    return b"".join(piece for _, piece in damage(DATA))


def test_none() -> None:
    assert RandomDamage().harmless
    assert RandomDamage()(DATA) == [(0.0, DATA)]


@pytest.mark.parametrize("seed", [1, 2])
def test_loss(seed: int) -> None:
    assert len(DATA) - len(left(RandomDamage(loss=0.05, seed=seed))) == pytest.approx(512, rel=0.2)


def test_flips_are_of_one_bit() -> None:
    damaged = left(RandomDamage(flip=0.05))
    changed = [one ^ other for one, other in zip(damaged, DATA, strict=True) if one != other]
    assert len(changed) == pytest.approx(512, rel=0.2)
    assert {mask.bit_count() for mask in changed} == {1}


def test_insertions_leave_the_rest() -> None:
    damaged = iter(left(RandomDamage(insert=0.05)))
    assert all(byte in damaged for byte in DATA), "in this order"
    assert len(left(RandomDamage(insert=0.05))) - len(DATA) == pytest.approx(512, rel=0.2)


def test_duplicates_and_delays_are_of_pieces() -> None:
    damage = RandomDamage(duplicate=0.25, delay=0.25, delay_s=0.7)
    pieces = [damage(b"frame") for _ in range(1000)]
    assert sum(len(piece) == 2 for piece in pieces) == pytest.approx(250, rel=0.2)
    assert sum(piece[0][0] == 0.7 for piece in pieces) == pytest.approx(250, rel=0.2)
    assert {data for piece in pieces for _, data in piece} == {b"frame"}


def test_same_seed_same_damage() -> None:
    both = [RandomDamage(loss=0.01, flip=0.01, insert=0.01, seed=3) for _ in range(2)]
    assert left(both[0]) == left(both[1])
    assert left(both[0]) != left(RandomDamage(loss=0.01, flip=0.01, insert=0.01, seed=4))


@pytest.mark.parametrize("direction", ["incoming", "outgoing"])
def test_on_the_line(direction: str) -> None:
    """Some requests go unanswered, none is answered wrongly, and the core sees what it was."""
    core = Core(baudrate=0, latency_ms=0)
    setattr(core, direction, RandomDamage(loss=0.02, flip=0.02, insert=0.02, duplicate=0.05))
    request, reply = bytes(adapter_frame("A", b"\x01\x05")), bytes(adapter_frame("A", b"\x01\x05\x00"))
    now, right = 0.0, 0
    core.run(now)
    for _ in range(500):
        core.feed(request, now)
        now += 0.4
        right += reply in core.run(now)
    assert 250 < right < 450
    assert (core.log.counts[Kind.GARBAGE] > 0) == (direction == "incoming")
