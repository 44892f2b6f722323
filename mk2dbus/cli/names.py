"""Names of objects as a person types them: paths, ends of paths, globs."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Collection, Iterable, Sequence

from .common import Stop

_PATH = re.compile(r"/|(?:/[A-Za-z0-9_]+)+")
_MAGIC = re.compile(r"[*?[]")
_SETTING = re.compile(r"/Devices/\d+/Settings/\w+")
_RAM_ONLY = re.compile(r"/Devices/\d+/RamOnly/\w+")
_RAM_VARIABLE = re.compile(r"/Devices/\d+/RamVars/\w+")


def resolve(name: str, paths: Collection[str]) -> str:
    """The path that a name means: a path as it is, else the one object whose path ends like that.

    A setting goes before a RAM variable, that before anything else of the same name; what is not stored
    (RamOnly) has to be named in full, or by its folder.

    Raises:
        Stop: none, or several.
    """
    if name.startswith("/"):
        # What is no path at all would make the bus end the connection.
        path = name.rstrip("/") or "/"
        if not _PATH.fullmatch(path):
            raise Stop(f"{name!r} is no path")
        return path
    found = [path for path in paths if path.endswith(f"/{name}")]
    if not found:
        wanted = f"/{name}".casefold()
        found = [path for path in paths if path.casefold().endswith(wanted)]
    stored = [path for path in found if not _RAM_ONLY.fullmatch(path)] or found
    settings = [path for path in stored if _SETTING.fullmatch(path)]
    variables = [path for path in stored if _RAM_VARIABLE.fullmatch(path)]
    best = sorted(settings or variables or stored)
    if not best:
        raise Stop(f"there is no object {name}{_similar(name, paths)}")
    if len(best) > 1:
        raise Stop(f"{name} is ambiguous: {', '.join(sorted(stored))}")
    return best[0]


def _similar(name: str, paths: Iterable[str]) -> str:
    ends = {path.rpartition("/")[2] for path in paths}
    close = difflib.get_close_matches(name.rpartition("/")[2], sorted(ends), n=3, cutoff=0.75)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def matching(pattern: str, paths: Iterable[str]) -> list[str]:
    """Paths that a glob fits.

    With a leading / it is for whole paths, * fits any number of folders, and a folder stands for all below
    it. Else it is for the ends of paths, name by name; without any * ? [ it may also name a folder.
    """
    return [path for path in paths if _fits(pattern, path)]


def chosen(globs: Sequence[str], items: Iterable[str]) -> list[str]:
    """Paths that any of the globs fits, all where there are none.

    Raises:
        Stop: one fits nothing.
    """
    if not globs:
        return list(items)
    paths: dict[str, None] = {}
    for glob in globs:
        found = matching(glob, items)
        if not found:
            raise Stop(f"nothing fits {glob!r}")
        paths.update(dict.fromkeys(found))
    return list(paths)


def _fits(pattern: str, path: str) -> bool:
    if pattern.startswith("/"):
        whole = pattern.rstrip("/")
        return fnmatch.fnmatchcase(path, whole) or fnmatch.fnmatchcase(path, f"{whole}/*")
    if not _MAGIC.search(pattern):
        return f"/{pattern}/" in f"{path}/"
    globs = pattern.split("/")
    ends = path.split("/")[1:][-len(globs) :]
    return len(ends) == len(globs) and all(map(fnmatch.fnmatchcase, ends, globs))


def ram_only(path: str) -> str:
    """The path of the same setting or flag, not stored.

    Raises:
        Stop: it is no setting or flag.
    """
    if _SETTING.fullmatch(path):
        return path.replace("/Settings/", "/RamOnly/")
    if _RAM_ONLY.fullmatch(path):
        return path
    raise Stop(f"{path} has no form in RAM only: it is neither setting nor flag")


def stored(path: str) -> str:
    """The path of the stored form of what is under RamOnly; other paths as they are."""
    return path.replace("/RamOnly/", "/Settings/") if _RAM_ONLY.fullmatch(path) else path
