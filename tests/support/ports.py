"""Ports without a serial line: one that follows a script, one with the simulator behind it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from mk2dbus.mk2.errors import PortLost
from mk2dbus.mk2.framing import Frame, FrameCutter
from mk2dbus.mk2.transport import Receiver
from mk2dbus.simulator import Core


class MemoryPort:
    """The receiving half of a port in memory. What comes before anybody was attached is kept for him."""

    def __init__(self, baudrate: int = 2400) -> None:
        self.baudrate = baudrate
        self._early = bytearray()
        self._receiver: Receiver | None = None
        self._detached = False
        self._lost: str | None = None

    def attach(self, receiver: Receiver) -> None:
        if self._lost is not None:
            raise PortLost(self._lost)
        self._receiver = receiver
        self._detached = False
        if self._early:
            asyncio.get_running_loop().call_soon(self._deliver_early)

    def detach(self) -> None:
        self._receiver = None
        self._detached = True
        self._early.clear()

    def rest(self, seconds: float) -> None:
        pass

    def set_baudrate(self, baudrate: int) -> None:
        if self._lost is not None:
            raise PortLost(self._lost)
        self.baudrate = baudrate

    def deliver(self, data: bytes) -> None:
        """The client receives bytes, in the next turn of the loop at the earliest."""
        if data and not self._detached:
            self._early += data
            if self._receiver is not None:
                asyncio.get_running_loop().call_soon(self._deliver_early)

    def _deliver_early(self) -> None:
        if self._early and self._receiver is not None:
            data = bytes(self._early)
            self._early.clear()
            self._receiver.data_received(data)

    def lose(self, why: str = "cable pulled") -> None:
        """The port goes."""
        if self._lost is None:
            self._lost = why
            if self._receiver is not None:
                asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._deliver_early()
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.connection_lost(PortLost(self._lost))

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        self.lose("closed")


class Ear:
    """Takes what a port receives, and waits for it."""

    WITHIN_S = 5.0
    """Far more than anything takes; only a hang reaches it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.lost: PortLost | None = None
        self._heard = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        assert self.lost is None
        self.data += data
        self._heard.set()

    def connection_lost(self, error: PortLost) -> None:
        assert self.lost is None
        self.lost = error
        self._heard.set()

    async def until(self, condition: Callable[[Ear], bool]) -> None:
        async with asyncio.timeout(self.WITHIN_S):
            while not condition(self):
                self._heard.clear()
                await self._heard.wait()

    async def until_lost(self) -> PortLost:
        await self.until(lambda ear: ear.lost is not None)
        assert self.lost is not None
        return self.lost


class QuietPort(MemoryPort):
    """Answers nothing by itself; keeps what is sent, with the time of the event loop."""

    def __init__(self, baudrate: int = 2400) -> None:
        super().__init__(baudrate)
        self.sent: list[tuple[float, Frame]] = []
        self._cutter = FrameCutter()

    def write(self, data: bytes) -> None:
        now = asyncio.get_running_loop().time()
        self.sent += [(now, frame) for frame in self._cutter.feed(data)]

    @property
    def frames(self) -> list[str]:
        """What was sent, in hex."""
        return [str(frame) for _, frame in self.sent]


_LINE = re.compile(r"([→←])\s*([0-9A-Fa-f ]+?)\s*(?:#.*)?$")


class ScriptedPort(MemoryPort):
    """Checks what is sent against a conversation and answers as it says.

    ``→ 04 FF 41 01 00 BB`` is a frame the client must send next, ``←`` what it then receives, at once or
    ``delay_s`` later. A byte that the script does not hold fails the test with both in hex.
    """

    def __init__(self, script: str, delay_s: float = 0.0) -> None:
        super().__init__()
        self._delay_s = delay_s
        self._steps: list[tuple[str, bytes]] = []
        for line in script.strip().splitlines():
            match = _LINE.match(line.strip())
            if match is None:
                assert not line.strip() or line.strip().startswith("#"), f"cannot read {line!r}"
                continue
            self._steps.append((match[1], bytes.fromhex(match[2])))
        self.surprises: list[str] = []
        self._play()

    def write(self, data: bytes) -> None:
        while data:
            if not self._steps or self._steps[0][0] != "→":
                self.surprises.append(f"sent {data.hex(' ')}, expected nothing")
                return
            expected = self._steps[0][1]
            if data[: len(expected)] != expected:
                self.surprises.append(f"sent {data.hex(' ')}, expected {expected.hex(' ')}")
                return
            data = data[len(expected) :]
            self._steps.pop(0)
        self._play()

    def _play(self) -> None:
        while self._steps and self._steps[0][0] == "←":
            answer = self._steps.pop(0)[1]
            if self._delay_s:
                asyncio.get_running_loop().call_later(self._delay_s, self.deliver, answer)
            else:
                self.deliver(answer)

    def check_done(self) -> None:
        """Everything went as the script says, and all of it was played."""
        assert not self.surprises, self.surprises
        assert not self._steps, f"not played: {self._steps}"


class CorePort(MemoryPort):
    """A port with the simulator's core behind it, on the clock of the event loop."""

    def __init__(self, core: Core, baudrate: int = 2400) -> None:
        super().__init__(baudrate)
        self.core = core
        core.client_baudrate = baudrate
        self._timer: asyncio.TimerHandle | None = None
        self._rest_until = 0.0
        self._held = b""
        self.on_write: Callable[[bytes], None] = lambda _: None
        self._step()

    def write(self, data: bytes) -> None:
        self.on_write(data)
        if self._lost is None:
            self.core.feed(data, asyncio.get_running_loop().time())
            self._step()

    def set_baudrate(self, baudrate: int) -> None:
        self._step()
        super().set_baudrate(baudrate)
        self.core.client_baudrate = baudrate

    def rest(self, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._rest_until:
            self._rest_until = now + seconds
            self._look_again()

    def _step(self) -> None:
        now = asyncio.get_running_loop().time()
        self._held += self.core.run(now)
        if now >= self._rest_until:
            held, self._held = self._held, b""
            self.deliver(held)
        self._look_again()

    def _look_again(self) -> None:
        """When something happens, or the rest ends."""
        if self._timer is not None:
            self._timer.cancel()
        at = max(self.core.deadline, self._rest_until)
        self._timer = asyncio.get_running_loop().call_at(at, self._step)

    def lose(self, why: str = "cable pulled") -> None:
        super().lose(why)
        if self._timer is not None:
            self._timer.cancel()
        self.core.cut_line()
