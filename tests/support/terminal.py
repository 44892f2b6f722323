"""A pseudo-terminal, and what a program has drawn on it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import termios
from typing import Any

LIMIT_S = 20.0
"""Far more than anything takes; a test that needs it has failed."""

_SEQUENCE = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])")
_ALTERNATE, _CURSOR = "1049", "25"


class Screen:
    """The side of the person: ``theirs`` is the terminal that the program gets, to be closed after its start.

    Knows what a program needs that puts whole lines at places: positions, erasing, modes.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self._ours, self.theirs = pty.openpty()
        self.raw = ""
        self.modes: set[str] = set()
        self.coloured = False
        self._rest = ""
        self._place = (0, 0)
        self._more = asyncio.Event()
        self.resize(columns, rows)
        asyncio.get_running_loop().add_reader(self._ours, self._read)

    def resize(self, columns: int, rows: int) -> None:
        self._lines = [""] * rows
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self._lines]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def own_screen(self) -> bool:
        """Whether the program draws on a screen of its own."""
        return _ALTERNATE in self.modes

    @property
    def cursor(self) -> bool:
        return _CURSOR not in self.modes

    def line_mode(self) -> bool:
        """Whether the terminal does what a shell wants: echo, lines, signals from keys."""
        flags = termios.tcgetattr(self._ours)[3]
        wanted = termios.ECHO | termios.ICANON | termios.ISIG
        return flags & wanted == wanted

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    async def shows(self, *texts: str) -> None:
        await self.until(lambda: all(text in self.text for text in texts), texts)

    async def until(self, condition: Any, wanted: object = "the condition") -> None:
        try:
            async with asyncio.timeout(LIMIT_S):
                while not condition():
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"never showed {wanted}:\n{self.text}\n{self.raw[-500:]!r}") from None

    def close(self) -> None:
        """Hang up."""
        asyncio.get_running_loop().remove_reader(self._ours)
        os.close(self._ours)

    def _read(self) -> None:
        try:
            data = os.read(self._ours, 65536).decode(errors="replace")
        except OSError:
            # EIO: the other side is closed.
            asyncio.get_running_loop().remove_reader(self._ours)
            data = ""
        self.raw += data
        self._show(self._rest + data)
        self._more.set()

    def _show(self, text: str) -> None:
        at = 0
        while at < len(text):
            if text[at] != "\x1b":
                end = text.find("\x1b", at)
                end = len(text) if end < 0 else end
                self._write(text[at:end])
                at = end
                continue
            found = _SEQUENCE.match(text, at)
            if found is None:
                break
            self._obey(found[1], found[2], found[3])
            at = found.end()
        self._rest = text[at:]

    def _obey(self, private: str, numbers: str, what: str) -> None:
        if private:
            (self.modes.add if (what == "h") != (numbers == _CURSOR) else self.modes.discard)(numbers)
        elif what == "H":
            row, column = (int(number or 1) for number in (numbers or "1;1").split(";"))
            self._place = (row - 1, column - 1)
        elif what == "J":
            self._lines = [""] * len(self._lines)
        elif what == "m":
            self.coloured |= any(30 <= int(number or 0) % 60 < 40 for number in numbers.split(";"))

    def _write(self, text: str) -> None:
        row, column = self._place
        if row < len(self._lines):
            line = self._lines[row].ljust(column)
            self._lines[row] = line[:column] + text + line[column + len(text) :]
        self._place = (row, column + len(text))
