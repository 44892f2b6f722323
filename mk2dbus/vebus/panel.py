"""Control of mode and input current limit, as a panel does it (mk2-protocol.md §3.2).

Nothing is sent until somebody writes one of the two. From then on a panel frame goes out once a second,
each with both, until the session ends or another panel takes over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from mk2dbus.items import Disconnected, NoReply, OutOfRange, ReadOnly, Refused
from mk2dbus.mk2 import errors
from mk2dbus.mk2.adapter import GetAcInput, PanelFrame, SendPanel, SwitchPosition
from mk2dbus.mk2.exchange import Priority
from mk2dbus.mk2.info import AcInput
from mk2dbus.mk2.link import Link
from mk2dbus.vebus.commands import Command, Written
from mk2dbus.vebus.device import write_failure
from mk2dbus.vebus.part import Part

if TYPE_CHECKING:
    from mk2dbus.vebus.system import System

log = logging.getLogger(__name__)

REPEAT_S = 1.0
WRITE_TIMEOUT_S = 4.5
"""How long until the system has to show the new mode or limit; the contract gives a write 5 s."""
CONFIRM_INTERVAL_S = 0.2
_LIMIT_STEPS_PER_A = 10

Position = tuple[SwitchPosition, int]
"""Mode, and limit in 0.1 A."""


class Panel(Part):
    """The panel that this service is when asked to.

    Args:
        link: the session with the adapter.
        show: takes each AC input configuration that is read while a write is confirmed.
        accessory: says whether a BMS or DMC controls the system; ``None`` while it is not known.
    """

    def __init__(
        self, link: Link, show: Callable[[AcInput], None], accessory: Callable[[], Awaitable[bool]]
    ) -> None:
        self._link = link
        self._show = show
        self._accessory = accessory
        self._command: Position | None = None
        self._commanded = asyncio.Event()
        self._lock = asyncio.Lock()
        self._last_sent = -REPEAT_S

    async def run(self) -> None:
        """Repeat the panel frame while in control. Runs as long as the session."""
        loop = asyncio.get_running_loop()
        while True:
            await self._commanded.wait()
            # Whoever writes sends a frame at once; the rhythm starts anew from there.
            if (pause := self._last_sent + REPEAT_S - loop.time()) > 0:
                await asyncio.sleep(pause)
            elif self._command is not None:
                await self._send(self._command)

    def other_panel(self, frame: PanelFrame) -> None:
        """Another panel is in control: leave it to it until somebody writes again."""
        if self._command is not None:
            log.warning("another panel took control (mode %d), no longer sending panel frames", frame.mode)
            self._take(None)

    async def set_mode(self, value: int | float | str) -> None:
        """Position a mode and wait until the system shows it.

        Raises:
            WriteFailed: not adjustable, no answer, or the system shows something else.
        """
        mode = SwitchPosition(int(value))
        await self._set(
            f"mode {mode.value}",
            lambda now: (mode, now.actual),
            lambda now: now.mode == mode,
            lambda now: f"the system shows mode {now.mode} instead of {mode.value}",
        )

    async def set_limit(self, value: int | float | str, input: int | None = None) -> None:
        """Position the limit of the active input, in A, and wait until the system shows it.

        ``input`` (1 or 2), when given, must be the active one.

        Raises:
            WriteFailed: not adjustable, outside the limits, no answer, or the system shows something else.
        """
        limit = round(float(value) * _LIMIT_STEPS_PER_A)

        def command(now: AcInput) -> Position:
            if input not in (None, now.active_input + 1):
                raise ReadOnly(f"AC input {input} is not the active one, its limit cannot be set by a panel")
            if not now.overrulable:
                raise ReadOnly("the input current limit cannot be set by a panel (setting of the device)")
            if not now.minimum <= limit <= now.maximum:
                low, high = (bound / _LIMIT_STEPS_PER_A for bound in (now.minimum, now.maximum))
                raise OutOfRange(f"the input current limit takes {low} to {high} A, not {value}")
            return SwitchPosition(now.mode), limit

        await self._set(
            f"limit {limit / _LIMIT_STEPS_PER_A} A",
            command,
            lambda now: now.actual == limit,
            lambda now: (
                f"the input current limit is {now.actual / _LIMIT_STEPS_PER_A} A "
                f"instead of {limit / _LIMIT_STEPS_PER_A} A"
            ),
        )

    async def _set(
        self,
        what: str,
        command: Callable[[AcInput], Position],
        reached: Callable[[AcInput], bool],
        complaint: Callable[[AcInput], str],
    ) -> None:
        deadline = asyncio.get_running_loop().time() + WRITE_TIMEOUT_S
        async with self._lock:
            now = await self._read("nothing was commanded")
            if now.dmc_present or await self._accessory():
                raise ReadOnly("a VE.Bus BMS or Digital Multi Control controls mode and current limit")
            before = self._command
            wanted = command(now)
            self._take(wanted)
            try:
                await self._send(wanted)
                await self._confirm(deadline, wanted, reached, complaint)
            except BaseException:
                # Who was told that it failed must not see it done later.
                if self._command == wanted:
                    self._take(before)
                raise
            log.info("commanded %s", what)

    async def _confirm(
        self,
        deadline: float,
        wanted: Position,
        reached: Callable[[AcInput], bool],
        complaint: Callable[[AcInput], str],
    ) -> None:
        now: AcInput | None = None
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    now = await self._read("whether it was done is not known")
                    if reached(now):
                        return
                    if self._command != wanted:
                        raise Refused(f"another panel took control; {complaint(now)}")
                    await asyncio.sleep(CONFIRM_INTERVAL_S)
        except TimeoutError:
            if now is None:
                raise NoReply("the system did not answer; whether it was done is not known") from None
            raise Refused(complaint(now)) from None

    async def _read(self, otherwise: str) -> AcInput:
        try:
            now = await self._link.request(GetAcInput(), priority=Priority.CLIENT)
        except errors.Mk2Error as error:
            raise write_failure(error, otherwise) from error
        self._show(now)
        return now

    async def _send(self, command: Position) -> None:
        """Send a panel frame. A missing acknowledgement is no failure: what the system shows decides."""
        self._last_sent = asyncio.get_running_loop().time()
        try:
            await self._link.request(SendPanel(*command), priority=Priority.CONTROL)
        except errors.NoReply as error:
            log.warning("panel frame was not acknowledged: %s", error)
        except errors.Mk2Error as error:
            raise Disconnected(f"the connection was lost: {error}") from error

    def _take(self, command: Position | None) -> None:
        self._command = command
        if command is None:
            self._commanded.clear()
        else:
            self._commanded.set()


async def _set_mode(system: System, value: Written) -> None:
    await system.panel.set_mode(value)


async def _set_limit(input: int | None, system: System, value: Written) -> None:
    await system.panel.set_limit(value, input)


_FRAMES = "panel frames (S), one at once and then one a second, with mode and current limit"

COMMANDS: Mapping[str, Command] = {
    "/Mode": Command(_set_mode, _FRAMES),
    "/Ac/ActiveIn/CurrentLimit": Command(partial(_set_limit, None), _FRAMES),
    "/Ac/In/1/CurrentLimit": Command(partial(_set_limit, 1), _FRAMES),
    "/Ac/In/2/CurrentLimit": Command(partial(_set_limit, 2), _FRAMES),
}
