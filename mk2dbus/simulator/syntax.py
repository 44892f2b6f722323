"""Commands as lines of text: how they are declared, and how a line is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any


class CommandError(ValueError):
    """A line that cannot be carried out; the text says why."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One word of a command.

    Attributes:
        name: as help shows it.
        read: from the word to the value; ``ValueError``: does not fit.
        takes: what it takes, for help and errors.
        optional: it may be left out, with all behind it; the action has a default.
    """

    name: str
    read: Callable[[str], Any]
    takes: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """A command.

    Attributes:
        name: one or two words.
        arguments: the words behind it.
        sentence: what it does.
        action: does it, with something to act on and the values; gives lines to print.
    """

    name: str
    arguments: tuple[Argument, ...]
    sentence: str
    action: Callable[..., Iterable[str] | None]

    @property
    def usage(self) -> str:
        """``set mains VOLTS [PHASE] [INPUT]``."""
        words = (f"[{one.name}]" if one.optional else one.name for one in self.arguments)
        return " ".join((self.name, *words))


def parse(line: str, commands: Mapping[str, Command]) -> tuple[Command, list[Any]] | None:
    """The command of a line, and its values; ``None``: the line is empty, or a comment (``#``).

    Raises:
        CommandError: no such command, or wrong arguments.
    """
    words = line.partition("#")[0].split()
    if not words:
        return None
    command, given = _find(words, commands)
    least = sum(not argument.optional for argument in command.arguments)
    if not least <= len(given) <= len(command.arguments):
        raise CommandError(f"usage: {command.usage}")
    return command, [_read(argument, word) for argument, word in zip(command.arguments, given, strict=False)]


def _find(words: Sequence[str], commands: Mapping[str, Command]) -> tuple[Command, Sequence[str]]:
    """The command that a line begins with, and the words behind its name."""
    for length in (2, 1):
        command = commands.get(" ".join(words[:length]))
        if command is not None:
            return command, words[length:]
    family = [name.split()[1] for name in commands if " " in name and name.split()[0] == words[0]]
    if family:
        raise CommandError(f"{words[0]} takes one of {', '.join(family)}")
    raise CommandError(f"unknown command {words[0]!r}; help lists them")


def _read(argument: Argument, word: str) -> Any:
    try:
        return argument.read(word)
    except ValueError:
        raise CommandError(f"{argument.name} takes {argument.takes}, not {word!r}") from None


def number(name: str, low: float, high: float, unit: str = "") -> Argument:
    """A number within limits."""

    def read(word: str) -> float:
        value = float(word)
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(word)
        return value

    return Argument(name, read, f"a number from {low:g} to {high:g} {unit}".rstrip())


def integer(name: str, low: int, high: int) -> Argument:
    """A whole number within limits, decimal or as 0x…."""

    def read(word: str) -> int:
        value = int(word, 0)
        if not low <= value <= high:
            raise ValueError(word)
        return value

    return Argument(name, read, f"a whole number from {low} to {high}")


def choice(name: str, choices: Mapping[str, Any]) -> Argument:
    """One word of several, each with its value."""

    def read(word: str) -> Any:
        if word.casefold() not in choices:
            raise ValueError(word)
        return choices[word.casefold()]

    return Argument(name, read, "one of " + ", ".join(choices))


def member(name: str, members: Iterable[Enum]) -> Argument:
    """A member of an enumeration, by its name in lower case with hyphens."""
    return choice(name, {one.name.casefold().replace("_", "-"): one for one in members})


def either(argument: Argument, word: str, value: Any = None) -> Argument:
    """The same argument, or a word with a meaning of its own."""

    def read(text: str) -> Any:
        return value if text.casefold() == word else argument.read(text)

    return replace(argument, read=read, takes=f"{argument.takes}, or {word}")


def optional(argument: Argument) -> Argument:
    """The same argument, which may be left out."""
    return replace(argument, optional=True)
