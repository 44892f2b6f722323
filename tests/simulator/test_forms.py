"""Forms of winmon requests and replies: new and old device, compatibility and long (mk2-protocol.md §4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mk2dbus.mk2.framing import adapter_frame
from mk2dbus.simulator import ChargeState, Kind, MainState, Override

LONG, COMPAT, OLD = "new device, long", "new device, compatibility", "old device"
ABSORPTION = bytes.fromhex("9CFF 0000 8016 C012 0019")
"""Info words of setting 2 of the 48 V device: scale −100, offset 0, 57.60 V, 48 V, 64 V."""
ABSORPTION_12V = bytes.fromhex("9CFF 0000 A005 B004 4006")


def groups(first: int, words: bytes) -> bytes:
    """Words as groups of three bytes with ascending codes."""
    return b"".join(bytes((first + n,)) + words[2 * n : 2 * n + 2] for n in range(len(words) // 2))


def begin(talk: Callable[..., Any], form: str) -> Any:
    if form == OLD:
        # The bit makes no difference to an old device.
        return talk("multiplus-old", long=True)
    return talk("multiplus2", long=form == LONG)


FORMS: list[tuple[str, tuple[int, ...], dict[str, bytes]]] = [
    ("version", (0x05,), {LONG: "82 58A62900 0701", COMPAT: "82 58A6", OLD: "82 9E21"}),
    ("high half", (0x06,), {LONG: "83 2900", COMPAT: "83 2900", OLD: "83 1D00"}),
    (
        "setting info",
        (0x35, 2, 0),
        {
            LONG: b"\x89" + ABSORPTION + b"\x00",
            COMPAT: groups(0x89, ABSORPTION),
            OLD: groups(0x89, ABSORPTION_12V),
        },
    ),
    ("setting not there", (0x35, 13, 0), {LONG: "89", COMPAT: "89 0000", OLD: "89 0000"}),
    ("RAM info", (0x36, 4, 0), {LONG: "8E 9C7F 0000", COMPAT: "8E 9C7F 8F 0000", OLD: "8E 9C7F 8F 0000"}),
    ("RAM variable not there", (0x36, 20, 0), {LONG: "8E", COMPAT: "8E 0000", OLD: "8E 0000"}),
    ("read setting", (0x31, 3, 0), {LONG: "86 9015", COMPAT: "86 9015", OLD: "86 6405"}),
    ("read what is not there", (0x31, 13, 0), {LONG: "91", COMPAT: "91 0000", OLD: "91 0000"}),
    ("read RAM", (0x30, 13, 0), {COMPAT: "85 C800", OLD: "85 C800"}),
    ("read several", (0x30, 13, 13, 13), {LONG: "85 C800 C800 C800"}),
    ("read RAM not there", (0x30, 13, 20), {LONG: "90 02"}),
    ("arm a setting", (0x33, 2, 0), {LONG: "80 00"}),
    ("arm a RAM variable", (0x32, 13, 0), {LONG: "80 00"}),
    ("write", (0x37, 1, 2, 0x44, 0x16), {LONG: "88 00", COMPAT: "88 0000", OLD: "80 0000"}),
    ("write RAM", (0x37, 0, 13, 100, 0), {LONG: "87", COMPAT: "87 0000", OLD: "80 0000"}),
    ("write out of range", (0x37, 1, 2, 0xFF, 0xFF), {LONG: "80 03", COMPAT: "80 0300"}),
    ("write what is measured", (0x37, 0, 4, 0, 0), {LONG: "80 02", COMPAT: "80 0200"}),
    ("write with unknown flags", (0x37, 5, 2, 0, 0), {LONG: "80 01"}),
    ("write needing a reset", (0x37, 1, 64, 100, 0), {LONG: "88 01"}),
    ("write grid code", (0x37, 1, 81, 1, 0), {LONG: "9B 01", COMPAT: "9B 0100"}),
    ("no snapshot", (0x38,), {LONG: "99", COMPAT: "99 0000", OLD: "80 0000"}),
    ("serial number", (0x3B,), {LONG: b"\x9dHQ222300000", OLD: "80 0000"}),
    ("wrong password", (0x3A, *range(8)), {LONG: "80 01", OLD: "80 0000"}),
    ("access levels", (0x3C, 0, 0), {LONG: "9E 0000" + "00" * 8 + "9F 0000" + "00" * 8, OLD: "80 0000"}),
    ("unknown command", (0x7F,), {LONG: "80 00", COMPAT: "80 0000", OLD: "80 0000"}),
    ("wrong length", (0x35, 2), {LONG: "", COMPAT: "", OLD: ""}),
    ("several ids at once", (0x30, 1, 2, 3), {COMPAT: "", OLD: ""}),
]


@pytest.mark.parametrize(
    ("form", "request_data", "reply"),
    [
        pytest.param(form, data, reply, id=f"{name}, {form}")
        for name, data, replies in FORMS
        for form, reply in replies.items()
    ],
)
def test_form(form: str, request_data: tuple[int, ...], reply: bytes | str, talk: Callable[..., Any]) -> None:
    expected = bytes.fromhex(reply) if isinstance(reply, str) else reply
    assert begin(talk, form).winmon(*request_data) == ([expected] if expected else [])


@pytest.mark.parametrize("form", [COMPAT, OLD])
def test_armed_write(form: str, talk: Callable[..., Any]) -> None:
    conversation = begin(talk, form)
    device = conversation.core.device
    raw = device.settings[3].stored + 1
    assert conversation.winmon(0x33, 3, 0) == []
    assert conversation.winmon(0x34, *raw.to_bytes(2, "little")) == [b"\x88\x00\x00"]
    assert (device.settings[3].stored, device.settings[3].ram, device.settings[3].writes) == (raw, raw, 1)
    # Each write is armed anew.
    assert conversation.winmon(0x34, 0, 0) == [b"\x80\x00\x00"]


def test_groups_are_spread_over_frames_on_w(talk: Callable[..., Any]) -> None:
    conversation = begin(talk, OLD)
    parts = conversation.winmon(0x35, 2, 0, slot="W")
    assert [len(part) for part in parts] == [6, 6, 3]
    assert b"".join(parts) == groups(0x89, ABSORPTION_12V)


def test_reply_too_long_for_w(talk: Callable[..., Any]) -> None:
    conversation = begin(talk, LONG)
    assert conversation.winmon(0x3B, slot="W") == []
    assert conversation.core.log.reasons[Kind.UNANSWERED, "W: reply does not fit"] == 1


def test_addressed_slots(talk: Callable[..., Any]) -> None:
    conversation = talk("quattro3")
    assert conversation.ask(adapter_frame("y", b"\x3b\x02")) == [str(adapter_frame("Y", b"\x9dHQ222300002"))]
    assert talk("multiplus-old").ask(adapter_frame("y", b"\x05\x00")) == []


def test_adapter_that_does_not_know_addressed_slots(talk: Callable[..., Any]) -> None:
    """It ignores the frame, and the slot stays free."""
    conversation = talk("quattro3")
    adapter = conversation.core.adapter
    adapter.kind = replace(adapter.kind, addressed=False)
    assert conversation.ask(adapter_frame("x", b"\x05\x00")) == []
    assert conversation.core.log.reasons == {(Kind.UNANSWERED, "unknown command"): 1}
    assert len(conversation.winmon(0x05)) == 1


def test_power_on_form_is_compatibility(talk: Callable[..., Any]) -> None:
    conversation = begin(talk, LONG)
    assert len(conversation.winmon(0x05)[0]) == 7
    conversation.ask(adapter_frame("R"), wait_s=2.5)
    assert conversation.winmon(0x05) == [b"\x82\x58\xa6"]


def test_ram_only_write(talk: Callable[..., Any]) -> None:
    """A write to RAM only takes effect, reads as before, wears nothing, and is gone with a reset (§4)."""
    conversation = begin(talk, LONG)
    setting = conversation.core.device.settings[3]
    assert conversation.winmon(0x37, 3, 3, 0x30, 0x15) == [b"\x88\x00"]
    assert (setting.ram, setting.stored, setting.writes) == (0x1530, 5520, 0)
    assert conversation.winmon(0x31, 3, 0) == [b"\x86\x90\x15"]
    assert conversation.core.device.unit.read_config().float_v == pytest.approx(54.24)
    conversation.ask(adapter_frame("F", b"\x08" + bytes(4)), wait_s=5)
    assert setting.ram == 5520


def test_setting_that_needs_a_reset(talk: Callable[..., Any]) -> None:
    conversation = begin(talk, LONG)
    device = conversation.core.device
    conversation.winmon(0x37, 1, 64, 100, 0)
    assert (device.settings[64].stored, device.settings[64].ram, device.reset_needed) == (100, 0, True)
    conversation.ask(adapter_frame("F", b"\x08" + bytes(4)), wait_s=5)
    assert (device.settings[64].ram, device.reset_needed) == (100, False)


def test_flag_words(talk: Callable[..., Any]) -> None:
    """New devices ignore foreign bits; old ones take them, which is recorded (§4.1)."""
    conversation = begin(talk, LONG)
    word = conversation.core.device.settings[0]
    before = word.stored
    conversation.winmon(0x37, 1, 0, 0x88, 0x00)
    assert word.stored == before & ~0x6FFC | 0x88
    assert conversation.core.log.reasons[Kind.NOTE, "flags 3 and 7 no longer differ"] == 1
    old = begin(talk, OLD)
    word = old.core.device.settings[0]
    changed = (word.stored ^ 0x9000).to_bytes(2, "little")
    old.winmon(0x33, 0, 0)
    old.winmon(0x34, *changed)
    assert old.core.log.reasons[Kind.NOTE, "foreign flag bits changed"] == 1


def test_password_opens_protected_settings_for_30_s(talk: Callable[..., Any]) -> None:
    conversation = begin(talk, LONG)
    assert conversation.winmon(0x3A, *conversation.core.device.kind.password) == [b"\x9c"]
    assert conversation.winmon(0x37, 1, 81, 1, 0) == [b"\x88\x00"]
    conversation.listen(31)
    assert conversation.winmon(0x37, 1, 81, 0, 0) == [b"\x9b\x01"]


def test_snapshot_is_read_once(talk: Callable[..., Any]) -> None:
    conversation = begin(talk, LONG)
    conversation.ask(adapter_frame("F", b"\x06\x0e\x0f\x10"))
    conversation.core.plant.load_w = 2000
    first, second = conversation.winmon(0x38), conversation.winmon(0x38)
    inverter, grid, output = (int.from_bytes(first[0][n : n + 2], "little", signed=True) for n in (1, 3, 5))
    assert output < 500, "the snapshot is older than the change of the load"
    assert -grid == pytest.approx(inverter + output, abs=2)
    assert second == [b"\x99"]


def test_overrides(talk: Callable[..., Any]) -> None:
    """Faults asked for: the reply lost after storing, refused, another value read back."""
    conversation = begin(talk, LONG)
    device = conversation.core.device
    device.overrides = [
        Override(0x37, b"\x01\x02", times=1),
        Override(0x37, b"\x01\x03", execute=False, reply=(b"\x9b\x01",)),
        Override(0x31, b"\x04", reply=(b"\x86\x07\x00",)),
    ]
    assert conversation.winmon(0x37, 1, 2, 0x44, 0x16) == []
    assert device.settings[2].stored == 5700
    assert conversation.winmon(0x37, 1, 2, 0x45, 0x16) == [b"\x88\x00"]
    assert conversation.winmon(0x37, 1, 3, 0x30, 0x15) == [b"\x9b\x01"]
    assert device.settings[3].writes == 0
    assert conversation.winmon(0x31, 4, 0) == [b"\x86\x07\x00"]


@pytest.mark.parametrize(
    ("asked", "state"),
    [(1, ChargeState.EQUALISE), (2, ChargeState.FORCED_ABSORPTION), (3, ChargeState.FLOAT)],
)
def test_forced_charge_state(asked: int, state: ChargeState, talk: Callable[..., Any]) -> None:
    """Only while it charges; else it is refused."""
    conversation = begin(talk, LONG)
    plant = conversation.core.plant
    assert conversation.winmon(0x0E, asked, 0) == [bytes((0x94, MainState.CHARGE, state))]
    conversation.listen(1)
    assert plant.charger.state is state
    plant.mains_voltage = 0
    conversation.listen(2)
    assert conversation.winmon(0x0E, asked, 0) == [b"\x80\x01"]
    assert conversation.winmon(0x0E, 0, 0) == [bytes((0x94, MainState.INVERT_FULL, 0))]
    assert conversation.core.log.reasons[Kind.NOTE, "charge state refused"] == 1


def test_charge_state_that_is_none(talk: Callable[..., Any]) -> None:
    conversation = begin(talk, LONG)
    state = conversation.core.plant.charger.state
    assert conversation.winmon(0x0E, 4, 0) == [b"\x80\x01"]
    assert conversation.core.plant.charger.state is state


@pytest.mark.parametrize("flags", [0x01, 0x03])
def test_maximum_charge_current_takes_effect(flags: int, talk: Callable[..., Any]) -> None:
    conversation = begin(talk, LONG)
    assert conversation.winmon(0x37, flags, 4, 12, 0) == [b"\x88\x00"]
    conversation.listen(2)
    assert conversation.core.device.unit.battery_a == pytest.approx(12, abs=0.1)


def test_state_of_charge_of_the_monitor(talk: Callable[..., Any]) -> None:
    """With a capacity set it can be written: the monitor takes it for true, the battery is what it was."""
    conversation = begin(talk, LONG)
    core = conversation.core
    assert conversation.winmon(0x37, 0, 13, 100, 0) == [b"\x87"]
    assert conversation.winmon(0x30, 13) == [b"\x85\xc8\x00"], "1 without a capacity"
    core.device.settings[64].ram = 200
    core.plant.battery.soc = 0.8
    assert conversation.winmon(0x30, 13) == [b"\x85\xa0\x00"]
    assert conversation.winmon(0x37, 0, 13, 100, 0) == [b"\x87"]
    assert conversation.winmon(0x30, 13) == [b"\x85\x64\x00"]
    assert core.plant.battery.soc == pytest.approx(0.8, abs=0.01)
    conversation.listen(1200)
    (reply,) = conversation.winmon(0x30, 13)
    assert reply[1] > 100, "it counts on from there"


def test_battery_temperature_where_the_product_has_it(talk: Callable[..., Any]) -> None:
    conversation = talk("sensors")
    conversation.core.plant.battery.temperature_c = -5.5
    conversation.listen(1.1)
    assert conversation.winmon(0x36, 21, 0) == [bytes.fromhex("8E 0A80 0000")]
    assert conversation.winmon(0x30, 21) == [b"\x85" + (-55 & 0xFFFF).to_bytes(2, "little")]
