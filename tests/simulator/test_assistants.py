"""ESS and AC current sensors (mk2-protocol.md §4.6), and what the plant makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mk2dbus.mk2.framing import adapter_frame
from mk2dbus.simulator import MainState

SETPOINT, BITS = 131, 132
"""RAM variables of the profiles with the recorded list."""
NO_CHARGE, NO_FEED_IN = 1, 2


def begin(talk: Callable[..., Any], profile: str = "multiplus2-ess") -> Any:
    conversation = talk(profile)
    conversation.core.plant.noise = 0
    conversation.listen(1.1)
    return conversation


def write(conversation: Any, number: int, word: int, address: int = 0) -> None:
    data = bytes((0x37, 0, number)) + (word & 0xFFFF).to_bytes(2, "little") + bytes((address,))
    assert conversation.ask(adapter_frame("x", data)) == ["03 FF 58 87 1F"]


def test_list_as_recorded(talk: Callable[..., Any]) -> None:
    conversation = begin(talk)
    assert conversation.winmon(0x30, *range(128, 134)) == [bytes.fromhex("85 9000 4000 5200 0000 0000 0000")]


@pytest.mark.parametrize(("into_grid_w", "bits", "input_w"), [(300, 0, -300), (-900, 0, 900)])
def test_grid_follows_the_setpoint(
    into_grid_w: int, bits: int, input_w: float, talk: Callable[..., Any]
) -> None:
    conversation = begin(talk)
    write(conversation, SETPOINT, into_grid_w)
    write(conversation, BITS, bits)
    conversation.listen(2)
    assert conversation.core.device.unit.input_w == pytest.approx(input_w, abs=1)


def test_feed_in_disabled(talk: Callable[..., Any]) -> None:
    conversation = begin(talk)
    write(conversation, SETPOINT, 500)
    write(conversation, BITS, NO_FEED_IN)
    conversation.listen(2)
    unit = conversation.core.device.unit
    assert unit.input_w == pytest.approx(0, abs=1)
    assert unit.inverter_w == pytest.approx(-unit.output_w, abs=1), "the loads still come from the battery"


def test_charging_disabled(talk: Callable[..., Any]) -> None:
    conversation = begin(talk)
    write(conversation, SETPOINT, -2000)
    conversation.listen(5)
    unit = conversation.core.device.unit
    assert unit.battery_a > 20
    write(conversation, BITS, NO_CHARGE)
    conversation.listen(2)
    assert unit.battery_a == 0


def test_setpoint_expires_unless_written_again(talk: Callable[..., Any]) -> None:
    conversation = begin(talk)
    unit = conversation.core.device.unit
    assert unit.main_state is MainState.BYPASS, "nobody has asked for anything"
    for _ in range(3):
        write(conversation, SETPOINT, 400)
        conversation.listen(45)
        assert unit.input_w == pytest.approx(-400, abs=1)
        assert unit.main_state is MainState.CHARGE, "as recorded, also when it inverts"
    conversation.listen(16)
    assert conversation.winmon(0x30, SETPOINT) == [b"\x85\x00\x00"]
    assert unit.main_state is MainState.BYPASS
    assert unit.input_w > unit.output_w


def test_leds_while_ess_inverts(talk: Callable[..., Any]) -> None:
    """As recorded: mains on, bulk and float blinking."""
    conversation = begin(talk)
    write(conversation, SETPOINT, 400)
    conversation.listen(2)
    assert conversation.core.system.leds() == (0x01, 0x0C)


def test_each_phase_has_its_own_setpoint(talk: Callable[..., Any]) -> None:
    conversation = begin(talk, "ess3")
    for address, watts in enumerate((1000, -200, 0)):
        write(conversation, SETPOINT, watts, address)
    conversation.listen(2)
    powers = [device.unit.input_w for device in conversation.core.devices.values()]
    assert powers == pytest.approx([-1000, 200, 0], abs=1)


def test_units_of_a_phase_share_its_setpoint(talk: Callable[..., Any]) -> None:
    conversation = begin(talk, "parallel-3phase")
    from mk2dbus.simulator.assistants import Ess

    conversation.core.devices[0].assistants = [Ess()]
    write(conversation, 129, 3000)
    conversation.listen(2)
    powers = [conversation.core.devices[address].unit.input_w for address in (0, 3)]
    assert powers == pytest.approx([-1500, -1500], abs=1)
    assert conversation.core.devices[1].unit.input_w > 0


def test_reset_forgets_the_setpoint(talk: Callable[..., Any]) -> None:
    conversation = begin(talk)
    write(conversation, SETPOINT, 400)
    write(conversation, BITS, NO_CHARGE | NO_FEED_IN)
    conversation.ask(adapter_frame("F", b"\x08" + bytes(4)), wait_s=6)
    conversation.ask(adapter_frame("S", bytes((3, 0, 0, 1, 0x90, 0, 4))))
    assert conversation.winmon(0x30, SETPOINT, BITS) == [b"\x85" + bytes(4)]


# -- sensors ------------------------------------------------------------------------------------------------


def words(conversation: Any, first: int) -> list[int]:
    (reply,) = conversation.winmon(0x30, *range(first, first + 5))
    return [int.from_bytes(reply[index : index + 2], "little") for index in range(1, 11, 2)]


def test_sensors_measure_the_generators(talk: Callable[..., Any]) -> None:
    conversation = begin(talk, "sensors")
    header, flags, current, power, _ = words(conversation, 131)
    assert (header, flags, power) == (0x14, 0x01, 900), "at the output, L1"
    assert current == pytest.approx(100 * 900 / 230, abs=1)
    header, flags, current, power, _ = words(conversation, 136)
    assert (header, flags, power) == (0x14, 0x00, 500), "at the input, L1"
    assert conversation.winmon(0x30, 141) == [b"\x85\x00\x00"], "the end of the list"
    conversation.core.plant.mains_voltage = 0
    conversation.core.device.front_switch = type(conversation.core.device.front_switch).CHARGER_ONLY
    conversation.listen(2.1)
    assert [words(conversation, first)[2:4] for first in (131, 136)] == [[0, 0], [0, 0]], "no voltage, no sun"


def test_energy_of_a_sensor_rolls_over_in_16_bits(talk: Callable[..., Any]) -> None:
    conversation = begin(talk, "sensors")
    sensor = conversation.core.device.assistants[1]
    sensor.joules = 65535.2 * 65536
    conversation.listen(1.1)
    assert words(conversation, 131)[4] == 65535
    conversation.listen(65536 / 900)
    assert words(conversation, 131)[4] == 0


def test_solar_at_the_output_feeds_the_loads(talk: Callable[..., Any]) -> None:
    conversation = begin(talk, "sensors")
    plant, unit = conversation.core.plant, conversation.core.device.unit
    plant.load_w, plant.generators[0].power_w = 1500, 900
    conversation.listen(2)
    assert unit.output_w == pytest.approx(600)
    plant.mains_voltage = 0
    plant.load_w = 200
    conversation.listen(2)
    assert unit.output_w == pytest.approx(-700)
    assert unit.battery_a > 0, "what is left charges the battery"
