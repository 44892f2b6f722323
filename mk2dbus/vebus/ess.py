"""Control by an energy storage system: the words of the ESS assistants (mk2-protocol.md §4.6).

Nothing is written but what a client writes, and only once. The assistant drops a setpoint that is not
written again for a minute; from then on it is not shown any more.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass

from mk2dbus.items import Limits, OutOfRange, ReadOnly, Refused, WriteFailed
from mk2dbus.mk2 import errors
from mk2dbus.mk2.exchange import Priority
from mk2dbus.mk2.winmon import ReadRam
from mk2dbus.vebus.assistants import ESS, of_kind
from mk2dbus.vebus.board import Board, Remembered
from mk2dbus.vebus.commands import Command, Commands, Written
from mk2dbus.vebus.device import Device, write_failure
from mk2dbus.vebus.part import Part
from mk2dbus.vebus.power import PHASES
from mk2dbus.vebus.readings import Values
from mk2dbus.vebus.scaling import RAW_MAX
from mk2dbus.vebus.schedule import Lane, Poll, Scheduler

log = logging.getLogger(__name__)

POLL_S, RELAXED_POLL_S = 2.0, 3.0
"""How often the words are read; somebody else can write them too."""
SETPOINT_VALID_S = 60.0
MAX_SETPOINT_W = 0x7FFF
"""Either way: a signed word."""

CHARGE_DISABLED, FEED_IN_DISABLED = 0x01, 0x02
_WORDS = 2
_POLL = "ess"
_BITS = {"/Hub4/DisableCharge": CHARGE_DISABLED, "/Hub4/DisableFeedIn": FEED_IN_DISABLED}


def setpoint_path(phase: int) -> str:
    return f"/Hub4/L{phase}/AcPowerSetpoint"


@dataclass(slots=True, eq=False)
class _Wish:
    """Bits of a word that a client wants, and what became of it."""

    mask: int
    bits: int
    word: int | None = None
    """What was written."""
    error: WriteFailed | None = None

    @property
    def pending(self) -> bool:
        return self.word is None and self.error is None


class _Word:
    """One word of an assistant. What is wanted of it while a write is under way goes out with the next one,
    so that clients that are faster than the line never have to wait for what is out of date."""

    def __init__(self, device: Device, id: int) -> None:
        self.device = device
        self.id = id
        self._known: Remembered[int] = Remembered()
        self._wishes: list[_Wish] = []
        self._writing = asyncio.Lock()

    @property
    def known(self) -> int | None:
        """As last read or written, while that is fresh."""
        return self._known.get()

    def take(self, word: int) -> None:
        """It was read."""
        self._known.set(word)

    async def write(self, mask: int, bits: int) -> None:
        """Write the bits under ``mask``, the others as they are.

        Raises:
            Refused: also when something newer took its place.
            NoReply, Disconnected: as the contract says.
        """
        wish = _Wish(mask, bits)
        self._wishes.append(wish)
        try:
            async with self._writing:
                if wish.pending:
                    await self._send()
        finally:
            if wish.pending:
                self._wishes.remove(wish)
        if wish.error is not None:
            # Several may be told: each gets one of its own.
            raise type(wish.error)(*wish.error.args)
        assert wish.word is not None
        if wish.word & mask != bits & mask:
            raise Refused("another value took its place before it was sent")

    async def _send(self) -> None:
        """Write all that is wanted now; later wishes go before earlier ones."""
        wishes = tuple(self._wishes)
        mask = bits = 0
        for wish in wishes:
            mask |= wish.mask
            bits = bits & ~wish.mask | wish.bits & wish.mask
        word: int | None = None
        error: WriteFailed | None = None
        try:
            word = (0 if mask == RAW_MAX else await self._read()) & ~mask | bits
            await self.device.put_ram(self.id, word)
        except WriteFailed as failed:
            word, error = None, failed
        else:
            self._known.set(word)
        for wish in wishes:
            wish.word, wish.error = word, error
        self._wishes = [wish for wish in self._wishes if wish.pending]

    async def _read(self) -> int:
        """The word with the bits that stay as they are."""
        known = self.known
        if known is not None and not self.device.noisy:
            return known
        try:
            (word,) = await self.device.confirmed(ReadRam((self.id,)), Priority.CLIENT)
        except errors.Mk2Error as error:
            raise write_failure(error, "nothing was written") from error
        return word


class _Phase:
    """The assistant that controls a phase.

    Attributes:
        written: the setpoint's word as a client last wrote it.
        left: the word that its owner left behind and did not renew; ``None`` while there is none.
    """

    def __init__(self, number: int, device: Device, words: Sequence[int]) -> None:
        self.number = number
        self.device = device
        self.setpoint = _Word(device, words[0])
        self.bits = _Word(device, words[1])
        self.written = 0
        self.left: int | None = None
        self.timer: asyncio.TimerHandle | None = None

    @property
    def shown(self) -> float | None:
        """The setpoint, W taken from the input."""
        word = self.setpoint.known
        if word is None:
            return None
        if self.left is not None:
            if word in (0, self.left):
                return None
            # Somebody else set another one.
            self.left = None
        return float(_setpoint(word))

    async def read(self) -> None:
        words = await self.device.read_ram((self.setpoint.id, self.bits.id), plain=True)
        for word in (self.setpoint, self.bits):
            word.take(words[word.id])

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Ess(Part):
    """Shows and writes the setpoints of the phases, and what is disabled.

    Args:
        devices: as for :class:`mk2dbus.vebus.telemetry.Telemetry`.
    """

    def __init__(self, board: Board, devices: Sequence[Device], scheduler: Scheduler) -> None:
        self._board = board
        self._devices = devices
        self._scheduler = scheduler
        self._phases: dict[int, _Phase] = {}
        self._over = False

    # --- which phases there are ------------------------------------------------------------------------

    def assistants_read(self, number: int, device: Device) -> None:
        self._look()

    def discovered(self, number: int, device: Device) -> None:
        self._look()

    def devices_changed(self) -> None:
        self._look()

    def stop(self) -> None:
        self._over = True
        for phase in self._phases.values():
            phase.stop()

    def _look(self) -> None:
        """Find the assistant of each phase: that of its first device that has one."""
        found: dict[int, _Phase] = {}
        for device in self._devices:
            number = device.address % PHASES + 1
            assistants = of_kind(device.assistants, ESS, _WORDS)
            if assistants and number not in found:
                known = self._phases.get(number)
                found[number] = (
                    known
                    if known is not None and known.device is device
                    else _Phase(number, device, assistants[0].words)
                )
        before, self._phases = self._phases, found
        for number, phase in before.items():
            if found.get(number) is not phase:
                phase.stop()
        if before and not found:
            self._scheduler.remove(_POLL)
        elif found and not before:
            self._scheduler.add(
                [Poll(_POLL, Lane.WINMON, POLL_S, self._read, RELAXED_POLL_S, spread_s=math.inf)]
            )
        for number in found.keys() - before.keys():
            self._board.set_limits(setpoint_path(number), Limits(-MAX_SETPOINT_W, MAX_SETPOINT_W))

    # --- reading ---------------------------------------------------------------------------------------

    async def _read(self) -> Values:
        await _all(phase.read() for phase in self._phases.values())
        return self._values()

    def _values(self) -> Values:
        values: Values = {setpoint_path(number): phase.shown for number, phase in self._phases.items()}
        words = [phase.bits.known for phase in self._phases.values()]
        for path, mask in _BITS.items():
            states = {None if word is None else int(bool(word & mask)) for word in words}
            # Where the phases are not of one mind there is no value for all.
            values[path] = states.pop() if len(states) == 1 else None
        values["/Hub4/AssistantId"] = ESS if self._phases else None
        return values

    def _show(self) -> None:
        """A write may end after the system is gone, and another one shown already."""
        if self._over:
            return
        self._scheduler.freshness.publish(_POLL, self._values())

    # --- writing ---------------------------------------------------------------------------------------

    async def set_setpoint(self, number: int, value: Written) -> None:
        """Write the setpoint of a phase, W taken from the input.

        Raises:
            ReadOnly: the phase has no ESS assistant.
            OutOfRange, Refused, NoReply, Disconnected: as the contract says.
        """
        watts = round(float(value))
        if not -MAX_SETPOINT_W <= watts <= MAX_SETPOINT_W:
            raise OutOfRange(f"a setpoint is {-MAX_SETPOINT_W} to {MAX_SETPOINT_W} W, not {value}")
        phase = self._phases.get(number)
        if phase is None:
            raise ReadOnly(self._why_not(number))
        phase.written = -watts & RAW_MAX
        try:
            await phase.setpoint.write(RAW_MAX, phase.written)
            phase.left = None
        finally:
            # Also when no reply came: it may be in effect.
            self._keep(phase)
            self._show()

    async def set_bit(self, mask: int, value: Written) -> None:
        """Disable or allow something in all phases.

        Raises:
            ReadOnly: there is no ESS assistant. Refused, NoReply, Disconnected: as the contract says.
        """
        phases = list(self._phases.values())
        if not phases:
            raise ReadOnly(self._why_not(None))
        bits = mask if value else 0
        outcomes = await asyncio.gather(
            *(phase.bits.write(mask, bits) for phase in phases), return_exceptions=True
        )
        self._show()
        for phase, outcome in zip(phases, outcomes, strict=True):
            if isinstance(outcome, WriteFailed):
                raise type(outcome)(f"L{phase.number}: {outcome}") from outcome
            if outcome is not None:
                raise outcome

    def _keep(self, phase: _Phase) -> None:
        """Somebody wrote the setpoint: it is valid for a minute from now."""
        phase.stop()
        loop = asyncio.get_running_loop()
        if self._phases.get(phase.number) is phase and not self._over:
            phase.timer = loop.call_later(SETPOINT_VALID_S, self._expire, phase)

    def _expire(self, phase: _Phase) -> None:
        phase.timer = None
        phase.left = phase.written
        log.info("the setpoint of L%d was not renewed", phase.number)
        self._show()

    def _why_not(self, phase: int | None) -> str:
        if phase is not None and phase not in {device.address % PHASES + 1 for device in self._devices}:
            return f"the system has no phase L{phase}"
        if any(device.assistants is None and not device.read for device in self._devices):
            return "whether there is an ESS assistant is not known yet"
        return "there is no ESS assistant" + ("" if phase is None else f" in phase L{phase}")


def _setpoint(word: int) -> int:
    """W taken from the input; the word is signed, and positive into the grid."""
    return (0x10000 - word) if word >= 0x8000 else -word


async def _all(reads: Iterable[Awaitable[None]]) -> None:
    """Await all; fails only when none succeeds, as each phase keeps what it knows."""
    outcomes = await asyncio.gather(*reads, return_exceptions=True)
    failures = [outcome for outcome in outcomes if outcome is not None]
    for failure in failures:
        if len(failures) == len(outcomes) or not isinstance(failure, errors.NoReply | errors.Rejected):
            raise failure


def _setpoint_command(phase: int) -> Command[Ess]:
    return Command(
        Ess,
        lambda ess, value: ess.set_setpoint(phase, value),
        "the first word of the ESS assistant of the phase, in RAM, once",
    )


def _bit_command(mask: int) -> Command[Ess]:
    return Command(
        Ess,
        lambda ess, value: ess.set_bit(mask, value),
        "the second word of the ESS assistant of each phase, in RAM, once",
    )


COMMANDS: Commands = {
    **{setpoint_path(phase): _setpoint_command(phase) for phase in range(1, PHASES + 1)},
    **{path: _bit_command(mask) for path, mask in _BITS.items()},
}
