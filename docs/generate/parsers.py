"""The parsers of the commands as data: what the manual page and the completions are made of."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mk2dbus import __version__
from mk2dbus.cli import build_parser
from mk2dbus.simulator import PROFILES
from mk2dbus.vebus.paths import declared_leaves
from mk2dbus.vebus.tables import flags, settings


class Takes(Enum):
    """What an argument is, for whoever completes it."""

    NOTHING = "nothing"
    TEXT = "text"
    WORDS = "words"
    FILE = "file"
    FOLDER = "folder"
    PORT = "port"
    ITEM = "item"
    """An object on the bus, or the end of its path."""


_BY_DESTINATION = {
    "tty": Takes.PORT,
    "state_dir": Takes.FOLDER,
    "root": Takes.FOLDER,
    "paths": Takes.ITEM,
    "globs": Takes.ITEM,
    "words": Takes.ITEM,
    "file": Takes.FILE,
    "other": Takes.FILE,
    "capture": Takes.FILE,
    "control": Takes.FILE,
    "link": Takes.FILE,
    "socket": Takes.FILE,
    "sim_control": Takes.FILE,
}
_WORDS = {
    "bus": ("system", "session"),
    "profile": tuple(PROFILES),
    "simulate": tuple(PROFILES),
}


@dataclass(frozen=True)
class Argument:
    """An option, or an argument without a name: ``options`` is empty then."""

    options: tuple[str, ...]
    value: str
    """What stands for the value in a description; empty: it has none."""
    help: str
    takes: Takes
    words: tuple[str, ...]
    required: bool
    repeated: bool
    value_optional: bool

    @property
    def flags(self) -> bool:
        """It is there or not."""
        return self.takes is Takes.NOTHING


@dataclass(frozen=True)
class Command:
    """A command of the program."""

    name: str
    help: str
    description: str
    epilog: str
    usage: str
    arguments: tuple[Argument, ...]
    exclusive: tuple[tuple[Argument, ...], ...]
    """Of each of these, one or none; one if the first is required."""

    @property
    def options(self) -> tuple[Argument, ...]:
        return tuple(argument for argument in self.arguments if argument.options)

    @property
    def positionals(self) -> tuple[Argument, ...]:
        return tuple(argument for argument in self.arguments if not argument.options)


@dataclass(frozen=True)
class Program:
    """The whole of it."""

    name: str
    version: str
    description: str
    epilog: str
    options: tuple[Argument, ...]
    commands: tuple[Command, ...]
    items: tuple[str, ...]
    """What can be typed for an object: paths, and names of settings and flags."""


def program() -> Program:
    """The program as its parsers have it."""
    parser = build_parser()
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    helps = {choice.dest: choice.help or "" for choice in commands._choices_actions}
    return Program(
        name=parser.prog,
        version=__version__,
        description=parser.description or "",
        epilog=parser.epilog or "",
        options=tuple(_arguments(parser)),
        commands=tuple(_command(name, each, helps[name]) for name, each in commands.choices.items()),
        items=tuple(_items()),
    )


def _command(name: str, parser: argparse.ArgumentParser, help: str) -> Command:
    by_action = {id(action): _argument(action) for action in _shown(parser)}
    groups = tuple(
        tuple(by_action[id(action)] for action in group._group_actions)
        for group in parser._mutually_exclusive_groups
    )
    usage = (parser.usage or "").replace("%(prog)s", "").strip()
    return Command(
        name,
        help,
        " ".join((parser.description or "").split()),
        parser.epilog or "",
        usage,
        tuple(by_action.values()),
        groups,
    )


def _shown(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction) and action.help is not argparse.SUPPRESS:
            yield action


def _arguments(parser: argparse.ArgumentParser) -> Iterator[Argument]:
    return map(_argument, _shown(parser))


def _argument(action: argparse.Action) -> Argument:
    takes, words = _takes(action)
    return Argument(
        options=tuple(action.option_strings),
        value="" if takes is Takes.NOTHING else _value(action),
        help=" ".join((action.help or "").replace("%%", "%").split()) % _Values(action),
        takes=takes,
        words=words,
        required=action.required if action.option_strings else action.nargs not in ("?", "*"),
        repeated=action.nargs in ("+", "*"),
        value_optional=bool(action.option_strings) and action.nargs == "?",
    )


class _Values(dict[str, Any]):
    """What ``%(default)s`` and its like stand for in a help text."""

    def __init__(self, action: argparse.Action) -> None:
        super().__init__(vars(action))


def _takes(action: argparse.Action) -> tuple[Takes, tuple[str, ...]]:
    if action.nargs == 0:
        return Takes.NOTHING, ()
    if action.choices is not None:
        return Takes.WORDS, tuple(map(str, action.choices))
    if action.dest in _WORDS:
        return Takes.WORDS, _WORDS[action.dest]
    return _BY_DESTINATION.get(action.dest, Takes.TEXT), ()


def _value(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return action.dest.upper()


def _items() -> Iterator[str]:
    for leaf in declared_leaves():
        yield re.sub("<[nk]>", "0", leaf.path)
    yield from sorted({setting.name for setting in settings().values() if "NotDefined" not in setting.name})
    yield from sorted({flag.name for flag in flags().values() if flag.name})
