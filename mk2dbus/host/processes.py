"""Processes, as /proc tells them: which use a port, and which are known to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """A running process."""

    pid: int
    command: tuple[str, ...]
    """Its command line; the name of the program alone where that is empty."""

    @property
    def name(self) -> str:
        """The program; the script, where it is run by an interpreter."""
        words = [Path(word).name for word in self.command if word and not word.startswith("-")]
        if len(words) > 1 and words[0].startswith(("python", "sh", "bash", "perl", "node")):
            return words[1]
        return words[0] if words else ""

    def __str__(self) -> str:
        return f"{self.name or '?'} (process {self.pid})"


@dataclass(frozen=True, slots=True)
class Users:
    """Who has a port open. ``complete`` is false where other users' processes could not be looked into."""

    processes: tuple[Process, ...]
    complete: bool


def processes(proc: Path = PROC) -> Iterator[Process]:
    """All of them but this one, except kernel threads."""
    for folder in proc.glob("[0-9]*"):
        pid = int(folder.name)
        if pid == os.getpid():
            continue
        try:
            command = (folder / "cmdline").read_bytes().rstrip(b"\0")
        except OSError:
            continue  # it ended meanwhile
        if command:
            yield Process(pid, tuple(command.decode(errors="replace").split("\0")))


def users_of(device: Path, proc: Path = PROC) -> Users:
    """The processes that have a device open, whatever name of it they used.

    The far end of a pseudo-terminal is no user of it: whoever has that is the device.
    """
    try:
        wanted = device.stat()
    except OSError:
        return Users((), complete=True)
    found, complete = [], True
    for process in processes(proc):
        folder = proc / str(process.pid)
        try:
            if _has_open(folder, wanted) and not _is_far_end(folder, device):
                found.append(process)
        except PermissionError:
            # Root sees all but processes that are more than root, which containers have outside.
            complete = complete and os.geteuid() == 0
        except FileNotFoundError:
            continue  # it ended meanwhile
    return Users(tuple(found), complete)


def _has_open(folder: Path, wanted: os.stat_result) -> bool:
    for descriptor in (folder / "fd").iterdir():
        try:
            status = descriptor.stat()
        except FileNotFoundError:
            continue  # closed meanwhile
        if status.st_rdev == wanted.st_rdev and status.st_rdev != 0:
            return True
    return False


def _is_far_end(folder: Path, device: Path) -> bool:
    number = device.resolve().name if device.resolve().parent == Path("/dev/pts") else None
    if number is None:
        return False
    for info in (folder / "fdinfo").iterdir():
        words = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        if words.get("tty-index", "").strip() == number:
            return True
    return False
