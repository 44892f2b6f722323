"""The speed of the line: found out, raised where the adapter can do it, brought back (mk2-protocol.md §1).

High speed is not in Victron's document. So it is verified before it is relied upon, whatever is odd ends at
2400 baud, and after a failure it is not tried again on the same port.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any

from mk2dbus.mk2.adapter import AdapterVersion, GetVersion, HighSpeed, Reset, read_version
from mk2dbus.mk2.errors import PortLost
from mk2dbus.mk2.framing import FrameCutter
from mk2dbus.mk2.pacing import BITS_PER_BYTE
from mk2dbus.mk2.port import MK2_BAUDRATE, MK3_BAUDRATE
from mk2dbus.mk2.request import AdapterRequest
from mk2dbus.mk2.transport import Port

log = logging.getLogger(__name__)

MK3_PRODUCT = 0x1170

SYNC = b"\x55" * 5
BEFORE_SYNC_S = 0.05
"""From the end of ``N`` to the change of speed."""
AFTER_SYNC_S = 0.1

ANSWER_S = 0.5
"""For the answer to a ``V``."""
ASK_AGAIN_S = 0.25
"""A ``V`` behind noise is taken for a part of it: it is sent twice in that time."""

ROUNDS = 2
"""How often each speed is tried to find the adapter: what was sent at the wrong one can hide what follows."""

USB_S = 0.05
"""For bytes on their way through USB, before the speed is changed."""

RESET_S = 2.4
"""For the answer after a reset, which takes about 2 s."""

PROVEN_S = 60.0
"""An adapter that leaves high speed by itself sooner does not bear it. Later it may have lost its power."""


class SpeedChoice(StrEnum):
    """What speed is wanted."""

    AUTO = "auto"
    """115200 baud with every MK3 that bears it."""
    LOW = "2400"
    HIGH = "115200"
    """As auto, with a warning where it is not possible."""


class HighSpeedStatus(Enum):
    """Whether the line is at 115200 baud."""

    OFF = 0
    """Not wanted, or not tried yet."""
    IN_USE = 1
    NOT_POSSIBLE = 2
    """The adapter is not an MK3."""
    FAILED = 3
    """Tried, or in use, and given up."""


@dataclass(frozen=True, slots=True)
class SpeedState:
    """The speed of the line, for people."""

    status: HighSpeedStatus
    reason: str
    """A sentence."""


class LineSpeed:
    """Sees to the speed of one open port. Nobody else may use it meanwhile: see :meth:`.Link.suspended`.

    Attributes:
        state: high speed or not, and why.
    """

    def __init__(self, port: Port, choice: SpeedChoice = SpeedChoice.AUTO) -> None:
        self._port = port
        self._choice = choice
        off = "high speed is switched off" if choice is SpeedChoice.LOW else "no adapter has answered yet"
        self.state = SpeedState(HighSpeedStatus.OFF, off)
        self._used_since = 0.0
        self._used_for: float | None = None

    async def bring_up(self) -> AdapterVersion | None:
        """Find the adapter at the speed it has, and bring it to the one that is wanted.

        The line works afterwards if the adapter does: at 115200 baud when ``state`` says so, else at 2400.

        Returns:
            What the adapter said; ``None``: nothing, at neither speed. Then the line is at 2400 baud.

        Raises:
            PortLost: the port has gone.
        """
        if self.state.status is HighSpeedStatus.IN_USE:
            self._used_for = _now() - self._used_since
        async with _conversation(self._port) as line:
            version = await line.find()
            if version is None:
                if self.state.status is not HighSpeedStatus.IN_USE:
                    return None
                # It lost its power, or hears and does not answer: then a reset cures it.
                self.state = SpeedState(HighSpeedStatus.OFF, "the adapter fell silent")
                version = await line.reset_from_high()
                if version is None:
                    return None
                return await self._give_up(line, "the adapter fell silent", version)
            if not self._is_wanted(version):
                return version if line.low else await line.reset()
            if not line.low:
                self._use()
                return version
            if self._used_for is not None and self._used_for < PROVEN_S:
                return await self._give_up(line, f"the adapter left 115200 baud after {self._used_for:.0f} s")
            return await self._raise(line)

    async def fall_back(self, why: str) -> AdapterVersion | None:
        """Give up high speed on this port: reset the adapter and go on at 2400 baud.

        Raises:
            PortLost: the port has gone.
        """
        async with _conversation(self._port) as line:
            return await self._give_up(line, why)

    async def leave(self) -> None:
        """Leave the adapter as after power-on, at 2400 baud; it takes about 2 s for that by itself."""
        if self._port.baudrate == MK2_BAUDRATE:
            return
        with suppress(PortLost):
            async with _conversation(self._port) as line:
                if self.state.status is not HighSpeedStatus.IN_USE:
                    # Stopped half-way up: the adapter may not listen yet.
                    await asyncio.sleep(AFTER_SYNC_S)
                await line.tell_to_reset()
        self.state = SpeedState(HighSpeedStatus.OFF, "the line was left")

    def _is_wanted(self, version: AdapterVersion) -> bool:
        """Whether high speed is wanted with this adapter; says so where it is and cannot be."""
        if self._choice is SpeedChoice.LOW or self.state.status is HighSpeedStatus.FAILED:
            return False
        if version.product_id == MK3_PRODUCT:
            return True
        if self.state.status is not HighSpeedStatus.NOT_POSSIBLE:
            reason = f"an adapter {version.product_id:04X} has no high speed, an MK3 has"
            self.state = SpeedState(HighSpeedStatus.NOT_POSSIBLE, reason)
            self._say(f"the line stays at 2400 baud: {reason}")
        return False

    async def _raise(self, line: _Conversation) -> AdapterVersion | None:
        await line.switch()
        version = await line.version(ANSWER_S)
        if version is None or version.product_id != MK3_PRODUCT:
            heard = f"{line.noise} bytes of noise" if line.noise else "nothing"
            return await self._give_up(line, f"{heard} in place of an answer at 115200 baud")
        self._use()
        return version

    def _use(self) -> None:
        self._used_for = None
        if self.state.status is not HighSpeedStatus.IN_USE:
            self._used_since = _now()
            self.state = SpeedState(HighSpeedStatus.IN_USE, "the adapter answers at 115200 baud")
            log.info("the line is at 115200 baud")

    async def _give_up(
        self, line: _Conversation, why: str, version: AdapterVersion | None = None
    ) -> AdapterVersion | None:
        self.state = SpeedState(HighSpeedStatus.FAILED, f"given up: {why}")
        log.warning("high speed is given up, the line goes on at 2400 baud: %s", why)
        return await line.reset() if version is None else version

    def _say(self, text: str) -> None:
        log.log(logging.WARNING if self._choice is SpeedChoice.HIGH else logging.INFO, "%s", text)


async def find_adapter(port: Port) -> AdapterVersion | None:
    """Set the port to the speed that the adapter has, which stays as it is.

    Returns:
        What the adapter said; ``None``: nothing, at neither speed. Then the port is at 2400 baud.

    Raises:
        PortLost: the port has gone.
    """
    async with _conversation(port) as line:
        return await line.find()


@asynccontextmanager
async def _conversation(port: Port) -> AsyncIterator[_Conversation]:
    """The port to oneself.

    Raises:
        PortLost: it has gone, or goes.
    """
    line = _Conversation(port)
    port.attach(line)
    try:
        yield line
    finally:
        port.detach()


class _Conversation:
    """Asks the adapter for its version, resets it, changes the speed: one thing at a time."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._cutter = FrameCutter()
        self._answer: asyncio.Future[AdapterVersion | None] | None = None
        self._lost: PortLost | None = None
        self.noise = 0
        """Bytes that were no frame since the last change of speed."""

    @property
    def low(self) -> bool:
        return self._port.baudrate == MK2_BAUDRATE

    # --- called by the port ---

    def data_received(self, data: bytes) -> None:
        dropped = self._cutter.dropped_bytes
        for frame in self._cutter.feed(data):
            version = read_version(frame)
            if version is not None:
                self._wake(version)
        self.noise += self._cutter.dropped_bytes - dropped

    def connection_lost(self, error: PortLost) -> None:
        self._lost = error
        self._wake(None)

    def _wake(self, version: AdapterVersion | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(version)

    # --- what is done ---

    async def find(self) -> AdapterVersion | None:
        """Try the speed that is set, then the other, and again. At 2400 baud when nothing answers."""
        speeds = (MK2_BAUDRATE, MK3_BAUDRATE) if self.low else (MK3_BAUDRATE, MK2_BAUDRATE)
        for _ in range(ROUNDS):
            for speed in speeds:
                self._set_speed(speed)
                if (version := await self.version(ANSWER_S)) is not None:
                    return version
        self._set_speed(MK2_BAUDRATE)
        return None

    async def switch(self) -> None:
        """Bring an adapter from 2400 to 115200 baud."""
        await self._send(HighSpeed())
        await self._pause(BEFORE_SYNC_S)
        self._set_speed(MK3_BAUDRATE)
        self._port.write(SYNC)
        await self._pause(AFTER_SYNC_S)

    async def tell_to_reset(self) -> None:
        """Send a reset, and do not wait for the two seconds that it takes."""
        await self._send(Reset())
        # It may still be on its way through USB, and must leave at the old speed.
        await self._pause(USB_S)
        self._set_speed(MK2_BAUDRATE)

    async def reset_from_high(self) -> AdapterVersion | None:
        """Reset an adapter that was at 115200 baud and does not answer; what it says afterwards."""
        self._set_speed(MK3_BAUDRATE)
        await self.tell_to_reset()
        return await self.version(RESET_S)

    async def reset(self) -> AdapterVersion | None:
        """Reset an adapter that may be at either speed, and wait for it at 2400 baud.

        At the speed that is set; then, if it is not heard at 2400 baud, there.
        """
        if not self.low:
            await self.tell_to_reset()
            version = await self.version(RESET_S)
            if version is not None:
                return version
        await self._send(Reset())
        return await self.version(RESET_S)

    async def version(self, limit_s: float) -> AdapterVersion | None:
        """What the adapter says to a ``V``; ``None``: nothing in that time."""
        self._answer = asyncio.get_running_loop().create_future()
        deadline = _now() + limit_s
        while _now() < deadline:
            await self._send(GetVersion())
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(deadline, _now() + ASK_AGAIN_S)):
                    version = await asyncio.shield(self._answer)
                    self._check()
                    return version
        return None

    # --- how ---

    async def _send(self, request: AdapterRequest[Any]) -> None:
        """Write a frame and wait until it has left."""
        data = bytes(request.frame())
        self._port.write(data)
        await self._pause(len(data) * BITS_PER_BYTE / self._port.baudrate)

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._check()

    def _check(self) -> None:
        if self._lost is not None:
            raise self._lost

    def _set_speed(self, baudrate: int) -> None:
        if self._port.baudrate != baudrate:
            self._port.set_baudrate(baudrate)
        self._cutter.clear()
        self.noise = 0


def _now() -> float:
    return asyncio.get_running_loop().time()
