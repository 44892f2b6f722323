"""Which request may go on the line beside those that are there."""

from __future__ import annotations

from collections.abc import Sequence

from mk2dbus.mk2.abilities import Abilities
from mk2dbus.mk2.exchange import Exchange, Priority
from mk2dbus.mk2.pacing import overdue
from mk2dbus.mk2.request import CONFLICTS, Lane
from mk2dbus.mk2.slots import Slots


class Admission:
    """Decides by lane (§3), by what the adapter bears, and by free slots."""

    def __init__(self, abilities: Abilities, slots: Slots) -> None:
        self._abilities = abilities
        self._slots = slots

    def conflicts(self, lane: Lane) -> frozenset[Lane]:
        """Lanes of which nothing may be on the line together with this one."""
        if not self._abilities.beside_info and lane in (Lane.INFO, Lane.OWN):
            return CONFLICTS[lane] | {Lane.INFO, Lane.OWN}
        return CONFLICTS[lane]

    def may_enter(self, exchange: Exchange, lane: Lane, on_line: Sequence[Exchange], now: float) -> bool:
        """Whether an exchange may go on the line now, as one of that lane."""
        if on_line and self._abilities.pipeline == 1:
            return False
        conflicts = self.conflicts(lane)
        if any(other.lane in conflicts for other in on_line):
            return False
        return lane is not Lane.WINMON or self._has_slot(exchange, on_line, now)

    def free_slots(self, on_line: Sequence[Exchange]) -> int:
        """How many winmon commands may be added."""
        under_way = sum(1 for other in on_line if other.letter)
        return min(len(self._slots.free(on_line)), self._abilities.pipeline - under_way)

    def _has_slot(self, exchange: Exchange, on_line: Sequence[Exchange], now: float) -> bool:
        """Whether a winmon command gets a slot. The last is for clients while no other is expected back."""
        free = self.free_slots(on_line)
        if free != 1 or exchange.priority.urgent:
            return free > 0
        if under_way := [other for other in on_line if other.letter]:
            return not all(overdue(other, now) for other in under_way)
        return exchange.priority is not Priority.BACKGROUND or not self._slots.resting
