"""The tables of commands, the bytes of each, and what each makes of replies, good and bad."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk2dbus.mk2 import adapter, winmon
from mk2dbus.mk2.adapter import (
    ADAPTER_COMMANDS,
    AccessoryKind,
    AdapterVersion,
    ConfigureAdapter,
    FindAccessory,
    GetAc,
    GetAcInput,
    GetAddress,
    GetConfiguration,
    GetDc,
    GetDetail,
    GetLeds,
    GoToSleep,
    HighSpeed,
    LedStatus,
    Lines,
    PanelFrame,
    Reset,
    ResetDevices,
    SendPanel,
    SetAddress,
    SwitchPosition,
    TakeSnapshot,
    Unanswered,
    WakeUp,
    read_leds,
    read_panel,
    read_version,
)
from mk2dbus.mk2.errors import AccessRequired, NotSupported, Rejected
from mk2dbus.mk2.framing import Frame, FrameCutter, FrameType, adapter_frame
from mk2dbus.mk2.info import Accessory, AcInfo, AcInput, Configuration, DcInfo, read_info
from mk2dbus.mk2.request import CONFLICTS, MORE, AdapterRequest, Lane, Request, Winmon
from mk2dbus.mk2.winmon import (
    WINMON_COMMANDS,
    AccessLevels,
    DeviceState,
    GetAccessLevels,
    GetEnergyCounters,
    GetRamInfo,
    GetSerial,
    GetSettingInfo,
    GetState,
    GetVersion,
    GetVersionHigh,
    RamInfo,
    ReadRam,
    ReadSetting,
    ReadSnapshot,
    SendPassword,
    SettingInfo,
    Version,
    WriteArmed,
    WriteById,
    Written,
)


def frame(text: str) -> Frame:
    [only] = FrameCutter().feed(bytes.fromhex(text))
    return only


def read(command: Winmon[Any], *parts: str) -> Any:
    """What a command makes of the payloads of received frames, given one after the other as the link does."""
    received: tuple[bytes, ...] = ()
    answer: Any = MORE
    for part in parts:
        assert answer is MORE, "the reply was complete before"
        payload = bytes.fromhex(part)
        assert command.is_reply(payload)
        received += (payload,)
        answer = command.read(received)
    return answer


# --- the tables ----------------------------------------------------------------------------------------

ALL: tuple[type[Request[Any]], ...] = (*ADAPTER_COMMANDS, *WINMON_COMMANDS)


def defined_in(module: Any, base: type) -> set[type]:
    """Commands that a module defines and that can be sent."""
    return {
        one
        for one in vars(module).values()
        if isinstance(one, type)
        and issubclass(one, base)
        and one.__module__ == module.__name__
        and not one.__name__.startswith("_")
        and one is not Unanswered
    }


def test_tables_are_complete() -> None:
    assert set(ADAPTER_COMMANDS) == defined_in(adapter, AdapterRequest)
    assert set(WINMON_COMMANDS) == defined_in(winmon, Winmon)
    assert len(set(ALL)) == len(ALL)


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.__qualname__)
def test_every_command_documents_itself(command: type[Request[Any]]) -> None:
    # A dataclass without a docstring gets its signature as one.
    assert command.__doc__
    assert not command.__doc__.startswith(f"{command.__name__}(")
    assert command.section[0] in "134"
    assert command.attempts >= 1
    assert command.reply_timeout_s >= 0.5


def test_winmon_codes_are_unique() -> None:
    codes = [command.code for command in WINMON_COMMANDS]
    assert len(set(codes)) == len(codes)


def test_reply_codes_are_reply_codes() -> None:
    for command in WINMON_COMMANDS:
        assert command.replies
        assert all(0x81 <= code <= 0x9F for code in command.replies)
        assert command.code not in command.replies


def test_what_must_not_happen_twice_is_sent_once() -> None:
    once = {command for command in ALL if command.attempts == 1}
    assert once == {
        Reset,
        SendPanel,
        ResetDevices,
        WriteArmed,
        WriteById,
        ReadSnapshot,
        SendPassword,
    }


def test_what_changes_the_line_is_alone_on_it() -> None:
    alone = {command for command in ADAPTER_COMMANDS if command.lane is Lane.ALONE}
    assert alone == {Reset, ConfigureAdapter, HighSpeed}


def test_lanes_are_in_each_others_way_both_ways() -> None:
    assert set(CONFLICTS) == set(Lane)
    for lane, others in CONFLICTS.items():
        for other in others - {Lane.ALONE}:
            assert lane in CONFLICTS[other]
    assert all(command.lane is Lane.WINMON for command in WINMON_COMMANDS)


def test_info_requests_are_those_with_the_letter_f() -> None:
    for request, sent in ADAPTER_FRAMES:
        assert (request.lane is Lane.INFO) == (bytes.fromhex(sent)[1:3] == b"\xffF"), request


# --- what is sent --------------------------------------------------------------------------------------

ADAPTER_FRAMES: list[tuple[AdapterRequest[Any], str]] = [
    (SetAddress(0), "04 FF 41 01 00 BB"),
    (SetAddress(31), "04 FF 41 01 1F 9C"),
    (GetAddress(), "04 FF 41 00 00 BC"),
    (GetDetail(), "02 FF 44 BB"),
    (adapter.GetVersion(), "02 FF 56 A9"),
    (Reset(), "02 FF 52 AD"),
    (Lines(), "02 FF 48 B7"),
    (Lines(0x07), "03 FF 48 07 AF"),
    (GetLeds(), "02 FF 4C B3"),
    (ConfigureAdapter(), "09 FF 53 03 00 00 01 D0 00 04 CD"),
    (SendPanel(SwitchPosition.OFF, 160), "09 FF 53 04 A0 00 01 C0 00 04 3C"),
    (SendPanel(SwitchPosition.ON, 0x7FFF), "09 FF 53 03 FF 7F 01 C0 00 04 5F"),
    (GetDc(), "03 FF 46 00 B8"),
    (GetAc(1), "03 FF 46 01 B7"),
    (GetAc(4), "03 FF 46 04 B4"),
    (GetAcInput(), "03 FF 46 05 B3"),
    (TakeSnapshot((0x0E, 0x10, 0x0F)), "06 FF 46 06 0E 10 0F 82"),
    (GetConfiguration(0), "04 FF 46 07 00 B0"),
    (GetConfiguration(3), "04 FF 46 07 03 AD"),
    (ResetDevices(0x11223344), "07 FF 46 08 22 11 44 33 02"),
    (ResetDevices(), "07 FF 46 08 00 00 00 00 AC"),
    (HighSpeed(), "02 FF 4E B1"),
    (WakeUp(), "05 3F 07 00 00 00 C2"),
    (GoToSleep(), "05 3F 04 00 00 00 C5"),
    (FindAccessory(AccessoryKind.DMC), "06 21 FF FF FF FF 80 4D"),
    (FindAccessory(AccessoryKind.BMS), "06 21 FF FF FF FF 83 4A"),
]

WINMON_PAYLOADS: list[tuple[Winmon[Any], list[str]]] = [
    (GetVersion(), ["05"]),
    (GetVersionHigh(), ["06"]),
    (GetState(), ["0E 00 00"]),
    (GetState(force=3), ["0E 03 00"]),
    (GetEnergyCounters(), ["0F"]),
    (ReadRam((13,)), ["30 0D 00"]),
    (ReadRam((14, 15)), ["30 0E 0F"]),
    (ReadRam((1, 2, 3, 4, 5, 128)), ["30 01 02 03 04 05 80"]),
    (ReadSetting(64), ["31 40 00"]),
    (ReadSetting(0x1234), ["31 34 12"]),
    (WriteArmed(129, 0x0172, setting=False), ["32 81 00", "34 72 01"]),
    (WriteArmed(64, 2000, setting=True), ["33 40 00", "34 D0 07"]),
    (GetSettingInfo(64), ["35 40 00"]),
    (GetRamInfo(8), ["36 08 00"]),
    (WriteById(64, 2000, setting=True), ["37 01 40 D0 07"]),
    (WriteById(64, 2000, setting=True, ram_only=True), ["37 03 40 D0 07"]),
    (WriteById(131, 370, setting=False), ["37 00 83 72 01"]),
    (ReadSnapshot(), ["38"]),
    (SendPassword(b"SIMULATE"), ["3A 53 49 4D 55 4C 41 54 45"]),
    (GetSerial(), ["3B"]),
    (GetAccessLevels(60), ["3C 3C 00"]),
]


def test_every_command_is_checked() -> None:
    assert {type(command) for command, _ in ADAPTER_FRAMES} == set(ADAPTER_COMMANDS)
    assert {type(command) for command, _ in WINMON_PAYLOADS} == set(WINMON_COMMANDS)


@pytest.mark.parametrize(("command", "raw"), ADAPTER_FRAMES, ids=str)
def test_adapter_command_bytes(command: AdapterRequest[Any], raw: str) -> None:
    assert str(command.frame()) == raw


@pytest.mark.parametrize(("command", "payloads"), WINMON_PAYLOADS, ids=str)
def test_winmon_command_bytes(command: Winmon[Any], payloads: list[str]) -> None:
    assert [payload.hex(" ").upper() for payload in command.payloads()] == payloads
    # The last one carries the code; those before it arm and have no reply.
    assert command.payloads()[-1][0] == command.code


@pytest.mark.parametrize(
    ("letter", "command", "raw"),
    [
        ("X", GetVersion(), "03 FF 58 05 A1"),
        ("X", ReadSnapshot(), "03 FF 58 38 6E"),
        ("Y", GetVersionHigh(), "03 FF 59 06 9F"),
        ("Y", GetRamInfo(0), "05 FF 59 36 00 00 6D"),
        ("Z", WriteById(131, 370, setting=False), "07 FF 5A 37 00 83 72 01 73"),
        ("Y", WriteById(64, 2000, setting=True), "07 FF 59 37 01 40 D0 07 52"),
        ("X", ReadRam((128,)), "05 FF 58 30 80 00 F4"),
    ],
    ids=str,
)
def test_winmon_frames_as_recorded(letter: str, command: Winmon[Any], raw: str) -> None:
    [payload] = command.payloads()
    assert str(adapter_frame(letter, payload)) == raw


def test_configuring_commands_nothing() -> None:
    """§3.2: a session that only reads must carry 0x10; nobody may ever send 0x01."""
    flags = ConfigureAdapter().frame().data[5]
    assert flags & 0x10
    for state in (ConfigureAdapter(), SendPanel(SwitchPosition.ON, 100)):
        data = state.frame().data
        assert not data[5] & 0x01
        assert data[5] & 0xC0 == 0xC0
        assert not data[7] & 0x01
    assert not SendPanel(SwitchPosition.ON, 100).frame().data[5] & 0x10


@pytest.mark.parametrize("limit", [-1, 0x8000, 0x10000])
def test_a_limit_that_cannot_be_sent(limit: int) -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        SendPanel(SwitchPosition.ON, limit)


@pytest.mark.parametrize("mode", [0, 5, 7])
def test_a_mode_that_cannot_be_sent(mode: int) -> None:
    with pytest.raises(ValueError, match="SwitchPosition"):
        SendPanel(mode, 100).frame()  # type: ignore[arg-type]


def test_the_password_is_in_no_log() -> None:
    assert "SIMULATE" not in repr(SendPassword(b"SIMULATE"))


# --- replies of the adapter ----------------------------------------------------------------------------

DC = "0F 20 F3 00 C8 02 0C A1 05 00 00 00 28 00 00 88 B2"
AC = "0F 20 01 01 CA 09 08 AA 58 AB 00 AA 58 9A 00 C3 E8"

ADAPTER_REPLIES: list[tuple[AdapterRequest[Any], str, Any]] = [
    (SetAddress(0), "04 FF 41 01 00 BB", 0),
    (SetAddress(3), "05 FF 41 01 03 00 B7", 3),
    (GetAddress(), "05 FF 41 01 07 00 B3", 7),
    (adapter.GetVersion(), "07 FF 56 96 3E 11 00 00 BF", AdapterVersion(1130134, 0)),
    (adapter.GetVersion(), "07 FF 56 24 DB 11 00 42 52", AdapterVersion(1170212, ord("B"))),
    (Reset(), "07 FF 56 24 DB 11 00 42 52", AdapterVersion(1170212, ord("B"))),
    (GetLeds(), "06 FF 4C 03 00 00 00 AC", LedStatus(3, 0, 0, 0)),
    (GetLeds(), "08 FF 4C 01 0C 00 00 80 00 20", LedStatus(1, 0x0C, 0, 0)),
    (GetLeds(), "04 FF 4C 1F 1F 73", LedStatus(0x1F, 0x1F)),
    (GetLeds(), "05 FF 4C 09 02 00 A5", LedStatus(9, 2)),
    (Lines(), "03 FF 48 05 B1", 5),
    (ConfigureAdapter(), "02 FF 53 AC", True),
    (SendPanel(SwitchPosition.ON, 0), "02 FF 53 AC", True),
    (GetDetail(), "07 FF 44 01 02 03 04 05 A7", bytes((1, 2, 3, 4, 5))),
    (GetDc(), DC, DcInfo(voltage=1441, inverting_current=0, charging_current=40, inverter_period=0x88)),
    (
        GetAc(1),
        AC,
        AcInfo(
            phase=1,
            phase_count=1,
            backfeed_factor=1,
            inverter_factor=1,
            state=9,
            mains_voltage=22698,
            mains_current=171,
            inverter_voltage=22698,
            inverter_current=154,
            mains_period=0xC3,
        ),
    ),
]


@pytest.mark.parametrize(("command", "raw", "answer"), ADAPTER_REPLIES, ids=str)
def test_adapter_replies(command: AdapterRequest[Any], raw: str, answer: Any) -> None:
    assert command.read(frame(raw)) == answer


def test_an_adapter_reply_answers_no_other_command() -> None:
    """Those that share a reply are meant to: it says the same whoever asked."""
    share = [{SetAddress, GetAddress}, {adapter.GetVersion, Reset}, {ConfigureAdapter, SendPanel}]
    for command, _ in ADAPTER_FRAMES:
        for other, raw, _ in ADAPTER_REPLIES:
            kinds = {type(command), type(other)}
            if len(kinds) > 1 and kinds not in share:
                assert command.read(frame(raw)) is MORE, (command, other)


def test_replies_of_another_address_or_phase() -> None:
    assert SetAddress(1).read(frame("04 FF 41 01 00 BB")) is MORE
    assert GetAc(2).read(frame(AC)) is MORE
    configuration = Frame(FrameType.INFO, bytes((1, 2, 3, 4, 0x20, 0, 0, 0x05, 0, 0, 0, 0, 0, 2)))
    assert GetConfiguration(2).read(configuration) == Configuration(0x04030201, 0x05, 2)
    assert GetConfiguration(0).read(configuration) is MORE
    bms = Frame(FrameType.INFO, bytes((0, 0, 0, 0, 0x83)) + (1145112).to_bytes(4, "little"))
    assert FindAccessory(AccessoryKind.BMS).read(bms) == Accessory(0x83, 1145112)
    assert FindAccessory(AccessoryKind.DMC).read(bms) is MORE


def test_nothing_answers_a_command_without_reply() -> None:
    for command, _ in ADAPTER_FRAMES:
        if isinstance(command, Unanswered):
            assert not command.has_reply
            for _, raw, _ in ADAPTER_REPLIES:
                assert command.read(frame(raw)) is MORE


@pytest.mark.parametrize(
    ("phase", "expected"),
    [(5, (4, None)), (6, (3, None)), (7, (2, None)), (8, (1, 1)), (9, (1, 2)), (10, (1, 3)), (11, (1, 4))],
)
def test_phases(phase: int, expected: tuple[int, int | None]) -> None:
    info = read_info(Frame(FrameType.INFO, bytes((2, 3, 0, 9, phase)) + bytes(9)))
    assert isinstance(info, AcInfo)
    assert (info.phase, info.phase_count) == expected
    assert (info.backfeed_factor, info.inverter_factor) == (2, 3)


def test_currents_are_signed() -> None:
    info = read_info(frame("0F 20 01 01 01 09 08 EC 5A 5F FF EC 5A 08 00 C3 08"))
    assert isinstance(info, AcInfo)
    assert (info.mains_voltage, info.mains_current, info.inverter_current) == (23276, -161, 8)


def test_ac_input() -> None:
    raw = bytes((0, 0, 0, 0, 0b0010_1101, 10, 0, 0xF4, 1, 100, 0, 0b1011_0000))
    info = GetAcInput().read(Frame(FrameType.AC_INPUT, raw))
    assert isinstance(info, AcInput)
    assert (info.active_input, info.overrulable, info.dmc_present, info.input_count) == (1, True, True, 2)
    assert (info.minimum, info.maximum, info.actual) == (10, 500, 100)
    assert (info.mode, info.generator_selected) == (3, True)
    assert GetAcInput().read(Frame(FrameType.AC_INPUT, raw[:-1])) is MORE


@pytest.mark.parametrize(("register", "mode"), [(0x00, 4), (0x10, 1), (0x20, 2), (0x30, 3)])
def test_resulting_mode(register: int, mode: int) -> None:
    info = read_info(Frame(FrameType.AC_INPUT, bytes(11) + bytes((register | 0x0F,))))
    assert isinstance(info, AcInput)
    assert info.mode == mode


def test_what_a_version_says() -> None:
    mk2, mk3 = AdapterVersion(1130134, 0), AdapterVersion(1170216, ord("B"))
    assert (mk2.product_id, mk2.firmware) == (0x1130, 134)
    assert (mk3.product_id, mk3.firmware) == (0x1170, 216)


def test_leds_not_known() -> None:
    assert not LedStatus(0x1F, 0x1F).known
    assert LedStatus(0x1F, 0x00).known


@pytest.mark.parametrize(("byte", "mode"), [(1, 1), (4, 4), (0x08, 1), (0x0B, 4), (0xF3, 3)])
def test_panel_frames(byte: int, mode: int) -> None:
    assert read_panel(Frame(FrameType.PANEL, bytes((byte, 0, 0)))) == PanelFrame(mode)


# --- replies of a device -------------------------------------------------------------------------------

LONG_INFO = "89 01 00 00 00 03 00 01 00 03 00"
SETTING = SettingInfo(scale=1, offset=0, default=3, minimum=1, maximum=3)
LEVELS = AccessLevels(tuple(range(16)))

WINMON_REPLIES: list[tuple[Winmon[Any], list[str], Any]] = [
    # long, split
    (GetVersion(), ["82 F0 68 28 00 07 01"], Version(2648304, complete=True)),
    (GetVersion(), ["82 F0 68 28 00"], Version(2648304, complete=True)),
    (GetVersion(), ["82 F0 68 28 00" + 13 * "00"], Version(2648304, complete=True)),
    (GetVersion(), ["82 F0 68"], Version(0x68F0, complete=False)),
    (GetVersionHigh(), ["83 28 00"], 0x0028),
    (GetState(), ["94 09 03"], DeviceState(9, 3)),
    (GetEnergyCounters(), ["98 01 02 03 04 05 06 07 08 09 FF"], (1, 2, 3, 4, 5, 6, 7, 8, 9, 255)),
    (ReadRam((13,)), ["85 C8 00"], (200,)),
    # A new device takes the word for two ids.
    (ReadRam((128,)), ["85 01 00 23 5B"], (1,)),
    (ReadRam((14, 16, 15)), ["85 89 FE 05 00 72 01"], (0xFE89, 5, 370)),
    (ReadSetting(63), ["86 34 81"], 0x8134),
    (GetSettingInfo(1), [LONG_INFO], SETTING),
    (GetSettingInfo(1), [LONG_INFO + "81"], SettingInfo(1, 0, 3, 1, 3, 0x81)),
    (GetSettingInfo(1), ["89 01 00 8A 00 00 8B 03 00 8C 01 00 8D 03 00"], SETTING),
    (GetSettingInfo(1), ["89 01 00 8A 00 00", "8B 03 00 8C 01 00", "8D 03 00"], SETTING),
    (GetSettingInfo(1), ["89 01 00", "8A 00 00", "8B 03 00", "8C 01 00", "8D 03 00"], SETTING),
    # As long as the long form with an access level, and is not it.
    (GetSettingInfo(1), ["89 01 00 8A 00 00 8B 03 00 8C 01 00", "8D 03 00"], SETTING),
    (
        GetSettingInfo(2),
        ["89 9C FF 8A 00 80 8B FF FF 8C 00 00 8D FF 7F"],
        SettingInfo(-100, -0x8000, 0xFFFF, 0, 0x7FFF),
    ),
    # The rest of an earlier reply comes first.
    (GetSettingInfo(1), ["8C 07 00 8D 09 00", "89 01 00 8A 00 00", "8B 03 00 8C 01 00 8D 03 00"], SETTING),
    (GetRamInfo(0), ["8E 9C 7F 8F 00 00"], RamInfo(0x7F9C, 0)),
    (GetRamInfo(0), ["8E 9C 7F 00 00"], RamInfo(0x7F9C, 0)),
    (GetRamInfo(0), ["8E 9C 7F", "8F 00 00"], RamInfo(0x7F9C, 0)),
    (GetRamInfo(7), ["8E 57 78 8F 00 01"], RamInfo(0x7857, 256)),
    (GetRamInfo(10), ["8E 04 00 8F 00 80"], RamInfo(4, -0x8000)),
    (GetRamInfo(1), ["8F 00 01", "8E 64 80", "8F 00 00"], RamInfo(-0x7F9C, 0)),
    (WriteById(131, 370, setting=False), ["87"], Written()),
    (WriteById(64, 2000, setting=True), ["88"], Written()),
    (WriteById(64, 2000, setting=True), ["88 00"], Written()),
    (WriteById(64, 2000, setting=True), ["88 01"], Written(reset_needed=True)),
    # Padded, not "a reset is needed".
    (WriteArmed(129, 1, setting=False), ["87 00 00"], Written()),
    (WriteArmed(64, 1, setting=True), ["88 01 00"], Written()),
    # An acknowledgement of the other kind belongs to another write.
    (WriteArmed(64, 1, setting=True), ["87", "88"], Written()),
    (ReadSnapshot(), ["99 89 FE 05 00 72 01"], (0xFE89, 5, 370)),
    (ReadSnapshot(), ["99"], ()),
    (SendPassword(b"SIMULATE"), ["9C"], True),
    (SendPassword(b"SIMULATE"), ["9C 00 00"], True),
    (GetSerial(), ["9D" + b"HQ222300000".hex()], "HQ222300000"),
    (GetSerial(), ["9D" + b"HQ2223\0\0\0\0\0".hex()], "HQ2223"),
    (
        GetAccessLevels(60),
        ["9E 3C 00" + bytes(range(8)).hex(), "9F 3C 00" + bytes(range(8, 16)).hex()],
        LEVELS,
    ),
    (
        GetAccessLevels(60),
        ["9E 3C 00" + bytes(range(8)).hex() + "9F 3C 00" + bytes(range(8, 16)).hex()],
        LEVELS,
    ),
]


def test_every_winmon_command_has_replies() -> None:
    assert {type(command) for command, _, _ in WINMON_REPLIES} == set(WINMON_COMMANDS)


@pytest.mark.parametrize(("command", "parts", "answer"), WINMON_REPLIES, ids=str)
def test_winmon_replies(command: Winmon[Any], parts: list[str], answer: Any) -> None:
    assert read(command, *parts) == answer


@pytest.mark.parametrize("command", [command for command, _ in WINMON_PAYLOADS], ids=str)
@pytest.mark.parametrize(("text", "position"), [("80", 0), ("80 00", 0), ("80 02", 2), ("80 01 00", 1)])
def test_not_supported_belongs_to_all(command: Winmon[Any], text: str, position: int) -> None:
    with pytest.raises(Rejected, match="80") as caught:
        read(command, text)
    if isinstance(command, WriteById | WriteArmed):
        assert "reply 80" in str(caught.value)
    else:
        assert isinstance(caught.value, NotSupported)
        assert caught.value.position == position


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (ReadRam((77,)), ["90"]),
        (ReadRam((77,)), ["90 00"]),
        (ReadRam((77,)), ["90 01"]),
        (ReadRam((77,)), ["90 01 00"]),
        (ReadRam((1, 77)), ["90 02"]),
        (ReadSetting(77), ["91"]),
        (ReadSetting(77), ["91 00 00"]),
        (GetSettingInfo(77), ["89"]),
        (GetSettingInfo(77), ["89 00 00"]),
        (GetSettingInfo(77), ["89 00 00 00 00 00 00 00 00 00 00"]),
        (GetSettingInfo(77), ["89 00 00 8A 00 00 8B 00 00 8C 00 00 8D 00 00"]),
        (GetSettingInfo(77), ["91"]),
        (GetSettingInfo(77), ["8D 03 00", "89"]),
        (GetRamInfo(77), ["8E"]),
        (GetRamInfo(77), ["8E 00 00"]),
        (GetRamInfo(77), ["8E 00 00 8F 00 00"]),
        (GetRamInfo(77), ["8E 00 00 00 00"]),
        (GetRamInfo(77), ["90"]),
    ],
    ids=str,
)
def test_an_id_that_is_not_supported(command: Winmon[Any], parts: list[str]) -> None:
    with pytest.raises(NotSupported, match="77"):
        read(command, *parts)


def test_which_id_is_not_supported() -> None:
    with pytest.raises(NotSupported, match="variable 9 ") as caught:
        read(ReadRam((7, 8, 9)), "90 03")
    assert caught.value.position == 3
    assert read(ReadRam((7, 8)), "90 03") is MORE  # not an answer to two ids


@pytest.mark.parametrize(("text", "level"), [("9B 01", 1), ("9B", 0), ("9B 02 00", 2)])
def test_access_required(text: str, level: int) -> None:
    for command in (WriteById(64, 1, setting=True), WriteArmed(64, 1, setting=True)):
        with pytest.raises(AccessRequired) as caught:
            read(command, text)
        assert caught.value.level == level


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (GetVersion(), ["82"]),
        (GetVersion(), ["82 F0 68 28"]),
        (GetVersion(), ["82 F0"]),
        (GetVersionHigh(), ["83 28"]),
        (GetState(), ["94 09"]),
        (GetEnergyCounters(), ["98 01 02 03"]),
        (ReadRam((13,)), ["85"]),
        (ReadRam((13,)), ["85 01 00 02 00 03 00"]),
        (ReadRam((14, 15)), ["85 01 00"]),
        (ReadRam((14, 15)), ["85 01 00 02 00 03 00"]),
        (ReadSetting(3), ["86 01"]),
        (GetSettingInfo(3), ["89 01 00"]),
        (GetSettingInfo(3), ["89 01 00 8A 00 00 8B 00 00 8C 00 00"]),
        (GetSettingInfo(3), ["8A 00 00 8B 00 00 8C 00 00 8D 00 00"]),
        (GetRamInfo(3), ["8E 9C 7F"]),
        (GetRamInfo(3), ["8F 00 00"]),
        (GetRamInfo(3), ["8E 9C 7F 8F"]),
        (GetSerial(), ["9D FF FF FF"]),
        (GetSerial(), ["9D 41 0A 41"]),
        (GetAccessLevels(60), ["9E 3C 00" + bytes(8).hex()]),
        (GetAccessLevels(60), ["9E 3D 00" + bytes(8).hex() + "9F 3D 00" + bytes(8).hex()]),
        (GetAccessLevels(60), ["9F 3C 00" + bytes(8).hex() + "9F 3C 00" + bytes(8).hex()]),
    ],
    ids=str,
)
def test_an_incomplete_reply_is_no_reply(command: Winmon[Any], parts: list[str]) -> None:
    assert read(command, *parts) is MORE


def test_a_late_group_does_not_change_a_scale() -> None:
    parts = ["89 01 00", "8A 00 00", "89 00 00", "8B 03 00", "8C 01 00", "8D 03 00"]
    assert read(GetSettingInfo(1), *parts) == SETTING


def test_codes_that_belong_to_no_command() -> None:
    mine = Counter(code for command in WINMON_COMMANDS for code in command.replies)
    for command, _ in WINMON_PAYLOADS:
        assert not command.is_reply(b"")
        for code in range(256):
            assert command.is_reply(bytes((code,))) == (code == 0x80 or code in command.replies)
    assert 0x84 not in mine


# --- anything at all -----------------------------------------------------------------------------------

one_winmon = st.sampled_from([command for command, _ in WINMON_PAYLOADS])
one_adapter = st.sampled_from([command for command, _ in ADAPTER_FRAMES])


@given(one_winmon, st.data())
def test_no_payloads_upset_a_winmon_command(command: Winmon[Any], data: st.DataObject) -> None:
    codes = st.sampled_from(sorted(command.replies | {0x80}))
    payload = st.builds(lambda code, rest: bytes((code,)) + rest, codes, st.binary(max_size=26))
    parts = data.draw(st.lists(payload, min_size=1, max_size=8))
    assert all(map(command.is_reply, parts))
    try:
        answer = command.read(tuple(parts))
    except Rejected:
        return
    if isinstance(answer, SettingInfo | RamInfo):
        assert answer.scale != 0


@given(one_adapter, st.sampled_from(sorted(FrameType)), st.binary(max_size=39))
def test_no_frame_upsets_an_adapter_command(
    command: AdapterRequest[Any], kind: FrameType, data: bytes
) -> None:
    command.read(Frame(kind, data))


@given(one_adapter, st.binary(max_size=20))
def test_no_data_upset_an_adapter_command(command: AdapterRequest[Any], data: bytes) -> None:
    """The same with the type and the letter that the command looks for."""
    sent = command.frame()
    command.read(Frame(sent.type, sent.data[:1] + data))


@given(st.sampled_from([FrameType.INFO, FrameType.AC_INPUT]), st.binary(max_size=4), st.data())
def test_no_info_upsets(kind: FrameType, head: bytes, data: st.DataObject) -> None:
    phase = data.draw(st.sampled_from([0x80, 0x83, 0x0C, *range(12), 0x20, 0x2F]) | st.integers(0, 255))
    length = data.draw(st.sampled_from([9]) | st.integers(0, 12))
    tail = data.draw(st.binary(min_size=length, max_size=length))
    read_info(Frame(kind, head.ljust(4, b"\0") + bytes((phase,)) + tail))
    read_info(Frame(kind, head))


@given(st.sampled_from(sorted(FrameType)), st.sampled_from("VLX@"), st.binary(max_size=12))
def test_no_unasked_frame_upsets(kind: FrameType, letter: str, data: bytes) -> None:
    for raw in (letter.encode() + data, data):
        frame = Frame(kind, raw)
        version = read_version(frame)
        if version is not None:
            assert version.product_id >= 0
            assert 0 <= version.firmware <= 999
        read_leds(frame)
        read_panel(frame)


@given(st.integers(0, 0xFFFFFFFF))
def test_any_version_number(number: int) -> None:
    version = read_version(adapter_frame("V", number.to_bytes(4, "little") + b"B"))
    assert version is not None
    assert f"{version.product_id:X}".zfill(4) + f"{version.firmware:03}" == f"{number:07}"
