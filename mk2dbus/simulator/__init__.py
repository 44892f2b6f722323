"""A simulated MK2/MK3 adapter with VE.Bus devices behind it, strict, on a pseudo-terminal.

Built from mk2-protocol.md alone; it shares the frame codec with the driver and nothing else, so that each
checks the other. The layers, from the ground up:

- :mod:`.tables`: infos of settings and RAM variables; :mod:`.events`: the log of what happened.
- :mod:`.plant`: battery, mains, loads, power sections: physics, no protocol.
- :mod:`.device`: one inverter/charger and its winmon commands; :mod:`.system`: all of them, info frames.
- :mod:`.adapter`: commands, slots, flags, power and speed of the adapter.
- :mod:`.line`: pacing and damage; :mod:`.core`: all of it with bytes and times in, bytes out.
- :mod:`.pty`, :mod:`.simulator`: the pseudo-terminal and the event loop around the core.
- :mod:`.profiles`: the systems there are.
"""

from .adapter import Adapter
from .core import Core, UnknownProfileError
from .device import Device, FrontSwitch, Override, Setting
from .events import Event, EventLog, Kind
from .plant import ChargeState, MainState, Plant
from .profiles import DEFAULT_PROFILE, PROFILES
from .simulator import Simulator

__all__ = [
    "DEFAULT_PROFILE",
    "PROFILES",
    "Adapter",
    "ChargeState",
    "Core",
    "Device",
    "Event",
    "EventLog",
    "FrontSwitch",
    "Kind",
    "MainState",
    "Override",
    "Plant",
    "Setting",
    "Simulator",
    "UnknownProfileError",
]
