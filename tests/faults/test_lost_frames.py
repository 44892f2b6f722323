"""Writes while frames get lost: every frame of a write, each way, alone, or with all after it.

What the client is told is what the device has, or that it is not known; nothing is stored twice, nothing is
done later that was said not to be done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from support.clock import simulated
from support.driven import MODES, Driven, Mode, driven

from mk2dbus.items import Disconnected, NoReply, WriteFailed
from mk2dbus.simulator import Kind
from mk2dbus.vebus.options import Options

ANSWER_S = 5.0
AFTERWARDS_S = 4.0
"""Far longer than anything that was sent can still be under way."""
FOR_EVER = 10_000
SLOW = Options(poll_interval_s=2.0)
"""Frames of the polls are lost as well; they need not be many."""
NOT_DONE = ("nothing was written", "nothing was commanded", "still has")
SETTINGS = "/Devices/0/Settings"


@dataclass(frozen=True)
class Case:
    """Something that is written: two values in turn, and what the device makes of them."""

    path: str
    values: tuple[float, float]
    effect: Callable[[Driven], float]
    stores: int = 0
    """Writes to EEPROM that it takes."""
    profile: str = "multiplus2"
    shown: bool = True
    """Whether the item shows it as soon as it is done."""


def _setting(id: int, attribute: str) -> Callable[[Driven], float]:
    def effect(run: Driven) -> float:
        setting = run.core.device.settings[id]
        return setting.info.to_value(getattr(setting, attribute))

    return effect


def _flag(bit: int) -> Callable[[Driven], float]:
    return lambda run: run.core.device.settings[0].stored >> bit & 1


def _mode(run: Driven) -> float:
    device = run.core.device
    return {(True, False): 1, (True, True): 3}[device.charge_allowed, device.invert_allowed]


def _ess_word(index: int) -> Callable[[Driven], float]:
    return lambda run: run.core.device.assistants[-1].words[index]


CASES = {
    "setting": Case(f"{SETTINGS}/AbsorptionVoltage", (56.5, 57.0), _setting(2, "stored"), 1),
    "flag": Case(f"{SETTINGS}/DisableCharger", (1, 0), _flag(6), 1),
    "old setting": Case(
        f"{SETTINGS}/AbsorptionVoltage", (14.1, 14.2), _setting(2, "stored"), 1, "multiplus-old"
    ),
    "old flag": Case(f"{SETTINGS}/DisableCharger", (1, 0), _flag(6), 1, "multiplus-old"),
    "RAM only": Case("/Devices/0/RamOnly/ChargeCurrent", (20, 30), _setting(4, "ram")),
    "charge current": Case("/Dc/0/MaxChargeCurrent", (20, 30), _setting(4, "ram")),
    "mode": Case("/Mode", (1, 3), _mode),
    "limit": Case("/Ac/ActiveIn/CurrentLimit", (12.0, 16.0), lambda run: run.core.device.limits_a[0]),
    "setpoint": Case(
        "/Hub4/L1/AcPowerSetpoint",
        (500, -700),
        lambda run: -((_ess_word(0)(run) + 0x8000) % 0x10000 - 0x8000),
        profile="multiplus2-ess",
    ),
    "ESS bits": Case(
        "/Hub4/DisableCharge", (1, 0), lambda run: int(_ess_word(1)(run)) & 1, 0, "multiplus2-ess"
    ),
}


class Loss:
    """Loses frames in one direction: ``count`` of them from the one with number ``first`` on."""

    def __init__(self, first: int, count: int) -> None:
        self.lost = range(first, first + count)
        self.seen = 0

    def __call__(self, data: bytes) -> bytes:
        number, self.seen = self.seen, self.seen + 1
        return b"" if number in self.lost else data


def _stores(run: Driven) -> int:
    return sum(setting.writes for setting in run.core.device.settings.values())


def _commands(run: Driven) -> int:
    """Everything that changed the device."""
    return run.core.log.counts[Kind.STORED] + run.core.log.counts[Kind.RAM_WRITTEN]


async def _ready(run: Driven, case: Case) -> None:
    await run.until(lambda: run.value("/Connected") == 1, 30)
    await run.until(lambda: case.path in run.tree, 60)
    if case.path == "/Dc/0/MaxChargeCurrent":
        # After an outcome that is not known nobody knows what is in effect, until it is written again.
        await run.until_known(f"{SETTINGS}/ChargeCurrent", 60)
        return
    if not case.path.startswith("/Devices"):
        await run.until(lambda: run.value("/ModeIsAdjustable") == 1, 30)
    if not case.path.startswith(("/Devices/0/RamOnly", "/Hub4/L1/")):
        await run.until_known(case.path, 60)


async def _attempt(run: Driven, case: Case, value: float, direction: str, loss: Loss) -> None:
    stores, before = _stores(run), case.effect(run)
    setattr(run.core, direction, loss)
    start = run.now
    failure: WriteFailed | None = None
    try:
        await run.write(case.path, value)
    except WriteFailed as failed:
        failure = failed
    told_at = run.now
    effect, commands = case.effect(run), _commands(run)
    shown = run.value(case.path)
    told = f"{case.path} = {value}, frames {loss.lost} {direction}: {failure or 'done'}"
    assert told_at - start <= ANSWER_S, told
    assert _stores(run) - stores <= case.stores, told
    if failure is None:
        assert effect == pytest.approx(value), told
        assert _stores(run) - stores == case.stores, told
        assert shown == pytest.approx(value), told
    elif any(words in str(failure) for words in NOT_DONE):
        assert effect == pytest.approx(before), told
    else:
        assert isinstance(failure, NoReply | Disconnected), told
        assert "not known" in str(failure), told
        assert effect == pytest.approx(before) or effect == pytest.approx(value), told
    setattr(run.core, direction, None)
    await run.until(lambda: run.now >= told_at + AFTERWARDS_S)
    # Nothing of it is done later, once or again; panel frames go on with what they said before.
    assert _commands(run) == commands, told
    if failure is not None:
        assert case.effect(run) in (pytest.approx(before), pytest.approx(effect)), told
    await _ready(run, case)
    if case.path != "/Hub4/L1/AcPowerSetpoint":
        try:
            await run.until(lambda: run.value(case.path) in (None, pytest.approx(case.effect(run))), 10)
        except AssertionError:
            raise AssertionError(f"{told}; shows {run.value(case.path)} has {case.effect(run)}") from None


ELSEWHERE = ("setting", "flag", "RAM only", "mode", "setpoint")
"""What is written in the other modes of the line, too: one of each kind."""


@pytest.mark.parametrize(
    ("name", "mode"),
    [(name, mode) for mode in MODES for name in (CASES if mode == MODES[0] else ELSEWHERE)],
    ids=lambda value: str(value),
)
@simulated
async def test_whatever_frame_is_lost_the_outcome_is_true(
    name: str, mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    case = CASES[name]
    async with driven(case.profile, mode=mode, options=SLOW) as run:
        await _ready(run, case)
        values = iter(case.values * 1000)
        for direction in ("incoming", "outgoing"):
            for count in (1, FOR_EVER):
                first = 0
                while True:
                    value = next(values)
                    if case.effect(run) == pytest.approx(value):
                        value = next(values)
                    loss = Loss(first, count)
                    await _attempt(run, case, value, direction, loss)
                    if loss.seen <= first:
                        break
                    first += 1
    assert name != "setting" or "write of setting 2 was not acknowledged: " in caplog.text
