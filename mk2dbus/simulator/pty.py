"""A pseudo-terminal that looks like a serial port, and the link to it. Nothing of the protocol is here."""

from __future__ import annotations

import errno
import os
import termios
import tty
from contextlib import suppress
from pathlib import Path

_SPEEDS = {
    getattr(termios, f"B{speed}"): speed
    for speed in (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400)
}
_READ_SIZE = 4096
_POWER_ON_SPEED = termios.B2400


class Pty:
    """A pseudo-terminal in raw mode, without echo, non-blocking on our side.

    The client's side is kept open here as well, so a client can close and open it again.

    Args:
        link: symbolic link to make; ``None``: none.

    Raises:
        FileExistsError: something else than a dangling link is at ``link``.
        OSError: no pseudo-terminal, or the link cannot be made.
    """

    def __init__(self, link: Path | None = None) -> None:
        self.dropped_bytes = 0
        """Bytes nobody read until the terminal's buffer was full."""
        self._link = link
        self._master, self._slave = os.openpty()
        try:
            tty.setraw(self._slave)
            attributes = termios.tcgetattr(self._slave)
            attributes[4] = attributes[5] = _POWER_ON_SPEED
            termios.tcsetattr(self._slave, termios.TCSANOW, attributes)
            os.set_blocking(self._master, False)
            self.device = os.ttyname(self._slave)
            if link is not None:
                _make_link(link, self.device)
        except BaseException:
            os.close(self._master)
            os.close(self._slave)
            raise

    @property
    def path(self) -> str:
        """What a client opens: the link, else the device."""
        return self.device if self._link is None else str(self._link)

    def fileno(self) -> int:
        """The descriptor to wait on for bytes from the client."""
        return self._master

    @property
    def client_baudrate(self) -> int | None:
        """The speed the client has set, or ``None`` for one that is not known here."""
        return _SPEEDS.get(termios.tcgetattr(self._master)[5])

    def read(self) -> bytes:
        """Bytes from the client; empty when there are none."""
        try:
            return os.read(self._master, _READ_SIZE)
        except BlockingIOError:
            return b""

    def write(self, data: bytes) -> None:
        """Bytes to the client. What does not fit, because nobody reads, is dropped and counted."""
        try:
            written = os.write(self._master, data)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EIO):
                raise
            written = 0
        self.dropped_bytes += len(data) - written

    def close(self) -> None:
        """Pull the plug: clients get an error or end of file. The link goes, if it is still ours."""
        if self._link is not None and self._link.is_symlink() and str(self._link.readlink()) == self.device:
            with suppress(FileNotFoundError):
                self._link.unlink()
        os.close(self._master)
        os.close(self._slave)


def _make_link(link: Path, target: str) -> None:
    if link.is_symlink() and not link.exists():
        link.unlink()
    link.symlink_to(target)
