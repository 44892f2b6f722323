"""Infos of devices kept on disk, by version: a scale is fixed for a firmware (mk2-protocol.md §5).

They let a second start show every object at once. They are never trusted for a write: what is about to be
written is asked again first.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mk2dbus.disk import AtOnce, Disk
from mk2dbus.files import write_atomically
from mk2dbus.mk2.winmon import RamInfo, SettingInfo

log = logging.getLogger(__name__)

FORMAT = 1
_MAX_SIZE = 1 << 20
_SIGNED, _WORD, _BYTE = range(-0x8000, 0x8000), range(0x10000), range(0x100)
_RAM_FIELDS = (_SIGNED, _SIGNED)
_SETTING_FIELDS = (_SIGNED, _SIGNED, _WORD, _WORD, _WORD, _BYTE)

Info = TypeVar("Info", RamInfo, SettingInfo)


@dataclass(slots=True)
class Infos:
    """What a device said of itself, by id; ``None``: it does not support the id."""

    settings: dict[int, SettingInfo | None] = field(default_factory=dict)
    ram: dict[int, RamInfo | None] = field(default_factory=dict)


class InfoCache:
    """A directory with one file for each version and form (new or old) of a device."""

    def __init__(self, directory: Path, disk: Disk | None = None) -> None:
        self._directory = directory
        self._disk = disk or AtOnce()
        self._waiting: dict[Path, Infos] = {}
        """What is not written yet."""
        self._complaint: str | None = None

    def path(self, version: int, is_new: bool) -> Path:
        return self._directory / f"infos-{version}-{'new' if is_new else 'old'}.json"

    def load(self, version: int, is_new: bool) -> Infos:
        """Infos of a device; none when there is no file, or none that makes sense (said in the log)."""
        path = self.path(version, is_new)
        if path in self._waiting:
            return self._waiting[path]
        try:
            if path.stat().st_size > _MAX_SIZE:
                raise ValueError("too large")
            return _decode(json.loads(path.read_text(encoding="utf-8")), version, is_new)
        except (FileNotFoundError, NotADirectoryError):
            return Infos()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            log.warning("ignoring %s: %s", path, error)
            return Infos()

    def save(self, version: int, is_new: bool, infos: Infos) -> None:
        """Keep infos, without waiting for the disk. When that is not possible it is said once, and everything
        works without."""
        content = {
            "format": FORMAT,
            "version": version,
            "new": is_new,
            "settings": _encode(infos.settings),
            "ram": _encode(infos.ram),
        }
        path = self.path(version, is_new)
        self._waiting[path] = infos
        work = partial(self._write, path, json.dumps(content, separators=(",", ":")))
        self._disk.submit(work, partial(self._written, path, infos), file=path)

    def _written(self, path: Path, infos: Infos, _: None) -> None:
        if self._waiting.get(path) is infos:
            del self._waiting[path]

    def _write(self, path: Path, text: str) -> None:
        try:
            write_atomically(path, text)
        except OSError as error:
            text = f"infos cannot be kept in {self._directory}: {error.strerror}"
            if text != self._complaint:
                self._complaint = text
                log.warning("%s", text)


def _encode(infos: Mapping[int, RamInfo | None] | Mapping[int, SettingInfo | None]) -> dict[str, Any]:
    return {str(id): None if info is None else astuple(info) for id, info in sorted(infos.items())}


def _decode(content: Any, version: int, is_new: bool) -> Infos:
    if (content["format"], content["version"], content["new"]) != (FORMAT, version, is_new):
        raise ValueError("of another format or device")
    return Infos(
        settings=_decode_all(content["settings"], SettingInfo, _SETTING_FIELDS),
        ram=_decode_all(content["ram"], RamInfo, _RAM_FIELDS),
    )


def _decode_all(
    entries: Mapping[str, Any], kind: type[Info], fields: tuple[range, ...]
) -> dict[int, Info | None]:
    decoded: dict[int, Info | None] = {}
    for key, numbers in entries.items():
        id = int(key)
        if id not in _WORD:
            raise ValueError(f"id {id}")
        if numbers is None:
            decoded[id] = None
            continue
        if len(numbers) != len(fields) or any(
            type(number) is not int or number not in allowed
            for number, allowed in zip(numbers, fields, strict=True)
        ):
            raise ValueError(f"info of {id}")
        if numbers[0] == 0:
            raise ValueError(f"scale of {id}")
        decoded[id] = kind(*numbers)
    return decoded
