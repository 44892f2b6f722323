"""A simulated MK2/MK3 adapter with VE.Bus devices behind it, strict, on a pseudo-terminal.

Built from mk2-protocol.md alone; it shares the frame codec with the driver and nothing else, so that each
checks the other. The layers, from the ground up:

- :mod:`.tables`: infos of settings and RAM variables; :mod:`.products`: device types;
  :mod:`.events`: the log of what happened; :mod:`.exchanges`: what was outstanding when.
- :mod:`.battery`, :mod:`.unit`, :mod:`.charger`, :mod:`.plant`: physics, no protocol.
- :mod:`.device`: one inverter/charger, with its :mod:`.winmon` commands and :mod:`.assistants`;
  :mod:`.system`: all of them, info frames.
- :mod:`.adapter`: commands, slots, flags and power of the adapter, with its :mod:`.outbox` and :mod:`.speed`.
- :mod:`.line`, :mod:`.damage`: pacing and damage; :mod:`.core`: all of it, bytes and times in, bytes out.
- :mod:`.pty`, :mod:`.simulator`: the pseudo-terminal and the event loop around the core.
- :mod:`.syntax`, :mod:`.console`, :mod:`.actions`, :mod:`.bench`, :mod:`.report`: what can be changed and
  asked while it runs; :mod:`.control`: the socket for it.
- :mod:`.profiles`: the systems there are.
"""

from .adapter import Adapter, AdapterType
from .charger import ChargeState
from .console import Console
from .control import Control
from .core import Core, UnknownProfileError
from .damage import RandomDamage
from .device import Device, FrontSwitch, Setting
from .events import Event, EventLog, Kind
from .exchanges import Exchange, Exchanges
from .plant import Plant
from .profiles import DEFAULT_PROFILE, PROFILES
from .simulator import Simulator
from .speed import SpeedFault
from .syntax import CommandError
from .unit import MainState
from .winmon import Override

__all__ = [
    "DEFAULT_PROFILE",
    "PROFILES",
    "Adapter",
    "AdapterType",
    "ChargeState",
    "CommandError",
    "Console",
    "Control",
    "Core",
    "Device",
    "Event",
    "EventLog",
    "Exchange",
    "Exchanges",
    "FrontSwitch",
    "Kind",
    "MainState",
    "Override",
    "Plant",
    "RandomDamage",
    "Setting",
    "Simulator",
    "SpeedFault",
    "UnknownProfileError",
]
