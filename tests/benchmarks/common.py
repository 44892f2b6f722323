"""What the benchmarks share: a bus and processes of their own, a client that costs little, tables."""

from __future__ import annotations

import math
import os
import platform
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.bus import Daemon

from mk2dbus.bus.library import LIBRARIES, LIBRARY_VARIABLE, encode, variant
from mk2dbus.bus.names import BUS_ITEM, DAEMON, DAEMON_PATH
from mk2dbus.bus.wire import NOTHING, Argument, Body, Cutter, Message, MessageType, encode_header

PATIENCE_S = 30.0
"""For anything to start, to answer or to end; what needs longer has failed."""

_FIXED = 16  # bytes of a D-Bus message up to its header fields
_SERIAL_AT = 8


def libraries(wanted: str | None) -> list[str]:
    """The library asked for, else each that is installed."""
    return [wanted] if wanted else [name for name in LIBRARIES if find_spec(name) is not None]


def end_on_sigterm() -> None:
    """End by SIGTERM as by Ctrl-C, so that whatever was started is ended too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


# --- processes -----------------------------------------------------------------------------------------


@contextmanager
def private_bus() -> Iterator[tuple[str, Path]]:
    """A bus with nobody on it: its address, and a folder that goes with it."""
    with TemporaryDirectory(prefix="mk2dbus-benchmark-") as folder:
        daemon = Daemon(Path(folder))
        try:
            daemon.start()
        except FileNotFoundError:
            sys.exit("dbus-daemon is not installed")
        try:
            yield daemon.address, Path(folder)
        finally:
            daemon.kill()


@contextmanager
def process(*command: str, library: str | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process with this Python, ended in the end; it may be forced to a D-Bus library."""
    environment = dict(os.environ)
    environment.pop(LIBRARY_VARIABLE, None)
    if library is not None:
        environment[LIBRARY_VARIABLE] = library
    with subprocess.Popen(
        [sys.executable, *command],
        env=environment,
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                started.kill()


def run_command(address: str, folder: Path, suffix: str, *device: str) -> tuple[str, ...]:
    """The command line of the service."""
    return (
        *("-m", "mk2dbus", "run", *device, "--name", suffix, "--bus", address),
        *("--state-dir", str(folder / suffix), "--log-level", "error"),
    )


def first_line(started: subprocess.Popen[str]) -> str:
    """What a process prints when it is ready."""
    assert started.stdout is not None
    line = started.stdout.readline().strip()
    if not line:
        raise RuntimeError(f"{started.args!r} ended before it was ready")
    return line


def cpu_s(pid: int) -> float:
    """Processor time a process has used, user and system: /proc/PID/stat has the same, in steps of 10 ms."""
    return time.clock_gettime((~pid << 3) | 2)  # the clock of clock_getcpuclockid(3)


def memory_mib(pid: int, field: str = "VmRSS") -> float:
    """Resident memory of a process; ``VmHWM`` is the most it ever was."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(field)


# --- the client ----------------------------------------------------------------------------------------


class Gone(Exception):
    """The other side did not answer, or answered with an error."""


class RawClient:
    """A blocking client that takes ready-made messages and decodes no answer unless asked to.

    Its own cost is small and the same whoever answers, so that differences are those of the services.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(address.removeprefix("unix:path="))
        self._buffer = bytearray()
        self._serial = 0
        self.sock.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
        while not self._buffer.endswith(b"\r\n"):
            self._buffer += self.sock.recv(4096)
        self._buffer.clear()
        self.sock.sendall(b"BEGIN\r\n")
        self.call(daemon_call("Hello"))

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, call: bytearray) -> None:
        """Send a message made by :func:`method_call`, with a serial number of its own."""
        self._serial += 1
        struct.pack_into("<I", call, _SERIAL_AT, self._serial)
        self.sock.sendall(call)

    def take(self) -> bytes | None:
        """A message that is there already."""
        buffer = self._buffer
        if len(buffer) < _FIXED:
            return None
        endian = "<" if buffer[0] == ord("l") else ">"
        body, _, fields = struct.unpack_from(f"{endian}III", buffer, 4)
        whole = _FIXED + fields + -fields % 8 + body
        if len(buffer) < whole:
            return None
        message = bytes(buffer[:whole])
        del buffer[:whole]
        return message

    def fill(self) -> None:
        """Wait for bytes."""
        data = self.sock.recv(1 << 18)
        if not data:
            raise Gone("the bus ended the connection")
        self._buffer += data

    def receive(self) -> bytes:
        """Wait for a message of any kind."""
        while (message := self.take()) is None:
            try:
                self.fill()
            except TimeoutError:
                raise Gone(f"no answer in {PATIENCE_S:g} s") from None
        return message

    def call(self, call: bytearray) -> bytes:
        """Send a call and wait for its answer, passing over signals. Gone when the answer is an error."""
        self.send(call)
        while (message := self.receive())[1] == MessageType.SIGNAL:
            pass
        return answered(message)

    def get(self, service: str, path: str) -> int | float | str | None:
        """The value of an item; ``None`` when it is invalid or not there."""
        try:
            (argument,) = decoded(self.call(method_call(service, path, "GetValue"))).arguments()
        except Gone:
            return None
        assert isinstance(argument, Argument)
        assert not isinstance(argument.value, Argument)
        return argument.value


def answered(message: bytes) -> bytes:
    """The message, if it is no error."""
    if message[1] == MessageType.ERROR:
        error = decoded(message)
        raise Gone(f"{error.error_name}: {error.arguments()}")
    return message


def decoded(message: bytes) -> Message:
    """A message with its header read."""
    cutter = Cutter()
    cutter.feed(message)
    (found,) = cutter.messages()
    assert isinstance(found, Message)
    return found


def method_call(
    service: str, path: str, member: str, body: Body = NOTHING, interface: str = BUS_ITEM
) -> bytearray:
    """An encoded call of a method, of BusItem unless told otherwise."""
    message = Message(
        MessageType.METHOD_CALL,
        serial=1,
        path=path,
        interface=interface,
        member=member,
        destination=service,
        signature=body.signature,
    )
    return bytearray(encode_header(message, len(body.data)) + body.data)


def daemon_call(member: str, *texts: str) -> bytearray:
    """An encoded call to the bus daemon itself."""
    signature = "s" * len(texts)
    body = Body(signature, encode(signature, texts)) if texts else NOTHING
    return method_call(DAEMON, DAEMON_PATH, member, body, DAEMON)


def variant_body(signature: str, value: object) -> Body:
    """A body with one variant, as SetValue takes it."""
    return Body("v", encode("v", [variant(signature, value)]))


# --- figures -------------------------------------------------------------------------------------------


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that ``share`` of all do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def table(title: str, rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first row names the columns. All columns but the first are figures."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print(f"\n{title}")
    for number, row in enumerate(rows):
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells[1:]]).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def machine() -> str:
    """What the figures were measured on, for the heading."""
    load = os.getloadavg()[0]
    return f"Python {platform.python_version()}, {os.cpu_count()} processors, load at the end {load:.1f}"
