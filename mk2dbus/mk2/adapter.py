"""Commands to the adapter, each with its reply (mk2-protocol.md §3). ``ADAPTER_COMMANDS`` is the table."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, ClassVar

from mk2dbus.mk2.framing import Frame, FrameType, adapter_frame
from mk2dbus.mk2.info import Accessory, AcInfo, AcInput, Configuration, DcInfo, read_info
from mk2dbus.mk2.request import MORE, AdapterRequest, Lane, More


def reply_data(frame: Frame, letter: str) -> bytes | None:
    """Data of an adapter reply with this letter, ``None`` for any other frame."""
    if frame.type != FrameType.ADAPTER or frame.data[:1] != letter.encode("ascii"):
        return None
    return frame.data[1:]


# --- replies -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AdapterVersion:
    """A ``V`` frame: asked for, or sent by the idle adapter about once a second."""

    version: int
    """Decimal 1170216 is product 0x1170, firmware 216."""
    mode: int
    """``W``, ``B``, or the current address. A change hints at a reset and proves nothing."""

    @property
    def product_id(self) -> int:
        digits = f"{self.version:07d}"[:-3]
        return int(digits, 16)

    @property
    def firmware(self) -> int:
        return self.version % 1000


@dataclass(frozen=True, slots=True)
class LedStatus:
    """An ``L`` frame (§3.1): bit masks as they came; ``alarms`` and ``error`` may be missing."""

    on: int
    blink: int
    alarms: int | None = None
    error: int | None = None

    @property
    def known(self) -> bool:
        """False while the adapter has no device."""
        return not (self.on == 0x1F and self.blink == 0x1F)


@dataclass(frozen=True, slots=True)
class PanelFrame:
    """A frame of type 0x40: another panel is in control (§3.2)."""

    mode: int


def read_version(frame: Frame) -> AdapterVersion | None:
    data = reply_data(frame, "V")
    if data is None or len(data) != 5:
        return None
    return AdapterVersion(*struct.unpack("<IB", data))


def read_leds(frame: Frame) -> LedStatus | None:
    data = reply_data(frame, "L")
    if data is None or len(data) < 2:
        return None
    return LedStatus(data[0], data[1], *(data[2:4] if len(data) >= 4 else ()))


def read_panel(frame: Frame) -> PanelFrame | None:
    if frame.type != FrameType.PANEL or not frame.data:
        return None
    position = frame.data[0] & 0x0F
    return PanelFrame((position & 3) + 1 if position & 0x08 else position)


INFO_LATE_S = 1.0
"""See :attr:`.AdapterRequest.late_s`. A new ``F`` makes the adapter forget the one before, so that only a
reply that had left it by then can be late."""


class Unanswered(AdapterRequest[None]):
    """A frame that has no reply. It is done when it is on its way."""

    has_reply: ClassVar[bool] = False
    _reply_bytes: ClassVar[int] = 0

    def read(self, frame: Frame) -> More:
        return MORE


# --- commands ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GetVersion(AdapterRequest[AdapterVersion]):
    """``V``: version and mode of the adapter."""

    section: ClassVar[str] = "3"
    late_s: ClassVar[float] = 0.0  # any ``V`` will do
    _reply_bytes: ClassVar[int] = 9

    def frame(self) -> Frame:
        return adapter_frame("V")

    def read(self, frame: Frame) -> AdapterVersion | More:
        return read_version(frame) or MORE


@dataclass(frozen=True, slots=True)
class Reset(AdapterRequest[AdapterVersion]):
    """``R``: reset the adapter; it answers ``V`` after about 2 s."""

    section: ClassVar[str] = "3"
    lane: ClassVar[Lane] = Lane.ALONE
    late_s: ClassVar[float] = 0.0
    _reply_bytes: ClassVar[int] = 9
    # A ``V`` that the adapter sent by itself can be under way at that moment.
    not_before_s: ClassVar[float] = 0.5
    reply_timeout_s: ClassVar[float] = 4.0
    attempts: ClassVar[int] = 1

    def frame(self) -> Frame:
        return adapter_frame("R")

    def read(self, frame: Frame) -> AdapterVersion | More:
        return read_version(frame) or MORE


@dataclass(frozen=True, slots=True)
class SetAddress(AdapterRequest[int]):
    """``A 01 addr``: winmon commands go to this short address (0…31) from now on; the address set."""

    address: int

    section: ClassVar[str] = "3"
    lane: ClassVar[Lane] = Lane.ADDRESS
    _reply_bytes: ClassVar[int] = 7

    def frame(self) -> Frame:
        return adapter_frame("A", bytes((0x01, self.address)))

    def read(self, frame: Frame) -> int | More:
        address = _read_address(frame)
        return self.address if address == self.address else MORE

    @property
    def reply_key(self) -> bytes:
        return b"A" + bytes((self.address,))


@dataclass(frozen=True, slots=True)
class GetAddress(AdapterRequest[int]):
    """``A 00 00``: the short address that winmon commands go to."""

    section: ClassVar[str] = "3"
    lane: ClassVar[Lane] = Lane.ADDRESS
    _reply_bytes: ClassVar[int] = 7

    def frame(self) -> Frame:
        return adapter_frame("A", b"\x00\x00")

    def read(self, frame: Frame) -> int | More:
        address = _read_address(frame)
        return MORE if address is None else address


def _read_address(frame: Frame) -> int | None:
    data = reply_data(frame, "A")
    return data[1] if data is not None and len(data) >= 2 and data[0] == 0x01 else None


@dataclass(frozen=True, slots=True)
class GetDetail(AdapterRequest[bytes]):
    """``D``: the adapter's own state: switch state, pot, scale, ids, flags, … (at least 5 bytes)."""

    section: ClassVar[str] = "3"
    _reply_bytes: ClassVar[int] = 10

    def frame(self) -> Frame:
        return adapter_frame("D")

    def read(self, frame: Frame) -> bytes | More:
        data = reply_data(frame, "D")
        return data if data is not None and len(data) >= 5 else MORE


@dataclass(frozen=True, slots=True)
class Lines(AdapterRequest[int]):
    """``H``: get (``None``) or set the panel-detect (bit 0) and standby (bit 1) lines; MK3 only."""

    lines: int | None = None

    section: ClassVar[str] = "3"
    _reply_bytes: ClassVar[int] = 5

    def frame(self) -> Frame:
        return adapter_frame("H", b"" if self.lines is None else bytes((self.lines,)))

    def read(self, frame: Frame) -> int | More:
        data = reply_data(frame, "H")
        return data[0] if data else MORE


@dataclass(frozen=True, slots=True)
class GetLeds(AdapterRequest[LedStatus]):
    """``L``: LEDs, alarms, error."""

    section: ClassVar[str] = "3.1"
    _reply_bytes: ClassVar[int] = 10

    def frame(self) -> Frame:
        return adapter_frame("L")

    def read(self, frame: Frame) -> LedStatus | More:
        return read_leds(frame) or MORE


class StateFlag(IntFlag):
    """Flags of the ``S`` command (§3.2). 0x01, repeat by itself, is left out on purpose: with it a dead
    program keeps commanding the inverter."""

    APPEND_LEDS = 0x02
    RESET_ON_BREAK = 0x04
    NOT_TO_BUS = 0x10
    FORWARD_PANELS = 0x40
    LIMIT_IN_AMPS = 0x80


class ExtendedFlag(IntFlag):
    """``ext0`` of the ``S`` command (§3.2)."""

    SPLIT_REPLIES = 0x01
    CONTINUOUS_IDS = 0x02
    FORWARD_CONFIG = 0x04
    BLOCK_MODE = 0x08


class SwitchPosition(IntEnum):
    """Mode as ``S`` carries it."""

    CHARGER_ONLY = 1
    INVERTER_ONLY = 2
    ON = 3
    OFF = 4


@dataclass(frozen=True, slots=True)
class ConfigureAdapter(AdapterRequest[bool]):
    """``S`` with "do not send anything to the bus": sets the adapter's flags, commands nothing (§3.2, §5).

    Mode and limit are in the frame because its form asks for them; the flag keeps them in the adapter. They
    should be what the system has: should a noisy line turn the flag, nothing changes all the same.

    Attributes:
        mode: switch position.
        limit: input current limit in 0.1 A.
    """

    mode: SwitchPosition = SwitchPosition.ON
    limit: int = 0

    section: ClassVar[str] = "3.2"
    lane: ClassVar[Lane] = Lane.ALONE
    _reply_bytes: ClassVar[int] = 4
    FLAGS: ClassVar[StateFlag] = StateFlag.NOT_TO_BUS | StateFlag.FORWARD_PANELS | StateFlag.LIMIT_IN_AMPS
    EXTENDED: ClassVar[ExtendedFlag] = ExtendedFlag.FORWARD_CONFIG

    def frame(self) -> Frame:
        tail = bytes((0x01, self.FLAGS, 0x00, self.EXTENDED))
        return adapter_frame("S", bytes((self.mode,)) + self.limit.to_bytes(2, "little") + tail)

    def read(self, frame: Frame) -> bool | More:
        return True if reply_data(frame, "S") is not None else MORE


@dataclass(frozen=True, slots=True)
class SendPanel(AdapterRequest[bool]):
    """``S`` to the bus: a panel frame that commands mode and input current limit (§3.2).

    Attributes:
        mode: switch position.
        limit: input current limit in 0.1 A; 0 is the minimum. Never 0x8000, whose meaning is disputed.
    """

    mode: SwitchPosition
    limit: int

    section: ClassVar[str] = "3.2"
    lane: ClassVar[Lane] = Lane.PANEL
    _reply_bytes: ClassVar[int] = 4
    attempts: ClassVar[int] = 1
    FLAGS: ClassVar[StateFlag] = StateFlag.FORWARD_PANELS | StateFlag.LIMIT_IN_AMPS

    def __post_init__(self) -> None:
        if not 0 <= self.limit < 0x8000:
            raise ValueError(f"a limit of {self.limit} × 0.1 A cannot be sent")

    def frame(self) -> Frame:
        position = SwitchPosition(self.mode)
        limit = self.limit.to_bytes(2, "little")
        tail = bytes((0x01, self.FLAGS, 0x00, ConfigureAdapter.EXTENDED))
        return adapter_frame("S", bytes((position,)) + limit + tail)

    def read(self, frame: Frame) -> bool | More:
        return True if reply_data(frame, "S") is not None else MORE


@dataclass(frozen=True, slots=True)
class GetDc(AdapterRequest[DcInfo]):
    """``F 00``: DC info."""

    section: ClassVar[str] = "3.3"
    lane: ClassVar[Lane] = Lane.INFO
    late_s: ClassVar[float] = INFO_LATE_S
    _reply_bytes: ClassVar[int] = 17
    from_device: ClassVar[bool] = True

    def frame(self) -> Frame:
        return adapter_frame("F", b"\x00")

    def read(self, frame: Frame) -> DcInfo | More:
        info = read_info(frame)
        return info if isinstance(info, DcInfo) else MORE


@dataclass(frozen=True, slots=True)
class GetAc(AdapterRequest[AcInfo]):
    """``F 01``…``F 04``: AC info of a phase (1…4)."""

    phase: int

    section: ClassVar[str] = "3.3"
    lane: ClassVar[Lane] = Lane.INFO
    late_s: ClassVar[float] = INFO_LATE_S
    _reply_bytes: ClassVar[int] = 17
    from_device: ClassVar[bool] = True

    def frame(self) -> Frame:
        return adapter_frame("F", bytes((self.phase,)))

    def read(self, frame: Frame) -> AcInfo | More:
        info = read_info(frame)
        return info if isinstance(info, AcInfo) and info.phase == self.phase else MORE


@dataclass(frozen=True, slots=True)
class GetAcInput(AdapterRequest[AcInput]):
    """``F 05``: AC input configuration. Slow: more than 750 ms are recommended, and asking anew loses it."""

    section: ClassVar[str] = "3.3"
    lane: ClassVar[Lane] = Lane.INFO
    late_s: ClassVar[float] = INFO_LATE_S
    _reply_bytes: ClassVar[int] = 15
    reply_timeout_s: ClassVar[float] = 1.5

    def frame(self) -> Frame:
        return adapter_frame("F", b"\x05")

    def read(self, frame: Frame) -> AcInput | More:
        info = read_info(frame)
        return info if isinstance(info, AcInput) else MORE


@dataclass(frozen=True, slots=True)
class TakeSnapshot(Unanswered):
    """``F 06 id…``: every device stores these RAM variables (at most 6) at this instant. No reply."""

    ids: tuple[int, ...]

    section: ClassVar[str] = "3.3"
    lane: ClassVar[Lane] = Lane.INFO

    def frame(self) -> Frame:
        return adapter_frame("F", b"\x06" + bytes(self.ids))


@dataclass(frozen=True, slots=True)
class GetConfiguration(AdapterRequest[Configuration]):
    """``F 07 addr``: configuration of a device. The reply of another device is not taken (§1)."""

    address: int

    section: ClassVar[str] = "3.3"
    lane: ClassVar[Lane] = Lane.INFO
    late_s: ClassVar[float] = INFO_LATE_S
    _reply_bytes: ClassVar[int] = 17
    from_device: ClassVar[bool] = True

    def frame(self) -> Frame:
        return adapter_frame("F", bytes((0x07, self.address)))

    def read(self, frame: Frame) -> Configuration | More:
        info = read_info(frame)
        return info if isinstance(info, Configuration) and info.address == self.address else MORE


@dataclass(frozen=True, slots=True)
class ResetDevices(Unanswered):
    """``F 08``: reset the device with a unique number; 0 resets all. No reply."""

    unique_number: int = 0

    section: ClassVar[str] = "3.3"
    lane: ClassVar[Lane] = Lane.INFO
    attempts: ClassVar[int] = 1

    def frame(self) -> Frame:
        low = self.unique_number.to_bytes(4, "little")
        return adapter_frame("F", b"\x08" + low[2:] + low[:2])


@dataclass(frozen=True, slots=True)
class HighSpeed(Unanswered):
    """``N``: 115200 baud from now on; MK3 only, not in Victron's document (§1). No reply."""

    section: ClassVar[str] = "1"
    lane: ClassVar[Lane] = Lane.ALONE

    def frame(self) -> Frame:
        return adapter_frame("N")


@dataclass(frozen=True, slots=True)
class WakeUp(Unanswered):
    """Wake the system up (§3.4). No reply."""

    section: ClassVar[str] = "3.4"

    def frame(self) -> Frame:
        return Frame(FrameType.COMMAND, bytes((0x07, 0, 0, 0)))


@dataclass(frozen=True, slots=True)
class GoToSleep(Unanswered):
    """Put the system to sleep (§3.4). No reply."""

    section: ClassVar[str] = "3.4"

    def frame(self) -> Frame:
        return Frame(FrameType.COMMAND, bytes((0x04, 0, 0, 0)))


class AccessoryKind(IntEnum):
    """What :class:`FindAccessory` can look for; the value is the phase byte of the answer."""

    DMC = 0x80
    BMS = 0x83


@dataclass(frozen=True, slots=True)
class FindAccessory(AdapterRequest[Accessory]):
    """Look for a Digital Multi Control or a VE.Bus BMS (§3.4). No answer: not there."""

    kind: AccessoryKind

    section: ClassVar[str] = "3.4"
    lane: ClassVar[Lane] = Lane.PASSING
    late_s: ClassVar[float] = 0.0
    _reply_bytes: ClassVar[int] = 17
    attempts: ClassVar[int] = 2
    silence_answers: ClassVar[bool] = True

    def frame(self) -> Frame:
        return Frame(FrameType.QUERY, bytes((0xFF, 0xFF, 0xFF, 0xFF, self.kind)))

    def read(self, frame: Frame) -> Accessory | More:
        info = read_info(frame)
        return info if isinstance(info, Accessory) and info.phase == self.kind else MORE


ADAPTER_COMMANDS: tuple[type[AdapterRequest[Any]], ...] = (
    SetAddress,
    GetAddress,
    GetDetail,
    GetVersion,
    Reset,
    Lines,
    GetLeds,
    ConfigureAdapter,
    SendPanel,
    GetDc,
    GetAc,
    GetAcInput,
    TakeSnapshot,
    GetConfiguration,
    ResetDevices,
    HighSpeed,
    WakeUp,
    GoToSleep,
    FindAccessory,
)
