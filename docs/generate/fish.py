"""Completion for fish."""

from __future__ import annotations

from collections.abc import Iterator

from parsers import Argument, Command, Program, Takes

_VALUES = {
    Takes.TEXT: "-x",
    Takes.FILE: "-rF",
    Takes.FOLDER: "-xa '(__fish_complete_directories)'",
    Takes.PORT: "-xa '(__mk2dbus_ports)'",
    Takes.ITEM: "-xa '(__mk2dbus_items)'",
}


def make(program: Program) -> str:
    """The script."""
    return "\n".join(_lines(program)) + "\n"


def _lines(program: Program) -> Iterator[str]:
    yield "# fish completion for mk2dbus. Made by docs/generate from the parsers of the commands."
    yield ""
    yield "function __mk2dbus_ports"
    yield "    set -l ports /dev/tty* /dev/mk2/* /dev/mk3/*"
    yield "    string match -r '^/dev/(?:tty[A-Z]|mk).*' $ports"
    yield "end"
    yield ""
    yield "function __mk2dbus_items"
    yield f"    string split ' ' {_quote(' '.join(program.items))}"
    yield "end"
    yield ""
    yield "complete -c mk2dbus -f"
    for argument in program.options:
        yield _option("__fish_use_subcommand", argument)
    for command in program.commands:
        yield (f"complete -c mk2dbus -n __fish_use_subcommand -a {command.name} -d {_quote(command.help)}")
        here = f"__fish_seen_subcommand_from {command.name}"
        for argument in command.options:
            yield _option(here, argument)
        yield from _positional(here, command)


def _option(condition: str, argument: Argument) -> str:
    names = [
        f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}" for option in argument.options
    ]
    value = "" if argument.flags else f" {_value(argument)}"
    help = f" -d {_quote(argument.help)}" if argument.help else ""
    return f"complete -c mk2dbus -n {_quote(condition)} {' '.join(names)}{value}{help}"


def _positional(condition: str, command: Command) -> Iterator[str]:
    kinds = {argument.takes: argument for argument in command.positionals}
    for argument in kinds.values():
        if argument.takes is not Takes.TEXT:
            yield f"complete -c mk2dbus -n {_quote(condition)} {_value(argument).replace('-x', '-', 1)}"


def _value(argument: Argument) -> str:
    if argument.takes is Takes.WORDS:
        return f"-xa {_quote(' '.join(argument.words))}"
    return _VALUES[argument.takes]


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
