"""The console's commands: what each does, and what it says to bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mk2dbus.mk2.framing import adapter_frame
from mk2dbus.simulator import (
    ChargeState,
    CommandError,
    Console,
    Core,
    FrontSwitch,
    Kind,
    RandomDamage,
    SpeedFault,
)
from mk2dbus.simulator.console import COMMANDS


class Cable:
    """A cable that says what was done with it."""

    port = "/dev/pts/7"
    plugged = True

    def plug(self) -> None:
        self.plugged = True

    def unplug(self) -> None:
        self.plugged = False


class FullCable(Cable):
    def plug(self) -> None:
        raise OSError(28, "No space left on device")


def begin(profile: str = "quattro3") -> tuple[Core, Console]:
    core = Core(profile)
    core.run(0.0)
    core.run(5.0)
    return core, Console(core, Cable())


Check = Callable[[Core], Any]

CHANGES: list[tuple[str, Check, Any]] = [
    ("set mains 0", lambda core: core.plant.inputs[0].voltages_v, [0.0] * 3),
    ("set mains 218.5 L2", lambda core: core.plant.inputs[0].voltages_v, [230, 218.5, 230]),
    ("set mains 0 all 2", lambda core: core.plant.inputs[1].voltages_v, [0.0] * 3),
    ("set mains 100 3 2", lambda core: core.plant.inputs[1].voltages_v, [230, 230, 100]),
    ("set frequency 51.5", lambda core: core.plant.mains_frequency, 51.5),
    ("set frequency 49 2", lambda core: core.plant.inputs[1].frequency_hz, 49),
    ("set load 1500", lambda core: core.plant.loads_w, [500.0] * 3),
    ("set load 100 3", lambda core: core.plant.loads_w, [800, 800, 100]),
    ("set soc 35", lambda core: round(core.plant.battery.soc, 4), 0.35),
    ("set soc 80", lambda core: round(core.plant.monitor.soc, 4), 0.8),
    ("set capacity 100", lambda core: core.plant.battery.capacity_ah, 100),
    ("set battery 44.4", lambda core: core.plant.battery.voltage_v, 44.4),
    ("set dc-current -12", lambda core: core.plant.external_a, -12),
    ("set temperature 55", lambda core: core.system.alarms(), 0x01),
    ("set temperature 65", lambda core: core.system.alarms(), 0x10),
    ("set bms charge forbid", lambda core: core.device.unit.battery_a, 0),
    ("set bms discharge forbid", lambda core: core.plant.discharge_blocked, True),
    ("set alarm temperature pre", lambda core: core.system.alarms(), 0x01),
    ("set alarm low-battery pre", lambda core: core.system.alarms(), 0x02),
    ("set alarm overload pre", lambda core: core.system.alarms(), 0x04),
    ("set alarm ripple pre", lambda core: core.system.alarms(), 0x08),
    ("set alarm temperature full", lambda core: core.system.alarms(), 0x10),
    ("set alarm low-battery full", lambda core: core.system.alarms(), 0x20),
    ("set alarm overload full", lambda core: core.system.alarms(), 0x40),
    ("set alarm ripple full", lambda core: core.system.alarms(), 0x80),
    ("set alarm ripple off", lambda core: core.system.alarms(), 0),
    ("set sensor-alarm temperature", lambda core: core.system.leds(), (0x01, 0x0A)),
    ("set sensor-alarm voltage", lambda core: core.system.leds(), (0x01, 0x06)),
    ("set error 11", lambda core: core.system.error(), 11),
    ("set error 3 2", lambda core: [one.error for one in core.devices.values()], [0, 0, 3]),
    ("set charge absorption", lambda core: core.plant.charger.state, ChargeState.ABSORPTION),
    ("set noise 0", lambda core: core.plant.noise, 0),
    ("set latency 200", lambda core: core.adapter.latency_s, 0.2),
    ("set setting 1 2 5600", lambda core: core.devices[1].settings[2].stored, 5600),
    ("set setting 0 6 0x50", lambda core: core.devices[0].limits_a[0], 8.0),
    ("switch charger-only", lambda core: core.device.front_switch, FrontSwitch.CHARGER_ONLY),
    ("press 1 16", lambda core: (core.device.invert_allowed, core.device.limits_a[0]), (False, 16)),
    ("press 3 12 bit3", lambda core: core.log.of(Kind.PANEL)[-1].data, b"\x03\x78\x00"),
    ("sleep", lambda core: core.system.awake, False),
    ("adapter fault silent", lambda core: (core.adapter.silent, core.adapter.stuck), (True, False)),
    ("adapter fault stuck", lambda core: (core.adapter.silent, core.adapter.stuck), (False, True)),
    ("adapter speed 115200", lambda core: core.baudrate, 115200),
    ("adapter speed-fault dead", lambda core: core.adapter.speed.fault, SpeedFault.DEAD),
    ("adapter speed-fault bad-frames 30", lambda core: core.adapter.speed.bad_share, 0.3),
    ("adapter foreign 4", lambda core: core.adapter.foreign_configuration_every, 4),
    ("adapter takes 1", lambda core: core.adapter.kind.takes, 1),
    ("adapter takes any", lambda core: core.adapter.kind.takes, None),
    ("adapter knows addressed no", lambda core: core.adapter.kind.addressed, False),
    ("adapter knows high-speed no", lambda core: core.adapter.kind.high_speed, False),
    ("unit leave 2", lambda core: core.devices[2].reachable, False),
    ("unit reset 1", lambda core: core.devices[1].reachable, False),
    ("unit reset all", lambda core: core.system.awake, False),
    ("unit replace 1 multiplus-305", lambda core: core.devices[1].kind.version, 1959305),
    ("unit firmware 0 499", lambda core: core.device.kind.version, 2658499),
    ("unit answer 0 0x37 lost", lambda core: core.device.overrides[0].times, 1),
    ("unit answer 0 0x31 refused always", lambda core: core.device.overrides[0].times, None),
    ("damage in loss 3", lambda core: core.incoming, RandomDamage(loss=0.03)),
    ("damage out flip 2.5", lambda core: core.outgoing, RandomDamage(flip=0.025)),
    ("damage out insert 1", lambda core: core.outgoing, RandomDamage(insert=0.01)),
    ("damage out duplicate 50", lambda core: core.outgoing, RandomDamage(duplicate=0.5)),
    ("damage in delay 10 700", lambda core: core.incoming, RandomDamage(delay=0.1, delay_s=0.7)),
    ("damage in loss 0", lambda core: core.incoming, None),
]


@pytest.mark.parametrize(("line", "look", "expected"), CHANGES, ids=[line for line, _, _ in CHANGES])
def test_change(line: str, look: Check, expected: Any) -> None:
    core, console = begin()
    assert console.execute(line) == []
    core.run(5.001)
    assert look(core) == expected


PAIRS = [
    (["unit leave 1"], "unit join 1", lambda core: core.devices[1].present),
    (["sleep"], "wake", lambda core: core.system.awake),
    (["adapter fault stuck"], "adapter fault none", lambda core: not core.adapter.stuck),
    (["set battery 40"], "set battery free", lambda core: core.plant.battery.voltage_v > 45),
    (["damage in loss 5", "damage out flip 5"], "damage none", lambda core: not core.outgoing),
    (["damage in loss 5", "damage in flip 5"], "damage in loss 0", lambda core: core.incoming.flip == 0.05),
    (["unit answer 0 5 lost always"], "unit answer 0 5 true", lambda core: not core.device.overrides),
    (["set alarm overload full"], "set alarm overload off", lambda core: not core.system.alarms()),
    (["set error 5"], "set error 0 all", lambda core: not core.system.error()),
    (["press 1 10"], "forget", lambda core: not core.log.counts),
    (["unplug"], "plug", lambda _: True),
]


@pytest.mark.parametrize(("before", "line", "look"), PAIRS, ids=[line for _, line, _ in PAIRS])
def test_change_and_back(before: list[str], line: str, look: Check) -> None:
    core, console = begin()
    for one in before:
        console.execute(one)
    core.run(5.5)
    console.execute(line)
    core.run(6.0) if line != "forget" else None
    assert look(core)


def test_generator_and_sensor() -> None:
    core, console = begin("sensors")
    console.execute("set generator 2 1234")
    core.run(6.0)
    assert core.device.assistants[2].words[2] == 1234


def test_adapter_reset(talk: Callable[..., Any]) -> None:
    conversation = talk()
    conversation.ask(adapter_frame("A", b"\x01\x03"))
    Console(conversation.core).execute("adapter reset")
    conversation.listen(1)
    assert conversation.ask(adapter_frame("A", b"\x00\x00")) == [str(adapter_frame("A", b"\x01\x00\x00"))]


ANSWERS: list[tuple[str, str]] = [
    ("status", "unit 2 2658481 HQ222300002 charge"),
    ("status", "cable /dev/pts/7"),
    ("status", "input 2 L1 230.0 V L2 230.0 V L3 230.0 V, 50.00 Hz"),
    ("store", "2 49 160 160 0 SecondInputCurrentLimit"),
    ("store 1 2", "1 2 5760 5760 0 AbsorptionVoltage"),
    ("store all 2", "2 2 5760 5760 0 AbsorptionVoltage"),
    ("writes", "total 0"),
    ("writes 1", "total 0"),
    ("ram 0 2", "23"),
    ("panels", "total 0"),
    ("log 5", ""),
    ("log 5 panel", ""),
    ("traffic 3", "5.000 ← 07 FF 56 28 DB 11 00 42 4E"),
    ("counts", "5 sent"),
    ("outstanding", "most winmon 0"),
    ("products", "quattro  2658481"),
    ("help", "set mains VOLTS [PHASE] [INPUT]"),
    ("help set load", "    WATTS: a number from 0 to 500000 W"),
]


@pytest.mark.parametrize(("line", "expected"), ANSWERS)
def test_question(line: str, expected: str) -> None:
    _, console = begin()
    answer = console.execute(line)
    assert any(one.startswith(expected) for one in answer) or (not expected and not answer), answer


def test_eeprom_writes_and_panel_frames_are_told(talk: Callable[..., Any]) -> None:
    conversation = talk()
    console = Console(conversation.core)
    conversation.winmon(0x37, 1, 2, 0x44, 0x16)
    conversation.winmon(0x37, 1, 2, 0x45, 0x16)
    conversation.winmon(0x37, 3, 3, 0x30, 0x15)
    conversation.ask(adapter_frame("S", bytes((3, 200, 0, 1, 0x80))))
    assert console.execute("writes") == ["0 2 2 AbsorptionVoltage", "total 2"]
    assert console.execute("store 0 3") == ["0 3 5520 5424 0 FloatVoltage"]
    *frames, total = console.execute("panels")
    assert total == "total 1"
    assert frames[0].endswith(" 3 20.0 A")
    assert any("setting stored" in line for line in console.execute("log"))
    assert len(console.execute("log 1 stored")) == 1
    assert console.execute("status")[-1].startswith("panel frames 1, last ")


@pytest.mark.parametrize("line", ["", "   ", "# a remark", "  # set mains 0"])
def test_nothing(line: str) -> None:
    core, console = begin()
    assert console.execute(line) == []
    assert core.plant.mains_voltage == 230


BAD: list[tuple[str, str]] = [
    ("frobnicate", "unknown command 'frobnicate'"),
    ("set", "set takes one of mains, frequency"),
    ("set colour red", "set takes one of mains, frequency"),
    ("set mains", "usage: set mains VOLTS [PHASE] [INPUT]"),
    ("set mains 1 2 1 7", "usage: set mains"),
    ("set mains high", "VOLTS takes a number from 0 to 500 V, not 'high'"),
    ("set mains -1", "VOLTS takes"),
    ("set mains nan", "VOLTS takes"),
    ("set mains inf", "VOLTS takes"),
    ("set mains 230 4", "PHASE takes 1, 2, 3 or all, not '4'"),
    ("set mains 230 L0", "PHASE takes"),
    ("set mains 230 1 3", "INPUT takes a whole number from 1 to 2"),
    ("set load 1e9", "WATTS takes"),
    ("set generator 1 100", "no generator 1; the system has 0"),
    ("set alarm fire full", "ALARM takes one of temperature, low-battery, overload, ripple, not 'fire'"),
    ("set alarm ripple loud", "LEVEL takes one of off, pre, full"),
    ("set error 32", "CODE takes a whole number from 0 to 31"),
    ("set error 3 9", "no unit at address 9; there are 0, 1, 2"),
    ("set setting 0 200 1", "unit 0 has no setting 200"),
    ("set setting 0 2 70000", "RAW takes"),
    ("switch sideways", "POSITION takes one of on, off, charger-only"),
    ("press 5 16", "MODE takes a whole number from 1 to 4"),
    ("press 3", "usage: press MODE AMPS [FORM]"),
    ("plug", "it is plugged in"),
    ("unit join 1", "unit 1 is there"),
    ("unit leave 7", "no unit at address 7"),
    ("unit replace 0 toaster", "PRODUCT takes one of"),
    ("unit firmware 0 99", "FIRMWARE takes"),
    ("unit answer 0 5 nicely", "ANSWER takes one of lost, ignored, refused, true"),
    ("adapter speed 9600", "BAUDRATE takes one of 2400, 115200"),
    ("adapter takes 0", "MOST takes a whole number from 1 to 10, or any"),
    ("damage sideways loss 5", "DIRECTION takes one of in, out"),
    ("damage in loss 101", "PERCENT takes"),
    ("damage in loss 5 100", "only delay takes a time"),
    ("store 0 13", "no setting 13"),
    ("ram 0 20", "unit 0 has no RAM variable 20"),
    ("log 0", "COUNT takes"),
    ("log 5 gossip", "KIND takes one of"),
    ("help me", "no command 'me'"),
    ("help set colour", "no command 'set colour'"),
    ("SET MAINS 0", "unknown command 'SET'"),
    ("set\x00mains 0", "unknown command 'set\\x00mains'"),
]


@pytest.mark.parametrize(("line", "said"), BAD)
def test_bad_input(line: str, said: str) -> None:
    _, console = begin()
    with pytest.raises(CommandError) as caught:
        console.execute(line)
    assert str(caught.value).startswith(said)


def test_not_possible_now() -> None:
    core, console = begin("multiplus2")
    with pytest.raises(CommandError, match="no phase 2; the system has 1"):
        console.execute("set load 100 2")
    with pytest.raises(CommandError, match="no input 2; the system has 1"):
        console.execute("set mains 100 all 2")
    with pytest.raises(CommandError, match="there is no cable here"):
        Console(core).execute("unplug")
    console.execute("unplug")
    with pytest.raises(CommandError, match="not plugged in"):
        console.execute("unplug")
    full = FullCable()
    full.plugged = False
    with pytest.raises(CommandError, match="No space left"):
        Console(core, full).execute("plug")
    console.execute("unit leave 0")
    with pytest.raises(CommandError, match="is away"):
        console.execute("unit leave 0")
    core.plant.mains_voltage = 0
    core.run(7.0)
    with pytest.raises(CommandError, match="the charger is not running"):
        console.execute("set charge float")
    with pytest.raises(CommandError, match="there are none"):
        begin("nodevice")[1].execute("unit leave 0")
    with pytest.raises(CommandError, match="an MK2 cannot know that"):
        begin("multiplus-old")[1].execute("adapter knows high-speed yes")


def test_sleep_against_the_standby_line(talk: Callable[..., Any]) -> None:
    conversation = talk()
    conversation.ask(adapter_frame("H", b"\x07"))
    with pytest.raises(CommandError, match="standby line"):
        Console(conversation.core).execute("sleep")


def test_panel_without_effect_is_said() -> None:
    _, console = begin("bms")
    assert console.execute("press 1 16") == ["a BMS is in control: the units take no notice"]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=list(COMMANDS))
def test_every_command_is_declared_well(command: Any) -> None:
    assert 1 <= len(command.name.split()) <= 2
    assert command.sentence.endswith(".")
    optional = [argument.optional for argument in command.arguments]
    assert optional == sorted(optional), "what may be left out comes last"
    _, console = begin()
    assert command.usage in console.execute("help")
    assert command.usage in console.execute(f"help {command.name}")
    used = [line for line, *_ in (*CHANGES, *ANSWERS)] + [line for _, line, _ in PAIRS]
    used += [one for before, _, _ in PAIRS for one in before]
    used += ["set generator 2 1234", "adapter reset"]
    assert any(f"{line} ".startswith(f"{command.name} ") for line in used), "no test uses it"


_WORDS = st.sampled_from(
    [word for name in COMMANDS for word in name.split()]
    + ["0", "1", "2", "31", "all", "on", "off", "-1", "nan", "1e400", "0x", "%s", "L1", "multiplus-old", "é"]
)


@settings(max_examples=60, deadline=None)
@given(
    profile=st.sampled_from(["multiplus2", "mixed", "nodevice"]),
    lines=st.lists(st.lists(_WORDS | st.text(max_size=6), max_size=5).map(" ".join), max_size=12),
)
def test_any_lines(profile: str, lines: list[str]) -> None:
    """A line is carried out or refused; the core lives on either way."""
    core, console = begin(profile)
    now = 5.0
    for line in lines:
        try:
            answer = console.execute(line)
        except CommandError as error:
            answer = [str(error)]
        assert all("\n" not in one for one in answer)
        now += 0.5
        core.run(now)
        assert core.deadline > now - 1e-9
