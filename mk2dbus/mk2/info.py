"""Info frames: what the adapter gathered about the system (mk2-protocol.md §3.3). Raw numbers only."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from mk2dbus.mk2.framing import Frame, FrameType

DC_PHASE = 0x0C
_PHASES = {0x05: 4, 0x06: 3, 0x07: 2}
_FIRST_PHASES = range(0x08, 0x0C)
_CONFIGURATION_PHASES = frozenset({*range(2, 5), *range(0x20, 0x30)})
_INFO_DATA_LENGTH = 14
_CONFIG_MASK_INPUTS = 0x70
_MODES = (4, 1, 2, 3)
"""Switch position by two bits, charge and invert."""


@dataclass(frozen=True, slots=True)
class AcInfo:
    """AC info of one phase. Totals of the phase are current × factor. Raw; scaled with the RAM infos."""

    phase: int
    """1…4."""
    phase_count: int | None
    """Number of phases of the system; told for phase 1 only."""
    backfeed_factor: int
    inverter_factor: int
    state: int
    mains_voltage: int
    mains_current: int
    """Signed: negative feeds back."""
    inverter_voltage: int
    inverter_current: int
    """Signed."""
    mains_period: int


@dataclass(frozen=True, slots=True)
class DcInfo:
    """Battery side of the whole system. Raw."""

    voltage: int
    inverting_current: int
    """Drawn from the battery by inverting."""
    charging_current: int
    inverter_period: int


@dataclass(frozen=True, slots=True)
class Configuration:
    """Configuration of one device (``F 07``)."""

    unique_number: int
    present: int
    """Bit n set: a device with short address n is there."""
    address: int
    """The device's own short address."""


@dataclass(frozen=True, slots=True)
class Accessory:
    """A VE.Bus BMS or a Digital Multi Control that answered (§3.4)."""

    phase: int
    version: int


@dataclass(frozen=True, slots=True)
class AcInput:
    """AC input configuration (type 0x41)."""

    active_input: int
    """The last active input, 0-based."""
    overrulable: bool
    """The limit may be set by a panel."""
    dmc_present: bool
    input_count: int
    minimum: int
    """Lowest limit, 0.1 A."""
    maximum: int
    """Highest limit, 0.1 A."""
    actual: int
    """Limit in force, 0.1 A."""
    switch_register: int

    @property
    def mode(self) -> int:
        """Resulting switch position as ``S`` numbers it: 1 charger only, 2 inverter only, 3 on, 4 off."""
        return _MODES[self.switch_register >> 4 & 3]

    @property
    def panel_mode(self) -> int:
        """Switch position of the remote panel, numbered likewise; the switch on the unit may allow less.

        What results is part of what the panel allows. Where it is not, no panel was ever heard, and the
        resulting position counts.
        """
        remote, resulting = self.switch_register & 3, self.switch_register >> 4 & 3
        return _MODES[remote if remote & resulting == resulting else resulting]

    @property
    def generator_selected(self) -> bool:
        return bool(self.switch_register & 0x80)


def read_info(frame: Frame) -> AcInfo | DcInfo | Configuration | Accessory | AcInput | None:
    """What an info frame says; ``None`` when it is none, or not one that is understood."""
    data = frame.data
    if frame.type == FrameType.AC_INPUT:
        return _read_ac_input(data)
    if frame.type != FrameType.INFO or len(data) < 5:
        return None
    phase = data[4]
    if phase in (0x80, 0x83):
        return Accessory(phase, int.from_bytes(data[5:9], "little")) if len(data) >= 9 else None
    if len(data) != _INFO_DATA_LENGTH:
        return None
    if phase == DC_PHASE:
        return DcInfo(
            voltage=int.from_bytes(data[5:7], "little"),
            inverting_current=int.from_bytes(data[7:10], "little"),
            charging_current=int.from_bytes(data[10:13], "little"),
            inverter_period=data[13],
        )
    if phase in _CONFIGURATION_PHASES:
        return Configuration(
            unique_number=int.from_bytes(data[0:4], "little"),
            present=int.from_bytes(data[7:11], "little"),
            address=data[13],
        )
    if phase in _PHASES or phase in _FIRST_PHASES:
        mains_v, mains_i, inverter_v, inverter_i = struct.unpack_from("<HhHh", data, 5)
        return AcInfo(
            phase=_PHASES.get(phase, 1),
            phase_count=phase - _FIRST_PHASES.start + 1 if phase in _FIRST_PHASES else None,
            backfeed_factor=data[0],
            inverter_factor=data[1],
            state=data[3],
            mains_voltage=mains_v,
            mains_current=mains_i,
            inverter_voltage=inverter_v,
            inverter_current=inverter_i,
            mains_period=data[13],
        )
    return None


def _read_ac_input(data: bytes) -> AcInput | None:
    if len(data) < 12:
        return None
    config, minimum, maximum, actual, register = struct.unpack_from("<BHHHB", data, 4)
    return AcInput(
        active_input=config & 0x03,
        overrulable=bool(config & 0x04),
        dmc_present=bool(config & 0x08),
        input_count=(config & _CONFIG_MASK_INPUTS) >> 4,
        minimum=minimum,
        maximum=maximum,
        actual=actual,
        switch_register=register,
    )
