"""The simulator on a real pseudo-terminal, and its command."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import time
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from mk2dbus.mk2.framing import Frame, FrameCutter, adapter_frame
from mk2dbus.simulator import Kind, Simulator

COMMAND = (sys.executable, "-m", "mk2dbus", "simulate")
DEADLINE_S = 10.0
"""For what must happen; generous, so that only a real fault meets it."""


class Client:
    """The other end of the port, as a program would open it."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.descriptor, self._on_readable)
        self._cutter = FrameCutter()
        self._changed = asyncio.Event()
        self.frames: list[Frame] = []
        self.gone = False

    def _on_readable(self) -> None:
        try:
            data = os.read(self.descriptor, 4096)
        except OSError:
            data = b""
        if not data:
            self.gone = True
            self._loop.remove_reader(self.descriptor)
        self.frames += self._cutter.feed(data)
        self._changed.set()

    async def next(self) -> None:
        """Wait until something came."""
        self._changed.clear()
        await self._changed.wait()

    def write(self, *frames: Frame) -> None:
        os.write(self.descriptor, b"".join(map(bytes, frames)))

    async def ask(self, frame: Frame, letter: bytes) -> Frame:
        self.write(frame)
        async with asyncio.timeout(DEADLINE_S):
            while not (found := [one for one in self.frames if one.data[:1] == letter]):
                await self.next()
        self.frames.clear()
        return found[0]

    async def wait_gone(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not self.gone:
                await self.next()

    def close(self) -> None:
        self._loop.remove_reader(self.descriptor)
        os.close(self.descriptor)


@asynccontextmanager
async def client(path: str) -> AsyncIterator[Client]:
    one = Client(path)
    try:
        yield one
    finally:
        one.close()


async def test_port_is_raw_and_at_2400_baud() -> None:
    async with Simulator() as sim, client(sim.port) as line:
        attributes = termios.tcgetattr(line.descriptor)
        assert not attributes[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
        assert attributes[5] == termios.B2400
        assert (await line.ask(adapter_frame("V"), b"V")).data[5:] == b"B"


async def test_pace_on_the_line() -> None:
    """Twenty requests at once take the time their replies need; bounds are wide, for a busy machine."""
    async with Simulator() as sim, client(sim.port) as line:
        count, reply = 20, 10
        begin = time.monotonic()
        line.write(*[adapter_frame("L")] * count)
        async with asyncio.timeout(DEADLINE_S):
            while len(line.frames) < count:
                await line.next()
        took = time.monotonic() - begin
        # 20 replies of 10 bytes, the first of which starts when the first request of 4 bytes is in.
        ideal = (count * reply + 4) / 240
        assert ideal * 0.98 <= took <= ideal * 2


async def test_client_may_close_and_open_again() -> None:
    async with Simulator(baudrate=0) as sim:
        for address in (3, 4):
            async with client(sim.port) as line:
                reply = await line.ask(adapter_frame("A", bytes((1, address))), b"A")
                assert reply.data[2] == address
        assert sim.adapter.address == 4


async def test_nobody_reads() -> None:
    """A port that nobody reads fills up; what does not fit is dropped, and nothing blocks."""
    async with Simulator(baudrate=0, latency_ms=0) as sim:
        port = os.open(sim.port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not sim.dropped_bytes:
                    with suppress(BlockingIOError):
                        os.write(port, bytes(adapter_frame("L")) * 20)
                    await asyncio.sleep(0)
            termios.tcflush(port, termios.TCIFLUSH)
        finally:
            os.close(port)
        async with client(sim.port) as line:
            assert (await line.ask(adapter_frame("D"), b"D")).data[:1] == b"D"


async def test_unplugged_and_plugged_again(tmp_path: Path) -> None:
    link = tmp_path / "ttyUSB0"
    async with Simulator(link=link, baudrate=0) as sim:
        assert sim.port == str(link)
        async with client(sim.port) as line:
            await line.ask(adapter_frame("A", b"\x01\x02"), b"A")
            sim.unplug()
            await line.wait_gone()
            assert not link.is_symlink()
        sim.plug()
        async with client(sim.port) as line:
            reply = await line.ask(adapter_frame("A", b"\x00\x00"), b"A")
            assert reply.data[2] == 2, "the adapter lived on"
    assert not link.is_symlink()


async def test_dangling_link_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    link = tmp_path / "port"
    link.symlink_to(tmp_path / "gone")
    async with Simulator(link=link) as sim:
        os.close(os.open(sim.port, os.O_RDWR | os.O_NOCTTY))
    link.write_text("precious")
    with pytest.raises(FileExistsError):
        async with Simulator(link=link):
            pass
    assert link.read_text() == "precious"


async def test_wrong_speed_is_heard_as_garbage() -> None:
    async with Simulator() as sim, client(sim.port) as line:
        attributes = termios.tcgetattr(line.descriptor)
        attributes[4] = attributes[5] = termios.B115200
        termios.tcsetattr(line.descriptor, termios.TCSANOW, attributes)
        line.write(adapter_frame("V"))
        async with asyncio.timeout(DEADLINE_S):
            while not line.frames and not sim.log.counts[Kind.GARBAGE]:
                await line.next()
        assert sim.log.counts[Kind.RECEIVED] == 0


async def test_leaves_no_task_behind() -> None:
    async with Simulator():
        pass
    assert asyncio.all_tasks() == {asyncio.current_task()}


# -- the command --------------------------------------------------------------------------------------------


async def command(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_command_runs_until_told_to_stop(number: signal.Signals, tmp_path: Path) -> None:
    link = tmp_path / "ttyUSB0"
    process = await command("multiplus-old", "--link", str(link))
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        assert (await process.stdout.readline()).decode() == f"{link}\n"
        descriptor = os.open(link, os.O_RDWR | os.O_NOCTTY)
        try:
            tty.setraw(descriptor)
        finally:
            os.close(descriptor)
        process.send_signal(number)
        output, errors = await process.communicate()
    assert (process.returncode, output, errors) == (0, b"", b"")
    assert not link.is_symlink()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("quantum",), 2, "unknown profile 'quantum'"),
        (("--link", "{folder}/no/such/place"), 1, "No such file or directory"),
        (("--link", "{folder}"), 1, "exists"),
        (("--baudrate", "9600"), 2, "invalid choice"),
        (("--latency", "-1"), 2, "no number from 0 to 10000"),
    ],
)
async def test_command_used_wrongly(arguments: tuple[str, ...], code: int, said: str, tmp_path: Path) -> None:
    process = await command(*(argument.format(folder=tmp_path) for argument in arguments))
    async with asyncio.timeout(DEADLINE_S):
        output, errors = await process.communicate()
    assert process.returncode == code
    assert output == b""
    assert said in errors.decode()
    assert "Traceback" not in errors.decode()


async def test_command_lists_profiles() -> None:
    process = await command("--list")
    async with asyncio.timeout(DEADLINE_S):
        output, _ = await process.communicate()
    assert process.returncode == 0
    assert {line.split("\t")[0] for line in output.decode().splitlines()} >= {
        "multiplus2",
        "multiplus-old",
        "nodevice",
    }
