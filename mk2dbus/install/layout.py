"""What goes where. The table that the installer, the Debian package and the tests share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class File:
    """A file for the system."""

    source: str
    """In the source tree."""
    packaged: str
    """Where a package of the distribution puts it, below the root."""
    local: str
    """Where ``mk2dbus install`` puts it, below the root."""
    what: str

    def content(self) -> bytes:
        return (source_root() / self.source).read_bytes()


POLICY = File(
    "dbus-policy/com.victronenergy.vebus.conf",
    "usr/share/dbus-1/system.d/com.victronenergy.vebus.conf",
    "etc/dbus-1/system.d/com.victronenergy.vebus.conf",
    "D-Bus policy",
)
UNIT = File(
    "service/systemd/mk2dbus@.service",
    "usr/lib/systemd/system/mk2dbus@.service",
    "etc/systemd/system/mk2dbus@.service",
    "systemd unit",
)
RULES = File(
    "service/systemd/70-mk2dbus.rules",
    "usr/lib/udev/rules.d/70-mk2dbus.rules",
    "etc/udev/rules.d/70-mk2dbus.rules",
    "udev rules",
)
SYSUSERS = File(
    "service/systemd/mk2dbus.sysusers",
    "usr/lib/sysusers.d/mk2dbus.conf",
    "etc/sysusers.d/mk2dbus.conf",
    "user mk2dbus and group vebus",
)
TMPFILES = File(
    "service/systemd/mk2dbus.tmpfiles",
    "usr/lib/tmpfiles.d/mk2dbus.conf",
    "etc/tmpfiles.d/mk2dbus.conf",
    "folders",
)
MANUAL = File(
    "docs/man/mk2dbus.1",
    "usr/share/man/man1/mk2dbus.1",
    "usr/local/share/man/man1/mk2dbus.1",
    "manual page",
)
COMPLETIONS = (
    File(
        "service/completion/mk2dbus.bash",
        "usr/share/bash-completion/completions/mk2dbus",
        "usr/local/share/bash-completion/completions/mk2dbus",
        "completion for bash",
    ),
    File(
        "service/completion/_mk2dbus",
        "usr/share/zsh/vendor-completions/_mk2dbus",
        "usr/local/share/zsh/site-functions/_mk2dbus",
        "completion for zsh",
    ),
    File(
        "service/completion/mk2dbus.fish",
        "usr/share/fish/vendor_completions.d/mk2dbus.fish",
        "usr/local/share/fish/vendor_completions.d/mk2dbus.fish",
        "completion for fish",
    ),
)
FILES = (SYSUSERS, TMPFILES, POLICY, UNIT, RULES, MANUAL, *COMPLETIONS)
"""In the order in which they are needed: the policy speaks of the user, the unit owns a name."""

PROGRAM = "/usr/bin/mk2dbus"
"""The program in the unit, as a package has it."""

LOCAL_PROGRAM = "usr/local/lib/mk2dbus"
"""Folder with a copy of the program for the service, below the root."""
LOCAL_COMMAND = "usr/local/bin/mk2dbus"

STATE, OPTIONS = "var/lib/mk2dbus", "etc/mk2dbus"
USER, GROUP = "mk2dbus", "vebus"


def local_content(file: File) -> bytes:
    """What ``mk2dbus install`` writes: the unit runs the copy of the program."""
    return file.content().replace(f"={PROGRAM} ".encode(), f"=/{LOCAL_PROGRAM}/mk2dbus ".encode())


def source_root() -> Path:
    """Where service/, dbus-policy/ and docs/ are: in the installed package, or beside it in a checkout."""
    packed = _PACKAGE / "install" / "files"
    return packed if packed.is_dir() else _PACKAGE.parent
