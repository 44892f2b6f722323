"""Control of mode and input current limit, as a panel does it (mk2-protocol.md §3.2).

Nothing is sent until somebody writes one of the two. From then on a panel frame goes out once a second, each
with both, until the session ends, another panel takes over, or a BMS or DMC appears. Nothing is sent to end
it: the system stays as it was last told.

A frame sets the limit of the input that is active when it arrives, and ``F 05`` tells that of the last active
one only. So the limit of an input that is not active cannot be written. On a system with several inputs it is
looked which one is active before each frame. When another one becomes active, the frames go on with the mode
and with the limit that this input has: the other one's is not for it. What was written for an input is sent
again when it is back.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from mk2dbus.items import Disconnected, NoReply, OutOfRange, ReadOnly, Refused, WriteFailed
from mk2dbus.mk2 import errors
from mk2dbus.mk2.adapter import AccessoryKind, GetAcInput, PanelFrame, SendPanel, SwitchPosition
from mk2dbus.mk2.exchange import Priority
from mk2dbus.mk2.info import AcInput
from mk2dbus.mk2.link import Link
from mk2dbus.vebus.accessories import Present
from mk2dbus.vebus.commands import Command, Commands
from mk2dbus.vebus.confirm import confirmed
from mk2dbus.vebus.device import Device, write_failure
from mk2dbus.vebus.part import Part
from mk2dbus.vebus.schedule import Implausible

log = logging.getLogger(__name__)

REPEAT_S = 1.0
FRESH_S = 3.5
"""How old the AC input configuration may be that a frame is made from: telemetry reads it every second, or
every three while settings are read. Other panels and our own writes make it outdated at once."""
SETTLE_S = 0.5
"""How long after a write to a device the AC input configuration may still be the one from before."""
LOOK_S = 0.8
"""How long a repeated frame waits for the word which input is active; without it, it is left out."""
JUST_S = 0.05
"""When it was told so lately, it is not asked again."""
WRITE_TIMEOUT_S = 4.5
"""How long until the system has to show the new mode or limit; the contract gives a write 5 s."""
CONFIRM_INTERVAL_S = 0.2
SILENCE_LOOK_S = 0.2
"""How often it is looked meanwhile whether anybody answers still."""

STEPS_PER_A = 10
MOST_A = 0x7FFF / STEPS_PER_A
"""Largest limit that a panel frame can carry."""
LIMIT_SETTINGS = ((6, "AcCurrentLimit"), (49, "SecondInputCurrentLimit"))
"""Settings that hold the stored limits of AC inputs 1 and 2."""

_NOT_KNOWN = "whether it was done is not known"
_MODES = {1: "charger only", 2: "inverter only", 3: "on", 4: "off"}
_CONTROLLERS = {AccessoryKind.BMS: "a VE.Bus BMS", AccessoryKind.DMC: "a Digital Multi Control"}


@dataclass(frozen=True, slots=True)
class Position:
    """What the panel frames say.

    Attributes:
        mode: switch position.
        limit: input current limit in 0.1 A.
        input: the AC input that the limit is for, 0-based.
    """

    mode: SwitchPosition
    limit: int
    input: int


@dataclass(slots=True)
class _Order:
    """What a client wants of the panel.

    Attributes:
        what: in words.
        position: what the frames have to say, made from the AC input configuration as it is.
        reached: whether the system shows it; raises when it cannot any more.
        complaint: what it shows instead.
        so_far: the outcome, if there is not time for more.
    """

    what: str
    position: Callable[[AcInput], Position]
    reached: Callable[[AcInput, Position], bool]
    complaint: Callable[[AcInput], str]
    so_far: WriteFailed = field(
        default_factory=lambda: NoReply("another write was under way; nothing was commanded")
    )


class Panel(Part):
    """The panel that this service is when asked to.

    Args:
        link: the session with the adapter.
        devices: of the system; the first one tells the stored limits.
        publish: shows each AC input configuration that is read here, and hands it to :meth:`see`.
        look_soon: lets the AC input configuration be read soon.
        accessories: which of BMS and DMC are there; waits until they were looked for.
        same_at: loop time at which the system was last found to be the one it was.
        check_soon: lets that be looked after soon.
    """

    def __init__(
        self,
        link: Link,
        devices: Sequence[Device],
        publish: Callable[[AcInput], None],
        look_soon: Callable[[], None],
        accessories: Callable[[], Awaitable[Present]],
        same_at: Callable[[], float],
        check_soon: Callable[[], None],
    ) -> None:
        self._link = link
        self._devices = devices
        self._publish = publish
        self._look_soon = look_soon
        self._accessories = accessories
        self._same_at = same_at
        self._check_soon = check_soon
        self._command: Position | None = None
        self._lost = ""
        """Why there is no command any more."""
        self._changed = asyncio.Event()
        self._sending: asyncio.Future[bool] | None = None
        self._lock = asyncio.Lock()
        self._due = -math.inf
        self._sent_at = -math.inf
        self._seen: AcInput | None = None
        self._seen_at = -math.inf
        self._limits: dict[int, int | None] = {}
        """The limit of each input, 0.1 A, when it was last active, or else as stored; ``None``: not told."""
        self._asked: dict[int, int] = {}
        """The limits, 0.1 A, that were confirmed since this panel is in control, by input."""
        self._over = False

    async def run(self) -> None:
        """Repeat the panel frame while in control. Runs as long as the session."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            if self._command is None:
                await self._changed.wait()
            elif self._due > loop.time():
                # Whoever writes sends a frame at once; the rhythm starts anew from there.
                await _wait_until(self._changed, self._due)
            else:
                following = self._due + REPEAT_S
                self._due = following if following > loop.time() else loop.time() + REPEAT_S
                await self._repeat()

    def stop(self) -> None:
        """The system is gone, or the service ends: nothing is sent any more."""
        self._over = True
        self._take(None, "the connection was lost")

    # --- what is heard ---------------------------------------------------------------------------------

    def other_panel(self, frame: PanelFrame) -> None:
        """Another panel is in control: leave it to it until somebody writes again."""
        self._give_up(f"another panel took control (mode {frame.mode})")
        # What was known is as it was before.
        self._seen_at = -math.inf
        self._look_soon()

    def see_accessories(self, present: Present) -> None:
        """It was looked for a BMS and a DMC."""
        if present:
            self._give_up(f"{_names(present)} is in control")

    def see(self, now: AcInput) -> None:
        """An AC input configuration was read, by the telemetry or by this panel."""
        seen_before, self._seen, self._seen_at = self._seen_at, now, asyncio.get_running_loop().time()
        if now.dmc_present:
            self._give_up(f"{_CONTROLLERS[AccessoryKind.DMC]} is in control")
        command = self._command
        if command is None:
            self._limits[now.active_input] = now.actual
        elif command.input == now.active_input:
            self._limits[now.active_input] = command.limit
        else:
            sent_since = self._sent_at > seen_before
            self._follow(command, now, overwritten=sent_since and now.actual == command.limit)

    def _follow(self, command: Position, now: AcInput, overwritten: bool) -> None:
        """Another input is active now: it keeps its own limit.

        ``overwritten``: a frame went out since the other one was last seen to be active, so that what the
        input has now may be the limit of the other one.
        """
        input = now.active_input
        limit = self._asked.get(input)
        if limit is None:
            limit = self._limits.get(input) if overwritten else now.actual
        if limit is None:
            self._give_up(f"AC input {input + 1} is active now, and its limit is not known")
            return
        log.info("AC input %d is active now, with a limit of %s A", input + 1, limit / STEPS_PER_A)
        self._limits[input] = limit
        self._take(replace(command, limit=limit, input=input))
        if overwritten:
            self._due = asyncio.get_running_loop().time()

    def _give_up(self, why: str) -> None:
        if self._command is not None:
            log.warning("%s; no longer sending panel frames", why)
            self._take(None, why)

    def _take(self, command: Position | None, why: str = "") -> None:
        """What the frames say from now on. One that still waits for the line does not go out any more."""
        self._command, self._lost = command, why
        if command is None:
            self._asked.clear()
        if self._sending is not None:
            self._sending.cancel()
        self._changed.set()

    # --- what clients ask for --------------------------------------------------------------------------

    async def set_mode(self, value: int | float | str) -> None:
        """Position a mode and wait until the system shows it.

        Raises:
            WriteFailed: not adjustable, no answer, or the system shows something else.
        """
        mode = SwitchPosition(int(value))

        def complaint(now: AcInput) -> str:
            shown = f"the system shows mode {now.mode} instead of {mode.value}"
            if now.panel_mode == mode:
                return f"{shown}: the switch on the unit allows no more than {_MODES[now.mode]}"
            return shown

        await self._set(
            _Order(
                f"mode {mode.value} ({_MODES[mode]})",
                lambda now: Position(mode, self._limit(now), now.active_input),
                lambda now, _: now.mode == mode,
                complaint,
            )
        )

    async def set_limit(self, value: int | float | str, input: int | None = None) -> None:
        """Position the limit of the active input, in A, and wait until the system shows it.

        ``input`` (1 or 2), when given, must be the active one.

        Raises:
            WriteFailed: not adjustable, outside the limits, no answer, or the system shows something else.
        """
        if not 0 <= float(value) <= MOST_A:
            raise OutOfRange(f"an input current limit is 0 to {MOST_A} A, not {value} A")
        limit = round(float(value) * STEPS_PER_A)
        amps = f"{limit / STEPS_PER_A} A"

        def position(now: AcInput) -> Position:
            _check_limit(now, limit, input)
            return Position(self._mode(now), limit, now.active_input)

        def reached(now: AcInput, wanted: Position) -> bool:
            if now.active_input != wanted.input:
                raise Refused(
                    f"AC input {now.active_input + 1} became active meanwhile; whether AC input "
                    f"{wanted.input + 1} has a limit of {amps} is not known"
                )
            return now.actual == limit

        await self._set(
            _Order(
                f"input current limit {amps}",
                position,
                reached,
                lambda now: f"the input current limit is {now.actual / STEPS_PER_A} A instead of {amps}",
            )
        )

    def _mode(self, now: AcInput) -> SwitchPosition:
        """The mode that a frame says that changes the limit only."""
        return SwitchPosition(now.panel_mode) if self._command is None else self._command.mode

    def _limit(self, now: AcInput) -> int:
        """The limit that a frame says that changes the mode only."""
        command = self._command
        return now.actual if command is None or command.input != now.active_input else command.limit

    # --- commanding ------------------------------------------------------------------------------------

    async def _set(self, order: _Order) -> None:
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S), self._lock:
                await self._carry_out(order)
        except TimeoutError:
            raise order.so_far from None
        log.info("commanded %s", order.what)

    async def _carry_out(self, order: _Order) -> None:
        order.so_far = NoReply("the system did not answer; nothing was commanded")
        now = await self._current()
        if now.dmc_present:
            raise ReadOnly(_controlled({AccessoryKind.DMC}))
        if present := await self._accessories():
            raise ReadOnly(_controlled(present))
        self._check_alive("nothing was commanded")
        before, wanted = self._command, order.position(now)
        order.so_far = NoReply(f"the system did not answer; {_NOT_KNOWN}")
        self._take(wanted)
        try:
            self._due = asyncio.get_running_loop().time() + REPEAT_S
            try:
                await self._send(wanted)
            except errors.Mk2Error as error:
                raise Disconnected(f"the connection was lost; {_NOT_KNOWN}") from error
            await self._confirm(order, wanted)
            self._asked[wanted.input] = wanted.limit
        except BaseException:
            # Who was told that it failed must not see it done later.
            if self._command is not None:
                self._take(before if self._command == wanted else None)
            raise

    async def _confirm(self, order: _Order, wanted: Position) -> None:
        while True:
            try:
                now = await self._read(_NOT_KNOWN)
            except Implausible as error:
                log.debug("left out: %s", error)
            else:
                if order.reached(now, wanted):
                    return
                order.so_far = Refused(order.complaint(now))
                if self._command is None:
                    raise Refused(f"{self._lost}; {order.complaint(now)}")
            await asyncio.sleep(CONFIRM_INTERVAL_S)

    async def _repeat(self) -> None:
        """The frame of this second."""
        if self._may_be_another():
            return
        several = self._seen is not None and self._seen.input_count > 1
        just_seen = asyncio.get_running_loop().time() - self._seen_at < JUST_S
        if several and not just_seen and not await self._look():
            return
        # It may have been seen that somebody else is in control, or another input active.
        if self._command is not None:
            await self._send(self._command)
        if several:
            # The inputs may have changed over between the look and the frame.
            self._look_soon()

    def _may_be_another(self) -> bool:
        """Whether there was a silence in which the cable can have been put into another system, for which no
        frame is meant; until it was looked who is there."""
        if not self._link.silent and self._same_at() >= self._link.resumed_at:
            return False
        self._check_soon()
        return True

    async def _look(self) -> bool:
        """See which input is active; whether it was told."""
        try:
            async with asyncio.timeout(LOOK_S):
                await self._learn_limits()
                self._publish(await self._ask(Priority.CONTROL))
        except (TimeoutError, Implausible):
            log.warning("it is not known which AC input is active: panel frame left out")
            return False
        return True

    async def _learn_limits(self) -> None:
        """Know the limits of the inputs that were not active yet: as stored."""
        count = self._seen.input_count if self._seen is not None else 0
        for input, (id, _) in enumerate(LIMIT_SETTINGS[:count]):
            if input not in self._limits:
                limit = await self._stored_limit(id)
                self._limits.setdefault(input, limit)

    async def _stored_limit(self, id: int) -> int | None:
        device = self._devices[0]
        try:
            scale = await device.setting_scale(id, Priority.CLIENT)
            value = None if scale is None else scale.value(await device.read_setting(id, Priority.CLIENT))
        except errors.Rejected:
            return None
        return None if value is None else round(value * STEPS_PER_A)

    async def _current(self) -> AcInput:
        """The AC input configuration; with several inputs as it is at this moment."""
        seen, age = self._seen, asyncio.get_running_loop().time() - self._seen_at
        written = any(device.last_write + SETTLE_S > self._seen_at for device in self._devices)
        if seen is not None and seen.input_count <= 1 and age < FRESH_S and not written:
            return seen
        try:
            return await self._read("nothing was commanded")
        except Implausible as error:
            raise NoReply(f"the system tells what cannot be true ({error}); nothing was commanded") from error

    async def _read(self, otherwise: str) -> AcInput:
        try:
            now = await self._ask(Priority.CLIENT)
        except errors.Mk2Error as error:
            raise write_failure(error, otherwise) from error
        self._check_alive(otherwise)
        self._publish(now)
        return now

    async def _ask(self, priority: Priority) -> AcInput:
        ask = partial(self._link.request, GetAcInput(), priority=priority)
        return await confirmed(self._link, ask, self._seen)

    async def _send(self, command: Position) -> None:
        """Send a panel frame. A missing acknowledgement is no failure: what the system shows decides.

        Raises:
            PortLost, LinkClosed: the link is over.
        """
        sending = asyncio.ensure_future(
            self._link.request(SendPanel(command.mode, command.limit), priority=Priority.CONTROL)
        )
        self._sending = sending
        try:
            # One that waits for the line while all falls silent is not for who is there afterwards.
            while not sending.done() and not self._link.silent:
                await asyncio.wait({sending}, timeout=SILENCE_LOOK_S)
        finally:
            sending.cancel()
            if self._sending is sending:
                self._sending = None
            self._sent_at = asyncio.get_running_loop().time()
        if not sending.done() or sending.cancelled():
            return
        try:
            sending.result()
        except errors.NoReply as error:
            log.warning("panel frame was not acknowledged: %s", error)

    def _check_alive(self, otherwise: str) -> None:
        if self._over:
            raise Disconnected(f"the connection was lost; {otherwise}")


def _check_limit(now: AcInput, limit: int, input: int | None) -> None:
    """A limit can be set on an input (``None``: the active one), as far as a panel can.

    Raises:
        ReadOnly, OutOfRange: it cannot.
    """
    active = now.active_input + 1
    if input is not None and input > now.input_count:
        raise ReadOnly(f"the system has {now.input_count} AC input(s)")
    if input not in (None, active):
        _, name = LIMIT_SETTINGS[(input or 1) - 1]
        raise ReadOnly(
            f"AC input {active} is the active one, and a panel sets the limit of that; "
            f"the stored limit of AC input {input} is the setting {name}"
        )
    if not now.overrulable:
        raise ReadOnly(
            f"the limit of AC input {active} cannot be set by a panel (flag RemoteOverrulesAc{active} is off)"
        )
    if not now.minimum <= limit <= now.maximum:
        low, high = (bound / STEPS_PER_A for bound in (now.minimum, now.maximum))
        raise OutOfRange(
            f"the limit of AC input {active} takes {low:g} to {high:g} A, not {limit / STEPS_PER_A:g} A"
        )


def _names(present: Present) -> str:
    return " and ".join(_CONTROLLERS[kind] for kind in sorted(present, reverse=True))


def _controlled(present: Present) -> str:
    return f"mode and input current limit cannot be set: {_names(present)} controls them"


async def _wait_until(event: asyncio.Event, deadline: float) -> None:
    """Wait for an event, at most until a loop time."""
    try:
        async with asyncio.timeout_at(deadline):
            await event.wait()
    except TimeoutError:
        return


_FRAMES = "panel frames (S), one at once and then one a second, with mode and current limit"


def _limit_command(input: int | None) -> Command[Panel]:
    return Command(Panel, lambda panel, value: panel.set_limit(value, input), _FRAMES)


COMMANDS: Commands = {
    "/Mode": Command(
        Panel,
        lambda panel, value: panel.set_mode(value),
        f"{_FRAMES}; before them a wake frame, if the system sleeps and the mode is not off",
        wakes=frozenset({SwitchPosition.CHARGER_ONLY, SwitchPosition.INVERTER_ONLY, SwitchPosition.ON}),
    ),
    "/Ac/ActiveIn/CurrentLimit": _limit_command(None),
    "/Ac/In/1/CurrentLimit": _limit_command(1),
    "/Ac/In/2/CurrentLimit": _limit_command(2),
}
