"""Replies to values: the recorded frames, and the tables of the contract."""

from __future__ import annotations

import pytest

from mk2dbus.mk2.adapter import LedStatus, read_leds
from mk2dbus.mk2.framing import Frame, FrameCutter
from mk2dbus.mk2.info import AcInfo, AcInput, DcInfo, read_info
from mk2dbus.mk2.winmon import DeviceState, RamInfo
from mk2dbus.vebus import readings
from mk2dbus.vebus.readings import InfoScales
from mk2dbus.vebus.scaling import RamScale

HUNDREDTHS = RamScale(RamInfo(0x7F9C, 0))
SIGNED_HUNDREDTHS = RamScale(RamInfo(0x8064 - 0x10000, 0))
SCALES = InfoScales(
    {
        0: HUNDREDTHS,
        1: SIGNED_HUNDREDTHS,
        2: HUNDREDTHS,
        3: HUNDREDTHS,
        4: HUNDREDTHS,
        5: SIGNED_HUNDREDTHS,
        7: RamScale(RamInfo(0x7857, 0x100)),
        8: RamScale(RamInfo(0x7C2F, 0)),
    }
)


def _frame(text: str) -> Frame:
    (frame,) = FrameCutter().feed(bytes.fromhex(text))
    return frame


def test_recorded_dc() -> None:
    info = read_info(_frame("0F 20 F3 00 C8 02 0C A1 05 00 00 00 28 00 00 88 B2"))
    assert isinstance(info, DcInfo)
    values = readings.dc_values(info, SCALES)
    assert values["/Dc/0/Voltage"] == 14.41
    assert values["/Dc/0/Current"] == 0.40
    assert values["/Dc/0/Power"] == pytest.approx(5.764)


def test_recorded_ac() -> None:
    info = read_info(_frame("0F 20 01 01 CA 09 08 AA 58 AB 00 AA 58 9A 00 C3 E8"))
    assert isinstance(info, AcInfo)
    assert (info.state, info.phase_count) == (9, 1)
    values = readings.ac_values(info, SCALES, 0x88)
    assert values["/Ac/ActiveIn/L1/V"] == 226.98
    assert values["/Ac/ActiveIn/L1/I"] == 1.71
    assert values["/Ac/ActiveIn/L1/F"] == pytest.approx(50.1026, abs=1e-4)
    assert values["/Ac/Out/L1/V"] == 226.98
    assert values["/Ac/Out/L1/I"] == 1.54
    assert values["/Ac/Out/L1/F"] == pytest.approx(50.0255, abs=1e-4)


def test_recorded_feed_in_has_a_negative_current() -> None:
    info = read_info(_frame("0F 20 01 01 01 09 08 EC 5A 5F FF EC 5A 08 00 C3 08"))
    assert isinstance(info, AcInfo)
    assert readings.ac_values(info, SCALES, None)["/Ac/ActiveIn/L1/I"] == -1.61
    assert readings.ac_values(info, SCALES, None)["/Ac/Out/L1/F"] is None
    # Without a period the inverter does not run: that would be 77 Hz.
    assert readings.ac_values(info, SCALES, 0)["/Ac/Out/L1/F"] is None


def test_little_voltage_is_none_and_has_no_frequency() -> None:
    info = AcInfo(1, 1, 1, 1, 4, 4999, 0, 4999, 0, 0xC3)
    values = readings.ac_values(info, SCALES, 0x88)
    for side in ("ActiveIn", "Out"):
        assert values[f"/Ac/{side}/L1/V"] == 0
        assert values[f"/Ac/{side}/L1/F"] == 0


def test_factors_make_totals_of_parallel_units() -> None:
    info = AcInfo(2, None, 3, 2, 9, 23000, 100, 23000, -50, 0xC3)
    values = readings.ac_values(info, SCALES, None)
    assert values["/Ac/ActiveIn/L2/I"] == 3.0
    assert values["/Ac/Out/L2/I"] == -1.0


def test_values_without_a_scale_are_not_known() -> None:
    values = readings.dc_values(
        DcInfo(1441, 0, 40, 0x88), InfoScales({4: None, 5: SIGNED_HUNDREDTHS, 7: None})
    )
    assert values == {"/Dc/0/Voltage": None, "/Dc/0/Current": 0.4, "/Dc/0/Power": None}


@pytest.mark.parametrize(
    ("main", "sub", "state"),
    [
        (0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 9), (5, 0, 9), (6, 0, 1), (7, 0, 10), (8, 0, 8),
        (9, 0, 3), (9, 1, 3), (9, 8, 3), (9, 2, 4), (9, 5, 4), (9, 6, 4), (9, 3, 5), (9, 4, 6), (9, 7, 7),
    ],
)  # fmt: skip
def test_state(main: int, sub: int, state: int) -> None:
    values = readings.state_values(DeviceState(main, sub), error=0)
    assert values["/State"] == state
    assert values["/Ac/ActiveIn/Connected"] == int(main in (7, 8, 9))
    assert values["/VebusChargeState"] == (sub if main == 9 else None)
    assert readings.state_values(DeviceState(main, sub), error=3)["/State"] == 2
    assert readings.state_values(DeviceState(main, sub), error=None)["/State"] is None


def test_leds_and_alarms() -> None:
    status = read_leds(_frame("08 FF 4C 01 0C 00 00 80 00 20"))
    assert status is not None
    values = readings.status_values(status)
    assert values["/Leds/Mains"] == 1
    assert values["/Leds/Bulk"] == 2
    assert values["/Leds/Float"] == 2
    assert values["/Leds/Absorption"] == 0
    assert values["/Alarms/HighTemperature"] == 0
    both = readings.status_values(LedStatus(0x41, 0x40, 0x81, 0x05))
    assert both["/Leds/LowBattery"] == 3
    assert both["/Alarms/HighTemperature"] == 1
    assert both["/Alarms/Ripple"] == 2
    assert (both["/VebusError"], both["/Alarms/VeBusError"]) == (5, 2)


def test_unknown_leds_and_short_replies_are_not_known() -> None:
    # No device: nobody knows of alarms and errors either.
    assert set(readings.status_values(LedStatus(0x1F, 0x1F, 0, 0)).values()) == {None}
    short = readings.status_values(LedStatus(1, 0))
    assert short["/Leds/Mains"] == 1
    assert {short[path] for path in short if not path.startswith("/Leds/")} == {None}


@pytest.mark.parametrize(
    ("blink", "error", "temperature", "voltage"),
    [(0x0A, 0, 2, 0), (0x06, 0, 0, 2), (0x0E, 0, 0, 0), (0x0A, 3, 0, 0), (0x00, 0, 0, 0)],
)
def test_sensor_alarms(blink: int, error: int, temperature: int, voltage: int) -> None:
    values = readings.status_values(LedStatus(0x01, blink, 0, error))
    assert values["/Alarms/TemperatureSensor"] == temperature
    assert values["/Alarms/VoltageSensor"] == voltage


@pytest.mark.parametrize(("register", "mode"), [(0x30, 3), (0x10, 1), (0x20, 2), (0x00, 4), (0xB5, 3)])
def test_mode_and_limit(register: int, mode: int) -> None:
    info = read_info(_frame(_ac_input(0x14, register)))
    assert isinstance(info, AcInput)
    values = readings.ac_input_values(info, accessory_present=False)
    assert values["/Mode"] == mode
    assert values["/Ac/In/1/CurrentLimit"] == values["/Ac/ActiveIn/CurrentLimit"] == 12.5
    assert values["/Ac/In/2/CurrentLimit"] is None
    assert values["/Ac/State/RemoteGeneratorSelected"] == register >> 7
    assert values["/Ac/ActiveIn/CurrentLimitIsAdjustable"] == 1
    assert values["/Ac/NumberOfAcInputs"] == 1
    apart = readings.ac_input_values(info, accessory_present=None)
    assert apart["/ModeIsAdjustable"] is None  # not known before a BMS was looked for
    held = readings.ac_input_values(info, accessory_present=True)
    assert held["/ModeIsAdjustable"] == held["/Ac/ActiveIn/CurrentLimitIsAdjustable"] == 0


@pytest.mark.parametrize(("connected", "shown"), [(True, 0), (False, 240), (None, None)])
def test_active_input(connected: bool | None, shown: int | None) -> None:
    info = read_info(_frame(_ac_input(0x14, 0x30)))
    assert isinstance(info, AcInput)
    assert readings.active_input_values(info, connected).get("/Ac/ActiveIn/ActiveInput") == shown


def _ac_input(config: int, register: int) -> str:
    data = bytes((0, 0, 0, 0, config)) + b"".join(n.to_bytes(2, "little") for n in (10, 500, 125))
    return bytes(Frame(0x41, data + bytes((register,)))).hex()
