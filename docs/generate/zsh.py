"""Completion for zsh."""

from __future__ import annotations

from collections.abc import Iterator

from parsers import Argument, Command, Program, Takes

_ACTIONS = {
    Takes.TEXT: " ",
    Takes.FILE: "_files",
    Takes.FOLDER: "_files -/",
    Takes.PORT: "_files -g '/dev/(tty[A-Z]|mk[23])*'",
    Takes.ITEM: "_mk2dbus_items",
}


def make(program: Program) -> str:
    """The function."""
    return "\n".join(_lines(program)) + "\n"


def _lines(program: Program) -> Iterator[str]:
    yield "#compdef mk2dbus"
    yield "# Made by docs/generate from the parsers of the commands."
    yield ""
    yield "_mk2dbus_items() {"
    yield "    local -a items"
    yield f"    items=({' '.join(program.items)})"
    yield "    compadd -a items"
    yield "}"
    yield ""
    yield "_mk2dbus() {"
    yield "    local curcontext=$curcontext state line"
    yield "    local -a commands"
    yield "    commands=("
    for command in program.commands:
        yield f"        {_quote(f'{command.name}:{command.help}')}"
    yield "    )"
    yield "    _arguments -C \\"
    for argument in program.options:
        yield from (f"        {specification} \\" for specification in _specifications(argument))
    yield "        '1: :->command' '*:: :->arguments'"
    yield "    case $state in"
    yield "        command) _describe -t commands command commands ;;"
    yield "        arguments)"
    yield "            case $line[1] in"
    for command in program.commands:
        yield f"                {command.name}) _arguments -s {' '.join(_of(command))} ;;"
    yield "            esac ;;"
    yield "    esac"
    yield "}"
    yield ""
    yield '_mk2dbus "$@"'


def _of(command: Command) -> Iterator[str]:
    for argument in command.options:
        yield from _specifications(argument)
    for number, argument in enumerate(command.positionals, 1):
        place = "*" if argument.repeated else f"{number}" if argument.required else f"{number}:"
        yield _quote(f"{place}:{_plain(argument.value)}:{_action(argument)}")


def _specifications(argument: Argument) -> Iterator[str]:
    for option in argument.options:
        text = f"{option}[{_plain(argument.help)}]"
        if not argument.flags:
            text += f"{'::' if argument.value_optional else ':'}{_plain(argument.value)}:{_action(argument)}"
        yield _quote(text)


def _action(argument: Argument) -> str:
    return f"({' '.join(argument.words)})" if argument.takes is Takes.WORDS else _ACTIONS[argument.takes]


def _plain(text: str) -> str:
    """Without what means something in a specification."""
    for mark in "\\:[]":
        text = text.replace(mark, f"\\{mark}")
    return text


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
