"""Steps that are done and undone: what fails half-way leaves the machine as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import InstallError

COMMAND_TIMEOUT_S = 60.0


class Step:
    """One change. ``undo`` is called after ``do`` only, ``commit`` when all is done."""

    def describe(self) -> str:
        """One line: what it does."""
        raise NotImplementedError

    def do(self) -> None:
        """Do it, whole or not at all.

        Raises:
            OSError, InstallError: it could not be done, and nothing is changed.
        """
        raise NotImplementedError

    def undo(self) -> None:
        """Put back what there was."""

    def commit(self) -> None:
        """Throw away what ``undo`` would have needed."""


@dataclass
class PutFile(Step):
    """Write a file; one that is there is replaced."""

    path: Path
    content: bytes
    what: str
    mode: int = 0o644
    _before: tuple[bytes, int] | None = None
    _made: list[Path] = field(default_factory=list)

    @property
    def due(self) -> bool:
        """Whether it is not there already as it should be."""
        return not self.path.is_file() or self.path.read_bytes() != self.content

    def describe(self) -> str:
        return f"{'replace' if self.path.exists() else 'write'} {self.path} ({self.what})"

    def do(self) -> None:
        if self.path.is_file():
            self._before = self.path.read_bytes(), self.path.stat().st_mode & 0o7777
        self._made = make_folders(self.path.parent)
        try:
            _write(self.path, self.content, self.mode)
        except OSError:
            remove_folders(self._made)
            raise

    def undo(self) -> None:
        if self._before is None:
            self.path.unlink(missing_ok=True)
        else:
            _write(self.path, *self._before)
        remove_folders(self._made)


@dataclass
class PutLink(Step):
    """Make a symbolic link where nothing is."""

    path: Path
    target: str
    _made: list[Path] = field(default_factory=list)

    def describe(self) -> str:
        return f"link {self.path} to {self.target}"

    def do(self) -> None:
        self._made = make_folders(self.path.parent)
        self.path.symlink_to(self.target)

    def undo(self) -> None:
        self.path.unlink(missing_ok=True)
        remove_folders(self._made)


@dataclass
class PutFolder(Step):
    """Put a folder in its place, made by ``make`` at the path that it gets; one that is there is replaced."""

    path: Path
    make: Callable[[Path], None]
    what: str
    _before: Path | None = None
    _made: list[Path] = field(default_factory=list)

    def describe(self) -> str:
        return f"{'replace' if self.path.exists() else 'write'} {self.path}/ ({self.what})"

    def do(self) -> None:
        self._made = make_folders(self.path.parent)
        new = _beside(self.path, "new")
        try:
            self.make(new)
            if self.path.exists():
                self._before = self.path.rename(_beside(self.path, "old"))
            new.rename(self.path)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            self.undo()
            raise

    def undo(self) -> None:
        if self.path.exists():
            shutil.rmtree(self.path)
        if self._before is not None:
            self._before.rename(self.path)
        remove_folders(self._made)

    def commit(self) -> None:
        if self._before is not None:
            shutil.rmtree(self._before)


@dataclass
class Remove(Step):
    """Remove a file, link or folder."""

    path: Path
    _aside: Path | None = None

    def describe(self) -> str:
        folder = self.path.is_dir() and not self.path.is_symlink()
        return f"remove {self.path}{'/' if folder else ''}"

    def do(self) -> None:
        if os.path.lexists(self.path):
            # A folder of a lower layer of an overlay cannot be renamed; then it is copied.
            self._aside = Path(shutil.move(self.path, _beside(self.path, "old")))

    def undo(self) -> None:
        if self._aside is not None:
            shutil.move(self._aside, self.path)

    def commit(self) -> None:
        if self._aside is None:
            return
        if self._aside.is_dir() and not self._aside.is_symlink():
            shutil.rmtree(self._aside)
        else:
            self._aside.unlink()


@dataclass
class RemoveFolders(Step):
    """Remove folders, the innermost first, as far as they are empty when all else is done."""

    paths: Sequence[Path]

    def describe(self) -> str:
        return f"remove {', '.join(map(str, self.paths))} where empty"

    def do(self) -> None:
        pass

    def commit(self) -> None:
        for path in self.paths:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


@dataclass
class Run(Step):
    """Run a command; ``back`` is run to undo it."""

    command: Sequence[str]
    back: Sequence[str] | None = None
    optional: bool = False
    """Whether its failure is no reason to undo everything."""

    def describe(self) -> str:
        return f"run {' '.join(self.command)}"

    def do(self) -> None:
        failed = run(self.command)
        if failed is not None and not self.optional:
            raise InstallError(failed)

    def undo(self) -> None:
        if self.back is not None:
            run(self.back)


@dataclass
class OnUndo(Step):
    """Does nothing, but when what follows was undone it runs commands, and removes folders that they made."""

    commands: Sequence[Sequence[str]]
    folders: Sequence[Path] = ()
    """Those that are there already stay; the innermost first."""

    def __post_init__(self) -> None:
        self.folders = [path for path in self.folders if not path.exists()]

    def describe(self) -> str:
        return ""

    def do(self) -> None:
        pass

    def undo(self) -> None:
        for command in self.commands:
            run(command)
        for path in self.folders:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


@dataclass
class Check(Step):
    """Look whether what was done so far works; ``look`` returns why not."""

    what: str
    look: Callable[[], str | None]

    def describe(self) -> str:
        return f"check {self.what}"

    def do(self) -> None:
        failed = self.look()
        if failed is not None:
            raise InstallError(failed)


def carry_out(steps: Sequence[Step], say: Callable[[str], None]) -> None:
    """Do all, or undo what was done.

    Raises:
        InstallError: a step failed; everything is as it was before.
    """
    done: list[Step] = []
    try:
        for step in steps:
            if step.describe():
                say(step.describe())
            step.do()
            done.append(step)
    except BaseException as error:
        left = _undo(done)
        if not isinstance(error, (OSError, InstallError)):
            raise
        rest = f"; could not be undone: {', '.join(left)}" if left else "; everything is as it was"
        raise InstallError(f"{_reason(error)}{rest}") from error
    for step in done:
        step.commit()


def run(command: Sequence[str]) -> str | None:
    """Run a command; why it failed, in one line, or ``None``."""
    try:
        outcome = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S
        )
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"{' '.join(command)} did not end within {COMMAND_TIMEOUT_S:g} s"
    if outcome.returncode == 0:
        return None
    said = (outcome.stderr or outcome.stdout).strip().splitlines()
    return f"{' '.join(command)} failed: {said[-1] if said else f'exit code {outcome.returncode}'}"


def make_folders(folder: Path) -> list[Path]:
    """Make a folder with those above it; the ones made, the innermost last."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    made = []
    for path in reversed(missing):
        path.mkdir(mode=0o755)
        path.chmod(0o755)
        made.append(path)
    return made


def remove_folders(made: Sequence[Path]) -> None:
    """Remove folders that :func:`make_folders` made."""
    for path in reversed(made):
        path.rmdir()


def _undo(done: Sequence[Step]) -> list[str]:
    """Undo in reverse; what could not be."""
    left = []
    for step in reversed(done):
        try:
            step.undo()
        except OSError as error:
            left.append(f"{step.describe()} ({error.strerror})")
    return left


def _write(path: Path, content: bytes, mode: int) -> None:
    new = _beside(path, "new")
    try:
        new.write_bytes(content)
        new.chmod(mode)
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _beside(path: Path, word: str) -> Path:
    """A name in the same folder that no program that reads the folder takes for one of its files."""
    return path.with_name(f".{path.name}.mk2dbus-{word}")


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
