"""The file of a backup: settings of all devices as TOML or JSON for people and for ``restore`` and ``diff``.

::

    format = 1
    created = 2025-11-22T08:00:00+00:00
    mk2dbus = "0.1.0"
    service = "com.victronenergy.vebus.ttyUSB0"

    [[device]]
    number = 0
    product_id = 0x2729
    product = "MultiPlus-II 48/3000/35-50 120V"
    firmware = 0x560
    serial = "HQ2129ABCDE"

    [device.settings]
    AbsorptionVoltage = { value = 57.6, unit = "V", default = 57.6 }

    [device.flags]
    DisableCharger = { value = 0, text = "no", default = 0 }

    [device.read_only]
    GridCode = { value = 0, default = 0 }

What ``restore`` and ``diff`` use of a setting is its value; a file written by hand may have ``FloatVoltage =
55.2``.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .common import USAGE, Stop

FORMAT = 1
MAX_BYTES = 4 << 20
"""A backup of many devices is far smaller; anything larger is another file."""

_LARGEST = 1e9
"""No setting comes near; not-a-number is no smaller either."""

_NAME = re.compile(r"\w+", re.ASCII)
_HEAD = """\
# Settings of a VE.Bus system, saved by mk2dbus. `mk2dbus diff FILE` compares them with what the system has
# now, `mk2dbus restore FILE` writes what differs. read_only is for information: it is never written.

"""


@dataclass(frozen=True, slots=True)
class Saved:
    """A setting or flag in a file."""

    value: int | float
    unit: str = ""
    text: str = ""
    """The meaning of the value of an enumeration or a flag."""
    default: int | float | None = None


@dataclass(frozen=True, slots=True)
class SavedDevice:
    """A device in a file. ``unknown`` are settings without a value: not applicable, or refused."""

    number: int
    product_id: int | None
    product: str
    firmware: int | None
    serial: str
    settings: Mapping[str, Saved] = field(default_factory=dict)
    flags: Mapping[str, Saved] = field(default_factory=dict)
    read_only: Mapping[str, Saved] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @property
    def writable(self) -> dict[str, Saved]:
        """What can be restored: settings, then flags, each by name."""
        return {**self.settings, **self.flags}

    @property
    def title(self) -> str:
        return " ".join(filter(None, (f"Device {self.number}:", self.product, self.serial)))


@dataclass(frozen=True, slots=True)
class Archive:
    """All of a file."""

    created: str
    version: str
    service: str
    devices: tuple[SavedDevice, ...]


# --- writing -------------------------------------------------------------------------------------------


def save(archive: Archive, path: Path) -> None:
    """Write a file whole or not at all.

    Raises:
        Stop: it cannot be written.
    """
    text = _json(archive) if path.suffix.lower() == ".json" else _HEAD + _toml(archive)
    # A link stays one.
    target = path.resolve()
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        try:
            with unfinished.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise Stop(f"cannot write {path}: {error.strerror}") from error


def _json(archive: Archive) -> str:
    return json.dumps(_record(archive), indent=2, ensure_ascii=False) + "\n"


def _record(archive: Archive) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "created": archive.created,
        "mk2dbus": archive.version,
        "service": archive.service,
        "device": [_device_record(device) for device in archive.devices],
    }


def _device_record(device: SavedDevice) -> dict[str, Any]:
    head = {
        "number": device.number,
        "product_id": device.product_id,
        "product": device.product,
        "firmware": device.firmware,
        "serial": device.serial,
        "unknown": list(device.unknown),
    }
    groups = {
        "settings": {name: _saved_record(saved) for name, saved in device.settings.items()},
        "flags": {name: _saved_record(saved) for name, saved in device.flags.items()},
        "read_only": {name: _saved_record(saved) for name, saved in device.read_only.items()},
    }
    return {key: value for key, value in head.items() if value not in (None, [])} | groups


def _saved_record(saved: Saved) -> dict[str, Any]:
    record = {"value": saved.value, "unit": saved.unit, "text": saved.text, "default": saved.default}
    return {key: value for key, value in record.items() if value not in ("", None)}


def _toml(archive: Archive) -> str:
    """The record as TOML: what the format needs, no more."""
    return "\n".join(_toml_lines(archive)) + "\n"


def _toml_lines(archive: Archive) -> Iterator[str]:
    record = _record(archive)
    devices = record.pop("device")
    for key, value in record.items():
        yield f"{key} = {value if key == 'created' else _toml_value(value)}"
    for device in devices:
        yield ""
        yield "[[device]]"
        for key, value in device.items():
            if not isinstance(value, dict):
                in_hex = key in ("product_id", "firmware")
                yield f"{key} = {f'0x{value:X}' if in_hex else _toml_value(value)}"
        for key, value in device.items():
            if isinstance(value, dict):
                yield ""
                yield f"[device.{key}]"
                yield from (f"{name} = {_toml_value(saved)}" for name, saved in value.items())


def _toml_value(value: object) -> str:
    match value:
        case dict():
            return "{ " + ", ".join(f"{key} = {_toml_value(part)}" for key, part in value.items()) + " }"
        case list():
            return "[" + ", ".join(map(_toml_value, value)) + "]"
        case str():
            # The same escapes; TOML wants one for DEL too.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case _:
            return repr(value)


# --- reading -------------------------------------------------------------------------------------------


def load(path: Path) -> Archive:
    """Read a file.

    Raises:
        Stop: it cannot be read, or is no backup (of a version that is known here).
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise Stop(f"{path} is no backup: it is too large", USAGE)
        text = data.decode("utf-8-sig")
        record = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except OSError as error:
        raise Stop(f"cannot read {path}: {error.strerror}", USAGE) from error
    except (ValueError, RecursionError) as error:
        raise Stop(f"{path} is no backup: {error}", USAGE) from error
    try:
        return _archive(record)
    except _WrongError as error:
        raise Stop(f"{path} is no backup: {error}", USAGE) from error


class _WrongError(Exception):
    """The file is TOML or JSON, but not what a backup is."""


def _archive(record: Any) -> Archive:
    version = _get(record, "format", int, None)
    if version is None:
        raise _WrongError("it has no format number")
    if version != FORMAT:
        raise _WrongError(f"its format is {version}, this program knows {FORMAT}")
    devices = tuple(_device(entry) for entry in _get(record, "device", list, []))
    if not devices:
        raise _WrongError("it has no device")
    if len({device.number for device in devices}) < len(devices):
        raise _WrongError("two devices have the same number")
    return Archive(
        created=str(record.get("created", "")),
        version=_get(record, "mk2dbus", str, ""),
        service=_get(record, "service", str, ""),
        devices=devices,
    )


def _device(record: Any) -> SavedDevice:
    if not isinstance(record, dict):
        raise _WrongError("a device is not a table")
    number = _get(record, "number", int, None)
    if number is None or number < 0:
        raise _WrongError("a device has no number")
    groups = {
        group: {name: _saved(name, saved) for name, saved in _get(record, group, dict, {}).items()}
        for group in ("settings", "flags", "read_only")
    }
    twice = groups["settings"].keys() & groups["flags"].keys()
    if twice:
        raise _WrongError(f"{', '.join(sorted(twice))} is there twice")
    return SavedDevice(
        number=number,
        product_id=_get(record, "product_id", int, None),
        product=_get(record, "product", str, ""),
        firmware=_get(record, "firmware", int, None),
        serial=_get(record, "serial", str, ""),
        unknown=tuple(map(str, _get(record, "unknown", list, []))),
        **groups,
    )


def _saved(name: str, record: Any) -> Saved:
    if not _NAME.fullmatch(name):
        raise _WrongError(f"{name!r} is no name of a setting")
    if not isinstance(record, dict):
        record = {"value": record}
    value, default = _number(name, record.get("value")), record.get("default")
    return Saved(
        value=value,
        unit=_get(record, "unit", str, ""),
        text=_get(record, "text", str, ""),
        default=None if default is None else _number(name, default),
    )


def _number(name: str, value: object) -> int | float:
    if not isinstance(value, (int, float)) or not -_LARGEST <= value <= _LARGEST:
        shown = repr(value)
        raise _WrongError(f"{name} is {shown if len(shown) < 40 else 'something'} and no number")
    return int(value) if isinstance(value, bool) else value


def _get(record: Any, key: str, kind: type[Any], absent: Any) -> Any:
    """An entry of the right type."""
    if not isinstance(record, dict):
        raise _WrongError("it is not a table")
    value = record.get(key, absent)
    if value is not absent and (not isinstance(value, kind) or isinstance(value, bool)):
        raise _WrongError(f"{key} is not what it should be")
    return value
