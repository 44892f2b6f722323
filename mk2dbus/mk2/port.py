"""The serial port: 2400 baud 8N1, DTR high and RTS low, which power an MK2 (mk2-protocol.md §1)."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import termios
from pathlib import Path

import serial
import serial_asyncio

from mk2dbus.mk2.errors import PortLost, PortUnusable

log = logging.getLogger(__name__)

MK2_BAUDRATE = 2400

_RECEIVE_LIMIT = 64 * 1024
"""Received bytes kept when nobody reads; far more than the line brings while a program is alive."""


class SerialPort(asyncio.Protocol):
    """An open port. Made by :func:`open_port`.

    Whatever way the port goes (read error, end of file, write error, exception in the driver), every
    :meth:`read` from then on raises :exc:`PortLost` with the reason, after the bytes that still came.
    """

    def __init__(self, path: str, baudrate: int) -> None:
        self.path = path
        self.baudrate = baudrate
        self._transport: _Transport | None = None
        self._received = bytearray()
        self._readable = asyncio.Event()
        self._lost: str | None = None
        self._closed = asyncio.Event()

    def write(self, data: bytes) -> None:
        if self._transport is not None and self._lost is None:
            self._transport.write(data)

    async def read(self) -> bytes:
        """Bytes received, at least one.

        Raises:
            PortLost: the port is gone.
        """
        while not self._received:
            if self._lost is not None:
                raise PortLost(f"lost {self.path}: {self._lost}")
            self._readable.clear()
            await self._readable.wait()
        data = bytes(self._received)
        self._received.clear()
        return data

    async def close(self) -> None:
        """Close the port and wait until it is free for others. Closing twice does nothing."""
        transport, self._transport = self._transport, None
        if self._lost is None:
            self._lost = "closed"
        self._readable.set()
        if transport is not None:
            transport.discard_output()
            transport.abort()
        await self._closed.wait()

    # --- called by the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, _Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if len(self._received) + len(data) > _RECEIVE_LIMIT:
            log.error("%s: %d received bytes were not taken, dropping them", self.path, len(self._received))
            self._received.clear()
        self._received += data
        self._readable.set()

    def connection_lost(self, error: Exception | None) -> None:
        if self._lost is None:
            self._lost = _reason(error)
        self._transport = None
        self._readable.set()
        self._closed.set()


class _Transport(serial_asyncio.SerialTransport):  # type: ignore[misc]  # the library has no types
    """Makes every way a port can vanish end in ``connection_lost``.

    As it comes, the library logs a traceback for a failed write, leaves some read errors to the event loop,
    and waits for unsent bytes of a port that is gone.
    """

    def abort(self) -> None:
        """Close at once; nothing when it is closing already (the port was lost a moment ago)."""
        if not self._closing:
            super().abort()

    def discard_output(self) -> None:
        """Throw away what is not sent yet: ``abort`` would wait for it."""
        if self._serial is not None:
            try:
                termios.tcflush(self._serial.fileno(), termios.TCOFLUSH)
            except (OSError, termios.error, serial.SerialException) as error:
                log.debug("cannot discard output: %s", error)

    def _read_ready(self) -> None:
        try:
            data = self._serial.read(self._max_read_size)
        except (OSError, termios.error, TypeError) as error:  # SerialException is an OSError
            self._fatal_error(error)
            return
        if data:
            self._protocol.data_received(data)

    def _fatal_error(self, error: Exception, message: str = "") -> None:
        self.discard_output()
        if not self._closing:
            self._abort(error)


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
    port = SerialPort(path, baudrate)
    try:
        device.open()
        # Nothing is awaited from here on: a cancelled caller would leave the port open.
        port.connection_made(_Transport(asyncio.get_running_loop(), port, device))
    except (OSError, termios.error, ValueError) as error:  # SerialException is an OSError
        device.close()
        raise PortUnusable(_explain(path, error)) from error
    return port


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


def _reason(error: Exception | None) -> str:
    """Why a port was lost, in few words."""
    if error is None:
        return "closed"
    # How pyserial says that reading met the end.
    return "the device is gone" if "returned no data" in str(error) else str(error)


def _is_device(path: str) -> bool:
    return Path(path).is_char_device()


def _owning_group(path: str) -> str:
    try:
        return Path(path).group()
    except (OSError, KeyError):
        return "dialout"
