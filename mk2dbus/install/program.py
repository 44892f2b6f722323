"""A copy of mk2dbus, with the packages that it needs, that belongs to root and to no virtual environment.

A service must not run what an ordinary user can change, nor stop when a virtual environment in somebody's
home is removed; and its user cannot look into homes at all.
"""

from __future__ import annotations

import compileall
import hashlib
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path, PurePosixPath

import mk2dbus

from .errors import InstallError
from .layout import FILES

NAME = "mk2dbus"
OWN_EXTRA = "fast"
"""Packages of this extra are taken along where they are installed."""

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9._-]+)")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")

_LAUNCHER = """\
#!{python} -I
# mk2dbus, as `mk2dbus install` put it here with the packages that it needs. `mk2dbus uninstall` removes it.
import sys

sys.path.insert(0, {library!r})
from mk2dbus.cli import main

sys.exit(main())
"""


def interpreter() -> Path:
    """The Python that everybody on this machine can run and only root can change.

    Raises:
        InstallError: the one that runs us is in somebody's home, and there is no other of the same version.
    """
    version = "{}.{}".format(*sys.version_info)
    for candidate in (Path(sys.executable).resolve(), Path(f"/usr/bin/python{version}")):
        if candidate.is_file() and _for_all(candidate):
            return candidate
    raise InstallError(
        f"{Path(sys.executable).resolve()} is not a Python for all users of this machine: install mk2dbus "
        f"with the system's own (python3 -m venv, pipx --python /usr/bin/python3)"
    )


def copy_program(target: Path, at: str, python: Path, compiled: bool = True) -> None:
    """Write launcher and library to a folder that must not exist; it will be found at the path ``at``."""
    library = target / "lib"
    copy_library(library)
    launcher = target / NAME
    launcher.write_text(_LAUNCHER.format(python=python, library=f"{at}/lib"))
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path == launcher else 0o644)
    if compiled and python == Path(sys.executable).resolve():
        # So that a start takes no longer than the second one: the service cannot write there.
        compileall.compile_dir(library, quiet=2, stripdir=str(target), prependdir=at)


def copy_library(library: Path, pure: bool = False) -> None:
    """Write mk2dbus and the packages that it needs; ``pure``: for any machine, nothing compiled."""
    library.mkdir(parents=True)
    for source, name in _sources(pure):
        if source.is_dir():
            shutil.copytree(source, library / name, ignore=_LEFT_OUT, dirs_exist_ok=True)
        else:
            (library / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, library / name)
    _describe(library)
    copy_data(library / NAME)


def copy_data(package: Path) -> None:
    """Write the files for the system into a copy of the package ``mk2dbus``, as a wheel has them."""
    files = package / "install" / "files"
    for file in FILES:
        target = files / file.source
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content())


def digest(folder: Path) -> str:
    """Of a copy: same names and contents, same digest. What Python compiled does not count."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".pyc" and path.name != "manifest.json":
            total.update(f"{path.relative_to(folder)}\0".encode())
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def requirements(name: str = NAME) -> set[str]:
    """The distributions that a distribution needs and that are installed, with theirs."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        try:
            distribution = metadata.distribution(waiting.pop())
        except metadata.PackageNotFoundError as error:
            raise InstallError(
                f"{error.name} is not installed in this Python: use pip or pipx first"
            ) from error
        for line in distribution.requires or ():
            extra = _EXTRA.search(line)
            if extra is not None and (distribution.name != NAME or extra[1] != OWN_EXTRA):
                continue
            match = _REQUIREMENT.match(line)
            if match is None or match[1] in found:
                continue
            try:
                metadata.distribution(match[1])
            except metadata.PackageNotFoundError:
                continue  # not for this version of Python, or an extra that was not asked for
            found.add(match[1])
            waiting.append(match[1])
    return found


def _sources(pure: bool) -> Iterator[tuple[Path, str]]:
    """What to copy: path, and name in the library."""
    yield Path(mk2dbus.__file__).parent, NAME
    for requirement in sorted(requirements()):
        files = metadata.distribution(requirement).files or ()
        if pure and any(file.suffix == ".so" for file in files):
            continue
        for file in files:
            if _is_part(file):
                yield Path(str(file.locate())), str(file)


def _is_part(file: PurePosixPath) -> bool:
    """Whether a file of a distribution is needed: no command, no cache, of what describes it two files."""
    parts = file.parts
    if parts[0].endswith(".dist-info"):
        return file.name in ("METADATA", "RECORD")
    return ".." not in parts and "__pycache__" not in parts


def _describe(library: Path) -> None:
    """Write what an installation from the copy needs to know of it."""
    about = library / f"{NAME}-{mk2dbus.__version__}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(metadata.distribution(NAME).read_text("METADATA") or "", encoding="utf-8")


def _for_all(program: Path) -> bool:
    """Whether everybody can run a program, and nobody but root change it."""
    for path in (program, *program.parents):
        status = path.stat()
        if not status.st_mode & stat.S_IXOTH:
            return False
        sticky = bool(status.st_mode & stat.S_ISVTX)
        if status.st_uid != 0 or (status.st_mode & stat.S_IWOTH and not sticky):
            return False
    return True
