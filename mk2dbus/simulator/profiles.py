"""The systems that can be simulated: which adapter, which devices, which plant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from .adapter import AdapterType
from .device import Assistant, Device, DeviceType
from .events import EventLog
from .plant import AcInput, Battery, Plant
from .system import System
from .tables import RamInfo, SettingInfo, load_ram, load_settings

MK2 = AdapterType(version=1130134, mk3=False)
"""The MK2 of the recordings."""
MK3 = AdapterType(version=1170216, mk3=True)
_FIRST_UNIQUE = 0x0300A17C
_OLD_SETTINGS = range(66)
"""Settings of devices before the new ones: those of the protocol document."""
_FIRST_300_RAM = 16
"""First RAM variable that exists from firmware 3xx on only."""
_BATTERY_SETTINGS_V = (2, 3, 11, 12, 17, 18, 29, 30, 54, 58)


@dataclass(frozen=True, slots=True)
class Profile:
    """A system that can be simulated.

    Attributes:
        name: as given on the command line.
        summary: what it is, in one sentence.
        adapter: the adapter it is reached through.
        build: makes the system new, in its state at the start.
    """

    name: str
    summary: str
    adapter: AdapterType
    build: Callable[[EventLog], System]


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


def _multiplus2_120v() -> DeviceType:
    """MultiPlus-II 48/3000/35-50 120V, firmware 560: the device of the tables."""
    return DeviceType(
        version=2729560,
        new=True,
        settings=load_settings(),
        ram=load_ram(),
        rated_w=2400,
        version_tail=b"\x07\x01",
    )


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


def _multiplus_old() -> DeviceType:
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
    ram: dict[int, RamInfo] = {number: info for number, info in load_ram().items() if number < _FIRST_300_RAM}
    return DeviceType(version=1909150, new=False, settings=infos, ram=ram, rated_w=2400)


def _quattro() -> DeviceType:
    """Quattro 48/5000/70-2x100, firmware 481: two AC inputs, 230 V."""
    infos = _europe(load_settings(), charge_a=70, input_a=100)
    infos[49] = replace(infos[6], id=49, name="SecondInputCurrentLimit", default=160)
    for number, mask in ((0, 0xEFFC), (60, 0x03FF)):
        infos[number] = replace(infos[number], maximum=mask)
    return DeviceType(2658481, True, infos, load_ram(), rated_w=4000, version_tail=b"\x07\x01")


def _multiplus2_230v() -> DeviceType:
    """MultiPlus-II 48/5000/70-50, firmware 494, 230 V."""
    infos = _europe(load_settings(), charge_a=70, input_a=50)
    return DeviceType(2623494, True, infos, load_ram(), rated_w=4000, version_tail=b"\x07\x01")


@dataclass(frozen=True, slots=True)
class _Site:
    """What a system stands in: battery, mains, load."""

    nominal_v: float
    mains_v: float
    hertz: float
    load_w: float
    phases: int = 1
    inputs: int = 1
    capacity_ah: float = 200.0


def _system(
    log: EventLog,
    kind: DeviceType,
    addresses: tuple[int, ...],
    site: _Site,
    assistants: Callable[[], list[Assistant]] = list,
    bms_version: int | None = None,
) -> System:
    """Devices of one kind at some addresses, at one site."""
    plant = Plant(
        battery=Battery(site.nominal_v, site.capacity_ah),
        phases=site.phases,
        inputs=[AcInput([site.mains_v] * site.phases, site.hertz) for _ in range(site.inputs)],
        load_w=site.load_w,
    )
    devices = [
        Device(
            kind=kind,
            address=address,
            unique=_FIRST_UNIQUE + address,
            serial=f"HQ2223{address:05}",
            plant=plant,
            log=log,
            assistants=assistants(),
        )
        for address in addresses
    ]
    return System(devices, plant, log, bms_version=bms_version)


_HOME_120V = _Site(nominal_v=48, mains_v=120, hertz=60, load_w=420)
_BOAT_230V = _Site(nominal_v=12, mains_v=230, hertz=50, load_w=180, capacity_ah=400)


def _multiplus2(log: EventLog) -> System:
    return _system(log, _multiplus2_120v(), (0,), _HOME_120V)


def _ess(log: EventLog) -> System:
    return _system(
        log, _multiplus2_120v(), (0,), _HOME_120V, lambda: [Assistant(9), Assistant(4), Assistant(5, [0, 0])]
    )


def _old(log: EventLog) -> System:
    return _system(log, _multiplus_old(), (0,), _BOAT_230V)


def _quattro3(log: EventLog) -> System:
    site = _Site(48, 230, 50, load_w=2400, phases=3, inputs=2, capacity_ah=600)
    return _system(log, _quattro(), (0, 1, 2), site)


def _parallel3(log: EventLog) -> System:
    site = _Site(48, 230, 50, load_w=3000, capacity_ah=600)
    return _system(log, _multiplus2_230v(), (0, 3, 6), site)


def _split2(log: EventLog) -> System:
    site = _Site(48, 120, 60, load_w=900, phases=2, capacity_ah=400)
    return _system(log, _multiplus2_120v(), (0, 1), site)


def _bms(log: EventLog) -> System:
    return _system(log, _multiplus2_120v(), (0,), _HOME_120V, bms_version=1145112)


def _nodevice(log: EventLog) -> System:
    plant = Plant(Battery(48), 1, [AcInput([120.0], 60)], 0)
    return System([], plant, log)


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            "multiplus2", "MultiPlus-II 48/3000/35-50 120V 60 Hz, firmware 560, on an MK3.", MK3, _multiplus2
        ),
        Profile(
            "multiplus2-ess", "The same with the ESS assistant, setpoint in RAM variable 131.", MK3, _ess
        ),
        Profile(
            "multiplus-old",
            "MultiPlus 12/3000/120-16 230 V, firmware 150, replies in parts, on an MK2.",
            MK2,
            _old,
        ),
        Profile("quattro3", "Three Quattro 48/5000/70-2x100 in three phases, two AC inputs.", MK3, _quattro3),
        Profile("parallel3", "Three MultiPlus-II 48/5000/70-50 in parallel, one phase.", MK3, _parallel3),
        Profile("split2", "Two MultiPlus-II 48/3000/35-50 120V in split phase.", MK3, _split2),
        Profile("bms", "multiplus2 with a VE.Bus BMS: mode and limit are not adjustable.", MK3, _bms),
        Profile(
            "nodevice", "An MK3 with nothing on its VE.Bus side.", replace(MK3, usb_powered=True), _nodevice
        ),
    )
}
"""All profiles by name."""

DEFAULT_PROFILE = "multiplus2"
