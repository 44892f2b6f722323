"""The physics move plausibly, and everything that reports them agrees."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from mk2dbus.mk2.framing import adapter_frame
from mk2dbus.simulator import ChargeState, Core, FrontSwitch, MainState
from mk2dbus.simulator.plant import EFFICIENCY, STANDBY_W


def test_a_day_of_charging() -> None:
    """Bulk at the set current, absorption at the set voltage with falling current, float; in one day."""
    core = Core()
    plant, device = core.plant, core.device
    plant.battery.soc = 0.3
    stages: list[ChargeState] = []
    currents: list[float] = []
    for minute in range(24 * 60):
        core.system.advance(minute * 60.0)
        state, volts, amps = plant.charger.state, plant.battery.voltage_v, device.unit.battery_a
        if not stages or stages[-1] is not state:
            stages.append(state)
        if state is ChargeState.BULK:
            assert amps == pytest.approx(35, abs=0.1)
            assert volts < 57.61
        elif state is ChargeState.ABSORPTION:
            assert volts == pytest.approx(57.6, abs=0.05)
            currents.append(amps)
        elif plant.charger.stage_s > 3600:
            assert volts == pytest.approx(55.2, abs=0.05)
    assert stages == [ChargeState.BULK, ChargeState.ABSORPTION, ChargeState.FLOAT]
    assert currents[-1] < currents[0] / 2
    assert plant.battery.soc > 0.97


@pytest.mark.parametrize(
    ("mains_v", "load_w", "mode"), [(120, 400, 3), (120, 400, 1), (0, 1500, 3), (120, 7000, 3), (0, 0, 3)]
)
def test_power_balance(mains_v: float, load_w: float, mode: int, talk: Callable[..., Any]) -> None:
    conversation = talk()
    conversation.ask(adapter_frame("S", struct.pack("<BHBBBB", mode, 500, 1, 0x80, 0, 4)))
    plant, unit = conversation.core.plant, conversation.core.device.unit
    plant.mains_voltage, plant.load_w = mains_v, load_w
    conversation.listen(30)
    assert unit.input_w == pytest.approx(unit.output_w + unit.inverter_w)
    battery_w = plant.battery.voltage_v * unit.battery_a
    if unit.inverter_w > 0:
        assert battery_w == pytest.approx((unit.inverter_w - STANDBY_W) * EFFICIENCY, rel=0.02, abs=1)
    else:
        assert battery_w == pytest.approx(unit.inverter_w / EFFICIENCY - STANDBY_W, rel=0.02, abs=1)


def test_energy_is_conserved_over_an_hour() -> None:
    """The charge in the battery and the counted energy fit together."""
    core = Core()
    plant, unit = core.plant, core.device.unit
    plant.mains_voltage, plant.load_w, plant.noise = 0, 1000, 0
    core.run(0.0)
    soc = plant.battery.soc
    core.system.advance(3600.0)
    drawn_ah = (soc - plant.battery.soc) * plant.battery.capacity_ah
    assert unit.energy.joules[8] == pytest.approx(3.6e6, rel=0.01)
    assert drawn_ah * plant.battery.voltage_v == pytest.approx(1000 / EFFICIENCY + STANDBY_W, rel=0.03)


def test_settings_are_obeyed() -> None:
    core = Core()
    device, plant = core.device, core.plant
    core.system.advance(0.0)
    device.settings[4].ram = 10
    core.system.advance(10.0)
    assert device.unit.battery_a == pytest.approx(10, abs=0.05)
    device.settings[0].ram |= 0x40
    core.system.advance(20.0)
    assert device.unit.battery_a == 0
    assert device.unit.main_state is MainState.BYPASS
    device.settings[0].ram &= ~0x40
    core.system.advance(30.0)
    plant.charger.force(ChargeState.FLOAT)
    plant.battery.soc = 0.99
    device.settings[3].ram = 5400
    core.system.advance(4000.0)
    assert plant.battery.voltage_v == pytest.approx(54.0, abs=0.05)


def test_mains_failure_and_return() -> None:
    core = Core()
    core.system.advance(0.0)
    unit = core.device.unit
    core.plant.mains_voltage = 0
    core.system.advance(0.1)
    assert (unit.main_state, core.system.leds()) == (MainState.INVERT_FULL, (0x10, 0))
    assert unit.battery_a < 0
    assert unit.input_w == 0
    core.plant.mains_voltage = 120
    core.system.advance(1.1)
    assert unit.main_state is MainState.INVERT_FULL, "the mains must be good for a while"
    core.system.advance(10.0)
    assert (unit.main_state, core.system.leds()[0] & 0x01) == (MainState.CHARGE, 0x01)


def test_input_limit_first_slows_charging_and_then_assists() -> None:
    core = Core()
    core.plant.noise = 0
    core.system.advance(0.0)
    unit = core.device.unit
    core.system.set_limit(0, 10)
    core.plant.load_w = 900
    core.system.advance(1.0)
    assert unit.mains_a == pytest.approx(10, abs=0.01)
    assert 0 < unit.battery_a < 35
    core.plant.load_w = 2000
    core.system.advance(2.0)
    assert unit.main_state is MainState.POWER_ASSIST
    assert unit.mains_a == pytest.approx(10, abs=0.01)
    assert unit.battery_a < 0


def test_empty_battery() -> None:
    core = Core()
    core.system.advance(0.0)
    core.plant.mains_voltage, core.plant.load_w, core.plant.battery.soc = 0, 2000, 0.08
    seen = set()
    for minute in range(1, 90):
        core.system.advance(minute * 60.0)
        seen.add(core.system.alarms())
    assert seen >= {0, 0x02, 0x20}
    assert core.device.unit.main_state is MainState.OFF
    assert core.system.leds()[0] & 0x40


def test_overload() -> None:
    core = Core()
    core.system.advance(0.0)
    core.plant.mains_voltage, core.plant.load_w = 0, 3000
    core.system.advance(1.0)
    assert (core.system.alarms(), core.system.leds()) == (0x04, (0x10, 0x20))
    core.plant.load_w = 6000
    core.system.advance(5.0)
    assert (core.system.alarms(), core.device.unit.main_state) == (0x40, MainState.OFF)
    core.plant.load_w = 300
    core.system.advance(60.0)
    assert core.device.unit.main_state is MainState.INVERT_FULL


@pytest.mark.parametrize(
    ("front", "mains_v", "state"),
    [
        (FrontSwitch.OFF, 120, MainState.OFF),
        (FrontSwitch.CHARGER_ONLY, 120, MainState.CHARGE),
        (FrontSwitch.CHARGER_ONLY, 0, MainState.OFF),
        (FrontSwitch.ON, 0, MainState.INVERT_FULL),
    ],
)
def test_front_switch(front: FrontSwitch, mains_v: float, state: MainState) -> None:
    core = Core()
    core.system.advance(0.0)
    core.turn_front_switch(front)
    core.plant.mains_voltage = mains_v
    core.system.advance(1.0)
    assert core.device.unit.main_state is state


def test_info_frames_and_ram_variables_agree(talk: Callable[..., Any]) -> None:
    conversation = talk("multiplus2", settle_s=1200)
    conversation.core.plant.noise = 0
    ac = bytes.fromhex(conversation.ask(adapter_frame("F", b"\x01"))[0])[2:-1]
    dc = bytes.fromhex(conversation.ask(adapter_frame("F", b"\x00"))[0])[2:-1]
    (reply,) = conversation.winmon(0x30, 0, 1, 2, 3, 4, 5)
    words = struct.unpack("<6H", reply[1:])
    assert struct.unpack("<4H", ac[5:13]) == words[:4]
    assert struct.unpack("<H", dc[5:7])[0] == pytest.approx(words[4], abs=1)
    assert int.from_bytes(dc[10:13], "little") == words[5]
    assert ac[3] == MainState.CHARGE
    assert 10 / ((dc[13] + 256) / 1961) == pytest.approx(60, abs=0.15)
    assert 10 / (ac[13] / 977) == pytest.approx(60, abs=0.25)


def test_same_calls_same_values() -> None:
    def live() -> tuple[float, ...]:
        core = Core("quattro3")
        for second in range(300):
            core.system.advance(float(second))
        return tuple(core.device.ram_value(number) for number in range(20))

    assert live() == live()


def test_values_move_a_little() -> None:
    core = Core()
    seen = set()
    for second in range(60):
        core.system.advance(float(second))
        seen.add(core.device.read_ram(0))
    assert len(seen) > 20
    assert max(map(float, seen)) - min(map(float, seen)) < 120, "within 1.2 V"


def test_ac_input_of_two_is_chosen() -> None:
    core = Core("quattro3")
    core.system.advance(0.0)
    core.system.advance(10.0)
    assert core.plant.active_input == 0
    core.plant.inputs[0].voltages_v[1] = 0
    core.system.advance(10.1)
    assert core.plant.active_input == 1
    frame = core.system.input_config()
    assert frame is not None
    assert frame.data[4] & 0x73 == 0x21
