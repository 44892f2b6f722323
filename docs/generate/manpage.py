"""The manual page, in the man macros."""

from __future__ import annotations

import re
from collections.abc import Iterator

from parsers import Argument, Command, Program

ABOUT = """\
The service owns the name com.victronenergy.vebus.PORT on D-Bus, for example com.victronenergy.vebus.ttyUSB0,
and shows measured values, settings and flags of the inverters behind an adapter as objects. The other
commands talk to it, simulate an adapter, or set the service up on a machine.

PATH is an object on the bus (/Dc/0/Voltage), or its end where that is unambiguous (AbsorptionVoltage).

Nothing is commanded that nobody asked for: starting, stopping and reading change nothing on the inverter."""

EXIT_STATUS = (
    ("0", "Done."),
    ("1", "Something was refused or failed; for diff: something differs."),
    ("2", "Wrong usage, or no bus or service to talk to."),
)

ENVIRONMENT = (
    ("DBUS_SYSTEM_BUS_ADDRESS, DBUS_SESSION_BUS_ADDRESS", "Where the buses are."),
    ("XDG_STATE_HOME", "Where run keeps what it must remember, for other users than root."),
    ("NO_COLOR", "monitor draws without colours."),
)

FILES = (
    (
        "/etc/mk2dbus/INSTANCE.conf",
        "Options of run for an instance of the service: OPTIONS=--log-level debug",
    ),
    ("/var/lib/mk2dbus/", "What the service remembers: energy, scales of settings, name and instance."),
    ("com.victronenergy.vebus.conf", "Who may own, read and write; in one of the system.d folders of D-Bus."),
)

EXAMPLES = (
    ("Try it without hardware, in two terminals", ("mk2dbus run --simulate --bus session",)),
    ("", ("mk2dbus monitor --bus session",)),
    ("Save all settings, change one, and have the old ones back", (
        "mk2dbus backup my-inverter.toml",
        "mk2dbus set AbsorptionVoltage 57.1",
        "mk2dbus restore my-inverter.toml",
    )),
    ("Switch the charger off until the next reset, without wearing EEPROM", (
        "mk2dbus set --ram-only DisableCharger yes",
    )),
)  # fmt: skip


def make(program: Program) -> str:
    """The page."""
    return "\n".join((*_head(program), *_commands(program), *_tail())) + "\n"


def _head(program: Program) -> Iterator[str]:
    yield r".\" Made by docs/generate from the parsers of the commands."
    yield f'.TH MK2DBUS 1 "" "mk2dbus {program.version}" "User Commands"'
    yield ".nh"
    yield ".ad l"
    yield ".SH NAME"
    summary = program.description.rstrip(".")
    yield rf"mk2dbus \- {_plain(summary)}"
    yield ".SH SYNOPSIS"
    yield ".B mk2dbus"
    yield r"\fICOMMAND\fR [\fIARGUMENTS\fR]"
    yield ".SH DESCRIPTION"
    yield from _paragraphs(ABOUT)
    yield ".PP"
    yield _plain(program.epilog)
    yield ".SH OPTIONS"
    yield from _entries(program.options)


def _commands(program: Program) -> Iterator[str]:
    yield ".SH COMMANDS"
    for command in program.commands:
        yield f'.SS "mk2dbus {command.name}"'
        yield _usage(command)
        yield ".PP"
        yield _plain(command.description or f"{command.help[:1].upper()}{command.help[1:]}.")
        own = [argument for argument in command.arguments if "--help" not in argument.options]
        yield from _entries(own)
        if command.epilog:
            yield from _verbatim(command.epilog.splitlines())


def _usage(command: Command) -> str:
    words = command.usage.split() or list(_words(command))
    return rf"\fBmk2dbus {_plain(command.name)}\fR {' '.join(map(_plain, words))}".rstrip()


def _words(command: Command) -> Iterator[str]:
    options = [argument for argument in command.options if "--help" not in argument.options]
    needed = [argument for argument in options if argument.required]
    needed += [group[0] for group in command.exclusive if _one_is_needed(command, group)]
    alternatives = {id(argument) for group in command.exclusive for argument in group}
    if any(argument not in needed and id(argument) not in alternatives for argument in options):
        yield "[OPTION…]"
    for group in command.exclusive:
        text = " | ".join(_form(argument) for argument in group)
        yield f"({text})" if _one_is_needed(command, group) else f"[{text}]"
    for argument in command.positionals:
        form = f"{argument.value}…" if argument.repeated else argument.value
        yield form if argument.required else f"[{form}]"


def _one_is_needed(command: Command, group: tuple[Argument, ...]) -> bool:
    return command.name == "run" and group[0].options == ("--tty",)


def _form(argument: Argument) -> str:
    option = argument.options[-1]
    if argument.flags:
        return option
    return f"{option} [{argument.value}]" if argument.value_optional else f"{option} {argument.value}"


def _entries(arguments: list[Argument] | tuple[Argument, ...]) -> Iterator[str]:
    for argument in arguments:
        if not argument.help:
            continue  # what it is the description says
        yield ".TP"
        if argument.options:
            names = ", ".join(rf"\fB{_plain(option)}\fR" for option in argument.options)
            value = rf"\fI{_plain(argument.value)}\fR" if argument.value else ""
            yield names + (f" [{value}]" if argument.value_optional else f" {value}").rstrip()
        else:
            yield rf"\fI{_plain(argument.value)}\fR"
        yield _plain(_sentence(argument.help))


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", ")")) else f"{text}."


def _tail() -> Iterator[str]:
    yield ".SH EXIT STATUS"
    yield from _pairs(EXIT_STATUS)
    yield ".SH ENVIRONMENT"
    yield from _pairs(ENVIRONMENT)
    yield ".SH FILES"
    yield from _pairs(FILES)
    yield ".SH EXAMPLES"
    for title, lines in EXAMPLES:
        if title:
            yield ".PP"
            yield _plain(f"{title}:")
        yield from _verbatim(lines)
    yield ".SH SEE ALSO"
    yield ".BR busctl (1),"
    yield ".BR dbus-daemon (1),"
    yield ".BR systemctl (1)"


def _pairs(pairs: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for name, text in pairs:
        yield ".TP"
        yield rf"\fB{_plain(name)}\fR"
        yield _plain(text)


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield ".PP"
        yield from map(_plain, paragraph.splitlines())


def _verbatim(lines: list[str] | tuple[str, ...]) -> Iterator[str]:
    yield ".PP"
    yield ".nf"
    yield ".RS 4"
    yield from map(_plain, lines)
    yield ".RE"
    yield ".fi"


def _plain(text: str) -> str:
    """Text as it is: nothing in it is a request, a hyphen of an option is a minus."""
    text = text.replace("\\", r"\e")
    text = re.sub(r"(?<![A-Za-z0-9])-{1,2}(?=[A-Za-z0-9])", lambda found: r"\-" * len(found[0]), text)
    text = text.replace("…", "...")
    return rf"\&{text}" if text.startswith((".", "'")) else text
