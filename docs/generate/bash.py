"""Completion for bash. Needs nothing but bash itself."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from parsers import Argument, Command, Program, Takes

HEAD = """\
# bash completion for mk2dbus. Made by docs/generate from the parsers of the commands.

_mk2dbus() {
    local IFS=$' \\t\\n' current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command='' word options='' kind='' value
    COMPREPLY=()
    for word in "${COMP_WORDS[@]:1:COMP_CWORD - 1}"; do
        if [[ $word != -* ]]; then command=$word; break; fi
    done

    case $command in"""

TAIL = """\
    esac

    # The value of an option, or an argument.
    value=${_mk2dbus_values["$command $previous"]-}
    if [[ -n $value && $current != -* ]]; then kind=$value; elif [[ $current == -* ]]; then kind=options; fi
    case $kind in
        options) COMPREPLY=($(compgen -W "$options" -- "$current")) ;;
        words:*) COMPREPLY=($(compgen -W "${kind#words:}" -- "$current")) ;;
        file) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
        folder) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
        port) COMPREPLY=($(compgen -G "${current:-/dev/}*" | grep -E '^/dev/(tty[A-Z]|mk[23])')) ;;
        item) COMPREPLY=($(compgen -W "$_mk2dbus_items" -- "$current")) ;;
    esac
}

complete -F _mk2dbus mk2dbus"""


def make(program: Program) -> str:
    """The script."""
    return "\n".join(_lines(program)) + "\n"


def _lines(program: Program) -> Iterator[str]:
    yield HEAD
    names = " ".join(command.name for command in program.commands)
    for command in program.commands:
        yield f"        {command.name})"
        yield f"            options={shlex.quote(' '.join(_options(command.options)))}"
        yield f"            kind={shlex.quote(_positional(command))} ;;"
    yield "        '')"
    yield f"            options={shlex.quote(' '.join(_options(program.options)))}"
    yield f"            kind={shlex.quote(f'words:{names}')} ;;"
    yield TAIL
    yield ""
    yield "# What follows an option that takes a value."
    yield "declare -gA _mk2dbus_values=("
    for command in program.commands:
        for argument in command.options:
            if not argument.flags:
                for option in argument.options:
                    yield f"    [{shlex.quote(f'{command.name} {option}')}]={shlex.quote(_kind(argument))}"
    yield ")"
    yield ""
    yield f"_mk2dbus_items={shlex.quote(' '.join(program.items))}"


def _options(arguments: tuple[Argument, ...]) -> list[str]:
    return [option for argument in arguments for option in argument.options]


def _positional(command: Command) -> str:
    """What the arguments are; all of a command are of one kind, or the first says what to complete."""
    return _kind(command.positionals[0]) if command.positionals else "options"


def _kind(argument: Argument) -> str:
    if argument.takes is Takes.WORDS:
        return f"words:{' '.join(argument.words)}"
    return argument.takes.value
