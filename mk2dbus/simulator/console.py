"""What can be changed and asked while the simulator runs, as lines of text: ``set mains 0``, ``status``.

Commands are declared once, in :data:`COMMANDS`; their help is made from that.
"""

from __future__ import annotations

from collections.abc import Iterable

from . import actions
from .bench import Bench, Cable
from .charger import ChargeState
from .core import Core
from .device import FrontSwitch
from .events import Kind
from .plant import Level, SensorAlarm
from .products import PRODUCTS
from .speed import HIGH_BAUDRATE, LOW_BAUDRATE, SpeedFault
from .syntax import Argument, Command, CommandError, choice, either, integer, member, number, optional, parse


class Console:
    """Carries out lines on a core, each at once.

    Args:
        core: what they act on.
        cable: what ``plug`` and ``unplug`` act on; ``None``: there is none.
    """

    def __init__(self, core: Core, cable: Cable | None = None) -> None:
        self._bench = Bench(core, cable)

    def execute(self, line: str) -> list[str]:
        """Carry out a line; what it has to say.

        Raises:
            CommandError: no such command, wrong arguments, or not possible now. Nothing was changed.
        """
        parsed = parse(line, COMMANDS)
        if parsed is None:
            return []
        command, values = parsed
        lines = list(command.action(self._bench, *values) or ())
        self._bench.core.touch()
        return lines


def _phase(word: str) -> int | None:
    if word.casefold() == "all":
        return None
    phase = int(word.upper().removeprefix("L"))
    if not 1 <= phase <= 3:
        raise ValueError(word)
    return phase - 1


_PHASE = Argument("PHASE", _phase, "1, 2, 3 or all", optional=True)
_INPUT = optional(integer("INPUT", 1, 2))
_ADDRESS = integer("ADDRESS", 0, 31)
_ADDRESS_OR_ALL = either(_ADDRESS, "all")
_PERCENT = number("PERCENT", 0, 100)
_COUNT = optional(integer("COUNT", 1, 2000))
_ALLOW = choice("ALLOW", {"allow": True, "forbid": False})
_KNOWN = choice("KNOWN", {"yes": True, "no": False})
_ALARM = choice(
    "ALARM",
    {
        "temperature": "temperature_level",
        "low-battery": "low_battery_level",
        "overload": "overload_level",
        "ripple": "ripple_level",
    },
)
"""Alarms, each with its attribute of the plant."""
_LEVEL = choice("LEVEL", {"off": Level.OK, "pre": Level.PRE, "full": Level.FULL})
_DIRECTION = choice("DIRECTION", {"in": "incoming", "out": "outgoing"})
_DAMAGE = choice("DAMAGE", {name: name for name in ("loss", "flip", "insert", "duplicate", "delay")})
_ANSWER = choice(
    "ANSWER",
    {
        "lost": {"execute": True, "reply": None},
        "ignored": {"execute": False, "reply": None},
        "refused": {"execute": False, "reply": (b"\x80\x00",)},
        "true": None,
    },
)
"""Ways to answer a winmon command: fields of an override, or none."""


def _help(_bench: Bench, *words: str) -> Iterable[str]:
    name = " ".join(words)
    found = [command for command in COMMANDS.values() if f"{command.name} ".startswith(f"{name} ".lstrip())]
    if not found:
        raise CommandError(f"no command {name!r}; help lists them")
    for command in found:
        yield command.usage
        yield f"    {command.sentence}"
        if words:
            yield from (f"    {one.name}: {one.takes}" for one in command.arguments)


COMMANDS = {
    command.name: command
    for command in (
        Command(
            "set mains",
            (number("VOLTS", 0, 500, "V"), _PHASE, _INPUT),
            "Voltage at an AC input (the first), at one phase or all.",
            actions.set_mains,
        ),
        Command(
            "set frequency",
            (number("HERTZ", 0, 100, "Hz"), _INPUT),
            "Frequency at an AC input.",
            actions.set_frequency,
        ),
        Command(
            "set load",
            (number("WATTS", 0, 500_000, "W"), _PHASE),
            "Load of one phase, or of all together.",
            actions.set_load,
        ),
        Command(
            "set generator",
            (integer("NUMBER", 1, 9), number("WATTS", 0, 100_000, "W")),
            "Power of a source on AC, as status lists them; AC sensors measure these.",
            actions.set_generator,
        ),
        Command(
            "set soc", (_PERCENT,), "State of charge of the battery, and of the monitor.", actions.set_soc
        ),
        Command(
            "set capacity",
            (number("AH", 1, 100_000, "Ah"),),
            "Capacity of the battery.",
            actions.set_capacity,
        ),
        Command(
            "set battery",
            (either(number("VOLTS", 0, 100, "V"), "free"),),
            "Hold the battery's voltage, or let it free.",
            actions.set_battery,
        ),
        Command(
            "set dc-current",
            (number("AMPS", -2000, 2000, "A"),),
            "Current into the battery from others, less what DC loads take.",
            actions.set_dc_current,
        ),
        Command(
            "set temperature",
            (number("CELSIUS", -40, 120, "°C"),),
            "Temperature of the battery; from 50 a pre-alarm, from 60 an alarm.",
            actions.set_temperature,
        ),
        Command(
            "set bms",
            (choice("WHAT", {"charge": "charge_blocked", "discharge": "discharge_blocked"}), _ALLOW),
            "What a BMS allows.",
            actions.set_bms,
        ),
        Command("set alarm", (_ALARM, _LEVEL), "An alarm, at least so bad.", actions.set_alarm),
        Command(
            "set sensor-alarm",
            (member("ALARM", SensorAlarm),),
            "The alarm of a sensor, which LEDs tell by blinking.",
            actions.set_sensor_alarm,
        ),
        Command(
            "set error",
            (integer("CODE", 0, 31), optional(_ADDRESS_OR_ALL)),
            "VE.Bus error of a unit or all; 0: none.",
            actions.set_error,
        ),
        Command("set charge", (member("STATE", ChargeState),), "Go to a charge state.", actions.set_charge),
        Command(
            "set noise",
            (number("FACTOR", 0, 10),),
            "How much mains and load wander; 0: still.",
            actions.set_noise,
        ),
        Command(
            "set latency",
            (number("MS", 0, 10_000, "ms"),),
            "Time the units take to answer.",
            actions.set_latency,
        ),
        Command(
            "set setting",
            (_ADDRESS, integer("ID", 0, 255), integer("RAW", 0, 0xFFFF)),
            "Store a setting in a unit, as other software would.",
            actions.set_setting,
        ),
        Command(
            "switch", (member("POSITION", FrontSwitch),), "Turn the switch on the units.", actions.switch
        ),
        Command(
            "press",
            (
                integer("MODE", 1, 4),
                number("AMPS", 0, 3000, "A"),
                optional(choice("FORM", {"plain": False, "bit3": True})),
            ),
            "Another panel acts: 1 charger only, 2 inverter only, 3 on, 4 off, and current limit.",
            actions.press,
        ),
        Command("plug", (), "Put the cable in; says the port.", actions.plug),
        Command("unplug", (), "Pull the cable out.", actions.unplug),
        Command("sleep", (), "Let the units fall asleep.", actions.sleep),
        Command("wake", (), "Wake the units.", actions.wake),
        Command(
            "adapter fault",
            (choice("FAULT", {"none": "", "silent": "silent", "stuck": "stuck"}),),
            "silent: sends nothing; stuck: sends its version once a second and answers nothing.",
            actions.adapter_fault,
        ),
        Command(
            "adapter reset",
            (),
            "Power gone for a moment: address, flags and speed forgotten.",
            actions.adapter_reset,
        ),
        Command(
            "adapter speed",
            (choice("BAUDRATE", {str(speed): speed for speed in (LOW_BAUDRATE, HIGH_BAUDRATE)}),),
            "Be at a speed, as a program that crashed left it.",
            actions.adapter_speed,
        ),
        Command(
            "adapter speed-fault",
            (member("FAULT", SpeedFault), optional(_PERCENT)),
            "What goes wrong with high speed; PERCENT: share of bad frames.",
            actions.adapter_speed_fault,
        ),
        Command(
            "adapter foreign",
            (integer("EVERY", 0, 1000),),
            "At high speed every n-th F 07 is answered by another unit; 0: none.",
            actions.adapter_foreign,
        ),
        Command(
            "adapter takes",
            (either(integer("MOST", 1, 10), "any"),),
            "Most requests that may be outstanding; the adapter loses what comes on top.",
            actions.adapter_takes,
        ),
        Command(
            "adapter knows",
            (choice("WHAT", {"addressed": "addressed", "high-speed": "high_speed"}), _KNOWN),
            "Whether it knows the addressed forms x y z, or N.",
            actions.adapter_knows,
        ),
        Command("unit leave", (_ADDRESS,), "A unit vanishes from VE.Bus.", actions.unit_leave),
        Command("unit join", (_ADDRESS,), "It comes back.", actions.unit_join),
        Command("unit reset", (_ADDRESS_OR_ALL,), "Reset a unit or all.", actions.unit_reset),
        Command(
            "unit replace",
            (_ADDRESS, choice("PRODUCT", {name: name for name in PRODUCTS})),
            "Another product in its place, with default settings; products lists them.",
            actions.unit_replace,
        ),
        Command(
            "unit firmware",
            (_ADDRESS, integer("FIRMWARE", 100, 999)),
            "The same product with another firmware in its place.",
            actions.unit_firmware,
        ),
        Command(
            "unit answer",
            (
                _ADDRESS,
                integer("COMMAND", 0, 0xFF),
                _ANSWER,
                optional(either(integer("TIMES", 1, 1000), "always")),
            ),
            "How a unit answers a winmon command, once or several times; lost: after doing it.",
            actions.unit_answer,
        ),
        Command(
            "damage",
            (_DIRECTION, _DAMAGE, _PERCENT, optional(number("MS", 0, 60_000, "ms"))),
            "Damage bytes (loss, flip, insert) or pieces (duplicate, delay), to the adapter (in) or from it.",
            actions.damage,
        ),
        Command("damage none", (), "An undamaged line.", actions.damage_none),
        Command("status", (), "The present state of everything.", actions.status),
        Command(
            "store",
            (optional(_ADDRESS_OR_ALL), optional(integer("ID", 0, 255))),
            "Settings: unit, id, stored, in effect, times written.",
            actions.store,
        ),
        Command(
            "writes",
            (optional(_ADDRESS_OR_ALL),),
            "Settings that were written to EEPROM, how often.",
            actions.writes,
        ),
        Command("ram", (_ADDRESS, integer("ID", 0, 255)), "Raw value of a RAM variable.", actions.ram),
        Command("panels", (_COUNT,), "The last panel frames that reached VE.Bus.", actions.panels),
        Command(
            "log",
            (_COUNT, optional(member("KIND", Kind))),
            "The last events, perhaps of one kind.",
            actions.log,
        ),
        Command("traffic", (_COUNT,), "The last frames in both directions.", actions.traffic),
        Command("counts", (), "Events counted by kind and reason.", actions.counts),
        Command("outstanding", (), "How many requests were outstanding at once.", actions.outstanding),
        Command("forget", (), "Empty the log and begin to count anew.", actions.forget),
        Command("products", (), "Products for unit replace.", actions.products),
        Command(
            "help",
            (
                optional(Argument("COMMAND", str, "the first word of commands")),
                optional(Argument("WORD", str, "the second word")),
            ),
            "All commands, or more about some.",
            _help,
        ),
    )
}
"""All commands by name."""
