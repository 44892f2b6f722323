"""Adapter, system and line together, without input, output or clock: bytes and times in, bytes out.

Tests run a day of inverter life with it in a second; :mod:`.simulator` puts it on a pseudo-terminal.
"""

from __future__ import annotations

from .adapter import Adapter
from .device import Device, FrontSwitch
from .events import EventLog, Kind
from .exchanges import Exchanges
from .line import Damage, Receiver, Transmitter, at_wrong_speed, damaged
from .outbox import Outgoing
from .plant import Plant
from .profiles import DEFAULT_PROFILE, PROFILES
from .speed import LOW_BAUDRATE
from .system import Panel, System

HEARTBEAT_S = 1.0
"""The plant lives on at least this often, also when nobody asks."""
OUTPUT_BUFFER = 256
"""Bytes an adapter keeps for sending; what comes on top is lost."""


class UnknownProfileError(ValueError):
    """There is no profile of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"unknown profile {name!r}; there are {', '.join(PROFILES)}")
        self.name = name


class Core:
    """A simulated adapter with its devices, driven by calls.

    Args:
        profile: name of a profile (:data:`.profiles.PROFILES`).
        baudrate: 2400 paces the line as the real one; 0 does not pace it.
        latency_ms: time the inverter takes to answer.

    Raises:
        UnknownProfileError: no such profile.
    """

    def __init__(self, profile: str = DEFAULT_PROFILE, baudrate: int = 2400, latency_ms: float = 15) -> None:
        if profile not in PROFILES:
            raise UnknownProfileError(profile)
        chosen = PROFILES[profile]
        self.profile = chosen
        self.paced = baudrate != 0
        self.log = EventLog()
        self.system: System = chosen.build(self.log)
        self.adapter = Adapter(chosen.adapter, self.system, self.log, latency_ms / 1000)
        self.incoming: Damage | None = None
        """Fault on the bytes from the client; gets them in the pieces in which they were written."""
        self.outgoing: Damage | None = None
        """Fault on the bytes to the client; gets one frame at a time."""
        self.client_baudrate: int | None = None
        """Speed the client has set, where known; unless it is the adapter's, all bytes are garbage."""
        self.received_bytes = 0
        self.sent_bytes = 0
        self._started = False
        self._lived_until = 0.0
        self._next_event = 0.0
        """When adapter or devices will have something to do; not the line, which needs them not."""
        self._touched = False
        """Somebody laid hands on it: look at once, without waiting for the heartbeat."""
        self._receiver = Receiver(self._count_garbage)
        self._transmitter = Transmitter()

    # -- what a test or a person reaches for ---------------------------------------------------------------

    @property
    def plant(self) -> Plant:
        """Battery, mains and loads."""
        return self.system.plant

    @property
    def devices(self) -> dict[int, Device]:
        """All devices by VE.Bus address."""
        return self.system.devices

    @property
    def device(self) -> Device:
        """The first device.

        Raises:
            LookupError: the profile has none.
        """
        for device in self.devices.values():
            return device
        raise LookupError(f"profile {self.profile.name} has no device")

    @property
    def exchanges(self) -> Exchanges:
        """What was outstanding when."""
        return self.adapter.exchanges

    def press_panel(self, mode: int, limit_a: float, bit3: bool = False) -> None:
        """Another panel on the bus acts: switch position 1…4 and current limit (§3.2)."""
        self.adapter.panel_acts(Panel(mode, round(10 * limit_a)), bit3)
        self.touch()

    def turn_front_switch(self, position: FrontSwitch) -> None:
        """Turn the switch on the units; from off to another position it wakes them."""
        self.system.turn_front_switch(position)
        self.touch()

    def touch(self) -> None:
        """Something was changed by hand: the next :meth:`run` looks at it, whatever the time."""
        self._touched = True

    # -- the line ------------------------------------------------------------------------------------------

    @property
    def baudrate(self) -> int:
        """Speed of the line to the adapter now; 0: not paced."""
        return self.adapter.baudrate if self.paced else 0

    @property
    def deadline(self) -> float:
        """When :meth:`run` should be called again, if no bytes come before."""
        sending = self._transmitter.deadline
        return self._next_event if sending is None else min(self._next_event, sending)

    def feed(self, data: bytes, now: float) -> None:
        """Bytes the client wrote at ``now``."""
        self._live_until(now)
        self.received_bytes += len(data)
        client, adapter = self._client_baudrate, self.adapter.speed.listening
        if client not in (None, adapter):
            data = at_wrong_speed(data, client or LOW_BAUDRATE, adapter)
        at = now
        for pause, piece in damaged(self.incoming, data):
            at += pause
            self._receiver.push(self.adapter.sync(piece, now), at, self.baudrate)
        self._look_ahead()

    def run(self, now: float) -> bytes:
        """Live until ``now``; the bytes that the client has received by then."""
        self._live_until(now)
        data = self._transmitter.take(now)
        self.sent_bytes += len(data)
        client, adapter = self._client_baudrate, self.adapter.speed.talking
        if data and client not in (None, adapter):
            data = at_wrong_speed(data, adapter, client or LOW_BAUDRATE)
        return data

    def cut_line(self) -> None:
        """The cable is pulled: what is under way either way is lost. The adapter lives on."""
        self._receiver.clear()
        self._transmitter.clear()
        self._look_ahead()

    @property
    def _client_baudrate(self) -> int | None:
        return self.client_baudrate if self.paced else None

    def _live_until(self, now: float) -> None:
        """Everything that happens until ``now``, each at its own time: being late does not add up."""
        if not self._started:
            # The clock may stand anywhere when the first call comes.
            self._started = True
            self.adapter.start(now)
            self._live_at(now)
        while self._next_event <= now:
            self._live_at(self._next_event)
        if self._touched:
            self._touched = False
            self.adapter.advance(now)
            self._live_at(now)

    def _look_ahead(self) -> None:
        times = (self.adapter.deadline, self._receiver.deadline, self._lived_until + HEARTBEAT_S)
        self._next_event = min(time for time in times if time is not None)

    def _live_at(self, at: float) -> None:
        self._lived_until = max(at, self._lived_until)
        self._send(self.adapter.poll(at), at)
        for arrived, written, frame in self._receiver.pop(at):
            self.adapter.receive(frame, arrived, written)
            self._send(self.adapter.poll(at), at)
        if not self.adapter.alive:
            self._transmitter.clear()
        self._look_ahead()

    def _send(self, leaving: list[Outgoing], at: float) -> None:
        for one in leaving:
            raw = self.adapter.speed.spoilt(bytes(one.frame))
            through = at
            if self._transmitter.backlog + len(raw) > OUTPUT_BUFFER:
                self.log.add(at, Kind.LOST, "output buffer full", raw)
            else:
                start = at
                for pause, piece in damaged(self.outgoing, raw):
                    start += pause
                    through = self._transmitter.push(piece, start, self._talking_baudrate)
            if one.answers:
                self.adapter.exchanges.end(one.answers, through)

    @property
    def _talking_baudrate(self) -> int:
        return self.adapter.speed.talking if self.paced else 0

    def _count_garbage(self, count: int, at: float) -> None:
        self.adapter.garbage(bytes((min(count, 0xFF),)), at)
