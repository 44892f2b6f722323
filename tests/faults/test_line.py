"""What can go wrong on the line and behind it, while it is used in each way: nothing false is shown, nothing
old, and all is well again soon after the fault is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest
from support.clock import simulated
from support.driven import MODES, Driven, Mode, driven
from support.truth import FRESH_S, MEASURED_PHASES, SINGLE, Truth

from mk2dbus.mk2.framing import Frame, FrameCutter, FrameType
from mk2dbus.simulator import Console, Kind
from mk2dbus.vebus.options import Options

VOLTAGE = "/Dc/0/Voltage"
SLOW = Options(poll_interval_s=0.5)
"""So that simulated time costs little."""
FAULT_S = 8.0
SHOWN = 0.7
"""Share of the values that is known at least while one frame in some is damaged."""
BACK_S = 12.0
"""After any fault of the line is over: start-up, high speed that was given up, first values."""

Pieces = Iterable[tuple[float, bytes]]
Change = Callable[[bytes], bytes | Pieces]


@dataclass
class EveryNth:
    """Does something to every n-th frame; the rest goes through as it is."""

    nth: int
    change: Callable[[int, bytes], bytes | Pieces]
    seen: int = 0

    def __call__(self, data: bytes) -> bytes | Pieces:
        self.seen += 1
        return data if self.seen % self.nth else self.change(self.seen // self.nth, data)


def _at(number: int, data: bytes) -> int:
    """A place in a frame, another one each time."""
    return number % len(data)


def _lose(number: int, data: bytes) -> bytes:
    place = _at(number, data)
    return data[:place] + data[place + 1 :]


def _flip(number: int, data: bytes) -> bytes:
    place = _at(number, data)
    return data[:place] + bytes((data[place] ^ 1 << number % 8,)) + data[place + 1 :]


def _insert(number: int, data: bytes) -> bytes:
    place = _at(number, data)
    return data[:place] + bytes((number * 37 & 0xFF,)) + data[place:]


def _double(number: int, data: bytes) -> bytes:
    place = _at(number, data)
    return data[: place + 1] + data[place:]


def _delay(_number: int, data: bytes) -> Pieces:
    return [(1.2, data)]


def _tear(pause_s: float) -> Callable[[int, bytes], Pieces]:
    def tear(number: int, data: bytes) -> Pieces:
        place = max(1, _at(number, data))
        return [(0.0, data[:place]), (pause_s, data[place:])]

    return tear


def _behind(noise: bytes) -> Callable[[int, bytes], bytes]:
    return lambda number, data: data + noise


def _changed(data: bytes, change: Callable[[Frame], Frame | None]) -> bytes:
    """A frame with right length and checksum that says something else."""
    (frame,) = FrameCutter().feed(data)
    changed = change(frame)
    return data if changed is None else bytes(changed)


def _other_slot(frame: Frame) -> Frame | None:
    if frame.type != FrameType.ADAPTER or frame.data[:1] not in (b"X", b"Y", b"Z"):
        return None
    letters = b"XYZ"
    return Frame(
        frame.type, letters[(letters.index(frame.data[0]) + 1) % 3 :][:1] + frame.data[1:], frame.leds
    )


def _shorter(frame: Frame) -> Frame | None:
    return Frame(frame.type, frame.data[:-1], frame.leds) if len(frame.data) > 3 else None


def _longer(frame: Frame) -> Frame | None:
    return Frame(frame.type, frame.data + b"\x00", frame.leds) if len(frame.data) > 3 else None


def _other_address(frame: Frame) -> Frame | None:
    if frame.type == FrameType.ADAPTER and frame.data[:2] == b"A\x01":
        return Frame(frame.type, b"A\x01\x05" + frame.data[3:])
    if frame.type == FrameType.INFO and frame.data[4] in (*range(2, 5), *range(0x20, 0x30)):
        return Frame(frame.type, frame.data[:-1] + b"\x05")
    return None


def _foreign(change: Callable[[Frame], Frame | None]) -> Callable[[int, bytes], bytes]:
    return lambda number, data: _changed(data, change)


DAMAGE: dict[str, EveryNth] = {
    "byte lost": EveryNth(9, _lose),
    "byte flipped": EveryNth(9, _flip),
    "byte inserted": EveryNth(9, _insert),
    "byte doubled": EveryNth(9, _double),
    "frame doubled": EveryNth(9, lambda number, data: data + data),
    "delayed beyond the time-out": EveryNth(29, _delay),
    "torn by a short pause": EveryNth(3, _tear(0.2)),
    "torn by a long pause": EveryNth(29, _tear(0.6)),
    "run of 00": EveryNth(13, _behind(bytes(100))),
    "run of FF": EveryNth(13, _behind(b"\xff" * 100)),
    "endless frame": EveryNth(17, _behind(b"\x28\xff\x58" + b"\x85\x01" * 10)),
    "reply on the wrong slot": EveryNth(9, _foreign(_other_slot)),
    "reply too short": EveryNth(9, _foreign(_shorter)),
    "reply too long": EveryNth(9, _foreign(_longer)),
    "reply of another address": EveryNth(5, _foreign(_other_address)),
}
"""What happens to frames, now and then; a session must go on through all of it."""


def _check_log(caplog: pytest.LogCaptureFixture) -> None:
    assert "internal error" not in caplog.text
    assert not [record for record in caplog.records if record.exc_info], caplog.text


async def _step(run: Driven, number: int) -> None:
    """Something changes, so that an old value is a false one."""
    run.core.plant.load_w = (300.0, 900.0)[number % 2]
    await asyncio.sleep(FAULT_S / 2)


async def _through(run: Driven, name: str, direction: str) -> None:
    """A session goes on through a fault, and shows nothing false."""
    fault = DAMAGE[name]
    truth = Truth(run)
    watching = asyncio.create_task(truth.watch())
    baudrate = run.port.baudrate
    setattr(run.core, direction, EveryNth(fault.nth, fault.change))
    for number in range(2):
        await _step(run, number)
        await run.until(lambda: run.value("/Connected") == 1, FRESH_S)
    setattr(run.core, direction, None)
    await run.until_known(VOLTAGE, BACK_S)
    await asyncio.sleep(1.0)
    watching.cancel()
    assert not truth.lies, f"{name} {direction}: {truth.lies[:3]}"
    # To give up high speed takes some seconds, once.
    assert truth.shown > SHOWN * truth.checked or run.port.baudrate != baudrate, f"{name} {direction}"


@pytest.mark.parametrize("mode", MODES, ids=str)
@simulated
async def test_damaged_frames(mode: Mode, caplog: pytest.LogCaptureFixture) -> None:
    """One session goes through all kinds of damage, in both directions."""
    caplog.set_level(logging.INFO)
    async with driven(mode=mode, options=SLOW) as run:
        await run.until_known(VOLTAGE)
        baudrate = run.port.baudrate
        for name in DAMAGE:
            for direction in ("outgoing", "incoming"):
                await _through(run, name, direction)
        assert run.opened == 1
        assert not run.core.log.of(Kind.PANEL)
        given_up = run.port.baudrate != baudrate
    assert ("high speed is given up, the line goes on at 2400 baud" in caplog.text) is given_up
    assert "of the received frames are damaged: look at cable and adapter" in caplog.text
    _check_log(caplog)


@dataclass(frozen=True)
class Outage:
    """Something that is away for a while: commands of the simulator's console, and how it ends."""

    begin: tuple[str, ...]
    end: tuple[str, ...]
    text: str
    """In the log."""
    lasts_s: float = 15.0
    profile: str = "multiplus2"
    value: str = VOLTAGE
    """Must be invalid meanwhile."""
    others: str = ""
    """Must stay meanwhile."""
    back_s: float = 6.0
    """From its end to the first values; 10 s where commands go one at a time."""


OUTAGES = {
    "silent adapter": Outage(("adapter fault silent",), ("adapter fault none",), "no answer for 4.0 s"),
    "stuck adapter": Outage(("adapter fault stuck",), ("adapter fault none",), "no answer for 4.0 s"),
    "inverter asleep": Outage(("sleep",), ("wake",), "no answer for 4.0 s"),
    "unit of a system gone": Outage(
        ("unit leave 1",),
        ("unit join 1",),
        "device 1 (product 2658, firmware 481)",
        lasts_s=40.0,
        profile="quattro3",
        value="/Ac/ActiveIn/L2/V",
        others="/Ac/ActiveIn/L1/V",
        back_s=30.0,
    ),
}


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("name", OUTAGES)
@simulated
async def test_outages(name: str, mode: Mode, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    outage = OUTAGES[name]
    async with driven(outage.profile, mode=mode, options=SLOW) as run:
        console = Console(run.core)
        await run.until_known(outage.value)
        truth = Truth(run, SINGLE if outage.profile == "multiplus2" else MEASURED_PHASES)
        watching = asyncio.create_task(truth.watch())
        await asyncio.sleep(3.0)
        begun = run.now
        for line in outage.begin:
            console.execute(line)
        await run.until(lambda: run.value(outage.value) is None, FRESH_S)
        if not outage.others:
            await run.until(lambda: run.value("/Connected") == 0, begun + FRESH_S - run.now)
        gap_s = 0.0
        while run.now < begun + outage.lasts_s:
            await asyncio.sleep(0.1)
            assert run.value(outage.value) is None
            gap_s += 0.1 * bool(outage.others and run.value(outage.others) is None)
        # Where commands go one at a time, waiting in vain takes the line from the others for a moment.
        assert gap_s < (FRESH_S if mode.pipeline == 1 else 1.0)
        watching.cancel()
        assert not truth.lies, truth.lies[:3]
        for line in outage.end:
            console.execute(line)
        back_s = max(outage.back_s, 10.0) if mode.pipeline == 1 else outage.back_s
        await run.until(lambda: run.value(outage.value) is not None, back_s)
        if outage.others:
            await run.until(lambda: run.value("/Devices/NumberOfMultis") == 3, 30)
        truth = Truth(run, truth.measured)
        if outage.others:
            # What was true a moment ago may be shown.
            for _ in range(round(FRESH_S / 0.1)):
                truth.note()
                await asyncio.sleep(0.1)
        for _ in range(20):
            truth.look()
            await asyncio.sleep(0.1)
        assert not truth.lies, truth.lies[:3]
        assert run.opened == 1
    assert outage.text in caplog.text
    _check_log(caplog)


@pytest.mark.parametrize("mode", MODES, ids=str)
@simulated
async def test_an_adapter_that_was_reset(mode: Mode, caplog: pytest.LogCaptureFixture) -> None:
    """It has forgotten address, flags and speed; nothing is shown of another device, and it is told again."""
    caplog.set_level(logging.INFO)
    async with driven(mode=mode, options=SLOW) as run:
        await run.until_known(VOLTAGE)
        truth = Truth(run)
        watching = asyncio.create_task(truth.watch())
        for _ in range(3):
            await asyncio.sleep(10.0)
            Console(run.core).execute("adapter reset")
            await asyncio.sleep(1.0)
            await run.until(lambda: run.value(VOLTAGE) is not None, BACK_S)
        await run.until(lambda: bool(run.core.adapter.flags & 0x40), 30)
        watching.cancel()
        assert not truth.lies, truth.lies[:3]
    _check_log(caplog)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize(
    ("command", "text"),
    [
        (
            "unit replace 0 multiplus2-230v",
            "(product 2623, firmware 494) is there now instead of version 2729560",
        ),
        ("unit replace 0 multiplus-old", "is there now instead of version 2729560"),
        ("unit firmware 0 470", "(product 2729, firmware 470) is there now instead of version 2729560"),
    ],
)
@simulated
async def test_a_device_that_is_replaced_while_running(
    command: str, text: str, mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with driven(mode=mode, options=SLOW) as run:
        await run.until_known("/Devices/0/Settings/AbsorptionVoltage")
        Console(run.core).execute(command)
        version = run.core.device.kind.version
        took = await run.until(lambda: run.value("/Devices/0/Version") == version, 60)
        assert took < 45.0
        await run.until_known(VOLTAGE, BACK_S)
        truth = Truth(run)
        await run.until_known("/Devices/0/Settings/AbsorptionVoltage", 60)
        assert not truth.false_settings()
    assert text in caplog.text
    _check_log(caplog)
