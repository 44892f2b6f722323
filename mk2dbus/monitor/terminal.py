"""A terminal to draw lines on and to get keys from. The only module that knows the terminal library."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TextIO

from prompt_toolkit.input import Input, create_input, create_pipe_input
from prompt_toolkit.key_binding.key_processor import KeyPress
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import ColorDepth, Output, create_output
from prompt_toolkit.styles import Style

from .dialog import BACKSPACE, ENTER, ESCAPE
from .text import Line, length

QUIT, REDRAW, SUSPEND, TAB = "quit", "redraw", "suspend", "tab"
"""Keys that are no characters, beside those of a dialog."""

STYLES = {
    "title": "bold",
    "bold": "bold",
    "state": "bold ansicyan",
    "key": "bold ansicyan",
    "flow": "ansicyan",
    "volts": "ansiblue",
    "charge": "ansigreen",
    "discharge": "ansiyellow",
    "good": "ansigreen",
    "warn": "ansiyellow",
    "bad": "bold ansired",
    "frame": "ansibrightblack",
    "dim": "ansibrightblack",
    "note": "",
}
"""What a :data:`.text.Span` can be. Colours of the terminal itself, so that they suit its background."""

_KEYS = {
    Keys.ControlM: ENTER,
    Keys.ControlJ: ENTER,
    Keys.Escape: ESCAPE,
    Keys.ControlH: BACKSPACE,
    Keys.ControlI: TAB,
    Keys.ControlC: QUIT,
    Keys.ControlL: REDRAW,
    Keys.ControlZ: SUSPEND,
}

_ESCAPE_S = 0.1
"""After this an escape is a key of its own, and not the beginning of another."""


class Terminal:
    """Ours from :meth:`take` to :meth:`give_back`, which leaves it as it was.

    Args:
        on_key: takes a character, or the name of another key.
        on_resize: called after the size changed; everything has to be drawn anew.
        on_lost: called when nothing more can come from it.
        colour: False for none.
        input: where keys come from; None: the terminal.
        output: where to draw; None: the terminal.

    What is written raises OSError when the terminal is gone.
    """

    def __init__(
        self,
        on_key: Callable[[str], None],
        on_resize: Callable[[], None],
        on_lost: Callable[[], None],
        *,
        colour: bool = True,
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        self._on_key = on_key
        self._on_resize = on_resize
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._colour = colour
        self._given = output
        self._output: Output
        style = Style.from_dict(STYLES)
        self._attributes = {name: style.get_attrs_for_style_str(f"class:{name}") for name in STYLES}
        self._keyboard = nullcontext(input) if input else _keyboard()
        self._input: Input
        self._taken = ExitStack()
        self._drawn: list[Line] = []
        self._flush: asyncio.TimerHandle | None = None

    def take(self) -> None:
        """A screen of our own, without a cursor, and the keys as they are pressed."""
        self._output = self._given or create_output(self._taken.enter_context(_paper()))
        self._depth = self._output.get_default_color_depth() if self._colour else ColorDepth.DEPTH_1_BIT
        self._input = self._taken.enter_context(self._keyboard)
        self._taken.enter_context(self._input.attach(self._readable))
        self._loop.add_signal_handler(signal.SIGWINCH, self._resized)
        self._taken.callback(self._loop.remove_signal_handler, signal.SIGWINCH)
        self._raw = ExitStack()
        self._taken.callback(self._leave)
        self._enter()

    def give_back(self) -> None:
        """As it was before :meth:`take`; does nothing when it never was."""
        if self._flush is not None:
            self._flush.cancel()
        self._taken.close()

    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        size = self._output.get_size()
        return size.columns, size.rows

    def draw(self, lines: Sequence[Line]) -> None:
        """Bring the lines that are not there yet, each as wide as the terminal."""
        output = self._output
        # All of them at first, after a redraw or a resize; its signal may come after the new size.
        known: Sequence[Line | None] = self._drawn
        if len(known) != len(lines):
            known = [None] * len(lines)
        for row, (line, before) in enumerate(zip(lines, known, strict=True)):
            if line == before:
                continue
            column, changed = _changed(line, before or ())
            output.cursor_goto(row + 1, column + 1)
            for style, text in changed:
                if style:
                    output.set_attributes(self._attributes[style], self._depth)
                output.write(text)
                if style:
                    output.reset_attributes()
        self._drawn = list(lines)
        output.flush()

    def forget(self) -> None:
        """Something else may be on the screen: the next drawing brings everything."""
        self._drawn = []
        self._output.erase_screen()

    def suspend(self) -> None:
        """Into the background, as Ctrl-Z does; returns when we are in the foreground again."""
        self._leave()
        # The group: a script that runs us is to stop as well.
        os.kill(0, signal.SIGTSTP)
        self._enter()

    def _enter(self) -> None:
        self._raw.enter_context(self._input.raw_mode())
        output = self._output
        output.enter_alternate_screen()
        output.hide_cursor()
        output.disable_autowrap()
        # What is pasted comes as one key, which is none of ours: a paste must not write anything.
        output.enable_bracketed_paste()
        self.forget()
        output.flush()

    def _leave(self) -> None:
        # The modes of the terminal also when it takes no more output.
        with self._raw:
            output = self._output
            output.reset_attributes()
            output.disable_bracketed_paste()
            output.enable_autowrap()
            output.show_cursor()
            output.quit_alternate_screen()
            output.flush()

    def _resized(self) -> None:
        self.forget()
        self._on_resize()

    def _readable(self) -> None:
        self._take_keys(self._input.read_keys())
        if self._input.closed:
            self._on_lost()
            return
        if self._flush is not None:
            self._flush.cancel()
        self._flush = self._loop.call_later(_ESCAPE_S, lambda: self._take_keys(self._input.flush_keys()))

    def _take_keys(self, presses: Sequence[KeyPress]) -> None:
        for press in presses:
            if not isinstance(press.key, Keys):
                self._on_key(press.key)
            elif press.key in _KEYS:
                self._on_key(_KEYS[press.key])


def _changed(line: Line, before: Line) -> tuple[int, Line]:
    """What of a line has to be written, and in which column it begins; both are equally wide."""
    start, end = 0, 0
    shortest = min(len(line), len(before))
    while start < shortest and line[start] == before[start]:
        start += 1
    while end < shortest - start and line[-1 - end] == before[-1 - end]:
        end += 1
    return length(line[:start]), line[start : len(line) - end]


def _paper() -> TextIO:
    """The terminal on stdout; buffered also with PYTHONUNBUFFERED, where a signal would cut a write short."""
    encoding = sys.stdout.encoding
    return open(sys.stdout.fileno(), "w", encoding=encoding, errors="replace", closefd=False)


def _keyboard() -> AbstractContextManager[Input]:
    """The terminal, also where stdin is something else; where it cannot be read, no key ever comes."""
    if sys.stdin is not None and sys.stdin.isatty():
        return nullcontext(create_input(sys.stdin))
    if fcntl.fcntl(sys.stdout, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR:
        return nullcontext(create_input(sys.stdout))
    return create_pipe_input()
