"""The serial port, on real pseudo-terminals and in real time."""

from __future__ import annotations

import asyncio
import os
import termios
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.ports import Ear

from mk2dbus.mk2 import port as port_module
from mk2dbus.mk2.errors import PortLost, PortUnusable
from mk2dbus.mk2.port import MK2_BAUDRATE, MK3_BAUDRATE, UNSENT_LIMIT, SerialPort, open_port

WITHIN_S = 5.0
"""Far more than anything here takes; only a hang reaches it."""
FDS = Path("/proc/self/fd")
NOBODY = 65534


class Pty:
    """A pseudo-terminal: the test has the master, the port under test is the other end."""

    def __init__(self) -> None:
        self.master, slave = os.openpty()
        self.path = os.ttyname(slave)
        tty.setraw(self.master)
        os.close(slave)

    def hang_up(self) -> None:
        """Pull the plug."""
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def received(self) -> bytes:
        return os.read(self.master, 4096)


@pytest.fixture
def pty() -> Iterator[Pty]:
    pty = Pty()
    yield pty
    pty.hang_up()


@pytest.fixture(autouse=True)
async def complaints() -> AsyncIterator[list[dict[str, Any]]]:
    """What reached the exception handler of the event loop: nothing may."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    yield found
    await settled()
    assert found == []


async def settled() -> None:
    """All that was put off to the next turns of the loop has happened."""
    for _ in range(5):
        await asyncio.sleep(0)


def open_files() -> int:
    return len(list(FDS.iterdir()))


def listening(port: SerialPort) -> Ear:
    ear = Ear()
    port.attach(ear)
    return ear


async def close(port: SerialPort) -> None:
    async with asyncio.timeout(WITHIN_S):
        await port.close()


def fill(port: SerialPort) -> None:
    """Write what the system takes, and a little more."""
    while not port.unsent:
        port.write(bytes(1000))


# --- in use --------------------------------------------------------------------------------------------


async def test_bytes_both_ways(pty: Pty) -> None:
    port = await open_port(pty.path)
    assert (port.baudrate, port.path) == (MK2_BAUDRATE, pty.path)
    ear = listening(port)
    everything = bytes(range(256))
    os.write(pty.master, everything)
    await ear.until(lambda ear: len(ear.data) >= len(everything))
    assert ear.data == everything
    port.write(everything)
    await asyncio.to_thread(wait_for, pty, everything)
    await close(port)


def wait_for(pty: Pty, wanted: bytes) -> None:
    data = b""
    while len(data) < len(wanted):
        data += pty.received()
    assert data == wanted


async def test_what_comes_while_nobody_is_attached_is_thrown_away(pty: Pty) -> None:
    port = await open_port(pty.path)
    first = listening(port)
    os.write(pty.master, b"first")
    await first.until(lambda ear: ear.data == b"first")
    port.detach()
    os.write(pty.master, b"nobody")
    await asyncio.sleep(0.05)
    second = listening(port)
    os.write(pty.master, b"second")
    await second.until(lambda ear: ear.data == b"second")
    assert first.data == b"first"
    await close(port)
    assert first.lost is None


async def test_a_rest_delays_what_comes_and_loses_nothing(pty: Pty) -> None:
    port = await open_port(pty.path)
    ear = listening(port)
    port.rest(0.1)
    port.rest(60)  # one is enough
    for letter in (b"a", b"b", b"c"):
        os.write(pty.master, letter)
        await asyncio.sleep(0.01)
    assert not ear.data
    await ear.until(lambda ear: ear.data == b"abc")
    await close(port)


async def test_a_rest_in_which_nothing_comes(pty: Pty) -> None:
    """A terminal that has nothing reads like one that is gone: it is not read without being told to."""
    port = await open_port(pty.path)
    ear = listening(port)
    port.rest(0.02)
    await asyncio.sleep(0.05)
    assert ear.lost is None
    os.write(pty.master, b"still here")
    await ear.until(lambda ear: ear.data == b"still here")
    await close(port)


async def test_closing_while_it_rests(pty: Pty) -> None:
    before = open_files()
    port = await open_port(pty.path)
    ear = listening(port)
    port.rest(0.05)
    await close(port)
    await asyncio.sleep(0.1)
    assert ear.lost is not None
    assert open_files() == before


async def test_another_speed(pty: Pty) -> None:
    port = await open_port(pty.path)
    ear = listening(port)
    for baudrate, code in ((MK3_BAUDRATE, termios.B115200), (MK2_BAUDRATE, termios.B2400)):
        port.set_baudrate(baudrate)
        assert port.baudrate == baudrate
        assert termios.tcgetattr(pty.master)[4:6] == [code, code]
    os.write(pty.master, b"still here")
    await ear.until(lambda ear: ear.data == b"still here")
    pty.hang_up()
    await ear.until_lost()
    with pytest.raises(PortLost):
        port.set_baudrate(MK3_BAUDRATE)
    await close(port)


async def test_unsent_bytes_leave_in_order(pty: Pty) -> None:
    port = await open_port(pty.path)
    ear = listening(port)
    sent = bytearray()
    while not port.unsent:
        piece = os.urandom(1000)
        sent += piece
        port.write(piece)
    port.write(b"the end")
    sent += b"the end"
    await asyncio.to_thread(wait_for, pty, bytes(sent))
    assert ear.lost is None
    await close(port)


async def test_a_port_that_takes_no_bytes_is_lost(pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_module, "STALL_S", 0.1)
    before = open_files()
    port = await open_port(pty.path)
    ear = listening(port)
    fill(port)
    assert "took no byte" in str(await ear.until_lost())
    await close(port)
    assert open_files() == before


async def test_unsent_bytes_stay_bounded(pty: Pty) -> None:
    port = await open_port(pty.path)
    ear = listening(port)
    fill(port)
    for _ in range(100):
        port.write(bytes(1000))
        assert port.unsent <= UNSENT_LIMIT
    assert "takes no more bytes" in str(await ear.until_lost())
    await close(port)


# --- opening -------------------------------------------------------------------------------------------


async def refusal(path: Path | str) -> str:
    before = open_files()
    with pytest.raises(PortUnusable) as caught:
        await open_port(str(path))
    await settled()
    assert open_files() == before
    return str(caught.value)


async def test_a_path_that_is_missing(tmp_path: Path) -> None:
    assert "does not exist" in await refusal(tmp_path / "ttyUSB0")


async def test_what_is_no_serial_port(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (file, tmp_path, fifo, Path("/dev/null"), "", "nul\0byte"):
        text = await refusal(path)
        assert "is not a serial port" in text or not str(path), text
    assert file.read_bytes() == b"content"


async def test_a_port_in_use(pty: Pty) -> None:
    port = await open_port(pty.path)
    assert "is in use by another program" in await refusal(pty.path)
    await close(port)
    await close(await open_port(pty.path))


def take_permission(path: str) -> str:
    """Nobody may open it any more; the group that owns it."""
    Path(path).chmod(0)
    return Path(path).group()


@contextmanager
def as_anybody() -> Iterator[None]:
    """Root may open anything: be somebody else for a moment."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(NOBODY)
    except PermissionError:
        pytest.skip("root may open anything, and cannot be somebody else here")
    try:
        yield
    finally:
        os.seteuid(0)


async def test_no_permission(pty: Pty) -> None:
    group = take_permission(pty.path)
    with as_anybody(), pytest.raises(PortUnusable, match=f"no permission .* group {group},"):
        await open_port(pty.path)


async def test_a_port_that_vanishes_while_it_is_opened(pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the opening and the first reading of it."""
    before = open_files()

    def vanish(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", vanish)
    with pytest.raises(PortUnusable, match=pty.path):
        await open_port(pty.path)
    assert open_files() == before


async def test_a_caller_that_is_cancelled_while_opening(pty: Pty) -> None:
    before = open_files()
    task = asyncio.create_task(open_port(pty.path))
    await asyncio.sleep(0)
    task.cancel()
    [outcome] = await asyncio.gather(task, return_exceptions=True)
    if isinstance(outcome, SerialPort):
        await close(outcome)
    await settled()
    assert open_files() == before


# --- losing --------------------------------------------------------------------------------------------


async def test_the_cable_is_pulled(pty: Pty) -> None:
    before = open_files() - 1  # the master goes too
    port = await open_port(pty.path)
    ear = listening(port)
    await settled()
    pty.hang_up()
    assert pty.path in str(await ear.until_lost())
    with pytest.raises(PortLost, match=pty.path):
        port.attach(ear)
    port.write(b"into the void")
    await close(port)
    await close(port)
    assert open_files() == before


async def test_a_lost_port_needs_no_closing(pty: Pty) -> None:
    before = open_files() - 1
    port = await open_port(pty.path)
    pty.hang_up()
    await listening(port).until_lost()
    assert open_files() == before


async def test_the_cable_is_pulled_while_nobody_is_attached(pty: Pty) -> None:
    port = await open_port(pty.path)
    pty.hang_up()
    await asyncio.sleep(0.05)
    with pytest.raises(PortLost, match=pty.path):
        listening(port)
    await close(port)


async def test_bytes_before_the_loss_are_still_received(pty: Pty) -> None:
    port = await open_port(pty.path)
    ear = listening(port)
    os.write(pty.master, b"last words")
    await ear.until(lambda ear: bool(ear.data))
    pty.hang_up()
    await ear.until_lost()
    assert ear.data == b"last words"
    await close(port)


async def test_the_cable_is_pulled_while_bytes_are_unsent(pty: Pty) -> None:
    """The master takes nothing: the kernel's buffer and then that of the port fill up."""
    before = open_files() - 1
    port = await open_port(pty.path)
    ear = listening(port)
    fill(port)
    for _ in range(20):
        await asyncio.sleep(0)
    pty.hang_up()
    await ear.until_lost()
    await close(port)
    assert open_files() == before


async def test_writing_finds_the_loss(pty: Pty) -> None:
    port = await open_port(pty.path)
    ear = listening(port)
    await settled()
    pty.hang_up()
    port.write(b"anybody there?")
    assert ear.lost is None  # not while it writes
    await ear.until_lost()
    await close(port)


@pytest.mark.parametrize("unsent", [False, True])
async def test_closing(pty: Pty, unsent: bool) -> None:
    before = open_files()
    port = await open_port(pty.path)
    ear = listening(port)
    if unsent:
        fill(port)
    await settled()
    await close(port)
    assert "closed" in str(await ear.until_lost())
    await close(port)
    port.write(b"too late")
    with pytest.raises(PortLost, match="closed"):
        port.attach(ear)
    assert open_files() == before


async def test_closing_twice_at_once(pty: Pty) -> None:
    before = open_files()
    port = await open_port(pty.path)
    await asyncio.gather(close(port), close(port))
    assert open_files() == before


async def test_closing_at_once_after_opening(pty: Pty) -> None:
    before = open_files()
    await close(await open_port(pty.path))
    assert open_files() == before


async def test_closing_in_the_moment_of_the_loss(pty: Pty) -> None:
    """The loss has been seen, who is to be told of it is told in the next turn of the loop."""
    before = open_files() - 1
    port = await open_port(pty.path)
    ear = listening(port)
    await settled()
    pty.hang_up()
    port.write(b"?")
    await close(port)
    error = await ear.until_lost()
    assert "closed" not in str(error)
    assert open_files() == before


async def test_many_times(pty: Pty) -> None:
    before = open_files()
    for _ in range(50):
        port = await open_port(pty.path)
        port.write(b"\x02\xff\x56\xa9")
        await close(port)
    assert open_files() == before
