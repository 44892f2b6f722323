"""Numbers on the command line: what argparse makes of a word, or one line that says what there can be."""

from __future__ import annotations

import contextlib
from argparse import ArgumentTypeError
from collections.abc import Callable


def within(least: float, most: float) -> Callable[[str], float]:
    """A number in this range."""

    def read(text: str) -> float:
        with contextlib.suppress(ValueError):
            if least <= (value := float(text)) <= most:
                return value
        raise ArgumentTypeError(f"{text!r} is no number from {least:g} to {most:g}")

    return read


def whole_within(least: int, most: int) -> Callable[[str], int]:
    """A whole number in this range."""

    def read(text: str) -> int:
        with contextlib.suppress(ValueError):
            if least <= (value := int(text)) <= most:
                return value
        raise ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")

    return read
