"""What outlives a session: what every system is shown on, remembered in and told by."""

from __future__ import annotations

from dataclasses import dataclass, field

from mk2dbus.pulse import Beat, no_beat
from mk2dbus.vebus.board import Board
from mk2dbus.vebus.devices import DeviceItems
from mk2dbus.vebus.energybook import EnergyBook
from mk2dbus.vebus.infocache import InfoCache
from mk2dbus.vebus.options import DEFAULTS, Options
from mk2dbus.vebus.statistics import Statistics
from mk2dbus.vebus.units import Units


@dataclass(frozen=True, slots=True)
class Context:
    """Made once by the driver.

    Attributes:
        board: gets the values.
        cache: infos of devices met before.
        energy: adds up energy from one session to the next.
        statistics: shows how the line is doing.
        options: choices of the user.
        beat: says that the inverter side gets on.
        items: objects of the devices, by number; there can be more of them than devices answer.
        units: what is remembered of each device while it is away.
    """

    board: Board
    cache: InfoCache
    energy: EnergyBook
    statistics: Statistics
    options: Options = DEFAULTS
    beat: Beat = no_beat
    items: list[DeviceItems] = field(default_factory=list)
    units: Units = field(default_factory=Units)
