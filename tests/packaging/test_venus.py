"""The setup script for Venus OS, on files laid out as there, with stand-ins for its tools."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.roots import everything

from mk2dbus import __version__

PROJECT = Path(__file__).parents[2]
VENUS = PROJECT / "service" / "venus"

# Each notes how it was called; udevadm knows two ports.
TOOLS = {
    "udevadm": 'case "$*" in *name=ttyUSB0) echo ID_MODEL=MK3-USB_Interface;; *) echo ID_MODEL=Other;; esac',
    "svc": "",
    "dbus-send": "",
    "python3": "",
}


@dataclass
class Venus:
    """A GX device of files."""

    root: Path
    tools: Path
    shell: tuple[str, ...] = ("sh",)

    def setup(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "MK2DBUS_ROOT": str(self.root),
            "PATH": f"{self.tools}:{os.environ['PATH']}",
        }
        script = self.root / "data/mk2dbus/setup"
        return subprocess.run(
            (*self.shell, str(script), *words), env=environment, capture_output=True, text=True, timeout=30
        )

    def done(self, *words: str) -> str:
        outcome = self.setup(*words)
        assert outcome.returncode == 0, outcome.stderr
        return outcome.stdout

    @property
    def calls(self) -> list[str]:
        """What was called since the last time asked."""
        log = self.tools / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    def update_firmware(self) -> None:
        """Only /data stays."""
        self._empty("opt/victronenergy/service-templates")
        self.restart()

    def restart(self) -> None:
        """What was written to /etc was in RAM."""
        self._empty("etc/udev/rules.d")
        self._empty("etc/dbus-1/system.d")

    def _empty(self, path: str) -> None:
        shutil.rmtree(self.root / path)
        (self.root / path).mkdir()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outcome = subprocess.run(
        (sys.executable, str(VENUS / "build"), str(tmp_path_factory.mktemp("venus"))),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert outcome.returncode == 0, outcome.stderr
    return Path(outcome.stdout.strip())


@pytest.fixture
def venus(tmp_path: Path, archive: Path) -> Venus:
    root, tools = tmp_path / "root", tmp_path / "tools"
    for folder in (
        "data/conf/serial-starter.d",
        "opt/victronenergy/serial-starter",
        "opt/victronenergy/service-templates",
        "etc/udev/rules.d",
        "etc/dbus-1/system.d",
        "service",
        "var/volatile/services",
        "var/log",
        "sys/class/tty/ttyUSB0",
        "sys/class/tty/ttyUSB1",
        "sys/class/tty/ttyS4",
    ):
        (root / folder).mkdir(parents=True)
    tools.mkdir()
    for name, body in TOOLS.items():
        note = "" if name == "python3" else f'echo "{name} $*" >>"{tools}/calls"\n'
        _script(tools / name, note + body)
    _script(root / "opt/victronenergy/serial-starter/stop-tty.sh", f'echo "stop-tty $1" >>"{tools}/calls"')
    with tarfile.open(archive) as file:
        program = [entry for entry in file if not entry.name.startswith("mk2dbus/lib")]
        file.extractall(root / "data", program, filter="data")
    return Venus(root, tools)


@pytest.fixture
def with_program(venus: Venus, archive: Path) -> Venus:
    """With the program and a Python that runs it, not only the scripts."""
    with tarfile.open(archive) as file:
        file.extractall(venus.root / "data", filter="data")
    _script(venus.tools / "python3", f'exec "{sys.executable}" "$@"')
    return venus


def _script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_in_and_out_again(venus: Venus) -> None:
    before = everything(venus.root)
    venus.done("install")
    template = venus.root / "opt/victronenergy/service-templates/mk2dbus"
    assert (
        (template / "run")
        .read_text()
        .endswith(
            "exec /data/mk2dbus/mk2dbus run --tty /dev/TTY --bus system --state-dir /data/mk2dbus/state\n"
        )
    )
    assert (template / "down").exists()
    assert (template / "log" / "down").exists()
    assert os.access(template / "run", os.X_OK)
    assert os.access(template / "log" / "run", os.X_OK)
    assert (venus.root / "data/conf/serial-starter.d/mk2dbus.conf").read_text() == "service mk2dbus mk2dbus\n"
    assert (venus.root / "data/rc.local").read_text() == "#!/bin/sh\n/data/mk2dbus/setup enable\n"
    assert os.access(venus.root / "data/rc.local", os.X_OK)
    assert (venus.root / "etc/dbus-1/system.d/com.victronenergy.vebus-venus.conf").exists()
    # Victron's driver is stopped on this port and no other, and udev looks at it again.
    calls = venus.calls
    assert [call for call in calls if call.startswith("stop-tty")] == ["stop-tty ttyUSB0"]
    triggered = [call for call in calls if call.startswith("udevadm trigger")]
    assert triggered == ["udevadm trigger --action=add --sysname-match=ttyUSB0"]
    assert calls.index("udevadm control --reload-rules") < calls.index(triggered[0])
    assert f"svc -t {venus.root}/service/serial-starter" in calls

    service = venus.root / "var/volatile/services/mk2dbus.ttyUSB0"
    service.mkdir()
    (venus.root / "service/mk2dbus.ttyUSB0").symlink_to(service)
    venus.done("uninstall")
    calls = venus.calls
    assert f"svc -dx {venus.root}/service/mk2dbus.ttyUSB0 {venus.root}/service/mk2dbus.ttyUSB0/log" in calls
    assert "udevadm trigger --action=add --sysname-match=ttyUSB0" in calls
    (venus.root / "data/mk2dbus/state").rmdir()
    assert everything(venus.root) == before


def test_with_busybox(venus: Venus) -> None:
    """Shell and tools of Venus OS, where many are busybox's."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is not installed")
    venus.shell = (busybox, "sh")
    for tool in subprocess.run((busybox, "--list"), capture_output=True, text=True).stdout.split():
        if not (venus.tools / tool).exists():
            (venus.tools / tool).symlink_to(busybox)
    before = everything(venus.root)
    venus.done("install", "ttyS4")
    there = everything(venus.root)
    venus.update_firmware()
    venus.done("enable")
    assert everything(venus.root) == there
    venus.done("uninstall")
    (venus.root / "data/mk2dbus/state").rmdir()
    assert everything(venus.root) == before


def test_purge_leaves_nothing(venus: Venus) -> None:
    venus.done("install")
    venus.done("uninstall", "--purge")
    assert not (venus.root / "data/mk2dbus").exists()
    assert not [path for path in venus.root.rglob("*") if "mk2dbus" in path.name]


@pytest.mark.parametrize("happens", [Venus.update_firmware, Venus.restart])
def test_what_is_gone_is_put_back(venus: Venus, happens: Callable[[Venus], None]) -> None:
    venus.done("install", "ttyS4")
    there = everything(venus.root)
    happens(venus)
    assert everything(venus.root) != there
    assert venus.calls
    subprocess.run(("sh", "-n", str(venus.root / "data/rc.local")), check=True)
    venus.done("enable")
    assert everything(venus.root) == there
    assert "stop-tty ttyUSB0" in venus.calls


def test_where_all_is_there_nothing_is_touched(venus: Venus) -> None:
    venus.done("install")
    assert venus.calls
    venus.done("enable")
    assert [call for call in venus.calls if not call.startswith("udevadm info")] == []


def test_twice(venus: Venus) -> None:
    venus.done("install")
    there = everything(venus.root)
    venus.done("install")
    assert everything(venus.root) == there


@pytest.mark.parametrize("file", ["run", "log/run"])
def test_the_template_names_the_port_once_in_a_line(file: str) -> None:
    """Serial-starter puts the port in place of the first one of each line."""
    text = (VENUS / "template" / file).read_text()
    assert "TTY" in text
    assert "TTY" not in "\n".join(line.replace("TTY", "ttyUSB0", 1) for line in text.splitlines())


def test_lines_of_others_stay(venus: Venus) -> None:
    rc_local = venus.root / "data/rc.local"
    _script(rc_local, "/data/other/start")
    before = rc_local.read_text()
    venus.done("install")
    assert rc_local.read_text() == f"{before}/data/mk2dbus/setup enable\n"
    venus.done("uninstall")
    assert rc_local.read_text() == before


def test_a_built_in_port(venus: Venus) -> None:
    venus.done("install", "ttyS4")
    rules = (venus.root / "etc/udev/rules.d/zz-mk2dbus.rules").read_text()
    assert 'KERNEL=="ttyS4", ENV{VE_SERVICE}="mk2dbus"' in rules
    assert "stop-tty ttyS4" in venus.calls


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("install", "/dev/ttyUSB0"), "no port"),
        (("install", "ttyUSB7"), "no port ttyUSB7"),
    ],
)
def test_wrong_ports(venus: Venus, words: tuple[str, ...], reason: str) -> None:
    before = everything(venus.root)
    outcome = venus.setup(*words)
    assert outcome.returncode == 1
    assert reason in _one_line(outcome.stderr)
    assert everything(venus.root) == before


def test_not_installed(venus: Venus) -> None:
    before = everything(venus.root)
    assert "nothing to do" in _one_line(venus.done("uninstall"))
    assert everything(venus.root) == before


def test_not_venus(venus: Venus) -> None:
    shutil.rmtree(venus.root / "opt")
    outcome = venus.setup("install")
    assert outcome.returncode == 1
    assert "not Venus OS" in _one_line(outcome.stderr)


def test_an_old_python(venus: Venus) -> None:
    _script(venus.tools / "python3", "exit 1")
    outcome = venus.setup("install")
    assert outcome.returncode == 1
    assert "Python 3.11" in _one_line(outcome.stderr)
    assert not (venus.root / "data/rc.local").exists()


def test_a_program_that_does_not_run(with_program: Venus) -> None:
    shutil.rmtree(with_program.root / "data/mk2dbus/lib/mk2dbus/cli")
    outcome = with_program.setup("install")
    assert outcome.returncode == 1
    assert "does not run" in _one_line(outcome.stderr)


def test_the_archive_runs_without_this_environment(with_program: Venus) -> None:
    venus = with_program
    venus.done("install")
    outcome = subprocess.run(
        (str(venus.root / "data/mk2dbus/mk2dbus"), "--version"),
        env={"PATH": f"{venus.tools}:{os.defpath}"},
        capture_output=True,
        text=True,
    )
    assert outcome.stdout.strip() == f"mk2dbus {__version__}", outcome.stderr
    assert not list((venus.root / "data/mk2dbus").rglob("*.so"))  # for another kind of machine


def _one_line(text: str) -> str:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    return lines[0]
