"""A system bus of our own: the distribution's configuration, a policy file, and users that only it knows.

Everything it changes is in a mount namespace: a process started there sees other files at the usual places.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SERVICE_USER, MEMBER, STRANGER, ROOT = "mk2dbus", "member", "stranger", "root"
_UIDS = {SERVICE_USER: 64000, MEMBER: 64001, STRANGER: 64002}
_VEBUS_GID = 64010


def why_not() -> str | None:
    """Why there cannot be one here, to skip a test with."""
    if os.geteuid() != 0:
        return "clients of several users need root"
    for command in ("dbus-daemon", "busctl", "setpriv", "unshare", "mount"):
        if shutil.which(command) is None:
            return f"{command} is not installed"
    if not Path("/usr/share/dbus-1/system.conf").is_file():
        return "the configuration of the system bus is not installed"
    tried = subprocess.run(
        ("unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"), capture_output=True, text=True
    )
    return f"no mount namespace: {tried.stderr.strip()}" if tried.returncode else None


def as_user(user: str, *command: str) -> tuple[str, ...]:
    """A command line that runs as one of the users."""
    if user == ROOT:
        return command
    groups = f"--groups={_VEBUS_GID}" if user == MEMBER else "--clear-groups"
    return ("setpriv", f"--reuid={_UIDS[user]}", f"--regid={_UIDS[user]}", groups, *command)


def python_as_user(user: str, *arguments: str) -> tuple[str, ...]:
    """Our Python as one of the users, who may read its files and ours wherever they are."""
    command = (sys.executable, *arguments)
    if user == ROOT:
        return command
    may_read = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    setpriv, *words = as_user(user, *command)
    return (setpriv, *may_read, *words)


def own(user: str, path: Path) -> None:
    """Give a file to one of the users."""
    os.chown(path, _UIDS[user], _UIDS[user])


@dataclass
class SystemBus:
    """The daemon. ``policies`` are put where an administrator would, under the names given."""

    folder: Path
    """Others can enter it."""
    policies: Mapping[str, Path] = field(default_factory=dict)
    accounts: bool = True
    """Whether the user mk2dbus and the group vebus exist."""
    configuration: str | None = None
    """In place of the distribution's /etc/dbus-1/system.conf, which it includes where it exists."""

    def start(self) -> None:
        run, rules = self.folder / "run", self.folder / "system.d"
        for path in (run, rules):
            path.mkdir()
            path.chmod(0o755)
        for name, policy in self.policies.items():
            shutil.copyfile(policy, rules / name)
        self._write_accounts()
        script = [
            "set -e",
            "mount -t tmpfs tmpfs /run",
            "mkdir /run/dbus",
            f"mount --bind {run} /run/dbus",
            f"mount --bind {self.folder}/passwd /etc/passwd",
            f"mount --bind {self.folder}/group /etc/group",
            f"mount --bind {rules} /etc/dbus-1/system.d",
        ]
        if self.configuration is not None:
            (self.folder / "system.conf").write_text(self.configuration)
            script.append(f"mount --bind {self.folder}/system.conf /usr/share/dbus-1/system.conf")
        script.append("exec dbus-daemon --system --nofork --nopidfile --nosyslog --print-address=1")
        self._log = (self.folder / "bus.log").open("wb")
        self._process = subprocess.Popen(
            ("unshare", "--mount", "sh", "-c", "\n".join(script)),
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip(), self.log
        self.address = f"unix:path={run}/system_bus_socket"

    @property
    def log(self) -> str:
        return (self.folder / "bus.log").read_text()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()

    def _write_accounts(self) -> None:
        users = [line for line in _lines("/etc/passwd") if line.partition(":")[0] not in _UIDS]
        groups = [line for line in _lines("/etc/group") if line.partition(":")[0] not in (*_UIDS, "vebus")]
        for name, uid in _UIDS.items():
            if self.accounts or name != SERVICE_USER:
                users.append(f"{name}:x:{uid}:{uid}::/nonexistent:/usr/sbin/nologin")
                groups.append(f"{name}:x:{uid}:")
        if self.accounts:
            groups.append(f"vebus:x:{_VEBUS_GID}:{MEMBER}")
        for table, lines in (("passwd", users), ("group", groups)):
            (self.folder / table).write_text("\n".join(lines) + "\n")


def _lines(path: str) -> Sequence[str]:
    return Path(path).read_text().splitlines()
