"""The unit and what comes with it, as systemd itself judges them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from mk2dbus.cli import build_parser
from mk2dbus.install.layout import LOCAL_PROGRAM, PROGRAM, SYSUSERS, TMPFILES, UNIT, local_content

MAX_EXPOSURE = 1.5


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def call(*command: str) -> str:
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout + outcome.stderr


def settings() -> dict[str, list[str]]:
    """The settings of the unit, in order where one comes several times."""
    found: dict[str, list[str]] = {}
    for line in UNIT.content().decode().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """An instance, with a program that is there."""
    path = tmp_path / "mk2dbus@ttyUSB0.service"
    path.write_bytes(UNIT.content().replace(PROGRAM.encode(), b"/bin/true"))
    return path


def test_exposure(tmp_path: Path) -> None:
    path = tmp_path / "mk2dbus@.service"
    path.write_bytes(UNIT.content())
    said = call(tool("systemd-analyze"), "security", "--offline=true", "--no-pager", str(path))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= MAX_EXPOSURE, said


def test_systemd_finds_nothing_wrong(unit: Path) -> None:
    said = call(tool("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", str(unit))
    assert said.strip() == ""


def test_systemd_would_find_something_wrong(unit: Path) -> None:
    """That the test before can fail."""
    unit.write_text(unit.read_text().replace("WatchdogSec=30", "WatchdogSec=often"))
    command = (tool("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", str(unit))
    assert "often" in subprocess.run(command, capture_output=True, text=True, timeout=30).stderr


def test_one_port_and_no_other_device() -> None:
    found = settings()
    assert found["DevicePolicy"] == ["closed"]
    assert found["DeviceAllow"] == ["/dev/%I rw"]
    assert found["BindsTo"] == ["dev-%i.device"]
    assert found["Type"] == ["notify"]
    assert found["User"] == ["mk2dbus"]
    assert "WatchdogSec" in found


def test_the_number_of_the_boot_can_be_read() -> None:
    """The energy counters need /proc/sys/kernel/random/boot_id, which ProcSubset=pid hides."""
    assert settings().get("ProcSubset", ["all"]) == ["all"]


@pytest.mark.parametrize("instance", ["ttyUSB0", "mk3/HQ2132ABCDE"])
def test_the_program_takes_its_command_line(instance: str) -> None:
    (line,) = settings()["ExecStart"]
    program, *words = shlex.split(line.replace("%I", instance))
    assert program == PROGRAM
    options = shlex.split("--device-instance 258 --log-level debug")
    at = words.index("$OPTIONS")
    arguments = build_parser("run").parse_args([*words[:at], *options, *words[at + 1 :]])
    assert arguments.tty == f"/dev/{instance}"
    assert arguments.device_instance == 258
    assert str(arguments.state_dir) == "/var/lib/mk2dbus"


def test_the_local_unit_runs_the_copy() -> None:
    text = local_content(UNIT).decode()
    assert f"ExecStart=/{LOCAL_PROGRAM}/mk2dbus run " in text
    assert PROGRAM not in text


def test_accounts_and_folders(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for file in (SYSUSERS, TMPFILES):
        path = tmp_path / file.packaged
        path.parent.mkdir(parents=True)
        path.write_bytes(file.content())
    call(tool("systemd-sysusers"), f"--root={tmp_path}", "mk2dbus.conf")
    users, groups = ((tmp_path / "etc" / table).read_text() for table in ("passwd", "group"))
    assert re.search(r"^mk2dbus:x:\d+:\d+:[^:]*:/var/lib/mk2dbus:\S*nologin$", users, re.MULTILINE)
    assert re.search(r"^vebus:x:\d+:$", groups, re.MULTILINE)
    # Not run: without being root it cannot give folders away.
    lines = [line.split() for line in TMPFILES.content().decode().splitlines() if not line.startswith("#")]
    assert [line[:5] for line in lines] == [
        ["d", "/var/lib/mk2dbus", "0750", "mk2dbus", "mk2dbus"],
        ["d", "/etc/mk2dbus", "0755", "root", "root"],
    ]
