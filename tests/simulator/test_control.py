"""The console over a real socket, with its command, and typed at a terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mk2dbus.simulator import Control, Simulator
from mk2dbus.simulator.control import MAX_LINE

MK2DBUS = (sys.executable, "-m", "mk2dbus")
DEADLINE_S = 20.0


class Client:
    """A program at the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, line: str | bytes) -> list[str]:
        """Send a line; its reply, up to the line that ends it."""
        self.writer.write((line.encode() if isinstance(line, str) else line) + b"\n")
        lines: list[str] = []
        async with asyncio.timeout(DEADLINE_S):
            while not lines or not (lines[-1] == "ok" or lines[-1].startswith("error: ")):
                received = await self.reader.readline()
                assert received, f"closed after {lines}"
                lines.append(received.decode().rstrip("\n"))
        return lines

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


@asynccontextmanager
async def client(path: Path) -> AsyncIterator[Client]:
    one = Client(*await asyncio.open_unix_connection(str(path)))
    try:
        yield one
    finally:
        await one.close()


@asynccontextmanager
async def controlled(folder: Path, profile: str = "multiplus2") -> AsyncIterator[tuple[Simulator, Path]]:
    path = folder / "control"
    async with Simulator(profile) as sim, Control(sim, path):
        yield sim, path


# -- the socket ---------------------------------------------------------------------------------------------


async def test_one_reply_for_each_line(tmp_path: Path) -> None:
    async with controlled(tmp_path) as (sim, path), client(path) as line:
        assert await line.ask("set mains 0") == ["ok"]
        assert not sim.plant.connected, "at once"
        assert await line.ask("set load 1500") == ["ok"]
        assert await line.ask("press 3 16") == ["ok"]
        assert sim.device.limits_a == [16.0]
        assert await line.ask("set load much") == [
            "error: WATTS takes a number from 0 to 500000 W, not 'much'"
        ]
        assert await line.ask("") == ["ok"]
        *status, done = await line.ask("status")
        assert done == "ok"
        assert "load 1500 W: L1 1500 W" in status
        assert f"cable {sim.port}" in status
        line.writer.write(b"set soc 20\nset soc x\nset soc 30\n")
        assert [await line.reader.readline() for _ in range(3)] == [
            b"ok\n",
            b"error: PERCENT takes a number from 0 to 100, not 'x'\n",
            b"ok\n",
        ]


async def test_cable(tmp_path: Path) -> None:
    async with controlled(tmp_path) as (sim, path), client(path) as line:
        port = os.open(sim.port, os.O_RDWR | os.O_NOCTTY)
        try:
            assert await line.ask("unplug") == ["ok"]
            assert "cable unplugged" in await line.ask("status")
            with pytest.raises(OSError, match="Input/output error"):
                os.write(port, b"\x02\xff\x56\xa9")
        finally:
            os.close(port)
        assert await line.ask("unplug") == ["error: it is not plugged in"]
        assert await line.ask("plug") == [sim.port, "ok"]


@pytest.mark.parametrize("bad", [b"\xff\xfe", b"set \xc3 0"])
async def test_not_text(bad: bytes, tmp_path: Path) -> None:
    async with controlled(tmp_path) as (_, path), client(path) as line:
        assert await line.ask(bad) == ["error: not UTF-8"]
        assert await line.ask("set soc 50") == ["ok"]


async def test_a_line_without_end(tmp_path: Path) -> None:
    async with controlled(tmp_path) as (_, path):
        async with client(path) as line:
            assert await line.ask(b"x" * (MAX_LINE + 1)) == [f"error: a line has at most {MAX_LINE} bytes"]
            assert await line.reader.read() == b""
        async with client(path) as line:
            assert await line.ask("set soc 50") == ["ok"]


async def test_clients_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """One is silent, one never reads, one goes in the middle of a line: another is served."""
    async with (
        controlled(tmp_path) as (_, path),
        client(path),
        client(path) as deaf,
        client(path) as hasty,
    ):
        hasty.writer.write(b"set lo")
        deaf.writer.write(b"help\n" * 3000)
        await asyncio.sleep(0.1)
        await hasty.close()
        async with client(path) as line:
            assert await line.ask("set soc 50") == ["ok"]
        deaf.writer.transport.abort()


async def test_only_the_user_may_use_it_and_nothing_is_left(tmp_path: Path) -> None:
    async with controlled(tmp_path) as (_, path), client(path) as line:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await line.ask("status")
    assert not path.exists()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_is_at_the_path_already(tmp_path: Path) -> None:
    path = tmp_path / "control"
    path.write_text("precious")
    async with Simulator() as sim:
        with pytest.raises(FileExistsError):
            await Control(sim, path).__aenter__()
        assert path.read_text() == "precious"
        path.unlink()
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        async with Control(sim, path), client(path) as line:
            assert await line.ask("") == ["ok"]
            with pytest.raises(OSError, match="somebody listens"):
                await Control(sim, path).__aenter__()
            assert await line.ask("") == ["ok"]
        with pytest.raises(OSError, match="path too long"):
            await Control(sim, tmp_path / ("x" * 200)).__aenter__()


# -- the commands -------------------------------------------------------------------------------------------


async def start(*arguments: str, stdin: int = asyncio.subprocess.DEVNULL) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *MK2DBUS,
        *arguments,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def sim_command(path: Path, *lines: str, stdin: bytes | None = None) -> tuple[int | None, str, str]:
    """Run ``mk2dbus sim``; exit code and outputs."""
    process = await start("sim", str(path), *lines, stdin=asyncio.subprocess.PIPE)
    async with asyncio.timeout(DEADLINE_S):
        output, errors = await process.communicate(stdin)
    return process.returncode, output.decode(), errors.decode()


async def test_sim(tmp_path: Path) -> None:
    async with controlled(tmp_path) as (sim, path):
        assert await sim_command(path, "set mains 0", "set load 700") == (0, "", "")
        assert sim.plant.load_w == 700
        code, output, errors = await sim_command(path, "store 0 2", "set mains x", "set load 1")
        assert (code, output) == (1, "0 2 5760 5760 0 AbsorptionVoltage\n")
        assert errors == "mk2dbus: VOLTS takes a number from 0 to 500 V, not 'x'\n"
        assert sim.plant.load_w == 700, "the first that fails is the last"
        code, output, _ = await sim_command(path, stdin=b"set load 800\nram 0 99\n")
        assert (code, output, sim.plant.load_w) == (1, "", 800)
    code, _, errors = await sim_command(path, "status")
    assert (code, errors) == (2, f"mk2dbus: no simulator at {path}: No such file or directory\n")


async def test_sim_when_the_simulator_goes(tmp_path: Path) -> None:
    path = tmp_path / "gone"
    server = await asyncio.start_unix_server(lambda _, writer: writer.close(), str(path))
    async with server:
        code, _, errors = await sim_command(path, "status")
    assert code == 1
    assert errors.startswith("mk2dbus: the simulator is gone")


async def test_simulate_with_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "control"
    process = await start("simulate", "dmc", "--control", str(path))
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        await process.stdout.readline()
        async with client(path) as line:
            assert (await line.ask("status"))[0].startswith("profile dmc")
            process.send_signal(signal.SIGTERM)
            output, errors = await process.communicate()
    assert (process.returncode, output, errors) == (0, b"", b"")
    assert not path.exists()


@pytest.mark.parametrize(
    ("place", "said"), [("file", "exists and is no socket"), ("no/such/place", "No such")]
)
async def test_simulate_where_no_socket_can_be(place: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    process = await start("simulate", "--control", str(tmp_path / place))
    async with asyncio.timeout(DEADLINE_S):
        output, errors = await process.communicate()
    assert (process.returncode, output) == (1, b"")
    assert errors.decode().startswith(f"mk2dbus simulate: cannot make a socket at {tmp_path / place}: {said}")


async def test_simulate_with_commands_from_a_pipe_and_a_file(tmp_path: Path) -> None:
    process = await start("simulate", "--control", "-", stdin=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    async with asyncio.timeout(DEADLINE_S):
        await process.stdout.readline()
        process.stdin.write(b"set load 1234\nset load much\nstore 0 3")
        process.stdin.close()
        lines = [(await process.stdout.readline()).decode() for _ in range(4)]
        process.terminate()
        await process.wait()
    assert lines == [
        "ok\n",
        "error: WATTS takes a number from 0 to 500000 W, not 'much'\n",
        "0 3 5520 5520 0 FloatVoltage\n",
        "ok\n",
    ]
    script = tmp_path / "script"
    script.write_text("set soc 10\n# half a storm\nset frequency 47\n")
    with script.open() as file:
        process = await start("simulate", "--control", "-", stdin=file.fileno())
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        lines = [(await process.stdout.readline()).decode() for _ in range(4)]
        process.terminate()
        await process.wait()
    assert lines[1:] == ["ok\n"] * 3


async def test_simulate_on_a_terminal() -> None:
    controller, terminal = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *("setsid", "--ctty", *MK2DBUS, "simulate"),
            stdin=terminal,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            await process.stdout.readline()
            os.write(controller, b"set load 99\nfrobnicate\n")
            lines = [(await process.stdout.readline()).decode() for _ in range(2)]
            os.write(controller, b"\x03")
            assert await process.wait() == 0
        assert lines == ["ok\n", "error: unknown command 'frobnicate'; help lists them\n"]
    finally:
        os.close(controller)
        os.close(terminal)


def state_of(pid: int) -> str:
    """State of a process: S when it sleeps, T when it was stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_simulate_in_the_background_of_a_terminal() -> None:
    """It leaves to others what is typed: reading it would stop the process."""
    controller, terminal = pty.openpty()
    try:
        shell = await asyncio.create_subprocess_exec(
            *("setsid", "--ctty", "bash", "-c", 'set -m; "$@" & echo $!; wait', "sh", *MK2DBUS, "simulate"),
            stdin=terminal,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert shell.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            pid = int(await shell.stdout.readline())
            port = (await shell.stdout.readline()).decode()
            os.write(controller, b"set load 99\n")
            await asyncio.sleep(0.3)
            state = state_of(pid)
            os.kill(pid, signal.SIGTERM)
            output, _ = await shell.communicate()
        assert port.startswith("/dev/")
        assert (state, output) == ("S", b"")
    finally:
        os.close(controller)
        os.close(terminal)
