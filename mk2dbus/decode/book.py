"""What the traffic told about the devices so far: how their words are scaled; words to text with it."""

from __future__ import annotations

from typing import Any

from mk2dbus.mk2 import winmon
from mk2dbus.mk2.request import Request
from mk2dbus.vebus.readings import INVERTER_PERIOD, MAINS_PERIOD, InfoScales
from mk2dbus.vebus.scaling import RamScale, SettingScale, ram_scale
from mk2dbus.vebus.tables import SettingKind, flags, ram_variables, settings

_INFO_IDS = range(9)
_PERIODS = (INVERTER_PERIOD, MAINS_PERIOD)

Address = int | None
"""Short address of a device; ``None`` while the traffic did not tell it."""


class Book:
    """Scales of RAM variables and settings, by device, as the devices told them."""

    def __init__(self) -> None:
        self._ram: dict[tuple[Address, int], RamScale] = {}
        self._settings: dict[tuple[Address, int], SettingScale] = {}

    def learn(self, address: Address, request: Request[Any], answer: object) -> None:
        """Take what an answer tells, if it is the answer to a question for a scale."""
        if isinstance(request, winmon.GetRamInfo) and isinstance(answer, winmon.RamInfo):
            scale = ram_scale(answer)
            if scale is not None:
                self._ram[address, request.id] = scale
        elif isinstance(request, winmon.GetSettingInfo) and isinstance(answer, winmon.SettingInfo):
            self._settings[address, request.id] = SettingScale(answer)

    def info_scales(self) -> InfoScales:
        """Scales of the info frames: those of the first device that told them."""
        found: dict[int, RamScale | None] = dict.fromkeys(_INFO_IDS)
        for (_, id), scale in sorted(self._ram.items(), key=lambda item: item[0][0] or 0):
            if found.get(id, scale) is None:
                found[id] = scale
        return InfoScales(found)

    def ram_text(self, address: Address, id: int, word: int) -> str:
        """``4 UBat = 0x05A1, 14.41 V``; the word alone where the scale is not known."""
        text = f"{ram_name(id)} = {hex_word(word)}"
        scale = self._ram.get((address, id))
        if scale is None:
            return text
        value = scale.value(word)
        if scale.is_bit:
            return f"{text}, {value}"
        if id in _PERIODS and value > 0:
            # Tenths of a second (§4.2).
            return f"{text}, {10 / value:.2f} Hz"
        return f"{text}, {value:.{scale.decimals}f}{_unit(ram_unit(id))}"

    def setting_text(self, address: Address, id: int, word: int) -> str:
        """``2 AbsorptionVoltage = 0x1680, 57.60 V``; flag words with the names of the flags that are set."""
        text = f"{setting_name(id)} = {hex_word(word)}"
        declared = settings().get(id)
        if declared is not None and declared.kind is SettingKind.FLAGS:
            names = [flag.name for flag in flags().values() if flag.setting_id == id and word >> flag.bit & 1]
            return f"{text}, {' '.join(names) or 'no flag'}"
        scale = self._settings.get((address, id))
        if scale is None:
            return text
        value = scale.value(word)
        if value is None:
            return f"{text}, not applicable"
        unit = _unit(declared.unit if declared else "")
        meaning = declared.texts.get(int(value)) if declared else None
        return f"{text}, {value:.{scale.decimals}f}{unit}{f' ({meaning})' if meaning else ''}"


def hex_word(word: int) -> str:
    return f"0x{word:04X}"


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""


def ram_unit(id: int) -> str:
    variable = ram_variables().get(id)
    return variable.unit if variable is not None else ""


def ram_name(id: int) -> str:
    """``4 UBat``, ``130`` where there is no name."""
    variable = ram_variables().get(id)
    return f"{id} {variable.name}".strip() if variable is not None else str(id)


def setting_name(id: int) -> str:
    """``2 AbsorptionVoltage``, ``250`` where there is no name."""
    setting = settings().get(id)
    return f"{id} {setting.name}".strip() if setting is not None else str(id)
