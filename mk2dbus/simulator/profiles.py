"""The systems that can be simulated: which adapter, which devices, which plant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from .adapter import AdapterType
from .assistants import Assistant, CurrentSensor, Ess
from .battery import Battery
from .device import Device
from .events import EventLog
from .plant import AcInput, Generator, Location, Plant
from .products import (
    DeviceType,
    multiplus2_120v,
    multiplus2_230v,
    multiplus2_556,
    multiplus_158,
    multiplus_209,
    multiplus_305,
    multiplus_old,
    quattro,
)
from .system import System

MK2 = AdapterType(version=1130134, mk3=False)
"""The MK2 of the recordings."""
MK3 = AdapterType(version=1170216, mk3=True)
_FIRST_UNIQUE = 0x0300A17C
_BMS_VERSION = 1145112
_DMC_VERSION = 1110206


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


@dataclass(frozen=True, slots=True)
class _Site:
    """What a system stands in: battery, mains, load, generators."""

    nominal_v: float
    mains_v: float
    hertz: float
    load_w: float
    phases: int = 1
    inputs: int = 1
    capacity_ah: float = 200.0
    generators: tuple[Generator, ...] = ()


@dataclass(frozen=True, slots=True)
class _Layout:
    """A system as data.

    Attributes:
        kinds: what stands at which address.
        assistants: of the master of each phase, made anew for each.
    """

    site: _Site
    kinds: Mapping[int, Callable[[], DeviceType]]
    assistants: Callable[[Plant], list[Assistant]] = field(default=lambda _plant: [])
    bms_version: int | None = None
    dmc_version: int | None = None

    def __call__(self, log: EventLog) -> System:
        """The system, new."""
        site = self.site
        plant = Plant(
            battery=Battery(site.nominal_v, site.capacity_ah),
            phases=site.phases,
            inputs=[AcInput([site.mains_v] * site.phases, site.hertz) for _ in range(site.inputs)],
            load_w=site.load_w,
        )
        plant.generators = [replace(generator) for generator in site.generators]
        kinds = {kind: kind() for kind in set(self.kinds.values())}
        devices = [
            Device(
                kind=kinds[kind],
                address=address,
                unique=_FIRST_UNIQUE + address,
                serial=f"HQ2223{address:05}",
                plant=plant,
                log=log,
                assistants=self.assistants(plant) if address < site.phases else [],
            )
            for address, kind in self.kinds.items()
        ]
        return System(devices, plant, log, self.bms_version, self.dmc_version)


def _all(kind: Callable[[], DeviceType], *addresses: int) -> dict[int, Callable[[], DeviceType]]:
    return dict.fromkeys(addresses, kind)


def _ess(_plant: Plant) -> list[Assistant]:
    """As recorded: two other assistants first; the setpoint is RAM variable 131."""
    return [Assistant(9), Assistant(4), Ess()]


def _sensors(plant: Plant) -> list[Assistant]:
    return [Ess(), *(CurrentSensor(generator) for generator in plant.generators)]


_HOME_120V = _Site(nominal_v=48, mains_v=120, hertz=60, load_w=420)
_HOME_230V = _Site(nominal_v=48, mains_v=230, hertz=50, load_w=600)
_BOAT_230V = _Site(nominal_v=12, mains_v=230, hertz=50, load_w=180, capacity_ah=400)
_FARM = replace(_HOME_230V, phases=3, load_w=2400, capacity_ah=600)
_SOLAR = (Generator(Location.OUTPUT, 0, 900.0), Generator(Location.INPUT, 0, 500.0))

_PROFILES = (
    Profile(
        "multiplus2",
        "MultiPlus-II 48/3000/35-50 120V 60 Hz, firmware 560, on an MK3.",
        MK3,
        _Layout(_HOME_120V, _all(multiplus2_120v, 0)),
    ),
    Profile(
        "multiplus2-ess",
        "The same with the ESS assistant, setpoint in RAM variable 131.",
        MK3,
        _Layout(_HOME_120V, _all(multiplus2_120v, 0), _ess),
    ),
    Profile(
        "multiplus-old",
        "MultiPlus 12/3000/120-16 230 V, firmware 150, replies in parts, on an MK2.",
        MK2,
        _Layout(_BOAT_230V, _all(multiplus_old, 0)),
    ),
    Profile(
        "quattro",
        "Quattro 48/5000/70-2x100, two AC inputs.",
        MK3,
        _Layout(replace(_HOME_230V, inputs=2), _all(quattro, 0)),
    ),
    Profile(
        "quattro3",
        "Three Quattro 48/5000/70-2x100 in three phases, two AC inputs.",
        MK3,
        _Layout(replace(_FARM, inputs=2), _all(quattro, 0, 1, 2)),
    ),
    Profile(
        "ess3",
        "Three MultiPlus-II 48/5000/70-50 in three phases, each with the ESS assistant.",
        MK3,
        _Layout(_FARM, _all(multiplus2_230v, 0, 1, 2), _ess),
    ),
    Profile(
        "parallel3",
        "Three MultiPlus-II 48/5000/70-50 in parallel, one phase.",
        MK3,
        _Layout(replace(_HOME_230V, load_w=3000, capacity_ah=600), _all(multiplus2_230v, 0, 3, 6)),
    ),
    Profile(
        "parallel-3phase",
        "Six MultiPlus-II 48/5000/70-50: three phases of two units, addresses 0 to 5.",
        MK3,
        _Layout(replace(_FARM, load_w=6000), _all(multiplus2_230v, *range(6))),
    ),
    Profile(
        "mixed",
        "Three phases, five units of different product and firmware; the slaves report invalid power.",
        MK3,
        _Layout(
            replace(_FARM, load_w=4500),
            {0: multiplus2_230v, 1: multiplus2_556, 2: multiplus_209, 3: multiplus_305, 4: multiplus_158},
        ),
    ),
    Profile(
        "big",
        "32 MultiPlus-II 48/5000/70-50: every address there is, in three phases.",
        MK3,
        _Layout(replace(_FARM, load_w=30000, capacity_ah=6000), _all(multiplus2_230v, *range(32))),
    ),
    Profile(
        "split2",
        "Two MultiPlus-II 48/3000/35-50 120V in split phase.",
        MK3,
        _Layout(replace(_HOME_120V, phases=2, load_w=900, capacity_ah=400), _all(multiplus2_120v, 0, 1)),
    ),
    Profile(
        "sensors",
        "MultiPlus-II 48/5000/70-50 with ESS and two AC current sensors: solar at output and input.",
        MK3,
        _Layout(replace(_HOME_230V, generators=_SOLAR), _all(multiplus2_556, 0), _sensors),
    ),
    Profile(
        "bms",
        "multiplus2 with a VE.Bus BMS: mode and limit are not adjustable.",
        MK3,
        _Layout(_HOME_120V, _all(multiplus2_120v, 0), bms_version=_BMS_VERSION),
    ),
    Profile(
        "dmc",
        "multiplus2 with a Digital Multi Control: it alone sets mode and limit.",
        MK3,
        _Layout(_HOME_120V, _all(multiplus2_120v, 0), dmc_version=_DMC_VERSION),
    ),
    Profile(
        "nodevice",
        "An MK3 with nothing on its VE.Bus side.",
        replace(MK3, usb_powered=True),
        _Layout(replace(_HOME_120V, load_w=0), {}),
    ),
)

PROFILES: dict[str, Profile] = {profile.name: profile for profile in _PROFILES}
"""All profiles by name."""

DEFAULT_PROFILE = "multiplus2"
