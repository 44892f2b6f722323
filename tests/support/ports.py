"""Ports without a serial line: one that follows a script, one with the simulator behind it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from mk2dbus.mk2.errors import PortLost
from mk2dbus.mk2.framing import Frame, FrameCutter
from mk2dbus.simulator import Core


class MemoryPort:
    """The receiving half of a port in memory."""

    baudrate = 2400

    def __init__(self) -> None:
        self._received = bytearray()
        self._readable = asyncio.Event()
        self._lost: str | None = None

    def deliver(self, data: bytes) -> None:
        """The client receives bytes."""
        if data:
            self._received += data
            self._readable.set()

    def lose(self, why: str = "cable pulled") -> None:
        """The port goes."""
        self._lost = why
        self._readable.set()

    async def read(self) -> bytes:
        while not self._received:
            if self._lost is not None:
                raise PortLost(self._lost)
            self._readable.clear()
            await self._readable.wait()
        data = bytes(self._received)
        self._received.clear()
        return data

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        self.lose("closed")


class QuietPort(MemoryPort):
    """Answers nothing by itself; keeps what is sent, with the time of the event loop."""

    def __init__(self) -> None:
        super().__init__()
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

    def __init__(self, core: Core) -> None:
        super().__init__()
        self.core = core
        self._timer: asyncio.TimerHandle | None = None
        self.on_write: Callable[[bytes], None] = lambda _: None
        self._step()

    def write(self, data: bytes) -> None:
        self.on_write(data)
        if self._lost is None:
            self.core.feed(data, asyncio.get_running_loop().time())
            self._step()

    def _step(self) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        self.deliver(self.core.run(loop.time()))
        self._timer = loop.call_at(self.core.deadline, self._step)

    def lose(self, why: str = "cable pulled") -> None:
        super().lose(why)
        if self._timer is not None:
            self._timer.cancel()
        self.core.cut_line()
