"""The serial port: 8N1, DTR high and RTS low, which power an MK2 (mk2-protocol.md §1)."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import termios
from pathlib import Path

import serial

from mk2dbus.mk2.errors import PortLost, PortUnusable
from mk2dbus.mk2.link import Receiver

log = logging.getLogger(__name__)

MK2_BAUDRATE = 2400
MK3_BAUDRATE = 115200

UNSENT_LIMIT = 4096
"""Bytes kept for a port that takes none; far more than is asked for in the time until it counts as lost."""

STALL_S = 5.0
"""A port that takes no byte for so long is lost."""

_READ_SIZE = 4096


class SerialPort:
    """An open port. Made by :func:`open_port`.

    Whatever way the port goes (read error, end of file, write error, bytes that it does not take), the
    receiver is told once, in the next turn of the event loop.
    """

    def __init__(self, path: str, device: serial.Serial) -> None:
        self.path = path
        self._device = device
        self._fd = device.fileno()
        self._loop = asyncio.get_running_loop()
        self._receiver: Receiver | None = None
        self._lost: str | None = None
        self._unsent = bytearray()
        self._stall: asyncio.TimerHandle | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._loop.add_reader(self._fd, self._read_ready)

    @property
    def baudrate(self) -> int:
        """Speed in baud."""
        return int(self._device.baudrate)

    @property
    def unsent(self) -> int:
        """Bytes written that the system has not taken yet."""
        return len(self._unsent)

    def attach(self, receiver: Receiver) -> None:
        """Give what comes from now on to this receiver. What comes while nobody is attached is thrown away.

        Raises:
            PortLost: the port is gone.
        """
        if self._lost is not None:
            raise self._error()
        self._receiver = receiver

    def detach(self) -> None:
        """Give it to nobody."""
        self._receiver = None

    def write(self, data: bytes) -> None:
        """Send; never blocks. Nothing when the port is lost."""
        if self._lost is not None:
            return
        if self._unsent:
            if len(self._unsent) + len(data) > UNSENT_LIMIT:
                self._lose("it takes no more bytes")
            else:
                self._unsent += data
            return
        rest = self._write_some(data)
        if rest and self._lost is None:
            self._unsent += rest
            self._loop.add_writer(self._fd, self._write_ready)
            self._wait_for_progress()

    def rest(self, seconds: float) -> None:
        """Nobody needs what comes within so long: it is delivered together, afterwards."""
        if self._lost is None and self._rest is None:
            self._loop.remove_reader(self._fd)
            self._rest = self._loop.call_later(seconds, self._end_rest)

    def set_baudrate(self, baudrate: int) -> None:
        """Change the speed at once, also for what was written and has not left yet.

        Raises:
            PortLost: the port is gone.
        """
        if self._lost is not None:
            raise self._error()
        try:
            self._device.baudrate = baudrate
        except (OSError, termios.error, ValueError) as error:  # SerialException is an OSError
            self._lose(_reason(error))
            raise self._error() from error

    async def close(self) -> None:
        """Close the port; it is free for others then. Closing twice does nothing."""
        self._lose("closed")

    # --- called by the event loop ---

    def _read_ready(self) -> None:
        try:
            data = os.read(self._fd, _READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(_reason(error))
            return
        if not data:
            self._lose("the device is gone")
        elif self._receiver is not None:
            self._receiver.data_received(data)

    def _end_rest(self) -> None:
        self._rest = None
        self._loop.add_reader(self._fd, self._read_ready)
        self._read_ready()

    def _write_ready(self) -> None:
        rest = self._write_some(bytes(self._unsent))
        if self._lost is not None or len(rest) == len(self._unsent):
            return
        self._unsent[:] = rest
        if rest:
            self._wait_for_progress()
        else:
            self._loop.remove_writer(self._fd)
            self._end_waiting()

    # --- inside ---

    def _write_some(self, data: bytes) -> bytes:
        """Write what the system takes; the rest."""
        try:
            return data[os.write(self._fd, data) :]
        except BlockingIOError:
            return data
        except OSError as error:
            self._lose(_reason(error))
            return b""

    def _wait_for_progress(self) -> None:
        self._end_waiting()
        self._stall = self._loop.call_later(STALL_S, self._lose, f"it took no byte for {STALL_S:g} s")

    def _end_waiting(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _lose(self, reason: str) -> None:
        """Close the device, whatever it still had to send, and tell the receiver."""
        if self._lost is not None:
            return
        self._lost = reason
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._end_waiting()
        if self._rest is not None:
            self._rest.cancel()
        self._unsent.clear()
        try:
            # Closing would wait for what is unsent.
            termios.tcflush(self._fd, termios.TCOFLUSH)
        except (OSError, termios.error) as error:
            log.debug("cannot discard output: %s", error)
        self._device.close()
        self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.connection_lost(self._error())

    def _error(self) -> PortLost:
        return PortLost(f"lost {self.path}: {self._lost}")


async def open_port(path: str, baudrate: int = MK2_BAUDRATE) -> SerialPort:
    """Open a serial port for this process alone.

    Raises:
        PortUnusable: missing, busy, no permission, or not a serial port; the message says what to do.
    """
    device = serial.Serial()
    device.port = path
    device.baudrate = baudrate
    device.exclusive = True
    device.dtr = True
    device.rts = False
    try:
        device.open()
        # Nothing is awaited from here on: a cancelled caller would leave the port open.
        return SerialPort(path, device)
    except (OSError, termios.error, ValueError) as error:  # SerialException is an OSError
        device.close()
        raise PortUnusable(_explain(path, error)) from error


def _explain(path: str, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        return f"{path} does not exist: is the adapter plugged in? (ls /dev/serial/by-id/ lists serial ports)"
    if number in (errno.EACCES, errno.EPERM):
        group = _owning_group(path)
        return f"no permission for {path}: add the user to the group {group}, or run as root"
    if number in (errno.EBUSY, errno.EAGAIN) or "lock" in str(error):
        return f"{path} is in use by another program: stop that one first"
    if number in (errno.ENOTTY, errno.EINVAL) or "configure" in str(error) or not _is_device(path):
        return f"{path} is not a serial port"
    return f"cannot open {path}: {os.strerror(number) if number else error}"


def _reason(error: Exception) -> str:
    """Why a port was lost, in few words."""
    number = getattr(error, "errno", None)
    return "the device is gone" if number in (errno.EIO, errno.ENXIO, errno.ENODEV) else str(error)


def _is_device(path: str) -> bool:
    return Path(path).is_char_device()


def _owning_group(path: str) -> str:
    try:
        return Path(path).group()
    except (OSError, KeyError):
        return "dialout"
