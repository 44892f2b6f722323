"""Frames that were sent, back to the declared commands that make them.

A frame is taken for a command only when that command, encoded, is this frame: what it means is declared once,
in :mod:`mk2dbus.mk2.adapter` and :mod:`mk2dbus.mk2.winmon`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mk2dbus.mk2 import adapter, winmon
from mk2dbus.mk2.framing import Frame
from mk2dbus.mk2.request import AdapterRequest, Winmon

ARM_RAM, ARM_SETTING = 0x32, 0x33
"""The first half of :class:`.winmon.WriteArmed`."""


def _word(data: bytes, at: int = 0) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _byte(data: bytes, at: int = 0) -> int:
    return int.from_bytes(data[at : at + 1], "little")


_WINMON: Mapping[type[Winmon[Any]], Callable[[bytes], Winmon[Any]]] = {
    winmon.GetState: lambda data: winmon.GetState(_byte(data)),
    winmon.ReadRam: lambda data: winmon.ReadRam(tuple(data[:1] if data[1:] == b"\x00" else data) or (0,)),
    winmon.ReadSetting: lambda data: winmon.ReadSetting(_word(data)),
    winmon.GetSettingInfo: lambda data: winmon.GetSettingInfo(_word(data)),
    winmon.GetRamInfo: lambda data: winmon.GetRamInfo(_word(data)),
    winmon.WriteById: lambda data: winmon.WriteById(
        _byte(data, 1), _word(data, 2), setting=bool(_byte(data) & 1), ram_only=bool(_byte(data) & 2)
    ),
    winmon.SendPassword: winmon.SendPassword,
    winmon.GetAccessLevels: lambda data: winmon.GetAccessLevels(_word(data)),
}
"""From the bytes after the command code; commands without fields need no entry, WriteArmed has two frames."""

_BY_CODE = {command.code: command for command in winmon.WINMON_COMMANDS}


def winmon_request(payload: bytes, armed: tuple[bool, int] | None = None) -> Winmon[Any] | None:
    """The command in the payload of a slot (command code first); ``None`` when it is none that is known.

    ``armed`` is what the frame before armed for writing: whether a setting, and its id.
    """
    kind = _BY_CODE.get(_byte(payload))
    if kind is None or not payload:
        return None
    if kind is winmon.WriteArmed:
        if armed is None:
            return None
        setting, id = armed
        command: Winmon[Any] = winmon.WriteArmed(id, _word(payload, 1), setting)
    else:
        command = _WINMON[kind](payload[1:]) if kind in _WINMON else kind()
    return command if command.payloads()[-1] == payload else None


def armed_write(payload: bytes) -> tuple[bool, int] | None:
    """What a payload arms for writing: whether a setting, and its id."""
    if len(payload) == 3 and payload[0] in (ARM_RAM, ARM_SETTING):
        return payload[0] == ARM_SETTING, _word(payload, 1)
    return None


def _kinds(data: bytes) -> list[AdapterRequest[Any]]:
    return [adapter.FindAccessory(kind) for kind in adapter.AccessoryKind if kind == _byte(data, 4)]


def _panels(data: bytes) -> list[AdapterRequest[Any]]:
    limit = _word(data, 2)
    return [
        adapter.SendPanel(mode, limit)
        for mode in adapter.SwitchPosition
        if mode == _byte(data, 1) and limit < 0x8000
    ]


_ADAPTER: Mapping[type[AdapterRequest[Any]], Callable[[bytes], list[AdapterRequest[Any]]]] = {
    adapter.SetAddress: lambda data: [adapter.SetAddress(_byte(data, 2))],
    adapter.Lines: lambda data: [adapter.Lines(), adapter.Lines(_byte(data, 1))],
    adapter.SendPanel: _panels,
    adapter.GetAc: lambda data: [adapter.GetAc(_byte(data, 1))] if 1 <= _byte(data, 1) <= 4 else [],
    adapter.TakeSnapshot: lambda data: [adapter.TakeSnapshot(tuple(data[2:]))],
    adapter.GetConfiguration: lambda data: [adapter.GetConfiguration(_byte(data, 2))],
    adapter.ResetDevices: lambda data: [adapter.ResetDevices(_word(data, 4) | _word(data, 2) << 16)],
    adapter.FindAccessory: _kinds,
}
"""Candidates from the data of the frame; commands without fields need no entry."""


def adapter_request(frame: Frame) -> AdapterRequest[Any] | None:
    """The command to the adapter that a frame is; ``None`` when it is none that is known in this form."""
    for kind in adapter.ADAPTER_COMMANDS:
        for candidate in _ADAPTER[kind](frame.data) if kind in _ADAPTER else [kind()]:
            if candidate.frame() == frame:
                return candidate
    return None
