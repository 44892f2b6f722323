"""The serial port, on real pseudo-terminals and in real time."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mk2dbus.mk2.errors import PortLost, PortUnusable
from mk2dbus.mk2.port import MK2_BAUDRATE, SerialPort, open_port

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


async def read(port: SerialPort) -> bytes:
    async with asyncio.timeout(WITHIN_S):
        return await port.read()


async def close(port: SerialPort) -> None:
    async with asyncio.timeout(WITHIN_S):
        await port.close()


async def read_until_lost(port: SerialPort) -> tuple[bytes, PortLost]:
    data = b""
    while True:
        try:
            data += await read(port)
        except PortLost as error:
            return data, error


# --- in use --------------------------------------------------------------------------------------------


async def test_bytes_both_ways(pty: Pty) -> None:
    port = await open_port(pty.path)
    assert (port.baudrate, port.path) == (MK2_BAUDRATE, pty.path)
    everything = bytes(range(256))
    os.write(pty.master, everything)
    data = b""
    while len(data) < len(everything):
        data += await read(port)
    assert data == everything
    port.write(everything)
    await asyncio.to_thread(wait_for, pty, everything)
    await close(port)


def wait_for(pty: Pty, wanted: bytes) -> None:
    data = b""
    while len(data) < len(wanted):
        data += pty.received()
    assert data == wanted


async def test_bytes_that_nobody_reads_stay_bounded(pty: Pty, caplog: pytest.LogCaptureFixture) -> None:
    port = await open_port(pty.path)
    for _ in range(100):
        port.data_received(bytes(1000))
    os.write(pty.master, b"end")
    data = b""
    while not data.endswith(b"end"):
        data += await read(port)
    assert len(data) <= 64 * 1024
    assert "not taken" in caplog.text
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

    monkeypatch.setattr("mk2dbus.mk2.port._Transport.__init__", vanish)
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


async def test_the_cable_is_pulled_while_somebody_reads(pty: Pty) -> None:
    before = open_files() - 1  # the master goes too
    port = await open_port(pty.path)
    reader = asyncio.create_task(port.read())
    await settled()
    pty.hang_up()
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(PortLost, match=pty.path):
            await reader
    with pytest.raises(PortLost):
        await read(port)
    port.write(b"into the void")
    await close(port)
    await close(port)
    assert open_files() == before


async def test_a_lost_port_needs_no_closing(pty: Pty) -> None:
    before = open_files() - 1
    port = await open_port(pty.path)
    pty.hang_up()
    await read_until_lost(port)
    await settled()
    assert open_files() == before


async def test_bytes_before_the_loss_are_still_read(pty: Pty) -> None:
    port = await open_port(pty.path)
    os.write(pty.master, b"last words")
    assert (await read(port))[:1] == b"l"
    port.data_received(b"and more")
    pty.hang_up()
    data, error = await read_until_lost(port)
    assert data.endswith(b"and more")
    assert pty.path in str(error)
    await close(port)


async def test_the_cable_is_pulled_while_bytes_are_unsent(pty: Pty) -> None:
    """The master takes nothing: the kernel's buffer and then that of the port fill up."""
    before = open_files() - 1
    port = await open_port(pty.path)
    port.write(bytes(300_000))
    for _ in range(20):
        await asyncio.sleep(0)
    pty.hang_up()
    await read_until_lost(port)
    await close(port)
    assert open_files() == before


async def test_writing_finds_the_loss(pty: Pty) -> None:
    port = await open_port(pty.path)
    await settled()
    pty.hang_up()
    port.write(b"anybody there?")
    await read_until_lost(port)
    await close(port)


@pytest.mark.parametrize("unsent", [0, 300_000])
async def test_closing(pty: Pty, unsent: int) -> None:
    before = open_files()
    port = await open_port(pty.path)
    reader = asyncio.create_task(port.read())
    if unsent:
        port.write(bytes(unsent))
    await settled()
    await close(port)
    with pytest.raises(PortLost, match="closed"):
        await reader
    await close(port)
    port.write(b"too late")
    with pytest.raises(PortLost, match="closed"):
        await read(port)
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
    """The loss has been seen, its consequences come in the next turn of the loop."""
    before = open_files()
    port = await open_port(pty.path)
    await settled()
    assert port._transport is not None
    port._transport._fatal_error(OSError(5, "Input/output error"))
    await close(port)
    with pytest.raises(PortLost):
        await read(port)
    assert open_files() == before


async def test_many_times(pty: Pty) -> None:
    before = open_files()
    for _ in range(50):
        port = await open_port(pty.path)
        port.write(b"\x02\xff\x56\xa9")
        await close(port)
    assert open_files() == before
