"""The serial port: 8N1, DTR high and RTS low, which power an MK2 (mk2-protocol.md §1)."""

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
from mk2dbus.mk2.transport import Receiver

log = logging.getLogger(__name__)

MK2_BAUDRATE = 2400
MK3_BAUDRATE = 115200

UNSENT_LIMIT = 4096
"""Bytes kept for a port that takes none; far more than is asked for in the time until it counts as lost."""

STALL_S = 5.0
"""A port that takes no byte for so long is lost."""

_READ_SIZE = 4096


class SerialPort(asyncio.Protocol):
    """An open port. Made by :func:`open_port`.

    Whatever way the port goes (read error, end of file, write error, bytes that it does not take), the
    receiver is told once, in the next turn of the event loop.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._loop = asyncio.get_running_loop()
        self._transport: _Transport | None = None
        self._receiver: Receiver | None = None
        self._lost: str | None = None
        self._closed = asyncio.Event()
        self._rest: asyncio.TimerHandle | None = None

    @property
    def baudrate(self) -> int:
        """Speed in baud."""
        return 0 if self._transport is None else self._transport.baudrate

    @property
    def unsent(self) -> int:
        """Bytes written that the system has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

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
        if self._transport is not None and self._lost is None:
            self._transport.write(data)

    def rest(self, seconds: float) -> None:
        """Nobody needs what comes within so long: it is delivered together, afterwards."""
        if self._transport is not None and self._lost is None and self._rest is None:
            self._transport.pause_reading()
            self._rest = self._loop.call_later(seconds, self._end_rest)

    def set_baudrate(self, baudrate: int) -> None:
        """Change the speed at once, also for what was written and has not left yet.

        Raises:
            PortLost: the port is gone.
        """
        if self._transport is None or self._lost is not None:
            raise self._error()
        try:
            self._transport.baudrate = baudrate
        except (OSError, termios.error, ValueError) as error:  # SerialException is an OSError
            self._transport.lose(error)
            raise self._error() from error

    async def close(self) -> None:
        """Close the port and wait until it is free for others. Closing twice does nothing."""
        if self._lost is None:
            self._lost = "closed"
        if self._transport is not None:
            self._transport.abort()
        await self._closed.wait()

    def _end_rest(self) -> None:
        self._rest = None
        if self._transport is not None and self._lost is None:
            self._transport.resume_reading()

    # --- called by the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, _Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._receiver is not None and self._lost is None:
            self._receiver.data_received(data)

    def losing(self, error: Exception) -> None:
        """The port is gone; :meth:`connection_lost` follows."""
        if self._lost is None:
            self._lost = _reason(error)

    def connection_lost(self, error: Exception | None) -> None:
        if self._lost is None:
            self._lost = "closed" if error is None else _reason(error)
        if self._rest is not None:
            self._rest.cancel()
        self._transport = None
        self._closed.set()
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.connection_lost(self._error())

    def _error(self) -> PortLost:
        return PortLost(f"lost {self.path}: {self._lost}")


class _Transport(serial_asyncio.SerialTransport):  # type: ignore[misc]  # the library has no types
    """Makes every way a port can vanish end in ``connection_lost``, and sends what it can at once.

    As it comes, the library logs a traceback for a failed write, leaves some read errors to the event loop,
    waits for unsent bytes of a port that is gone, keeps them without bound, and begins to send in the next
    turn of the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, port: SerialPort, device: serial.Serial) -> None:
        self._resting = False
        super().__init__(loop, port, device)
        self._fd = device.fileno()
        self._stall: asyncio.TimerHandle | None = None
        self.set_write_buffer_limits(high=UNSENT_LIMIT)
        port.connection_made(self)
        # Not only in the next turn: what is wrong with the port is the opener's to know.
        self._ensure_reader()

    @property
    def baudrate(self) -> int:
        return 0 if self._serial is None else int(self._serial.baudrate)

    @baudrate.setter
    def baudrate(self, baudrate: int) -> None:
        if self._serial is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        self._serial.baudrate = baudrate

    def write(self, data: bytes) -> None:
        if self._closing:
            return
        if not self._write_buffer:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                pass
            except OSError as error:
                self.lose(error)
                return
            if not data:
                return
            self._wait_for_progress()
        elif self.get_write_buffer_size() + len(data) > UNSENT_LIMIT:
            self.lose(OSError("it takes no more bytes"))
            return
        super().write(data)

    def pause_reading(self) -> None:
        self._resting = True
        super().pause_reading()

    def resume_reading(self) -> None:
        self._resting = False
        super().resume_reading()

    def _ensure_reader(self) -> None:
        # The library calls this once more later, whatever has become of the port by then.
        if not self._resting and self._serial is not None and self._serial.is_open:
            super()._ensure_reader()

    def abort(self) -> None:
        """Close at once, whatever there is still to send; nothing when it is closing already."""
        if not self._closing:
            self._discard_output()
            super().abort()

    def lose(self, error: Exception) -> None:
        """The port is gone."""
        self._protocol.losing(error)
        self._discard_output()
        if not self._closing:
            self._abort(error)

    def _discard_output(self) -> None:
        """Throw away what is not sent yet: closing would wait for it."""
        self._end_waiting()
        try:
            termios.tcflush(self._fd, termios.TCOFLUSH)
        except (OSError, termios.error) as error:
            log.debug("cannot discard output: %s", error)

    def _read_ready(self) -> None:
        try:
            data = os.read(self._fd, _READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self.lose(error)
            return
        if data:
            self._protocol.data_received(data)
        else:
            self.lose(OSError(errno.EIO, os.strerror(errno.EIO)))

    def _write_ready(self) -> None:
        before = self.get_write_buffer_size()
        super()._write_ready()
        left = self.get_write_buffer_size()
        if not left:
            self._end_waiting()
        elif left < before:
            self._wait_for_progress()

    def _fatal_error(self, error: Exception, message: str = "") -> None:
        self.lose(error)

    def _wait_for_progress(self) -> None:
        self._end_waiting()
        stalled = OSError(f"it took no byte for {STALL_S:g} s")
        self._stall = self._loop.call_later(STALL_S, self.lose, stalled)

    def _end_waiting(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


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
    port = SerialPort(path)
    try:
        device.open()
        # Nothing is awaited from here on: a cancelled caller would leave the port open.
        _Transport(asyncio.get_running_loop(), port, device)
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
