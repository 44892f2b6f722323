"""Traffic in words: recordings of real devices, every declared command, and whatever else comes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import simulated
from support.ports import CorePort
from support.recordings import FILE, recorded

from mk2dbus.bus.tree import Tree
from mk2dbus.decode import words
from mk2dbus.decode.book import Book
from mk2dbus.decode.decoder import Decoder, Direction, Entry, Sort
from mk2dbus.decode.recording import Title, Traffic, read
from mk2dbus.decode.requests import adapter_request, armed_write, winmon_request
from mk2dbus.decode.tap import TappedPort
from mk2dbus.mk2 import adapter, winmon
from mk2dbus.mk2.framing import Frame, FrameType, Leds, adapter_frame
from mk2dbus.mk2.request import AdapterRequest, Winmon
from mk2dbus.simulator import Core
from mk2dbus.vebus.driver import Driver
from mk2dbus.vebus.infocache import InfoCache

SENT, RECEIVED = Direction.SENT, Direction.RECEIVED

RECORDED = (
    # [12 V MultiPlus, old-style winmon on W]
    "→ A talk to device 0",
    "← A talking to device 0",
    "← V adapter 1130134 (product 1130, firmware 134), mode 0, by itself",
    "→ W 36 info of RAM 0 UMainsRms?",
    "← W 8E RAM 0 UMainsRms: scale 0x7F9C, offset 0x0000, steps of 0.01 V",
    "→ W 36 info of RAM 1 IMainsRms?",
    "← W 8E RAM 1 IMainsRms: scale 0x8064, offset 0x0000, steps of 0.01 A, signed",
    "→ W 36 info of RAM 7 InverterPeriod?",
    "← W 8E RAM 7 InverterPeriod: scale 0x7857, offset 0x0100, steps of 0.0005099 ×0.1 s",
    "→ W 36 info of RAM 8 MainsPeriod?",
    "← W 8E RAM 8 MainsPeriod: scale 0x7C2F, offset 0x0000, steps of 0.001024 ×0.1 s",
    "→ W 36 info of RAM 10 VirtualSwitchPosition?",
    "← W 8E RAM 10 VirtualSwitchPosition: scale 0x0004, offset 0x8000, bit 3",
    "→ W 36 info of RAM 13 ChargeState?",
    "← W 8E RAM 13 ChargeState: scale 0x7F38, offset 0x0000, steps of 0.005",
    "→ F DC info?",
    "← DC info: raw 1441 (V) raw 40 (A), output 50.03 Hz",
    "→ F AC info of L1?",
    "← AC info L1 of 1: state charge; input 226.98 V 1.71 A 50.10 Hz; "
    "output raw 22698 (V) raw 154 (A); factors 1 1",
    "→ L LEDs?",
    "← L LEDs Mains on, Absorption on; no alarm; error 0",
    "→ W 30 RAM 13 ChargeState?",
    "← W 85 RAM 13 ChargeState = 0x00C8, 1.000",
    # [MultiPlus-II 48, GX device's own traffic]
    "→ V version of the adapter?",
    "← V adapter 1170212 (product 1170, firmware 212), mode B",
    "→ L LEDs?",
    "← L LEDs Mains on, Bulk blinking, Float blinking; no alarm; error 0",
    "→ F take a snapshot of RAM 14 InverterPower, 16 OutputPower, 15 InputPower",
    "→ F AC info of L1?",
    "← AC info L1 of 1: state charge; input raw 23276 (V) raw -161 (A) raw 195 (Hz); "
    "output raw 23276 (V) raw 8 (A); factors 1 1",
    "→ X 38 values of the snapshot?",
    "← X 99 snapshot: RAM 14 InverterPower = 0xFE89; 16 OutputPower = 0x0005; 15 InputPower = 0x0172",
    "→ Z 37 write RAM 131 = 0x0172",
    "← Z 87 RAM 131 written",
    "→ Y 30 RAM 134?",
    "← X 85 RAM variables 0x0090 0x5961, request not seen",
    # [new device, replies in one frame]
    "→ X 05 version?",
    "← X 82 version 2648304 (Quattro 24/5000/120-2x100, firmware 304)",
    "→ Y 36 info of RAM 0 UMainsRms?",
    "← Y 8E RAM 0 UMainsRms: scale 0x7F9C, offset 0x0000, steps of 0.01 V",
    "← Z 8E info of a RAM variable: not supported, request not seen",
    "← Z 89 info of a setting: scale 1, offset 0, default 3, 1 to 3, request not seen",
    "← Y 89 info of a setting: not supported, request not seen",
    "→ Y 37 write setting 64 BatteryCapacity = 0x07D0",
    "← Y 88 setting 64 BatteryCapacity written",
    # [old device, replies in parts]
    "→ X 05 version?",
    "← X 82 version, low half: 0x68F0",
    "→ Y 06 version, high half?",
    "← Y 83 version, high half: 0x0028: version 2648304 (Quattro 24/5000/120-2x100, firmware 304)",
    # [LED status appended to a winmon reply, LEDs not known]
    "← X 86 a setting: 0x8134, request not seen; with LEDs not known (no device)",
    # [old MultiPlus, info in the middle of version frames]
    "← W 8E info of a RAM variable: scale 0x8064, offset 0x0000, steps of 0.01, signed, request not seen",
    "← V adapter 1130136 (product 1130, firmware 136), mode 0, by itself",
    # [assistants and a RAM variable write in two frames, as a user saw them]
    "→ W 30 RAM 128?",
    "← W 85 RAM 128 = 0x0001; 0 UMainsRms = 0x5B23",
    "→ W 32 arm a write of RAM 129",
    "← W 80 arm a write of RAM 129: refused",
    "← W 87 a RAM variable written, request not seen",
)


def test_all_of_the_recordings() -> None:
    decoder = Decoder()
    entries: list[Entry] = []
    for item in read(FILE):
        if isinstance(item, Title):
            assert decoder.finish() == []
            decoder = Decoder()
        elif isinstance(item, Traffic):
            entries += decoder.feed(item.direction, item.data)
    assert tuple(f"{entry.direction.value} {entry.text}" for entry in entries) == RECORDED
    assert [entry.data for entry in entries] == recorded()
    assert not {entry.sort for entry in entries} & {Sort.UNKNOWN, Sort.NO_FRAME}


# --- every declared command ----------------------------------------------------------------------------

word, byte = st.integers(0, 0xFFFF), st.integers(0, 0xFF)
ADAPTER: dict[type[AdapterRequest[Any]], st.SearchStrategy[Any]] = {
    adapter.SetAddress: st.builds(adapter.SetAddress, st.integers(0, 31)),
    adapter.Lines: st.builds(adapter.Lines, st.none() | byte),
    adapter.SendPanel: st.builds(
        adapter.SendPanel, st.sampled_from(adapter.SwitchPosition), st.integers(0, 0x7FFF)
    ),
    adapter.GetAc: st.builds(adapter.GetAc, st.integers(1, 4)),
    adapter.TakeSnapshot: st.builds(adapter.TakeSnapshot, st.lists(byte, min_size=1, max_size=6).map(tuple)),
    adapter.GetConfiguration: st.builds(adapter.GetConfiguration, st.integers(0, 31)),
    adapter.ResetDevices: st.builds(adapter.ResetDevices, st.integers(0, 0xFFFFFFFF)),
    adapter.FindAccessory: st.builds(adapter.FindAccessory, st.sampled_from(adapter.AccessoryKind)),
}
WINMON: dict[type[Winmon[Any]], st.SearchStrategy[Any]] = {
    winmon.GetState: st.builds(winmon.GetState, st.integers(0, 3)),
    # A single id is sent as a word, which a second id of 0 is too.
    winmon.ReadRam: st.lists(byte, min_size=1, max_size=6)
    .filter(lambda ids: len(ids) != 2 or ids[1])
    .map(lambda ids: winmon.ReadRam(tuple(ids))),
    winmon.ReadSetting: st.builds(winmon.ReadSetting, word),
    winmon.GetSettingInfo: st.builds(winmon.GetSettingInfo, word),
    winmon.GetRamInfo: st.builds(winmon.GetRamInfo, word),
    winmon.WriteById: st.builds(winmon.WriteById, byte, word, st.booleans(), st.booleans()),
    winmon.WriteArmed: st.builds(winmon.WriteArmed, word, word, st.booleans()),
    winmon.SendPassword: st.builds(winmon.SendPassword, st.binary(min_size=8, max_size=8)),
    winmon.GetAccessLevels: st.builds(winmon.GetAccessLevels, word),
}


def plain_text(request: AdapterRequest[Any] | Winmon[Any]) -> str:
    text = words.request_text(request, Book(), None)
    assert text
    assert text != type(request).__name__, "no text of its own"
    return text


@pytest.mark.parametrize("kind", adapter.ADAPTER_COMMANDS, ids=lambda kind: kind.__name__)
def test_adapter_commands_are_understood(kind: type[AdapterRequest[Any]]) -> None:
    @settings(max_examples=30)
    @given(ADAPTER.get(kind, st.builds(kind)))
    def check(request: AdapterRequest[Any]) -> None:
        assert adapter_request(request.frame()) == request
        plain_text(request)

    check()


@pytest.mark.parametrize("kind", winmon.WINMON_COMMANDS, ids=lambda kind: kind.__name__)
def test_winmon_commands_are_understood(kind: type[Winmon[Any]]) -> None:
    @settings(max_examples=30)
    @given(WINMON.get(kind, st.builds(kind)))
    def check(request: Winmon[Any]) -> None:
        *arming, payload = request.payloads()
        armed = armed_write(arming[0]) if arming else None
        assert winmon_request(payload, armed) == request
        plain_text(request)

    check()


# --- what it says --------------------------------------------------------------------------------------


class Talk:
    """A conversation, in hex without length and checksum: ``FF 58 05``."""

    def __init__(self) -> None:
        self.decoder = Decoder()
        self.now = 0.0

    def say(self, direction: Direction, frame: Frame) -> Entry:
        self.now += 0.1
        (entry,) = self.decoder.feed(direction, bytes(frame), self.now)
        assert entry.data == bytes(frame)
        return entry

    def sent(self, text: str) -> str:
        return self.say(SENT, _frame(text)).text

    def received(self, text: str) -> str:
        return self.say(RECEIVED, _frame(text)).text


def _frame(text: str) -> Frame:
    data = bytes.fromhex(text)
    return Frame(data[0], data[1:])


@pytest.fixture
def talk() -> Talk:
    return Talk()


def test_panel_frames(talk: Talk) -> None:
    assert talk.sent("FF 53 03 00 00 01 D0 00 04") == (
        "S configure the adapter, nothing is sent to the bus; "
        "flags NOT_TO_BUS|FORWARD_PANELS|LIMIT_IN_AMPS, ext0 FORWARD_CONFIG"
    )
    assert talk.received("FF 53") == "S taken"
    assert talk.sent("FF 53 01 A0 00 01 C0 00 04") == (
        "S command mode charger only, limit 16.0 A; flags FORWARD_PANELS|LIMIT_IN_AMPS, ext0 FORWARD_CONFIG"
    )
    # As other programs send it.
    assert talk.sent("FF 53 03 00 80 01 81") == (
        "S command mode on, limit not given; flags REPEATS|LIMIT_IN_AMPS"
    )
    assert talk.received("FF 53") == "S taken"
    assert talk.sent("FF 53 04 10 27 01 28 00 F1") == (
        "S command mode off, limit 0x2710; flags 0x28, ext0 SPLIT_REPLIES|0xF0"
    )
    assert talk.sent("FF 53 03") == "S panel frame of 1 bytes, too short"


def test_several_slots_at_once(talk: Talk) -> None:
    talk.sent("FF 41 01 02")
    assert talk.received("FF 41 01 02") == "A talking to device 2"
    assert talk.sent("FF 58 36 04 00") == "X 36 device 2 info of RAM 4 UBat?"
    assert talk.sent("FF 59 30 04 00") == "Y 30 device 2 RAM 4 UBat?"
    assert talk.sent("FF 5A 31 02 00") == "Z 31 device 2 setting 2 AbsorptionVoltage?"
    assert talk.received("FF 59 85 BE 13") == "Y 85 device 2 RAM 4 UBat = 0x13BE"
    assert talk.received("FF 58 8E 9C 7F 00 00").endswith("steps of 0.01 V")
    assert talk.received("FF 5A 86 80 16") == "Z 86 device 2 setting 2 AbsorptionVoltage = 0x1680"
    assert talk.sent("FF 59 30 04 00") == "Y 30 device 2 RAM 4 UBat?"
    assert talk.received("FF 59 85 BE 13") == "Y 85 device 2 RAM 4 UBat = 0x13BE, 50.54 V"


def test_scales_are_those_of_the_device(talk: Talk) -> None:
    """What one device said of its words is not taken for another's. Addresses in the frame, too."""
    talk.sent("FF 78 36 04 00 01")
    talk.received("FF 58 8E 9C 7F 00 00")
    assert talk.sent("FF 78 30 04 00 01") == "x 30 device 1 RAM 4 UBat?"
    assert talk.received("FF 58 85 BE 13") == "X 85 device 1 RAM 4 UBat = 0x13BE, 50.54 V"
    assert talk.sent("FF 79 30 04 00 02") == "y 30 device 2 RAM 4 UBat?"
    assert talk.received("FF 59 85 BE 13") == "Y 85 device 2 RAM 4 UBat = 0x13BE"


def test_settings_with_their_infos(talk: Talk) -> None:
    talk.sent("FF 58 35 02 00")
    assert talk.received("FF 58 89 9C FF 00 00 80 16 C0 12 00 19 01") == (
        "X 89 setting 2 AbsorptionVoltage: scale -100, offset 0, default 57.60, 48.00 to 64.00 V, "
        "grid-code protected"
    )
    assert talk.sent("FF 58 37 01 02 44 16") == "X 37 write setting 2 AbsorptionVoltage = 0x1644, 57.00 V"
    assert talk.received("FF 58 9B 01") == (
        "X 9B write setting 2 AbsorptionVoltage = 0x1644, 57.00 V: refused, access level 1 is required"
    )
    assert talk.sent("FF 58 37 03 02 44 16").endswith("57.00 V (RAM only)")
    assert talk.received("FF 58 88 01") == "X 88 setting 2 AbsorptionVoltage written, needs a reset"
    talk.sent("FF 58 31 00 00")
    assert talk.received("FF 58 86 44 00") == ("X 86 setting 0 FlagsWord0 = 0x0044, Is60Hz DisableCharger")


def test_a_reply_in_parts(talk: Talk) -> None:
    talk.sent("FF 58 35 02 00")
    assert talk.received("FF 58 89 9C FF") == (
        "X 89 part 1 of the answer to info of setting 2 AbsorptionVoltage: 9C FF"
    )
    for part in ("8A 00 00", "8B 80 16", "8C C0 12"):
        assert "part" in talk.received(f"FF 58 {part}")
    assert talk.received("FF 58 8D 00 19").endswith("default 57.60, 48.00 to 64.00 V")


def test_an_armed_write(talk: Talk) -> None:
    assert talk.sent("FF 58 33 40 00") == "X 33 arm a write of setting 64 BatteryCapacity"
    assert talk.sent("FF 58 34 D0 07") == "X 34 write setting 64 BatteryCapacity = 0x07D0"
    assert talk.received("FF 58 88 00 00") == "X 88 setting 64 BatteryCapacity written"
    other = Talk()
    assert other.sent("FF 58 34 D0 07") == "X 34 write what was armed before: D0 07"


@pytest.mark.parametrize(
    ("sent", "received", "text"),
    [
        ("FF 58 0E 00 00", "FF 58 94 09 03", "X 94 state charge, sub state float"),
        ("FF 58 0E 02 00", "FF 58 94 04 00", "X 94 state invert full, sub state 0"),
        ("FF 58 0F", "FF 58 98 01 02 03 04 05 06 07 08 09 0A", "X 98 energy counters 1 2 3 4 5 6 7 8 9 10"),
        ("FF 58 30 07 00", "FF 58 90", "X 90 RAM 7 InverterPeriod: not supported (1)"),
        ("FF 58 31 FA 00", "FF 58 91", "X 91 setting 250: not supported"),
        ("FF 58 38", "FF 58 99", "X 99 no snapshot"),
        ("FF 58 38", "FF 58 99 01 00", "X 99 snapshot of variables asked for before: 0x0001"),
        ("FF 58 3B", "FF 58 9D 48 51 32 31 33 32 41 42 43 44 45", "X 9D serial number HQ2132ABCDE"),
        ("FF 48", "FF 48 05", "H lines 0x05, panel detect pulled"),
        ("FF 44", "FF 44 01 02 03 04 05", "D state of the adapter: 01 02 03 04 05"),
        ("FF 41 00 00", "FF 41 01 05", "A talking to device 5"),
        ("FF 46 05", "41 00 00 00 00 94 14 00 F4 01 A0 00 30", None),
        ("21 FF FF FF FF 83", "20 00 00 00 00 83 02 01 00 00", "a BMS is there, version 258"),
        (
            "FF 46 07 01",
            "20 78 56 34 12 02 00 00 03 00 00 00 00 00 01",
            "configuration of device 1: number 0x12345678, present: 0, 1",
        ),
        (
            "FF 4C",
            "FF 4C 10 00 20 03",
            "L LEDs Inverter on; LowBattery alarm; error 3",
        ),
    ],
)
def test_answers(talk: Talk, sent: str, received: str, text: str | None) -> None:
    talk.sent(sent)
    entry = talk.say(RECEIVED, _frame(received))
    assert entry.sort is Sort.REPLY
    if text is None:
        text = "AC input 1 of 1: mode on, limit 16.0 A (2.0 to 50.0 A), panel may set it"
    assert entry.text == text
    # Without the request as much is said as can be.
    alone = Talk().say(RECEIVED, _frame(received))
    assert alone.sort in (Sort.STRAY, Sort.UNASKED)
    assert alone.text


def test_what_is_unknown_is_said_to_be(talk: Talk) -> None:
    for direction, text, expected in (
        (SENT, "FF 58 77 01", "X 77 not known in this form: 01"),
        (SENT, "FF 58", "X not known in this form: no data"),
        (SENT, "FF 71 01", "command 'q': not known in this form"),
        (SENT, "FF", "command '': not known in this form"),
        (SENT, "FF 07", "command 0x07: not known in this form"),
        (SENT, "3C 01", "frame of type 0x3C: not known in this form"),
        (RECEIVED, "FF 58 EE 01", "X EE not known: 01"),
        (RECEIVED, "FF 58", "X empty reply"),
        (RECEIVED, "80 01 02", "frame of type 0x80: not known in this form"),
        (RECEIVED, "20 01 02", "frame of type 0x20: not known in this form"),
    ):
        entry = talk.say(direction, _frame(text))
        assert (entry.sort, entry.text) == (Sort.UNKNOWN, expected)


def test_unasked_frames(talk: Talk) -> None:
    assert talk.received("40 09").startswith("another panel is in control: mode 2")
    entry = talk.say(RECEIVED, adapter_frame("L", b"\x01\x00"))
    assert (entry.sort, entry.text) == (Sort.UNASKED, "L LEDs Mains on, by itself")
    entry = talk.say(RECEIVED, Frame(FrameType.ADAPTER, b"S", Leds(0x04, 0)))
    assert entry.text == "S taken, not asked for; with LEDs Bulk on"


def test_a_late_frame_is_no_reply(talk: Talk) -> None:
    talk.sent("FF 4C")
    talk.now += 60
    assert talk.received("FF 4C 01 00").endswith("by itself")


def test_bytes_that_are_no_frame() -> None:
    decoder = Decoder()
    good = bytes(adapter_frame("V"))
    entries = decoder.feed(RECEIVED, b"\x00\xff\x07" + good + b"\x05\xff", 1.0)
    assert [(entry.data, entry.text) for entry in entries] == [
        (b"\x00\xff\x07", "3 byte(s) that are no frame"),
        (good, "command 'V': not known in this form"),
    ]
    # Its rest does not come; something sent later shows that.
    entries = decoder.feed(SENT, b"\x55" * 5, 2.0)
    assert [str(entry).split("  ")[0].strip() for entry in entries] == ["← 05 FF", "→ 55 55 55 55 55"]
    assert entries[1].text == "for the adapter to find the new speed"
    decoder.feed(RECEIVED, b"\x05", 3.0)
    assert [entry.data for entry in decoder.finish()] == [b"\x05"]


frames = st.builds(
    lambda type, data, leds: bytes(Frame(type, data, leds)),
    st.sampled_from(FrameType),
    st.binary(max_size=20),
    st.none() | st.builds(Leds, byte, byte),
)
winmon_frames = st.builds(
    lambda letter, code, data: bytes(adapter_frame(letter, bytes((code,)) + data)),
    st.sampled_from("WXYZxyz"),
    st.integers(0x05, 0x3C).filter(lambda code: code != 0x3A) | st.integers(0x80, 0xA0),
    st.binary(max_size=16),
)
chunks = st.lists(
    st.tuples(
        st.sampled_from(Direction),
        frames | winmon_frames | st.binary(max_size=8) | st.sampled_from(recorded()),
        st.floats(0, 2),
    ),
    max_size=30,
)


@settings(max_examples=150)
@given(chunks)
def test_whatever_comes_is_shown(traffic: list[tuple[Direction, bytes, float]]) -> None:
    """No bytes make it fail, and none are missing in what it shows."""
    decoder = Decoder()
    now = 0.0
    entries: list[Entry] = []
    for direction, data, pause in traffic:
        now += pause
        entries += decoder.feed(direction, data, now)
    entries += decoder.finish()
    for direction in Direction:
        fed = b"".join(data for way, data, _ in traffic if way is direction)
        shown = b"".join(entry.data for entry in entries if entry.direction is direction)
        if b"\x3a" not in fed:
            assert shown == fed
    for entry in entries:
        assert str(entry).isprintable()


# --- a whole session -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "texts"),
    [
        ("multiplus2", ("DC info: 5", "setting 2 AbsorptionVoltage = 0x1680, 57.60 V", "Z 94 state charge")),
        ("multiplus-old", ("DC info: 1", "version, high half: 0x00", "Z 94 state charge")),
    ],
)
def test_a_session_is_understood(profile: str, texts: tuple[str, ...], tmp_path: Path) -> None:
    """What the driver sends and a simulated system answers: nothing stays unknown, and scales are found."""
    entries: list[Entry] = []

    @simulated
    async def run() -> None:
        decoder = Decoder()
        port = TappedPort(
            CorePort(Core(profile)),
            [lambda way, data, now: entries.extend(decoder.feed(way, data, now))],
        )
        tree = Tree()

        async def never() -> TappedPort:
            raise AssertionError("the port was lost")

        driver = Driver(tree, never, InfoCache(tmp_path))
        driver.place()
        task = asyncio.create_task(driver.run(port))
        await asyncio.sleep(20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run()
    # A stop may come while an answer is on its way: what follows it at the other speed is no frame.
    stop = next((at for at, entry in enumerate(entries) if entry.text == "R reset the adapter"), len(entries))
    assert {entry.sort for entry in entries[:stop]} <= {Sort.REQUEST, Sort.REPLY, Sort.UNASKED}
    text = "\n".join(entry.text for entry in entries)
    assert not [entry for entry in entries[-100:] if "raw" in entry.text]
    for expected in texts:
        assert expected in text
