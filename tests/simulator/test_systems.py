"""Systems of several units: who is where, what they report together, units that come and go."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from mk2dbus.mk2.framing import adapter_frame
from mk2dbus.simulator import PROFILES, Core, FrontSwitch, Kind, MainState
from mk2dbus.simulator.device import JOULES_PER_STEP
from mk2dbus.simulator.products import PRODUCTS

ADDRESSES = {
    "quattro": [0],
    "quattro3": [0, 1, 2],
    "ess3": [0, 1, 2],
    "parallel3": [0, 3, 6],
    "parallel-3phase": [0, 1, 2, 3, 4, 5],
    "mixed": [0, 1, 2, 3, 4],
    "big": list(range(32)),
    "split2": [0, 1],
}
POWER = adapter_frame("F", b"\x06\x0e\x0f\x10")


def bitmap(conversation: Any) -> list[int]:
    """Addresses that the first device's configuration tells of."""
    (answer,) = conversation.ask(adapter_frame("F", b"\x07\x00"))
    bits = int.from_bytes(bytes.fromhex(answer)[9:13], "little")
    return [address for address in range(32) if bits >> address & 1]


def ac(conversation: Any, phase: int) -> tuple[int, float, float, float, float]:
    """An AC info frame: number of units, and per phase mains V, A, output V, A."""
    (answer,) = conversation.ask(adapter_frame("F", bytes((phase,))))
    data = bytes.fromhex(answer)[2:-1]
    factor, mains_v, mains_a, output_v, output_a = data[0], *struct.unpack("<HhHh", data[5:13])
    return factor, mains_v / 100, factor * mains_a / 100, output_v / 100, factor * output_a / 100


def still(talk: Callable[..., Any], profile: str) -> Any:
    conversation = talk(profile)
    conversation.core.plant.noise = 0
    conversation.listen(1.1)
    return conversation


@pytest.mark.parametrize("profile", ADDRESSES)
def test_who_is_where(profile: str, talk: Callable[..., Any]) -> None:
    conversation = talk(profile)
    assert list(conversation.core.devices) == bitmap(conversation) == ADDRESSES[profile]
    for address in ADDRESSES[profile]:
        (answer,) = conversation.ask(adapter_frame("F", bytes((7, address))))
        data = bytes.fromhex(answer)[2:-1]
        assert data[-1] == address
        assert int.from_bytes(data[:4], "little") == conversation.core.devices[address].unique
        assert data[4] == (2 if address < 3 else 0x20) + address % 3
    assert conversation.core.plant.phases == len({address % 3 for address in ADDRESSES[profile]}) or (
        profile == "split2"
    )


@pytest.mark.parametrize("profile", ADDRESSES)
@pytest.mark.parametrize("mains", [True, False])
def test_phase_totals(profile: str, mains: bool, talk: Callable[..., Any]) -> None:
    """Currents times factors, and powers added up, are what flows in the phase."""
    conversation = still(talk, profile)
    plant = conversation.core.plant
    plant.loads_w = [1000.0 + 500 * phase for phase in range(plant.phases)]
    if not mains:
        for source in plant.inputs:
            source.voltages_v = [0.0] * plant.phases
    conversation.listen(2)
    for phase in range(plant.phases):
        count, mains_v, mains_a, output_v, output_a = ac(conversation, phase + 1)
        units = [device.unit for device in conversation.core.devices.values() if device.phase == phase]
        assert count == len(units)
        assert output_v * output_a == pytest.approx(plant.loads_w[phase], rel=0.03)
        assert sum(unit.output_w for unit in units) == pytest.approx(plant.loads_w[phase])
        assert mains_v * mains_a == pytest.approx(sum(unit.input_w for unit in units), rel=0.03, abs=5)


def test_snapshot_of_all_devices(talk: Callable[..., Any]) -> None:
    conversation = still(talk, "parallel-3phase")
    conversation.ask(POWER)
    for address, device in conversation.core.devices.items():
        (reply,) = conversation.ask(adapter_frame("x", bytes((0x38, address))))
        inverter, grid, output = struct.unpack("<3h", bytes.fromhex(reply)[4:-1])
        assert (inverter, -grid, output) == pytest.approx(
            (device.unit.inverter_w, device.unit.input_w, device.unit.output_w), abs=20
        )


def test_every_profile_is_a_plausible_system() -> None:
    for name in PROFILES:
        core = Core(name)
        core.system.advance(0.0)
        core.system.advance(10.0)
        for device in core.devices.values():
            unit = device.unit
            assert unit.input_w == pytest.approx(unit.output_w + unit.inverter_w), name
            assert unit.main_state in (MainState.CHARGE, MainState.BYPASS), name
        assert not core.system.alarms(), name


# -- different firmware -------------------------------------------------------------------------------------


def test_mixed_versions_and_forms(talk: Callable[..., Any]) -> None:
    conversation = talk("mixed")
    first = {
        address: bytes.fromhex(conversation.ask(adapter_frame("x", bytes((5, address))))[0])[3:-1]
        for address in range(5)
    }
    assert [len(reply) for reply in first.values()] == [7, 7, 3, 7, 3], "new and old"
    versions = [device.kind.version for device in conversation.core.devices.values()]
    assert versions == [2623494, 2626556, 1959209, 1959305, 1959158]
    serials = [conversation.ask(adapter_frame("x", bytes((0x3B, address)))) for address in range(5)]
    assert [bytes.fromhex(answer)[3] for (answer,) in serials] == [0x9D, 0x9D, 0x80, 0x80, 0x80]
    snapshots = [conversation.ask(adapter_frame("x", bytes((0x38, address)))) for address in range(5)]
    assert [bytes.fromhex(answer)[3] for (answer,) in snapshots] == [0x99, 0x99, 0x80, 0x99, 0x80]


def test_slaves_with_certain_firmware_report_nonsense(talk: Callable[..., Any]) -> None:
    """§4.3; the physics go on behind it."""
    conversation = still(talk, "mixed")
    devices = conversation.core.devices
    assert [device.reports_invalid_power for device in devices.values()] == [False, False, False, True, True]
    told: dict[int, set[int]] = {address: set() for address in devices}
    for _ in range(5):
        conversation.listen(3)
        for address, device in devices.items():
            raw = device.read_ram(14)
            assert raw is not None
            told[address].add(raw)
    spans = {address: max(values) - min(values) for address, values in told.items()}
    assert all(spans[address] < 100 < 2000 < spans[slave] for address in (0, 1, 2) for slave in (3, 4))
    before = devices[3].energy_counters()
    conversation.listen(2)
    jumps = [now - then & 0xFF for now, then in zip(devices[3].energy_counters(), before, strict=True)]
    assert max(jumps) > 1, "in two seconds there is not one step"


def test_firmware_of_the_quirk() -> None:
    from dataclasses import replace

    kind = PRODUCTS["multiplus2-230v"]()
    bad = [number for number in range(100, 600) if replace(kind, version=2623000 + number).invalid_as_slave]
    assert bad == [*range(100, 159), *range(200, 209), *range(300, 306)]


# -- energy -------------------------------------------------------------------------------------------------


def energies(core: Core, address: int = 0) -> list[float]:
    return list(core.devices[address].unit.energy.joules)


@pytest.mark.parametrize(
    ("mains", "load_w", "solar_w", "feed_in_w", "flowing"),
    [
        (True, 500, 0, None, {0, 2}),
        (True, 300, 1000, None, {6, 9}),
        (False, 500, 0, None, {8}),
        (False, 300, 1000, None, {9}),
        (True, 500, 0, 2000, {4, 8}),
        (True, 500, 1000, 300, {6, 9}),
        (True, 500, 1000, -3000, {0, 9}),
    ],
)
def test_energy_goes_where_the_power_goes(
    mains: bool, load_w: float, solar_w: float, feed_in_w: float | None, flowing: set[int]
) -> None:
    """Each counter is fed by one path; together they are what the three places give and take."""
    core = Core("sensors")
    plant, device = core.plant, core.device
    plant.noise = 0
    core.system.advance(0.0)
    plant.load_w, plant.generators[0].power_w = load_w, solar_w
    if not mains:
        plant.mains_voltage = 0
    core.system.advance(10.0)
    before = energies(core)
    for minute in range(1, 11):
        if feed_in_w is not None:
            device.assistants[0].words[0] = round(feed_in_w) & 0xFFFF
            device.assistants[0].written(0)
        core.system.advance(10.0 + 30 * minute)
    grown = [now - then for now, then in zip(energies(core), before, strict=True)]
    assert {index for index, joules in enumerate(grown) if joules > 1000} == flowing
    unit = device.unit
    taken = grown[0] + grown[9] - grown[4] - grown[8]
    assert taken == pytest.approx(unit.inverter_w * 300, rel=0.05, abs=10_000)
    assert grown[2] + grown[8] - grown[6] - grown[9] == pytest.approx(unit.output_w * 300, rel=0.05)


def test_energy_of_the_second_input() -> None:
    core = Core("quattro")
    core.system.advance(0.0)
    core.plant.inputs[0].voltages_v = [0.0]
    core.system.advance(10.0)
    before = energies(core)
    core.system.advance(600.0)
    grown = [index for index, joules in enumerate(energies(core)) if joules - before[index] > 1000]
    assert grown == [1, 3]


def test_counters_roll_over(talk: Callable[..., Any]) -> None:
    conversation = still(talk, "multiplus2")
    energy = conversation.core.device.unit.energy
    energy.joules[8] = 255.5 * JOULES_PER_STEP
    (reply,) = conversation.winmon(0x0F)
    assert (reply[0], len(reply), reply[9]) == (0x98, 11, 255)
    energy.joules[8] += JOULES_PER_STEP
    assert conversation.winmon(0x0F)[0][9] == 0


# -- units that come and go ---------------------------------------------------------------------------------


def test_a_unit_leaves_and_joins(talk: Callable[..., Any]) -> None:
    conversation = still(talk, "parallel-3phase")
    core = conversation.core
    core.devices[4].leave()
    core.touch()
    conversation.listen(0.5)
    assert bitmap(conversation) == [0, 1, 2, 3, 5]
    assert conversation.ask(adapter_frame("x", b"\x05\x04")) == []
    assert ac(conversation, 2)[0] == 1
    assert core.devices[1].unit.output_w == pytest.approx(core.plant.loads_w[1]), "the other carries all"
    assert core.devices[4].unit.output_w == 0
    core.devices[4].present = True
    conversation.listen(3)
    assert bitmap(conversation) == ADDRESSES["parallel-3phase"]
    assert core.devices[4].unit.output_w == pytest.approx(core.plant.loads_w[1] / 2)


def test_the_leader_leaves(talk: Callable[..., Any]) -> None:
    """The others go on, with the next as the one that the adapter hears first."""
    conversation = still(talk, "quattro3")
    core = conversation.core
    core.devices[0].leave()
    core.touch()
    conversation.listen(1)
    assert core.system.leader is core.devices[1]
    assert conversation.ask(adapter_frame("F", b"\x01")) == []
    assert ac(conversation, 2)[1] == pytest.approx(230, abs=1)
    assert conversation.ask(adapter_frame("F", b"\x00")) != []


def test_away_while_the_others_sleep(talk: Callable[..., Any]) -> None:
    conversation = talk("parallel3")
    core = conversation.core
    core.devices[3].leave()
    core.system.sleep()
    core.turn_front_switch(FrontSwitch.ON)
    conversation.listen(3)
    assert not core.devices[3].reachable
    conversation.ask(adapter_frame("F", b"\x08" + bytes(4)), wait_s=5)
    assert not core.devices[3].reachable
    assert core.devices[6].reachable


def test_replaced_by_another_product(talk: Callable[..., Any]) -> None:
    conversation = talk("multiplus2")
    core = conversation.core
    old = core.device
    conversation.winmon(0x37, 1, 2, 0x44, 0x16)
    new = core.system.replace(0, PRODUCTS["quattro"]())
    assert core.device is new
    assert core.plant.units == [new.unit]
    assert conversation.winmon(0x05) == [b"\x82" + (2658481).to_bytes(4, "little") + b"\x07\x01"]
    assert conversation.winmon(0x3B) != [b"\x9d" + old.serial.encode()]
    assert (new.settings[2].stored, new.settings[2].writes) == (5760, 0)
    conversation.listen(5)
    assert core.plant.connected is False, "230 V settings on 120 V mains"
    core.plant.mains_voltage = 230
    conversation.listen(5)
    assert core.plant.connected


# -- panels -------------------------------------------------------------------------------------------------


def test_digital_multi_control(talk: Callable[..., Any]) -> None:
    """It alone sets mode and limit, and shows in the AC input configuration (§3.3, §3.4)."""
    conversation = talk("dmc")
    (answer,) = conversation.ask("06 21 FF FF FF FF 80 4D")
    assert bytes.fromhex(answer)[1:7] == bytes.fromhex("20 00000000 80")
    assert conversation.ask("06 21 FF FF FF FF 83 4A") == []
    (answer,) = conversation.ask(adapter_frame("F", b"\x05"))
    assert bytes.fromhex(answer)[6] & 0x08
    panel = adapter_frame("S", struct.pack("<BHBBBB", 1, 160, 1, 0xC0, 0, 4))
    conversation.ask(panel)
    device = conversation.core.device
    assert (device.invert_allowed, device.limits_a) == (True, [50.0])
    conversation.core.press_panel(1, 20)
    frames = [frame for frame in conversation.listen(0.2) if frame.type == 0x40]
    assert [frame.data[:3] for frame in frames] == [b"\x01\xc8\x00"]
    assert (device.invert_allowed, device.limits_a) == (False, [20.0])
    reason = (Kind.NOTE, "panel frame ignored: BMS or DMC in control")
    assert conversation.core.log.reasons[reason] == 1


def test_limit_of_the_input_in_use(talk: Callable[..., Any]) -> None:
    conversation = talk("quattro")
    core = conversation.core
    assert core.device.limits_a == [100.0, 16.0]
    core.plant.inputs[0].voltages_v = [0.0]
    conversation.listen(5)
    core.press_panel(3, 30)
    assert core.device.limits_a == [100.0, 30.0]
    (answer,) = conversation.ask(adapter_frame("F", b"\x05"))
    data = bytes.fromhex(answer)[2:-1]
    assert data[4] & 0x73 == 0x21
    assert struct.unpack("<3H", data[5:11]) == (10, 1000, 300)
