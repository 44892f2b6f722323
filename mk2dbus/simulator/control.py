"""The console behind a unix socket, and on any stream of lines.

One line, one reply: lines of text, the last of which is ``ok`` or ``error: `` and a sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from .console import Console
from .simulator import Simulator
from .syntax import CommandError

DONE = "ok"
FAILED = "error: "
MAX_LINE = 4096


class Responder:
    """Carries out lines on a running simulator.

    Args:
        simulator: what the lines act on, ``plug`` and ``unplug`` included.
    """

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._console = Console(simulator.core, simulator)

    def reply(self, line: str) -> str:
        """The whole reply to a line, newline included."""
        self._simulator.refresh()
        try:
            lines = [*self._console.execute(line), DONE]
        except CommandError as error:
            lines = [f"{FAILED}{error}"]
        self._simulator.refresh()
        return "".join(f"{line}\n" for line in lines)


class Control:
    """A unix socket for the console, for as long as the context lasts; only the user may use it.

    Args:
        simulator: what it controls.
        path: where the socket is made. A dead socket there is replaced.
    """

    def __init__(self, simulator: Simulator, path: Path) -> None:
        self._responder = Responder(simulator)
        self._path = path
        self._server: asyncio.Server | None = None
        self._inode = 0
        self._clients: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            FileExistsError: something else is at the path.
            OSError: the socket cannot be made, or somebody listens there.
        """
        listener = _listen(self._path)
        try:
            self._inode = self._path.stat().st_ino
            self._server = await asyncio.start_unix_server(self._accepted, sock=listener, limit=MAX_LINE)
        except BaseException:
            listener.close()
            self._path.unlink(missing_ok=True)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        with contextlib.suppress(FileNotFoundError):
            # Ours only: another may have taken the path.
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, until it goes. What it sends while it does not read waits."""
        try:
            while True:
                try:
                    line = await reader.readline()
                except ValueError:
                    # What follows would be taken for lines of its own.
                    writer.write(f"{FAILED}a line has at most {MAX_LINE} bytes\n".encode())
                    return
                if not line:
                    return
                writer.write(self._reply(line).encode())
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    def _reply(self, line: bytes) -> str:
        try:
            return self._responder.reply(line.decode())
        except UnicodeDecodeError:
            return f"{FAILED}not UTF-8\n"


def _listen(path: Path) -> socket.socket:
    """A socket at a path, in place of a dead one."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bury(path)
        mask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        listener.setblocking(False)
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def _bury(path: Path) -> None:
    """Remove a socket that nobody listens at.

    Raises:
        FileExistsError: it is no socket.
        OSError: somebody listens.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "exists and is no socket", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "somebody listens there", str(path))
