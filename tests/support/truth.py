"""What a simulated system has, to be compared with what is shown: nothing older than it may be, or false."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from mk2dbus.items import Value
from mk2dbus.simulator import Core, Kind
from support.driven import Driven

FRESH_S = 5.0
"""How long a measured value may be shown after it was true (dbus-contract.md)."""
STORED_FRESH_S = 5.0
"""The same for a setting that was written through us."""
SAMPLE_S = 0.1

Read = Callable[[Core], float | None]


@dataclass(frozen=True)
class Measured:
    """A shown value, the truth of it, and how far rounding and scale may take it from that."""

    path: str
    read: Read
    tolerance: float = 0.0


def _mode(core: Core) -> float:
    leader = core.system.leader or core.device
    return {(True, True): 3, (True, False): 1, (False, True): 2, (False, False): 4}[
        leader.charge_allowed, leader.invert_allowed
    ]


def _limit(core: Core) -> float:
    leader = core.system.leader or core.device
    return leader.limits_a[min(core.plant.active_input or 0, leader.input_count - 1)]


def _awake(core: Core) -> list[int]:
    return [number for number, device in enumerate(core.devices.values()) if device.reachable]


def _sum(attribute: str) -> Read:
    return lambda core: sum(getattr(core.plant.units[number], attribute) for number in _awake(core))


def _led(mask: int) -> Read:
    def read(core: Core) -> float | None:
        on, blink = core.system.leds()
        if on == blink == 0x1F:
            return None
        return int(bool(on & mask)) + 2 * bool(blink & mask)

    return read


def _main_state(core: Core) -> float | None:
    leader = core.system.leader
    return None if leader is None else int(leader.unit.main_state)


def _first(attribute: str) -> Read:
    def read(core: Core) -> float | None:
        leader = core.system.leader
        return None if leader is None else float(getattr(leader.unit, attribute))

    return read


SINGLE = (
    Measured("/Dc/0/Voltage", lambda core: core.plant.battery.voltage_v, 0.02),
    Measured("/Dc/0/Current", _sum("battery_a"), 0.15),
    Measured("/Dc/0/Power", _sum("inverter_w"), 2.0),
    Measured("/Ac/ActiveIn/L1/V", _first("mains_v"), 0.02),
    Measured("/Ac/ActiveIn/L1/I", _first("mains_a"), 0.02),
    Measured("/Ac/ActiveIn/L1/F", _first("mains_hz"), 0.3),
    Measured("/Ac/ActiveIn/P", _sum("input_w"), 2.0),
    Measured("/Ac/Out/L1/V", _first("output_v"), 0.02),
    Measured("/Ac/Out/L1/I", _first("output_a"), 0.02),
    Measured("/Ac/Out/P", _sum("output_w"), 2.0),
    Measured("/VebusMainState", _main_state),
    Measured("/Mode", _mode),
    Measured("/Ac/ActiveIn/CurrentLimit", _limit, 0.051),
    Measured("/Leds/Mains", _led(0x01)),
    Measured("/Leds/Inverter", _led(0x10)),
    Measured("/Leds/Bulk", _led(0x04)),
)
"""What is measured of a system with one phase."""

MEASURED_PHASES = (
    *(one for one in SINGLE if not one.path.startswith("/Ac/") or one.path.endswith("/P")),
    Measured("/Mode", _mode),
)
"""What is compared of systems of several units, of which any may be gone."""


@dataclass(frozen=True)
class Lie:
    """A value that was shown and was not true in the time in which it may be shown."""

    at: float
    path: str
    shown: Value
    true: tuple[float | None, ...]


@dataclass
class Truth:
    """Follows the simulator and compares.

    Attributes:
        lies: what was shown and never true within :data:`FRESH_S`.
        checked: comparisons made.
        shown: how many of them were of a value that was known.
    """

    run: Driven
    measured: tuple[Measured, ...] = SINGLE
    fresh_s: float = FRESH_S
    share: float = 0.001
    """How far what is shown may be from the truth, beside the tolerance: what changes between two looks."""
    lies: list[Lie] = field(default_factory=list)
    checked: int = 0
    shown: int = 0

    def __post_init__(self) -> None:
        self._history: dict[str, deque[tuple[float, float | None]]] = {
            one.path: deque() for one in self.measured
        }

    async def watch(self) -> None:
        """Compare again and again, for ever. The truth is noted with every request, too: the plant moves with
        each, and may be what is answered for that moment only."""
        log = self.run.core.log
        add = log.add

        def noting(time: float, kind: Kind, reason: str = "", data: bytes = b"") -> None:
            add(time, kind, reason, data)
            if kind is Kind.RECEIVED:
                self.note()

        log.add = noting  # type: ignore[method-assign]
        try:
            while True:
                self.look()
                await asyncio.sleep(SAMPLE_S)
        finally:
            log.add = add  # type: ignore[method-assign]

    def look(self) -> None:
        """Compare everything that is shown now."""
        self.note()
        now = self.run.now
        for one in self.measured:
            history = self._history[one.path]
            # The one before the oldest that counts was still true when that one came.
            while len(history) > 1 and history[1][0] < now - self.fresh_s:
                history.popleft()
            self._compare(one, [true for _, true in history], now)

    def note(self) -> None:
        """Remember what is true now."""
        now, core = self.run.now, self.run.core
        for one in self.measured:
            history = self._history[one.path]
            true = one.read(core)
            if not history or history[-1][1] != true:
                history.append((now, true))

    def _compare(self, one: Measured, history: list[float | None], now: float) -> None:
        self.checked += 1
        shown = self.run.value(one.path) if one.path in self.run.tree else None
        if shown is None:
            return
        self.shown += 1
        if self._fits(one, shown, history):
            return
        if not (self.lies and self.lies[-1].path == one.path and self.lies[-1].shown == shown):
            self.lies.append(Lie(now, one.path, shown, tuple(history)))

    def _fits(self, one: Measured, shown: Value, history: list[float | None]) -> bool:
        known = [true for true in history if true is not None]
        assert isinstance(shown, int | float)
        if not one.tolerance:
            return any(shown == true for true in known)
        slack = one.tolerance + self.share * abs(shown)
        return bool(known) and min(known) - slack <= shown <= max(known) + slack

    def false_settings(self, number: int = 0) -> list[tuple[str, Value, Value]]:
        """Settings that are shown as what the device does not have: path, shown, true."""
        device = list(self.run.core.devices.values())[number]
        items = self.run.driver._context.items
        found = []
        for word in items[number].settings._words.values():
            if word.id not in device.settings:
                continue
            for view in word._stored:
                shown, true = self.run.value(view.leaf.path), view.value(device.settings[word.id].stored)
                if shown is not None and shown != true:
                    found.append((view.leaf.path, shown, true))
        return found
