"""``mk2dbus install`` and ``uninstall`` on the files of another system: all of it, or nothing."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path

import pytest
from support.roots import everything
from support.system_bus import STRANGER, as_user

from mk2dbus import __version__
from mk2dbus.cli import main
from mk2dbus.install import plan as plans
from mk2dbus.install.errors import InstallError
from mk2dbus.install.layout import (
    FILES,
    LOCAL_COMMAND,
    LOCAL_PROGRAM,
    POLICY,
    STATE,
    UNIT,
    local_content,
)
from mk2dbus.install.machine import Machine
from mk2dbus.install.program import copy_program, interpreter
from mk2dbus.install.steps import PutFile, Run, Step, carry_out

Capture = pytest.CaptureFixture[str]


def quiet(line: str) -> None:
    """Says nothing."""


def no_policy() -> str | None:
    raise AssertionError("there is no bus to ask")


def install(root: Path, *options: str) -> int:
    return main(["install", "--root", str(root), *options])


def uninstall(root: Path, *options: str) -> int:
    return main(["uninstall", "--root", str(root), *options])


def one_line(text: str) -> str:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    return lines[0]


@pytest.fixture
def small_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the program, which takes its time to copy."""

    def copy(target: Path, at: str, python: Path, compiled: bool = True) -> None:
        (target / "lib").mkdir(parents=True)
        (target / "mk2dbus").write_text(f"#!{python}\n# {at}\n")
        (target / "lib" / "module.py").touch()

    monkeypatch.setattr(plans, "copy_program", copy)


def test_in_and_out_again(root: Path, capsys: Capture) -> None:
    before = everything(root)
    assert install(root) == 0
    for file in FILES:
        assert (root / file.local).read_bytes() == local_content(file)
        assert (root / file.local).stat().st_mode & 0o777 == 0o644
    assert (root / LOCAL_COMMAND).readlink() == Path(f"/{LOCAL_PROGRAM}/mk2dbus")
    assert "mk2dbus:" in (root / "etc/passwd").read_text()
    assert "vebus:" in (root / "etc/group").read_text()
    assert (root / "var/lib/mk2dbus").stat().st_uid != 0
    state = root / "var/lib/mk2dbus/ttyUSB0.json"
    state.write_text("{}")

    capsys.readouterr()
    assert uninstall(root) == 0
    assert "--purge" in capsys.readouterr().out
    assert state.exists()
    assert uninstall(root, "--purge") == 0
    assert everything(root) == before


@pytest.mark.usefixtures("small_program")
def test_all_at_once(root: Path) -> None:
    before = everything(root)
    assert install(root) == 0
    assert uninstall(root, "--purge") == 0
    assert everything(root) == before


@pytest.mark.usefixtures("small_program")
def test_accounts_of_others_stay(root: Path) -> None:
    with (root / "etc/group").open("a") as group:
        group.write("vebus:x:990:captain\n")
    before = everything(root)
    assert install(root) == 0
    assert uninstall(root, "--purge") == 0
    assert everything(root) == before


@pytest.mark.usefixtures("small_program")
def test_twice(root: Path, capsys: Capture) -> None:
    assert install(root) == 0
    there = everything(root)
    capsys.readouterr()
    assert install(root) == 0
    assert one_line(capsys.readouterr().out) == f"mk2dbus {__version__} is installed already: nothing to do"
    assert everything(root) == there


def test_what_is_not_there(root: Path, capsys: Capture) -> None:
    before = everything(root)
    assert uninstall(root) == 0
    assert one_line(capsys.readouterr().out) == "mk2dbus is not installed here: nothing to do"
    assert everything(root) == before


@pytest.mark.parametrize("command", [install, uninstall])
@pytest.mark.usefixtures("small_program")
def test_a_dry_run_does_nothing(root: Path, capsys: Capture, command: Callable[..., int]) -> None:
    if command is uninstall:
        install(root)
    before = everything(root)
    capsys.readouterr()
    assert command(root, "--dry-run") == 0
    said = capsys.readouterr().out
    assert str(root / POLICY.local) in said
    assert "nothing was done" in said
    assert everything(root) == before


@pytest.mark.usefixtures("small_program")
def test_an_older_version_is_replaced(root: Path, capsys: Capture) -> None:
    assert install(root) == 0
    now = everything(root)
    old = b"# the unit of an older mk2dbus\n"
    (root / UNIT.local).write_bytes(old)
    manifest = Machine(root).manifest_path
    record = json.loads(manifest.read_text())
    record["version"], record["program"] = "0.0.1", "another"
    record["files"][UNIT.local] = hashlib.sha256(old).hexdigest()
    manifest.write_text(json.dumps(record))
    (root / LOCAL_PROGRAM / "lib" / "left-over.py").touch()
    assert install(root) == 0
    assert everything(root) == now


@pytest.mark.usefixtures("small_program")
def test_the_policy_of_an_older_version(root: Path, capsys: Capture) -> None:
    """As somebody copied it by hand, before there was an installer."""
    policy = root / POLICY.local
    policy.parent.mkdir(parents=True)
    policy.write_text("<!-- Who may do what with mk2dbus on the system bus -->\n<busconfig/>\n")
    assert install(root) == 0
    assert f"{policy} of an older version, or made by hand, is replaced" in capsys.readouterr().out
    assert policy.read_bytes() == POLICY.content()


@pytest.mark.usefixtures("small_program")
def test_a_file_of_somebody_else(root: Path, capsys: Capture) -> None:
    policy = root / POLICY.local
    policy.parent.mkdir(parents=True)
    policy.write_text("<busconfig/>\n")
    before = everything(root)
    assert install(root) == 1
    assert str(policy) in one_line(capsys.readouterr().err)
    assert everything(root) == before
    assert install(root, "--force") == 0
    assert policy.read_bytes() == POLICY.content()


@pytest.mark.usefixtures("small_program")
def test_a_file_changed_by_hand(root: Path, capsys: Capture) -> None:
    assert install(root) == 0
    unit = root / UNIT.local
    unit.write_text(unit.read_text() + "Environment=MINE=1\n")
    before = everything(root)
    capsys.readouterr()
    assert install(root) == 1
    assert "changed by hand; --force" in one_line(capsys.readouterr().err)
    assert everything(root) == before
    assert install(root, "--force") == 0
    assert unit.read_bytes() == local_content(UNIT)


@pytest.mark.usefixtures("small_program")
def test_other_rules_about_our_names_are_told(root: Path, capsys: Capture) -> None:
    other = root / "etc/dbus-1/system.d/mine.conf"
    other.parent.mkdir(parents=True)
    other.write_text(
        '<busconfig><policy user="x"><allow own="com.victronenergy.vebus.a"/></policy></busconfig>'
    )
    assert install(root) == 0
    assert str(other) in capsys.readouterr().out


def test_a_package_is_left_to_its_manager(root: Path, capsys: Capture) -> None:
    unit = root / UNIT.packaged
    unit.parent.mkdir(parents=True)
    unit.write_bytes(UNIT.content())
    before = everything(root)
    for command in (install, uninstall):
        assert command(root) == 1
        assert "apt remove mk2dbus" in one_line(capsys.readouterr().err)
    assert everything(root) == before


@pytest.mark.usefixtures("small_program")
def test_beside_a_package_only_its_own_goes(root: Path, capsys: Capture) -> None:
    unit = root / UNIT.packaged
    unit.parent.mkdir(parents=True)
    assert install(root) == 0
    accounts = [(root / "etc" / table).read_text() for table in ("passwd", "group")]
    unit.write_bytes(UNIT.content())
    capsys.readouterr()
    assert uninstall(root, "--purge") == 0
    assert "sudo apt remove mk2dbus" in capsys.readouterr().out
    assert not [file for file in FILES if (root / file.local).exists()]
    assert not (root / LOCAL_PROGRAM).exists()
    assert unit.exists()
    assert (root / STATE).is_dir()
    assert [(root / "etc" / table).read_text() for table in ("passwd", "group")] == accounts
    assert uninstall(root) == 1
    assert "sudo apt remove mk2dbus" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("udev", [True, False])
@pytest.mark.usefixtures("small_program")
def test_where_udev_does_not_run_it_is_not_called(monkeypatch: pytest.MonkeyPatch, udev: bool) -> None:
    """As in containers."""
    monkeypatch.setattr(Machine, "udev", property(lambda machine: udev))
    monkeypatch.setattr(Machine, "require", lambda *words, **options: None)
    plan = plans.plan_install(Machine(), no_policy, force=True)
    called = {step.command[0] for step in plan.steps if isinstance(step, Run)}
    assert {"systemctl", "systemd-sysusers"} <= called
    assert ("udevadm" in called) == udev
    assert any("udev does not run here" in note for note in plan.notes) != udev


@pytest.mark.usefixtures("small_program")
def test_another_command_of_that_name_stays(root: Path, capsys: Capture) -> None:
    command = root / LOCAL_COMMAND
    command.write_text("#!/bin/sh\n")
    assert install(root) == 0
    assert f"{command} is another mk2dbus and stays" in capsys.readouterr().out
    assert uninstall(root, "--purge") == 0
    assert command.read_text() == "#!/bin/sh\n"


def test_venus_os_has_its_own_setup(root: Path, capsys: Capture) -> None:
    (root / "opt/victronenergy").mkdir(parents=True)
    assert install(root) == 1
    assert "Venus OS" in one_line(capsys.readouterr().err)


def test_no_such_root(tmp_path: Path, capsys: Capture) -> None:
    for command in (install, uninstall):
        assert command(tmp_path / "nowhere") == 1
        assert "nowhere" in one_line(capsys.readouterr().err)


def test_no_root_and_no_systemd(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for command in ("install", "uninstall"):
        assert main([command]) == 1
        assert one_line(capsys.readouterr().err) == f"mk2dbus: this needs root: sudo mk2dbus {command}"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Machine, "path", lambda machine, below: Path("/nowhere") / below)
    for command in ("install", "uninstall"):
        assert main([command]) == 1
        assert "systemd does not run here" in one_line(capsys.readouterr().err)


# --- whole or not at all -------------------------------------------------------------------------------


class Broken(Step):
    """Fails."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def describe(self) -> str:
        return "break"

    def do(self) -> None:
        raise self.error


def _plans(root: Path, purge: bool = True) -> list[Callable[[], plans.Plan]]:
    machine = Machine(root)
    return [
        partial(plans.plan_install, machine, no_policy),
        partial(plans.plan_uninstall, machine, purge=purge),
    ]


@pytest.mark.usefixtures("small_program")
def test_whatever_step_fails_all_is_as_before(root: Path) -> None:
    planned, _ = _plans(root)
    before = everything(root)
    errors = cycle((OSError(28, "No space left on device"), InstallError("it did not work")))
    for number in range(1, len(planned().steps) + 1):
        steps = [*planned().steps[:number], Broken(next(errors))]
        with pytest.raises(InstallError, match="everything is as it was"):
            carry_out(steps, quiet)
        assert everything(root) == before, f"after step {number}"


@pytest.mark.usefixtures("small_program")
def test_a_removal_that_fails_puts_all_back(root: Path) -> None:
    install(root)
    before = everything(root)
    _, planned = _plans(root)
    accounts = [number for number, step in enumerate(planned().steps) if isinstance(step, Run)]
    for number in range(1, accounts[0] + 1):
        steps = [*planned().steps[:number], Broken(OSError(30, "Read-only file system"))]
        with pytest.raises(InstallError, match="Read-only file system; everything is as it was"):
            carry_out(steps, quiet)
        assert everything(root) == before, f"after step {number}"


@pytest.mark.usefixtures("small_program")
def test_an_interruption_undoes_too(root: Path) -> None:
    planned, _ = _plans(root)
    before = everything(root)
    with pytest.raises(KeyboardInterrupt):
        carry_out([*planned().steps, Broken(KeyboardInterrupt())], quiet)
    assert everything(root) == before


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    step = Run((sys.executable, "-c", "import sys; sys.exit('a word of reason')"))
    with pytest.raises(InstallError, match="a word of reason"):
        carry_out([PutFile(tmp_path / "file", b"", "a file"), step], quiet)
    assert not (tmp_path / "file").exists()


# --- the copy of the program ----------------------------------------------------------------------------


def test_the_copy_runs_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without this environment, by another user, and it can install itself again."""
    folder = tmp_path_factory.mktemp("copy")
    for path in (folder, *folder.parents):
        if path.stat().st_uid == os.geteuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    program = folder / "mk2dbus"
    copy_program(program, str(program), interpreter())
    user = as_user(STRANGER) if os.geteuid() == 0 else ()
    environment = {"PATH": os.defpath}
    for words, expected in (
        (("--version",), f"mk2dbus {__version__}"),
        (("simulate", "--list"), "multiplus2"),
        (("run", "--help"), "--tty"),
        (("install", "--root", str(program), "--dry-run"), "D-Bus policy"),
    ):
        outcome = subprocess.run(
            (*user, str(program / "mk2dbus"), *words),
            capture_output=True,
            text=True,
            env=environment,
            cwd="/",
            timeout=30,
        )
        assert outcome.returncode == 0, outcome.stderr
        assert expected in outcome.stdout


def test_the_copy_holds_no_more_than_it_needs(tmp_path: Path) -> None:
    copy_program(tmp_path / "copy", "/usr/local/lib/mk2dbus", interpreter(), compiled=False)
    library = tmp_path / "copy" / "lib"
    packages = {path.name for path in library.iterdir() if not path.name.endswith(".dist-info")}
    assert packages >= {"mk2dbus", "serial", "serial_asyncio"}
    assert not packages & {"pytest", "hypothesis", "mypy", "pip", "bin"}
    assert not list(library.rglob("*.pyc"))
