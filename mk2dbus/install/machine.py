"""The machine to install on: the one that runs, or the files of another below a folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import InstallError
from .layout import FILES, GROUP, LOCAL_PROGRAM, UNIT, USER

TOOLS = ("systemctl", "systemd-sysusers", "systemd-tmpfiles", "udevadm")
_OLD_MARK = b"mk2dbus"
"""In every file of ours, of any version."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is installed, as the installer wrote it down."""

    version: str
    program: str = ""
    """Digest of the copy of the program."""
    files: dict[str, str] = field(default_factory=dict)
    """Digest by path below the root."""
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    """The ones that were not there before."""
    folders: tuple[str, ...] = ()
    """Below the root, that were not there before; the innermost first."""

    def text(self) -> str:
        record = {
            "version": self.version,
            "program": self.program,
            "files": self.files,
            "users": self.users,
            "groups": self.groups,
            "folders": self.folders,
        }
        return json.dumps(record, indent=2) + "\n"


@dataclass(frozen=True, slots=True)
class Machine:
    """``root`` is where its files are; commands are run for ``/`` only."""

    root: Path = Path("/")

    @property
    def live(self) -> bool:
        return self.root == Path("/")

    @property
    def udev(self) -> bool:
        """Whether udev runs; in containers it does not."""
        return self.live and self.path("run/udev/control").exists()

    def path(self, below: str) -> Path:
        return self.root / below

    @property
    def manifest_path(self) -> Path:
        return self.path(LOCAL_PROGRAM) / "manifest.json"

    def manifest(self) -> Manifest | None:
        """What is installed; ``None`` when nothing is (that can be read)."""
        try:
            record: dict[str, Any] = json.loads(self.manifest_path.read_text(encoding="utf-8"))
            return Manifest(
                version=str(record["version"]),
                program=str(record["program"]),
                files=dict(record["files"]),
                users=tuple(record["users"]),
                groups=tuple(record["groups"]),
                folders=tuple(record["folders"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def packaged(self) -> bool:
        """Whether a package of the distribution has put it here."""
        return self.path(UNIT.packaged).exists()

    def ours(self) -> list[Path]:
        """Our files that are there, whoever put them there and of whatever version."""
        found = []
        for file in FILES:
            path = self.path(file.local)
            if path.is_file() and _OLD_MARK in path.read_bytes():
                found.append(path)
        return found

    def require(self, purpose: str, dry_run: bool = False, beside_package: bool = False) -> None:
        """Refuse what cannot work here; to look only needs no rights.

        Args:
            beside_package: there may be a package of the distribution, too.

        Raises:
            InstallError: not root, no systemd, or one of its tools is missing.
        """
        if not self.root.is_dir():
            raise InstallError(f"there is no folder {self.root}")
        if self.path("opt/victronenergy").is_dir():
            raise InstallError(
                "this is Venus OS: use the setup script of mk2dbus for Venus OS (service/venus)"
            )
        if self.packaged() and not beside_package:
            raise InstallError(
                "mk2dbus is here as a package of the distribution, with all of this; to remove it: "
                "sudo apt remove mk2dbus"
            )
        if self.live:
            if os.geteuid() != 0 and not dry_run:
                raise InstallError(f"this needs root: sudo mk2dbus {purpose}")
            if not self.path("run/systemd/system").is_dir():
                raise InstallError(
                    "systemd does not run here; let your own supervisor run: mk2dbus run --tty PORT"
                )
        missing = [tool for tool in TOOLS[: None if self.live else 0] if shutil.which(tool) is None]
        if missing:
            raise InstallError(f"{', '.join(missing)} is not there: it comes with systemd and udev")

    def has_user(self, name: str = USER) -> bool:
        return self._has("passwd", name)

    def has_group(self, name: str = GROUP) -> bool:
        return self._has("group", name)

    def members(self, group: str = GROUP) -> list[str]:
        """Users that somebody put into a group."""
        return [word for entry in self._entries("group", group) for word in entry[-1].split(",") if word]

    def _has(self, table: str, name: str) -> bool:
        return bool(self._entries(table, name))

    def _entries(self, table: str, name: str) -> list[list[str]]:
        try:
            lines = self.path(f"etc/{table}").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        return [entry for line in lines if (entry := line.split(":"))[0] == name]

    def tool(self, *command: str) -> Sequence[str] | None:
        """A command that works on the files of this machine; ``None`` when it is not here."""
        if shutil.which(command[0]) is None:
            return None
        if self.live:
            return command
        option = "--prefix" if command[0] in ("userdel", "groupdel") else "--root"
        return (command[0], option, str(self.root.resolve()), *command[1:])


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
