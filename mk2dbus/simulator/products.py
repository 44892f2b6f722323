"""What devices of one product and firmware have in common, and the ones that can be simulated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .tables import RamInfo, SettingInfo, load_ram, load_settings

SNAPSHOT_FIRMWARE = 300
ACCESS_FIRMWARE = 308
"""First firmware with access levels, serial number, and the byte after reply code 88 (§4)."""
_INVALID_POWER_FIRMWARE = (range(100, 159), range(200, 209), range(300, 306))
"""Firmware that reports invalid power and energy as a slave (§4.3)."""
_OLD_SETTINGS = range(66)
"""Settings of devices before the new ones: those of the protocol document."""
_FIRST_300_RAM = 16
"""First RAM variable that exists from firmware 3xx on only."""
_BATTERY_SETTINGS_V = (2, 3, 11, 12, 17, 18, 29, 30, 54, 58)
_TENTHS_SIGNED = (0x800A, 0)
"""Scale and offset of a signed variable in steps of 0.1: made up, those of variable 21 are not published."""
_NEW_VERSION_TAIL = b"\x07\x01"


@dataclass(frozen=True, slots=True)
class DeviceType:
    """What devices of one product and firmware have in common.

    Attributes:
        version: product id and firmware in decimal digits: 2729560 (§4).
        new: answers 05 with everything in one frame, writes with 37.
        settings: infos by id.
        ram: RAM variable infos by id, below 128.
        rated_w: continuous power.
        inputs: AC inputs it has.
        version_tail: bytes after the version in the long reply.
    """

    version: int
    new: bool
    settings: Mapping[int, SettingInfo]
    ram: Mapping[int, RamInfo]
    rated_w: float
    inputs: int = 1
    version_tail: bytes = b""
    password: bytes = b"SIMULATE"

    @property
    def firmware(self) -> int:
        """The last three digits."""
        return self.version % 1000

    @property
    def invalid_as_slave(self) -> bool:
        """Whether it reports invalid power and energy as a slave (§4.3)."""
        return any(self.firmware in firmware for firmware in _INVALID_POWER_FIRMWARE)


def _changed(
    infos: Mapping[int, SettingInfo], changes: Mapping[int, tuple[int, int, int]]
) -> dict[int, SettingInfo]:
    """Infos with other defaults and limits: id → (default, minimum, maximum), raw."""
    return {
        **infos,
        **{
            number: replace(infos[number], default=default, minimum=minimum, maximum=maximum)
            for number, (default, minimum, maximum) in changes.items()
        },
    }


def _europe(infos: Mapping[int, SettingInfo], charge_a: int, input_a: int) -> dict[int, SettingInfo]:
    """The same device for 230 V 50 Hz, with another charger and transfer switch."""
    flags0 = infos[0]
    return _changed(
        infos,
        {
            0: (flags0.default & ~0x0004, flags0.minimum, flags0.maximum),
            4: (charge_a, 0, charge_a),
            5: (230, 210, 245),
            6: (10 * input_a, 10, 10 * input_a),
            44: (180, 180, 230),
            46: (170, 135, 170),
            62: (50000, 38461, 55555),
        },
    )


def _old_ram() -> dict[int, RamInfo]:
    return {number: info for number, info in load_ram().items() if number < _FIRST_300_RAM}


def multiplus2_120v() -> DeviceType:
    """MultiPlus-II 48/3000/35-50 120V, firmware 560: the device of the tables."""
    return DeviceType(
        version=2729560,
        new=True,
        settings=load_settings(),
        ram=load_ram(),
        rated_w=2400,
        version_tail=_NEW_VERSION_TAIL,
    )


def multiplus2_230v() -> DeviceType:
    """MultiPlus-II 48/5000/70-50, firmware 494."""
    infos = _europe(load_settings(), charge_a=70, input_a=50)
    return DeviceType(2623494, True, infos, load_ram(), rated_w=4000, version_tail=_NEW_VERSION_TAIL)


def multiplus2_556() -> DeviceType:
    """MultiPlus-II 48/5000/70-50 of a later series, firmware 556; it measures the battery's temperature."""
    kind = multiplus2_230v()
    temperature = RamInfo(21, "BatteryTemperature", *_TENTHS_SIGNED)
    return replace(kind, version=2626556, ram={**kind.ram, temperature.id: temperature})


def quattro() -> DeviceType:
    """Quattro 48/5000/70-2x100, firmware 481: two AC inputs, 230 V."""
    infos = _europe(load_settings(), charge_a=70, input_a=100)
    infos[49] = replace(infos[6], id=49, name="SecondInputCurrentLimit", default=160)
    for number, mask in ((0, 0xEFFC), (60, 0x03FF)):
        infos[number] = replace(infos[number], maximum=mask)
    return DeviceType(
        2658481, True, infos, load_ram(), rated_w=4000, inputs=2, version_tail=_NEW_VERSION_TAIL
    )


def multiplus_old() -> DeviceType:
    """MultiPlus 12/3000/120-16, firmware 150: settings 0…65, replies in parts."""
    infos = {number: info for number, info in load_settings().items() if number in _OLD_SETTINGS}
    # A 12 V battery has a quarter of every voltage.
    quarter = {
        number: (infos[number].default // 4, infos[number].minimum // 4, infos[number].maximum // 4)
        for number in _BATTERY_SETTINGS_V
    }
    low_alarm = {63: (32768, 31838, 33968)}
    mains = {44: (180, 180, 230), 46: (170, 135, 170), 62: (50000, 38461, 55555)}
    flags = {0: (0x89B0, 0, 0x6FFC)}
    rated = {4: (120, 0, 120), 5: (230, 210, 245), 6: (160, 10, 160)}
    infos = _changed(infos, {**quarter, **low_alarm, **mains, **flags, **rated})
    infos = {number: replace(info, access=0) for number, info in infos.items()}
    return DeviceType(version=1909150, new=False, settings=infos, ram=_old_ram(), rated_w=2400)


def _multiplus_48v_old(firmware: int) -> DeviceType:
    """MultiPlus 48/5000/70-50 with a firmware before 300."""
    infos = {
        number: replace(info, access=0)
        for number, info in _europe(load_settings(), charge_a=70, input_a=50).items()
        if number in _OLD_SETTINGS
    }
    return DeviceType(1959000 + firmware, False, infos, _old_ram(), rated_w=4000)


def multiplus_158() -> DeviceType:
    """MultiPlus 48/5000/70-50, firmware 158: as a slave it reports invalid power and energy."""
    return _multiplus_48v_old(158)


def multiplus_209() -> DeviceType:
    """MultiPlus 48/5000/70-50, firmware 209: old, no snapshots."""
    return _multiplus_48v_old(209)


def multiplus_305() -> DeviceType:
    """MultiPlus 48/5000/70-50, firmware 305: new, no access levels; invalid power and energy as a slave."""
    return replace(multiplus2_230v(), version=1959305)


PRODUCTS = {
    "multiplus2-120v": multiplus2_120v,
    "multiplus2-230v": multiplus2_230v,
    "multiplus2-556": multiplus2_556,
    "quattro": quattro,
    "multiplus-old": multiplus_old,
    "multiplus-158": multiplus_158,
    "multiplus-209": multiplus_209,
    "multiplus-305": multiplus_305,
}
"""By the name that the control channel knows them by."""
