"""Recordings of a port: text files with a frame a line, made by ``mk2dbus capture`` and read by ``replay``.

::

    # mk2dbus recording 1
    # mk2dbus 0.1.0, 2025-11-22T08:00:00+00:00
    # /dev/ttyUSB0
        0.000 → 02 FF 56 A9
        0.071 ← 07 FF 56 24 DB 11 00 42 52

Seconds since the beginning, direction, bytes: a frame, or bytes between frames. A line holds what was
complete at that time. Other forms are read too: without times, with ``>`` and ``<``, with ``[titles]``
between recordings, and the log of ``mk2dbus run --log-level debug``.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from mk2dbus import __version__
from mk2dbus.decode.decoder import Direction
from mk2dbus.decode.errors import CannotRecord, NotARecording
from mk2dbus.decode.redact import Redactor
from mk2dbus.decode.stream import Piece, Stream
from mk2dbus.mk2.framing import hex_bytes

log = logging.getLogger(__name__)

FORMAT = 1
MAX_LINE = 4096
"""Characters; a line of a recording is far shorter, anything longer is another kind of file."""

_MAGIC = "# mk2dbus recording"
_TIME = r"\d{1,9}\.\d{1,6}"
_HEX = r"[0-9A-Fa-f]{2}(?: ?[0-9A-Fa-f]{2})*"
_LINE = re.compile(rf"\s*(?:({_TIME})\s+)?([→←<>])\s*({_HEX})\s*(?:#.*|\s\s.*)?")
_LOG_LINE = re.compile(
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:,\d{3})?)?.*?\b(?:DEBUG|INFO|WARNING|ERROR) (mk2dbus[.\w]*): (.*)"
)
_JOURNAL_LINE = "-- "
"""How lines of journalctl about the journal begin."""
_WIRE = "mk2dbus.wire"
_ARROWS = {"→": Direction.SENT, ">": Direction.SENT, "←": Direction.RECEIVED, "<": Direction.RECEIVED}


# --- writing -------------------------------------------------------------------------------------------


class Recorder:
    """Writes the traffic of a port as it happens.

    A disk that fails ends the recording, never the traffic: it is said once, in the log.

    Args:
        path: the file. One of an earlier run, and one that has reached ``limit``, is kept as ``path.1``.
        about: lines for the head of the file.
        anonymous: leave out serial numbers; passwords never get in.
        limit: bytes that a file takes; ``None`` for no limit.

    Raises:
        CannotRecord: the file cannot be made.
    """

    def __init__(
        self, path: Path, about: Sequence[str], *, anonymous: bool = True, limit: int | None = None
    ) -> None:
        self._path = path
        self._about = about
        self._limit = limit
        self._redactor = Redactor(anonymous)
        self._streams = {direction: Stream() for direction in Direction}
        self._begin: float | None = None
        self._size = 0
        self._file: TextIO | None = None
        try:
            self._open()
        except OSError as error:
            raise CannotRecord(f"cannot record to {path}: {error.strerror}") from error

    def feed(self, direction: Direction, data: bytes, now: float) -> None:
        """Bytes that went over the line at ``now``, in seconds by any clock."""
        if self._begin is None:
            self._begin = now
        other = Direction.SENT if direction is Direction.RECEIVED else Direction.RECEIVED
        self._write_pieces(other, self._streams[other].expire(now), now)
        self._write_pieces(direction, self._streams[direction].feed(data, now), now)

    def note(self, text: str) -> None:
        """A comment between the lines."""
        self._write(f"# {text}\n")

    def close(self) -> None:
        """Write what is left, and close the file. Closing twice does nothing."""
        for direction, stream in self._streams.items():
            self._write_pieces(direction, stream.flush(), None)
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                log.error("the recording %s may be incomplete: %s", self._path, error.strerror)

    def _write_pieces(self, direction: Direction, pieces: Iterable[Piece], now: float | None) -> None:
        for piece in pieces:
            if piece.frame is None:
                data = self._redactor.others(piece.data)
            else:
                data = bytes(self._redactor.frame(direction is Direction.SENT, piece.frame))
            time = f"{now - (self._begin or 0.0):9.3f}" if now is not None else " " * 9
            self._write(f"{time} {direction.value} {hex_bytes(data)}\n")

    def _open(self) -> None:
        if os.path.lexists(self._path):
            if not stat.S_ISREG(self._path.lstat().st_mode):
                raise FileExistsError(errno.EEXIST, "exists and is no ordinary file", str(self._path))
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        # A line is written whole, and at once: what is there after a crash can be read.
        self._file = self._path.open("x", encoding="utf-8", buffering=1)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._size = 0
        about = (f"mk2dbus {__version__}, {now}", *self._about)
        self._put("".join(f"{line}\n" for line in (f"{_MAGIC} {FORMAT}", *(f"# {text}" for text in about))))

    def _put(self, line: str) -> None:
        assert self._file is not None
        self._file.write(line)
        self._size += len(line.encode())

    def _write(self, line: str) -> None:
        if self._file is None:
            return
        try:
            self._put(line)
            if self._limit is not None and self._size >= self._limit:
                self._file.close()
                self._open()
        except OSError as error:
            log.error("the recording %s ends: %s", self._path, error.strerror)
            file, self._file = self._file, None
            # It would fail the same way.
            with contextlib.suppress(OSError):
                file.close()


def about_port(tty: str) -> str:
    """A line for the head: the port itself, as links to it may be named after the adapter's serial number."""
    return str(Path(tty).resolve())


# --- reading -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of one direction; ``time`` in seconds where the recording tells it."""

    direction: Direction
    data: bytes
    time: float | None = None


@dataclass(frozen=True, slots=True)
class Title:
    """What follows is another recording."""

    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """A comment, a blank line, a line of the log that is not about the wire."""

    text: str


Item = Traffic | Title | Note


def read(path: Path) -> Iterator[Item]:
    """What a recording holds, in order.

    A last line that is cut off (a crash, a full disk) is left out, with a note.

    Raises:
        OSError: the file cannot be read.
        NotARecording: it holds something else.
    """
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        found = in_log = False
        number = 0
        while line := file.readline(MAX_LINE):
            number += 1
            in_log = in_log or _LOG_LINE.match(line) is not None
            item = _parse(line.strip()) if len(line) < MAX_LINE else None
            if item is None and in_log:
                item = Note(line.strip())
            if item is None:
                if found and not line.endswith("\n") and len(line) < MAX_LINE:
                    yield Note(f"# the last line is cut off: {line}")
                    break
                raise NotARecording(f"{path}, line {number}: {_complaint(line)}")
            if isinstance(item, Note) and (version := _version(item.text)) > FORMAT:
                raise NotARecording(
                    f"{path} has format {version}, this mk2dbus knows {FORMAT}: a newer one can read it"
                )
            found = found or isinstance(item, Traffic)
            yield item
        if not found:
            raise NotARecording(f"{path} is no recording: no line of it has traffic such as → 02 FF 56 A9")


def _parse(line: str) -> Item | None:
    if not line or line.startswith(("#", _JOURNAL_LINE)):
        return Note(line)
    if line.startswith("[") and line.endswith("]"):
        return Title(line)
    time = None
    logged = _LOG_LINE.match(line)
    if logged is not None:
        if logged[2] != _WIRE:
            return Note(line)
        time, line = _seconds(logged[1]), logged[3]
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    if found[1] is not None:
        time = float(found[1])
    return Traffic(_ARROWS[found[2]], bytes.fromhex(found[3]), time)


def _seconds(stamp: str | None) -> float | None:
    """Time of day in a log line; only differences matter."""
    if stamp is None:
        return None
    try:
        return datetime.fromisoformat(stamp.replace(",", ".")).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _version(text: str) -> int:
    number = text.removeprefix(_MAGIC).strip()
    return int(number) if text.startswith(_MAGIC) and number.isdecimal() and len(number) < 9 else 0


def _complaint(line: str) -> str:
    shown = line.strip()
    shown = repr(shown) if len(shown) <= 40 else f"{shown[:40]!r:.60}…"
    return f"{shown} is no traffic; a line of a recording looks like → 02 FF 56 A9"
