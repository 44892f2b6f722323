"""The adapter: what it does, and what it does not answer (mk2-protocol.md §1, §3)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mk2dbus.mk2.framing import FrameCutter, adapter_frame
from mk2dbus.simulator import Core, FrontSwitch, Kind, MainState

HIGH_SPEED = "02 FF 4E B1"
QUIET = bytes((3, 0, 0, 1, 0x90, 0, 4))


def panel(mode: int, limit_a: float, flags: int = 0x80) -> Any:
    return adapter_frame("S", struct.pack("<BHBB", mode, round(limit_a * 10), 1, flags) + b"\x00\x04")


UNANSWERED = {
    "unknown letter": (adapter_frame("Q"), "unknown command"),
    "lower case letter": (adapter_frame("v"), "unknown command"),
    "V with data": (adapter_frame("V", b"\x00"), "wrong length"),
    "A too short": (adapter_frame("A", b"\x01"), "wrong length"),
    "address 32": (adapter_frame("A", b"\x01\x20"), "A: no such action or address"),
    "S of six bytes": (adapter_frame("S", bytes((3, 0, 0, 1, 0x90, 0))), "wrong length"),
    "S with a wrong constant": (adapter_frame("S", bytes((3, 0, 0, 2, 0x90))), "S: fourth byte is not 1"),
    "F without kind": (adapter_frame("F"), "wrong length"),
    "F of an unknown kind": (adapter_frame("F", b"\x09"), "F: unknown kind or wrong length"),
    "F 0 with data": (adapter_frame("F", b"\x00\x00"), "F: unknown kind or wrong length"),
    "phase that is not there": (adapter_frame("F", b"\x02"), "F: nobody to answer"),
    "F 7 to nobody": (adapter_frame("F", b"\x07\x05"), "F: nobody to answer"),
    "snapshot of seven": (adapter_frame("F", b"\x06" + bytes(7)), "wrong length"),
    "W with three data bytes": (adapter_frame("W", b"\x37\x01\x02\x03"), "wrong length"),
    "winmon without command": (adapter_frame("X"), "wrong length"),
    "winmon to nobody": (adapter_frame("x", b"\x05\x07"), "winmon: no device with this address"),
    "winmon of a wrong length": (adapter_frame("X", b"\x05\x00"), "winmon: wrong length"),
    "frame of a type that is none": ("05 38 04 6C 00 00 0A", "unknown frame type"),
    "LED status in a request": ("84 FF 56 00 00 27", "LED status in a request"),
    "DMC that is not there": ("06 21 FF FF FF FF 80 4D", "query: no such device"),
    "BMS that is not there": ("06 21 FF FF FF FF 83 4A", "query: no such device"),
}


@pytest.mark.parametrize("name", UNANSWERED)
def test_unanswered(name: str, talk: Callable[..., Any]) -> None:
    frame, reason = UNANSWERED[name]
    conversation = talk()
    assert conversation.ask(frame) == []
    assert conversation.core.log.reasons == {(Kind.UNANSWERED, reason): 1}


@pytest.mark.parametrize(
    "garbage", ["02 FF 56 AA", "00 00 00", "FF FF FF FF", "02 FF", "29 FF 56", "A5 5A 13 37"], ids=str
)
def test_garbage_is_counted_and_a_frame_behind_it_found(garbage: str, talk: Callable[..., Any]) -> None:
    conversation = talk()
    assert conversation.ask(garbage, wait_s=0.5) == []
    assert conversation.core.log.counts[Kind.GARBAGE] > 0
    assert len(conversation.ask("02 FF 4C B3")) == 1


def test_frame_behind_an_incomplete_one_waits_for_its_end_to_be_given_up(talk: Callable[..., Any]) -> None:
    conversation = talk()
    assert conversation.ask("09 FF 53 02 FF 4C B3", wait_s=0.25) == []
    assert len(conversation.ask("", wait_s=0.4)) == 1


def test_second_f_takes_the_reply_of_the_first(talk: Callable[..., Any]) -> None:
    conversation = talk()
    conversation.core.adapter.latency_s = 0.05
    answers = conversation.ask(bytes(adapter_frame("F", b"\x00")) + bytes(adapter_frame("F", b"\x01")))
    assert [bytes.fromhex(answer)[6] for answer in answers] == [0x08]
    assert conversation.core.log.reasons[Kind.LOST, "F reply lost to another F"] == 1


def test_s_takes_the_reply_of_an_f(talk: Callable[..., Any]) -> None:
    conversation = talk()
    conversation.core.adapter.latency_s = 0.05
    request = bytes(adapter_frame("F", b"\x00")) + bytes(adapter_frame("S", QUIET))
    assert conversation.ask(request) == ["02 FF 53 AC"]
    assert conversation.core.log.reasons[Kind.LOST, "F reply lost to an S"] == 1


def test_three_slots_at_once_and_one_command_each(talk: Callable[..., Any]) -> None:
    conversation = talk()
    conversation.core.adapter.latency_s = 0.1
    request = b"".join(bytes(adapter_frame(slot, b"\x05")) for slot in "XYZX")
    answers = conversation.ask(request, wait_s=0.5)
    assert [answer.split()[2] for answer in answers] == ["58", "59", "5A"]
    assert conversation.core.log.reasons[Kind.UNANSWERED, "slot has a command outstanding"] == 1


def test_version_by_itself_once_a_second_when_idle(talk: Callable[..., Any]) -> None:
    conversation = talk()
    frames = conversation.listen(10)
    assert {str(frame) for frame in frames} == {"07 FF 56 28 DB 11 00 42 4E"}
    assert 9 <= len(frames) <= 10


def test_panel_frames_set_mode_and_limit(talk: Callable[..., Any]) -> None:
    conversation = talk()
    device = conversation.core.device
    conversation.ask(panel(1, 12.5))
    assert (device.charge_allowed, device.invert_allowed, device.limits_a) == (True, False, [12.5])
    (answer,) = conversation.ask(adapter_frame("F", b"\x05"))
    data = bytes.fromhex(answer)[2:-1]
    assert struct.unpack("<3H", data[5:11]) == (10, 1000, 125)
    assert data[4] == 0x94
    assert data[11] == 0x01 | 0x04 | 0x10
    conversation.ask(panel(3, 0))
    assert device.limits_a == [1.0], "0 means the minimum"
    (event, _) = conversation.core.log.of(Kind.PANEL)
    assert event.data == b"\x01\x7d\x00"


def test_flag_0x10_commands_nothing(talk: Callable[..., Any]) -> None:
    conversation = talk()
    conversation.ask(panel(4, 5, flags=0x90))
    assert conversation.core.device.invert_allowed
    assert conversation.core.log.counts[Kind.PANEL] == 0


def test_repeat_flag_is_noted(talk: Callable[..., Any]) -> None:
    conversation = talk()
    conversation.ask(panel(3, 10, flags=0x81))
    assert conversation.core.log.reasons[Kind.NOTE, "S with flag 0x01: repeats by itself"] == 1


@pytest.mark.parametrize(("flags", "count"), [(0x90, 0), (0xD0, 1)])
def test_frames_of_another_panel(flags: int, count: int, talk: Callable[..., Any]) -> None:
    conversation = talk()
    conversation.ask(panel(3, 10, flags=flags))
    conversation.core.press_panel(1, 20, bit3=True)
    frames = [frame for frame in conversation.listen(0.2) if frame.type == 0x40]
    assert [frame.data[0] for frame in frames] == [8][:count]
    assert not conversation.core.device.invert_allowed


def test_switched_off_it_falls_asleep_and_the_adapter_falls_silent(talk: Callable[..., Any]) -> None:
    conversation = talk()
    conversation.ask(adapter_frame("A", b"\x01\x05"))
    conversation.ask(panel(4, 10))
    assert conversation.core.device.unit.main_state is MainState.OFF
    conversation.listen(6)
    assert conversation.listen(5) == []
    assert conversation.ask("02 FF 56 A9") == []
    assert conversation.core.log.reasons[Kind.UNANSWERED, "adapter has no power"] == 1
    conversation.core.turn_front_switch(FrontSwitch.OFF)
    conversation.core.turn_front_switch(FrontSwitch.ON)
    assert conversation.listen(2)
    assert conversation.core.adapter.address == 0
    assert conversation.core.adapter.compat
    assert conversation.core.device.invert_allowed


def test_standby_line_wakes_and_leaves_switched_off(talk: Callable[..., Any]) -> None:
    """Asleep behind an adapter with power of its own: the line wakes the units to what they were told."""
    conversation = talk()
    core = conversation.core
    core.adapter.kind = replace(core.adapter.kind, usb_powered=True)
    conversation.ask(panel(4, 10))
    conversation.listen(6)
    assert not core.system.awake
    assert conversation.winmon(0x0E, 0, 0) == []
    conversation.ask(adapter_frame("H", b"\x07"))
    conversation.listen(3)
    assert conversation.winmon(0x0E, 0, 0) == [b"\x94\x02\x00"]
    conversation.ask(panel(3, 10))
    conversation.listen(10)
    assert core.device.unit.main_state is MainState.CHARGE


def test_standby_line_let_go(talk: Callable[..., Any]) -> None:
    """The line is all that holds it; a reset of the adapter lets it go too (power-on value 0x05)."""
    for letting_go in (adapter_frame("H", b"\x05"), adapter_frame("R")):
        conversation = talk()
        conversation.ask(adapter_frame("H", b"\x07"))
        conversation.ask(panel(4, 10))
        conversation.listen(10)
        assert conversation.core.system.awake
        conversation.ask("05 3F 04 00 00 00 C5")
        assert conversation.core.system.awake, "nor does the sleep frame get through"
        conversation.ask(letting_go, wait_s=5)
        assert not conversation.core.system.awake
        assert conversation.listen(3) == []


def test_panel_detect_line(talk: Callable[..., Any]) -> None:
    conversation = talk()

    def detected() -> bool:
        (answer,) = conversation.ask(adapter_frame("F", b"\x05"))
        return bool(bytes.fromhex(answer)[6] & 0x80)

    assert detected(), "power-on value 0x05"
    conversation.ask(adapter_frame("H", b"\x04"))
    assert not detected()


def test_standby_line_keeps_it_awake(talk: Callable[..., Any]) -> None:
    conversation = talk()
    assert conversation.ask(adapter_frame("H")) == [str(adapter_frame("H", b"\x05"))]
    assert conversation.ask(adapter_frame("H", b"\x07")) == [str(adapter_frame("H", b"\x07"))]
    conversation.ask(panel(4, 10))
    conversation.listen(20)
    assert conversation.winmon(0x0E, 0, 0) == [b"\x94\x02\x00"]
    conversation.ask(panel(3, 10))
    conversation.listen(10)
    assert conversation.core.device.unit.main_state is MainState.CHARGE


def test_wake_and_sleep_frames(talk: Callable[..., Any]) -> None:
    conversation = talk()
    conversation.core.adapter.kind = replace(conversation.core.adapter.kind, usb_powered=True)
    conversation.ask("05 3F 04 00 00 00 C5")
    assert conversation.ask("02 FF 4C B3") == [str(adapter_frame("L", bytes.fromhex("1F1F00008000")))]
    conversation.ask("05 3F 07 00 00 00 C2")
    assert conversation.core.system.awake
    conversation.listen(8)
    assert conversation.core.device.unit.main_state is MainState.CHARGE, "as the switch on the unit has it"


def test_reset_of_the_adapter(talk: Callable[..., Any]) -> None:
    conversation = talk()
    conversation.ask(adapter_frame("A", b"\x01\x03"))
    assert conversation.ask(adapter_frame("R"), wait_s=1.9) == []
    assert conversation.ask("02 FF 4C B3", wait_s=0.05) == []
    assert len(conversation.listen(0.3)) == 1
    assert conversation.ask(adapter_frame("A", b"\x00\x00")) == [str(adapter_frame("A", b"\x01\x00\x00"))]


def test_reset_of_a_device_by_its_number(talk: Callable[..., Any]) -> None:
    conversation = talk("parallel3")
    unique = conversation.core.devices[3].unique.to_bytes(4, "little")
    conversation.ask(adapter_frame("F", b"\x08" + unique[2:] + unique[:2]))
    assert conversation.ask(adapter_frame("x", b"\x05\x03")) == []
    assert conversation.ask(adapter_frame("x", b"\x05\x06")) != []
    conversation.listen(4)
    assert conversation.ask(adapter_frame("x", b"\x05\x03")) != []


def test_nothing_connected(talk: Callable[..., Any]) -> None:
    conversation = talk("nodevice")
    assert conversation.ask("02 FF 4C B3") == [str(adapter_frame("L", bytes.fromhex("1F1F00008000")))]
    assert conversation.ask(adapter_frame("F", b"\x07\x00")) == []
    assert conversation.winmon(0x05) == []
    assert conversation.listen(2)


def test_bms(talk: Callable[..., Any]) -> None:
    conversation = talk("bms")
    (answer,) = conversation.ask("06 21 FF FF FF FF 83 4A")
    assert bytes.fromhex(answer)[1:7] == bytes.fromhex("20 00000000 83")
    conversation.ask(panel(1, 5))
    assert conversation.core.device.invert_allowed


@pytest.mark.parametrize("profile", ["quattro3", "parallel3", "split2"])
def test_systems_report_their_phases(profile: str, talk: Callable[..., Any]) -> None:
    conversation = talk(profile)
    phases = conversation.core.plant.phases
    (answer,) = conversation.ask(adapter_frame("F", b"\x07\x00"))
    bitmap = int.from_bytes(bytes.fromhex(answer)[9:13], "little")
    assert [n for n in range(32) if bitmap >> n & 1] == list(conversation.core.devices)
    first = bytes.fromhex(conversation.ask(adapter_frame("F", b"\x01"))[0])
    assert first[6] == 0x08 + phases - 1
    assert first[2] == len(conversation.core.devices) // phases
    for number in range(2, 5):
        assert len(conversation.ask(adapter_frame("F", bytes((number,))))) == (number <= phases)


def test_leds_appended_to_replies_but_not_to_l(talk: Callable[..., Any]) -> None:
    conversation = talk()
    conversation.ask(panel(3, 50, flags=0x92))
    assert conversation.winmon(0x31, 2, 0) == [bytes.fromhex("86 8016 0500")]
    assert conversation.ask("02 FF 4C B3")[0].startswith("08 FF 4C")


def test_stuck_and_silent(talk: Callable[..., Any]) -> None:
    conversation = talk()
    conversation.core.adapter.stuck = True
    assert conversation.ask("02 FF 4C B3", wait_s=2) == []
    assert conversation.listen(2)
    conversation.core.adapter.silent = True
    assert conversation.listen(5) == []


# -- speed of the line --------------------------------------------------------------------------------------


def test_replies_are_paced() -> None:
    """A request of four bytes takes 16.7 ms to arrive, the reply leaves 15 ms later, a byte each 4.17 ms."""
    core = Core()
    core.run(0.0)
    core.feed(bytes(adapter_frame("F", b"\x00")), 0.1)
    request_s, reply_bytes = 5 / 240, 17
    start = 0.1 + request_s + 0.015
    received = 0
    for step in range(2000):
        now = 0.1 + step / 10000
        received += len(core.run(now))
        expected = min(reply_bytes, max(0, int((now - start) * 240 + 1e-3)))
        assert received == expected
    assert received == reply_bytes


def test_line_is_full_duplex_and_does_not_drift() -> None:
    core = Core(latency_ms=0)
    core.run(0.0)
    now, received = 0.0, 0
    request = bytes(adapter_frame("L"))
    for _ in range(240 * 6):  # 24 s of requests without a gap
        core.feed(request, now)
        now += len(request) / 240
        received += len(core.run(now))
    assert received == pytest.approx(240 * now, rel=0.01), "the direction to the client is always busy"
    assert core.log.reasons[Kind.LOST, "output buffer full"] > 0


def test_unpaced() -> None:
    core = Core(baudrate=0, latency_ms=0)
    core.run(0.0)
    core.feed(bytes(adapter_frame("F", b"\x00")), 1.0)
    assert len(core.run(1.0)) >= 17


def test_damage_on_the_line() -> None:
    core = Core()
    core.run(0.0)
    core.outgoing = lambda data: data.replace(b"V", b"?")
    core.feed(bytes.fromhex("02 FF 56 A9"), 0.1)
    assert FrameCutter().feed(core.run(0.5)) == []
    core.outgoing = lambda data: [(0.0, data[:3]), (0.5, data[3:])]
    core.feed(bytes.fromhex("02 FF 56 A9"), 0.5)
    assert [len(core.run(now)) for now in (0.7, 0.95, 1.2)] == [3, 0, 6]
    core.outgoing = None
    core.incoming = lambda data: b""
    core.feed(bytes.fromhex("02 FF 4C B3"), 1.3)
    assert core.log.counts[Kind.RECEIVED] == 2


def test_high_speed(talk: Callable[..., Any]) -> None:
    conversation = talk()
    assert conversation.ask(HIGH_SPEED, wait_s=0.05) == []
    conversation.ask(b"\x55" * 5, wait_s=0.1)
    assert conversation.core.baudrate == 115200
    begin = conversation.now
    assert len(conversation.ask("02 FF 56 A9", wait_s=0.01)) == 1
    assert conversation.now - begin == pytest.approx(0.01)
    conversation.ask(adapter_frame("R"), wait_s=2.5)
    assert conversation.core.baudrate == 2400


def test_high_speed_is_given_up_without_the_five_bytes(talk: Callable[..., Any]) -> None:
    conversation = talk()
    conversation.ask(HIGH_SPEED, wait_s=0.05)
    assert conversation.ask("02 FF 4C B3", wait_s=0.5) == []
    conversation.listen(1)
    assert conversation.core.baudrate == 2400
    assert len(conversation.ask("02 FF 4C B3")) == 1


def test_client_at_the_wrong_speed_hears_and_says_garbage(talk: Callable[..., Any]) -> None:
    conversation = talk()
    conversation.core.client_baudrate = 115200
    assert conversation.ask("02 FF 56 A9") == []
    assert conversation.listen(3) == []
    conversation.core.client_baudrate = 2400
    assert len(conversation.ask("02 FF 56 A9")) >= 1


def test_mk2_has_no_high_speed(talk: Callable[..., Any]) -> None:
    conversation = talk("multiplus-old")
    conversation.ask(HIGH_SPEED)
    assert conversation.core.baudrate == 2400
    assert conversation.core.log.reasons == {(Kind.UNANSWERED, "unknown command"): 1}
