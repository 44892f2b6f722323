"""The Debian package: built, put into the files of another system, and purged without a trace."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.roots import everything

from mk2dbus import __version__
from mk2dbus.install.layout import (
    FILES,
    LOCAL_COMMAND,
    MANUAL,
    SYSUSERS,
    TMPFILES,
    UNIT,
    local_content,
)

PROJECT = Path(__file__).parents[2]
BUILD = PROJECT / "service" / "debian" / "build"


def call(*command: str, cwd: Path | None = None) -> str:
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed")
    target = tmp_path_factory.mktemp("package")
    return Path(call(sys.executable, str(BUILD), str(target)).strip())


def test_what_is_in_it(package: Path, tmp_path: Path) -> None:
    call("dpkg-deb", "--extract", str(package), str(tmp_path))
    for file in FILES:
        if file is MANUAL:
            assert gzip.decompress((tmp_path / f"{file.packaged}.gz").read_bytes()) == file.content()
        else:
            assert (tmp_path / file.packaged).read_bytes() == file.content()
    library = tmp_path / "usr/lib/python3/dist-packages/mk2dbus"
    source = PROJECT / "mk2dbus"
    for path in source.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert (library / path.relative_to(source)).read_bytes() == path.read_bytes()
    readme = tmp_path / "usr/share/doc/mk2dbus/README.md.gz"
    assert gzip.decompress(readme.read_bytes()) == (PROJECT / "README.md").read_bytes()
    assert not list(tmp_path.rglob("*.pyc"))
    listing = call("dpkg-deb", "--contents", str(package))
    assert all(line.split()[1] == "root/root" for line in listing.splitlines())
    # Nothing that others may write, nothing executable but the command.
    assert not [line for line in listing.splitlines() if line[0] == "-" and line[8] == "w"]
    executable = [line.split()[-1] for line in listing.splitlines() if line[0] == "-" and "x" in line[:10]]
    assert executable == ["./usr/bin/mk2dbus"]


def test_what_it_says_of_itself(package: Path) -> None:
    fields = dict(
        line.split(": ", 1)
        for line in call("dpkg-deb", "--field", str(package)).splitlines()
        if line[0] != " "
    )
    assert (fields["Package"], fields["Version"], fields["Architecture"]) == ("mk2dbus", __version__, "all")
    assert fields["Conflicts"] == "dbus-broker"
    for needed in ("python3 (>= 3.11)", "python3-dbus-next (>= 0.2.3)", "python3-serial-asyncio (>= 0.6)"):
        assert needed in fields["Depends"]


def test_its_program_runs(package: Path, tmp_path: Path) -> None:
    call("dpkg-deb", "--extract", str(package), str(tmp_path))
    libraries = tmp_path / "usr/lib/python3/dist-packages"
    code = f"import sys; sys.path.insert(0, {str(libraries)!r}); sys.argv = ['mk2dbus', '--version']; "
    command = (tmp_path / "usr/bin/mk2dbus").read_text()
    assert command.startswith("#!/usr/bin/python3\n")
    said = call(sys.executable, "-c", f"{code}exec({command!r})", cwd=Path("/"))
    assert said.strip() == f"mk2dbus {__version__}"
    # It has its own copy of the files for the system, to compare with and for other roots.
    (tmp_path / "root").mkdir()
    words = f"['mk2dbus', 'install', '--dry-run', '--root', {str(tmp_path / 'root')!r}]"
    said = call(sys.executable, "-c", f"{code}sys.argv = {words}; exec({command!r})", cwd=Path("/"))
    assert "(D-Bus policy)" in said


def test_twice_the_same(package: Path, tmp_path: Path) -> None:
    again = Path(call(sys.executable, str(BUILD), str(tmp_path)).strip())
    assert again.read_bytes() == package.read_bytes()


def test_in_and_out_again(package: Path, root: Path) -> None:
    if shutil.which("dpkg") is None or os.geteuid() != 0:
        pytest.skip("installing a package needs dpkg and root")
    database = root / "var/lib/dpkg"
    for folder in ("info", "updates", "triggers"):
        (database / folder).mkdir(parents=True)
    for file in ("status", "available"):
        (database / file).touch()
    (root / "tmp").mkdir()
    before = _without(everything(root), "var/lib/dpkg")
    # Its scripts run here and work on that root (DPKG_ROOT), as there is nothing in it to run them with.
    dpkg = ("dpkg", f"--root={root}", "--force-script-chrootless", "--force-depends", "--log=/dev/null")
    call(*dpkg, "--install", str(package))
    assert "mk2dbus:" in (root / "etc/passwd").read_text()
    assert "vebus:" in (root / "etc/group").read_text()
    assert (root / "var/lib/mk2dbus").stat().st_uid != 0
    assert "ok installed" in call("dpkg-query", f"--admindir={database}", "--status", "mk2dbus")
    (root / "var/lib/mk2dbus/ttyUSB0.json").write_text("{}")
    (root / "etc/mk2dbus/ttyUSB0.conf").write_text("OPTIONS=--read-only\n")

    call(*dpkg, "--install", str(package))
    call(*dpkg, "--remove", "mk2dbus")
    assert (root / "var/lib/mk2dbus/ttyUSB0.json").exists()
    assert (root / "etc/mk2dbus/ttyUSB0.conf").exists()
    assert not (root / "usr/bin/mk2dbus").exists()

    call(*dpkg, "--purge", "mk2dbus")
    assert _without(everything(root), "var/lib/dpkg") == before


def test_what_mk2dbus_install_put_there_is_said(root: Path) -> None:
    for file in (SYSUSERS, TMPFILES):
        (root / file.packaged).parent.mkdir(parents=True, exist_ok=True)
        (root / file.packaged).write_bytes(file.content())
    configure = ("env", f"DPKG_ROOT={root}", "sh", str(BUILD.parent / "postinst"), "configure")
    assert "comes first" not in call(*configure)
    (root / UNIT.local).parent.mkdir(parents=True)
    (root / UNIT.local).write_bytes(local_content(UNIT))
    (line,) = call(*configure).splitlines()
    assert f"sudo /{LOCAL_COMMAND} uninstall" in line


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm"])
def test_scripts_are_shell(script: str) -> None:
    call("sh", "-n", str(BUILD.parent / script))


def _without(files: dict[str, str], folder: str) -> dict[str, str]:
    return {path: what for path, what in files.items() if not f"{path}/".startswith(f"{folder}/")}
