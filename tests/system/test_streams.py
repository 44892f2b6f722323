"""Where the service was started is gone: its terminal, the reader of its output, room for its log."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from support.bus import Daemon

from mk2dbus.bus.connection import Connection
from mk2dbus.bus.errors import CallFailed
from mk2dbus.bus.names import BUS_ITEM

LIMIT_S = 20.0


def _without_reader() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def _full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def _devnull() -> int:
    return os.open(os.devnull, os.O_WRONLY)


CASES: dict[str, tuple[Callable[[], int], Callable[[], int], tuple[int, ...]]] = {
    "pipe": (_without_reader, _without_reader, ()),
    "full": (_full, _full, ()),
    "closed": (_devnull, _devnull, (1, 2)),
    "stderr_closed": (_devnull, _devnull, (2,)),
}
"""stdout, stderr, and what is closed of them."""


async def _start(daemon: Daemon, folder: Path, name: str) -> asyncio.subprocess.Process:
    out, err, closed = CASES.get(name, (_devnull, _devnull, ()))
    streams = out(), err()
    close = "import os, sys; [os.close(int(fd)) for fd in sys.argv.pop(1).split(',') if fd]"
    try:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", f"{close}; os.execv(sys.executable, [sys.executable] + sys.argv[1:])"),
            *(",".join(map(str, closed)), "-m", "mk2dbus", "run", "--simulate", "--name", name),
            *("--bus", daemon.address, "--state-dir", str(folder)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=streams[0],
            stderr=streams[1],
        )
    finally:
        for stream in streams:
            os.close(stream)


async def _until_connected(client: Connection, name: str) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                (value,) = await client.call(
                    f"com.victronenergy.vebus.{name}", "/Connected", BUS_ITEM, "GetValue"
                )
                if value.value == 1:
                    return
            except CallFailed:
                pass
            await asyncio.sleep(0.05)


async def test_nobody_reads_what_it_says(dbus_daemon: Daemon, tmp_path: Path) -> None:
    """It serves all the same, and ends as ever."""
    processes = await asyncio.gather(*(_start(dbus_daemon, tmp_path, name) for name in CASES))
    client = await Connection.open(dbus_daemon.address)
    try:
        await asyncio.gather(*(_until_connected(client, name) for name in CASES))
        for process in processes:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(LIMIT_S):
            assert [await process.wait() for process in processes] == [0] * len(processes)
    finally:
        client.close()
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_its_terminal_is_closed(dbus_daemon: Daemon, tmp_path: Path) -> None:
    """It ends properly, as if it was told to."""
    process = await _start(dbus_daemon, tmp_path, "hung")
    client = await Connection.open(dbus_daemon.address)
    try:
        await _until_connected(client, "hung")
        process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(LIMIT_S):
            assert await process.wait() == 0
    finally:
        client.close()
        if process.returncode is None:
            process.kill()
            await process.wait()
