"""High speed, and what goes wrong with it (mk2-protocol.md §1)."""

from __future__ import annotations

import asyncio
import os
import termios
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

import pytest

from mk2dbus.mk2.framing import Frame, FrameCutter, adapter_frame
from mk2dbus.simulator import Core, Kind, Simulator, SpeedFault

LOW, HIGH = 2400, 115200
V, R, N = adapter_frame("V"), adapter_frame("R"), adapter_frame("N")
SYNC = b"\x55" * 5


def at(conversation: Any, baudrate: int) -> Any:
    conversation.core.client_baudrate = baudrate
    return conversation


def switch(conversation: Any, fault: SpeedFault = SpeedFault.NONE) -> Any:
    """Do as a client does to go to high speed."""
    conversation.core.adapter.speed.fault = fault
    at(conversation, LOW).ask(N, wait_s=0.07)
    at(conversation, HIGH).ask(SYNC, wait_s=0.1)
    return conversation


def hears(conversation: Any, baudrate: int, wait_s: float = 0.3) -> int:
    """How many frames answer a ``V`` at a speed."""
    return len(at(conversation, baudrate).ask(V, wait_s=wait_s))


def test_switch_and_back(talk: Callable[..., Any]) -> None:
    conversation = switch(talk())
    assert hears(conversation, HIGH) == 1
    assert hears(conversation, LOW) == 0
    at(conversation, HIGH).ask(R, wait_s=2.5)
    assert hears(conversation, HIGH) == 0
    assert hears(conversation, LOW) == 1


def test_three_slots_at_high_speed_take_the_time_of_the_inverter(talk: Callable[..., Any]) -> None:
    conversation = switch(talk())
    request = b"".join(bytes(adapter_frame(slot, bytes((0x30, 0, 1, 2, 3, 4, 5)))) for slot in "XYZ")
    assert len(conversation.ask(request, wait_s=0.022)) == 3
    assert conversation.core.exchanges.most_winmon == 3


@pytest.mark.parametrize(("n_wait_s", "sync_wait_s"), [(0.025, 0.1), (0.07, 0.05)])
def test_a_hasty_client_is_not_heard(n_wait_s: float, sync_wait_s: float, talk: Callable[..., Any]) -> None:
    """20 ms after the ``N`` it hears nothing, and takes no frames 80 ms after the five bytes."""
    conversation = talk()
    at(conversation, LOW).ask(N, wait_s=n_wait_s)
    at(conversation, HIGH).ask(SYNC, wait_s=sync_wait_s)
    assert hears(conversation, HIGH, wait_s=0.02) == 0


def test_without_the_five_bytes_it_goes_back(talk: Callable[..., Any]) -> None:
    conversation = talk()
    at(conversation, LOW).ask(N, wait_s=1.2)
    assert conversation.core.baudrate == LOW
    assert hears(conversation, LOW) == 1


def test_ignored(talk: Callable[..., Any]) -> None:
    conversation = switch(talk(), SpeedFault.IGNORED)
    assert hears(conversation, HIGH) == 0
    assert hears(conversation, LOW) == 1
    assert conversation.core.log.reasons[Kind.UNANSWERED, "N: ignored"] == 1


def test_adapter_that_does_not_know_it(talk: Callable[..., Any]) -> None:
    conversation = talk()
    adapter = conversation.core.adapter
    adapter.kind = replace(adapter.kind, high_speed=False)
    assert hears(switch(conversation), HIGH) == 0
    assert hears(conversation, LOW) == 1


def test_talks_at_the_old_speed(talk: Callable[..., Any]) -> None:
    conversation = switch(talk(), SpeedFault.OLD_SPEED)
    core = conversation.core
    core.client_baudrate = HIGH
    core.log.clear()
    core.feed(bytes(V), conversation.now)
    core.run(conversation.now + 0.001)
    core.client_baudrate = LOW
    assert [frame.data[:1] for frame in conversation.listen(0.2)] == [b"V"], "heard at 115200, said at 2400"
    assert hears(conversation, HIGH) == 0
    at(conversation, HIGH).ask(R, wait_s=2.5)
    assert hears(conversation, LOW) == 1


@pytest.mark.parametrize("fault", [SpeedFault.SILENT, SpeedFault.NOISE])
def test_nothing_sensible_at_high_speed(fault: SpeedFault, talk: Callable[..., Any]) -> None:
    conversation = switch(talk(), fault)
    received = conversation.core.sent_bytes
    assert hears(conversation, HIGH, wait_s=3) == 0
    assert (conversation.core.sent_bytes > received) == (fault is SpeedFault.NOISE)
    assert hears(conversation, LOW, wait_s=3) == 0
    at(conversation, HIGH).ask(R, wait_s=2.5)
    assert hears(conversation, LOW) == 1


def test_dead_half_way(talk: Callable[..., Any]) -> None:
    conversation = switch(talk(), SpeedFault.DEAD)
    for baudrate in (HIGH, LOW):
        assert hears(conversation, baudrate, wait_s=3) == 0
    at(conversation, LOW).ask(R, wait_s=2.5)
    assert hears(conversation, LOW) == 1


def test_a_share_of_bad_frames(talk: Callable[..., Any]) -> None:
    conversation = talk()
    conversation.core.adapter.speed.bad_share = 0.2
    assert sum(hears(conversation, LOW, 0.06) for _ in range(100)) == 100, "only at high speed"
    switch(conversation, SpeedFault.BAD_FRAMES)
    answers = sum(hears(conversation, HIGH, 0.01) for _ in range(500))
    # A request and its reply both come through with 0.8².
    assert 260 < answers < 380


def test_left_at_high_speed_by_a_crash() -> None:
    core = Core()
    core.adapter.baudrate = HIGH
    core.run(0.0)
    core.client_baudrate = LOW
    core.feed(bytes(V), 0.1)
    assert not core.run(0.5).count(b"V")
    core.client_baudrate = HIGH
    core.feed(bytes(V), 0.5)
    assert core.run(0.6) == bytes.fromhex("07 FF 56 28 DB 11 00 42 4E")


@pytest.mark.parametrize("cause", ["power cycle", "asleep and awake"])
def test_without_power_the_speed_is_forgotten(cause: str, talk: Callable[..., Any]) -> None:
    conversation = switch(talk())
    if cause == "power cycle":
        conversation.core.adapter.power_cycle()
    else:
        conversation.core.system.sleep()
        conversation.listen(2)
        conversation.core.system.wake()
    conversation.core.touch()
    conversation.listen(2)
    assert hears(conversation, HIGH) == 0
    assert hears(conversation, LOW) == 1


def test_configuration_of_another_device(talk: Callable[..., Any]) -> None:
    """At high speed the reply to F 07 can come from another device (§1)."""
    conversation = talk("parallel-3phase")
    conversation.core.adapter.foreign_configuration_every = 3

    def who(address: int) -> int:
        (reply,) = conversation.ask(adapter_frame("F", bytes((7, address))))
        return bytes.fromhex(reply)[-2]

    assert [who(2) for _ in range(6)] == [2] * 6
    switch(conversation)
    assert [who(2) for _ in range(6)] == [2, 2, 3, 2, 2, 3]
    assert [who(5) for _ in range(3)] == [5, 5, 0]


class Terminal:
    """The other end of a real port, at a speed."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self._cutter = FrameCutter()
        self.speed(termios.B2400)

    def speed(self, constant: int) -> None:
        attributes = termios.tcgetattr(self.descriptor)
        attributes[4] = attributes[5] = constant
        termios.tcsetattr(self.descriptor, termios.TCSANOW, attributes)

    async def ask(self, request: bytes, wait_s: float) -> list[Frame]:
        """The frames that come within a time."""
        os.write(self.descriptor, request)
        await asyncio.sleep(wait_s)
        with suppress(BlockingIOError):
            return self._cutter.feed(os.read(self.descriptor, 4096))
        return []

    def close(self) -> None:
        os.close(self.descriptor)


async def test_on_a_real_port() -> None:
    """The speed of the terminal is the client's; at the wrong one nothing is understood, either way."""
    async with Simulator(latency_ms=0) as sim:
        with closing(Terminal(sim.port)) as port:
            assert await port.ask(bytes(V), 0.3)
            assert await port.ask(bytes(N), 0.07) == []
            port.speed(termios.B115200)
            assert await port.ask(SYNC, 0.1) == []
            assert await port.ask(bytes(V), 0.3)
            assert sim.core.baudrate == HIGH
            port.speed(termios.B2400)
            assert await port.ask(bytes(V), 0.3) == []
            assert sim.log.counts[Kind.GARBAGE]
            port.speed(termios.B115200)
            assert await port.ask(bytes(R), 0.1) == []
            port.speed(termios.B2400)
            assert await port.ask(b"", 2.4), "it says its version after the reset"
