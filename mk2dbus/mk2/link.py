"""The link: one task owns the port, sends requests in order of priority and gives each its own reply.

Winmon commands travel in slots X, Y, Z, whose letter the reply carries; the letter changes with every
command, and one whose reply stayed out rests until the reply came late or cannot come any more. So a late
reply never answers another request. Replies to adapter commands are recognised by what they say.

Time is that of the event loop; nothing here sleeps.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol

from mk2dbus.mk2.adapter import (
    AdapterVersion,
    LedStatus,
    PanelFrame,
    SetAddress,
    read_leds,
    read_panel,
    read_version,
)
from mk2dbus.mk2.errors import LinkClosed, Mk2Error, NoReply
from mk2dbus.mk2.framing import Frame, FrameCutter, FrameType, adapter_frame, hex_bytes
from mk2dbus.mk2.request import AdapterRequest, More, R, Request, Winmon

log = logging.getLogger(__name__)
wire_log = logging.getLogger("mk2dbus.wire")

INCOMPLETE_TIMEOUT_S = 0.3
"""How long the beginning of a frame may wait for its end (§2)."""

BITS_PER_BYTE = 10
"""Start bit, eight data bits, stop bit."""

SLOTS = b"XYZ"

REST_S = 2.0
"""How long a slot letter rests after its reply stayed out: four times the recommended time-out."""

SPLIT_REPLY_WINDOW_S = 0.5
"""After one part of a split reply, how long the next may take."""


class Priority(IntEnum):
    """Who goes first when several requests wait. Within one priority: who came first."""

    CONTROL = 0
    """Panel frames, which keep a rhythm."""
    CLIENT = 1
    """Somebody waits for the answer."""
    TELEMETRY = 2
    BACKGROUND = 3


Unasked = AdapterVersion | LedStatus | PanelFrame
"""What the adapter tells by itself."""


class Port(Protocol):
    """The serial port as the link needs it."""

    @property
    def baudrate(self) -> int: ...

    def write(self, data: bytes) -> None:
        """Send; never blocks. After the port is lost it does nothing: reading reports the loss."""

    async def read(self) -> bytes:
        """Bytes that came in, at least one.

        Raises:
            PortLost: the port has gone.
        """


@dataclass(slots=True)
class Counters:
    """What happened on the line since the link was made."""

    sent_frames: int = 0
    received_frames: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    retries: int = 0
    timeouts: int = 0
    stray_frames: int = 0
    """Frames that answered nothing and are no unasked ones; late replies among them."""


@dataclass(slots=True, eq=False)
class _Exchange:
    """One request on its way. Ordered by priority, then by arrival."""

    request: Request[Any]
    address: int | None
    priority: Priority
    serial: int
    future: asyncio.Future[Any]
    attempts_left: int
    letter: int = 0
    deadline: float = 0.0
    parts: list[bytes] = field(default_factory=list)

    def __lt__(self, other: _Exchange) -> bool:
        return (self.priority, self.serial) < (other.priority, other.serial)


class Link:
    """One session with the adapter over an open port. Once the port is lost, it is over.

    Args:
        port: the open port.
        unasked: called with what the adapter says by itself.
        winmon_depth: how many winmon commands may be on their way at once, 1 to 3.
        overlap: whether an adapter command may be on its way together with winmon commands.
    """

    def __init__(
        self,
        port: Port,
        *,
        unasked: Callable[[Unasked], None] = lambda _: None,
        winmon_depth: int = 1,
        overlap: bool = False,
    ) -> None:
        self.counters = Counters()
        self.last_received: float | None = None
        """Loop time of the last good frame."""
        self.last_answer: float | None = None
        """Loop time of the last reply to a request."""
        self._port = port
        self._unasked = unasked
        self._depth = winmon_depth
        self._overlap = overlap
        self._cutter = FrameCutter()
        self._arrivals: deque[tuple[int, float]] = deque()
        self._serials = itertools.count()
        self._waiting: list[_Exchange] = []
        self._on_line: list[_Exchange] = []
        self._next_slot = 0
        self._resting: dict[int, float] = {}
        self._address: int | None = None
        self._wake = asyncio.Event()
        self._received: list[bytes] = []
        self._ended: Mk2Error | None = None
        self._line_free_at = 0.0

    @property
    def dropped_bytes(self) -> int:
        """Bytes received that were part of no good frame."""
        return self._cutter.dropped_bytes

    @property
    def idle(self) -> bool:
        """Whether no request waits or is on its way."""
        return not self._waiting and not self._on_line

    def forget_address(self) -> None:
        """The adapter may have been reset: set the address again before the next winmon command."""
        self._address = None

    async def request(
        self, request: Request[R], address: int | None = None, priority: Priority = Priority.TELEMETRY
    ) -> R:
        """Send a request and wait for its reply.

        A winmon command needs the short ``address`` of its device. When the caller is cancelled after the
        request was sent, it stays sent; its reply is taken off the line and thrown away.

        Raises:
            NoReply: nothing that fits came, after all attempts.
            Rejected: the device said no.
            PortLost, LinkClosed: the link is over; nothing is known of the request if it was on its way.
        """
        if self._ended is not None:
            raise self._ended
        if isinstance(request, Winmon) and address is None:
            raise ValueError(f"{request} needs the address of a device")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        heapq.heappush(
            self._waiting,
            _Exchange(request, address, priority, next(self._serials), future, request.attempts),
        )
        self._wake.set()
        return await future

    async def run(self) -> None:
        """Serve the port until it is lost or the task is cancelled; then every waiter is told.

        Raises:
            PortLost: the port has gone.
        """
        reader = asyncio.create_task(self._read_port(), name="mk2 port reader")
        try:
            while True:
                self._wake.clear()
                for data in self._take_received():
                    self._receive(data)
                if reader.done():
                    reader.result()
                self._expire()
                self._send_what_may()
                await self._sleep_until(self._next_deadline())
        except Mk2Error as error:
            self._end(error)
            raise
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            self._end(LinkClosed("the link was closed"))

    # --- time ------------------------------------------------------------------------------------------

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _sleep_until(self, deadline: float | None) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self._wake.wait()
        except TimeoutError:
            return

    def _next_deadline(self) -> float | None:
        deadlines = [exchange.deadline for exchange in self._on_line]
        if self._cutter.pending:
            deadlines.append(self._pending_since() + INCOMPLETE_TIMEOUT_S)
        return min(deadlines, default=None)

    def _expire(self) -> None:
        now = self._now()
        while self._cutter.pending and now >= self._pending_since() + INCOMPLETE_TIMEOUT_S:
            self._dispatch(self._cutter.give_up())
        for exchange in [exchange for exchange in self._on_line if now >= exchange.deadline]:
            self._expire_exchange(exchange, now)

    def _expire_exchange(self, exchange: _Exchange, now: float) -> None:
        self._on_line.remove(exchange)
        request = exchange.request
        if isinstance(request, AdapterRequest) and not request.has_reply:
            self._resolve(exchange, None)
            return
        self.counters.timeouts += 1
        if exchange.letter:
            self._resting[exchange.letter] = now + REST_S
        exchange.attempts_left -= 1
        if exchange.future.done():
            return
        if exchange.attempts_left > 0:
            log.debug("no reply to %s, trying again", request)
            self.counters.retries += 1
            exchange.parts.clear()
            heapq.heappush(self._waiting, exchange)
            return
        if isinstance(request, Winmon):
            # The adapter may have lost its address with whatever made it silent.
            self._address = None
        exchange.future.set_exception(
            NoReply(f"no reply to {request} in {request.reply_timeout_s} s, {request.attempts} time(s)")
        )

    # --- sending ---------------------------------------------------------------------------------------

    def _send_what_may(self) -> None:
        blocked: list[_Exchange] = []
        while self._waiting:
            exchange = heapq.heappop(self._waiting)
            if exchange.future.done():
                continue
            if not self._may_send(exchange):
                # Nothing overtakes: an exchange that has to wait for the line keeps its turn.
                blocked.append(exchange)
                break
            address = exchange.address
            if isinstance(exchange.request, Winmon) and address is not None and address != self._address:
                blocked.append(exchange)
                if not self._in_the_way():
                    self._send(self._address_exchange(exchange, address))
                break
            self._send(exchange)
        for exchange in blocked:
            heapq.heappush(self._waiting, exchange)

    def _may_send(self, exchange: _Exchange) -> bool:
        others = self._in_the_way()
        if not others:
            return True
        request = exchange.request
        if any(isinstance(other, AdapterRequest) and other.excludes_others for other in others):
            return False
        winmon_count = sum(isinstance(other, Winmon) for other in others)
        if isinstance(request, Winmon):
            if winmon_count < len(others) and not self._overlap:
                return False
            return winmon_count < self._depth
        if isinstance(request, AdapterRequest) and request.excludes_others:
            return False
        return self._overlap and winmon_count == len(others)

    def _in_the_way(self) -> list[Request[Any]]:
        """What is on the line and has to be considered before sending something else."""
        return [
            exchange.request
            for exchange in self._on_line
            if not (isinstance(exchange.request, AdapterRequest) and exchange.request.in_passing)
        ]

    def _address_exchange(self, waiting: _Exchange, address: int) -> _Exchange:
        """An exchange that sets the address; when it fails, the one that needed it fails."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        request = SetAddress(address)

        def done(answer: asyncio.Future[int]) -> None:
            error = answer.exception()
            if error is not None and not waiting.future.done():
                waiting.future.set_exception(error)

        future.add_done_callback(done)
        return _Exchange(request, None, waiting.priority, -1, future, request.attempts)

    def _send(self, exchange: _Exchange) -> None:
        """Put an exchange on the line. It is registered before its bytes leave."""
        request = exchange.request
        if isinstance(request, Winmon):
            exchange.letter = self._choose_letter()
            letter = chr(exchange.letter)
            frames = [adapter_frame(letter, payload) for payload in request.payloads()]
        else:
            assert isinstance(request, AdapterRequest)
            frames = [request.frame()]
        data = b"".join(bytes(frame) for frame in frames)
        now = self._now()
        byte_time = BITS_PER_BYTE / self._port.baudrate if self._port.baudrate else 0.0
        self._line_free_at = max(self._line_free_at, now) + len(data) * byte_time
        has_reply = isinstance(request, Winmon) or request.has_reply
        exchange.deadline = self._line_free_at + (request.reply_timeout_s if has_reply else 0.0)
        self._on_line.append(exchange)
        self.counters.sent_frames += len(frames)
        self.counters.sent_bytes += len(data)
        if wire_log.isEnabledFor(logging.DEBUG):
            for frame in frames:
                wire_log.debug("→ %s  %s", frame, request)
        self._port.write(data)

    def _choose_letter(self) -> int:
        """The next letter in turn that is free and has no late reply to come."""
        now = self._now()
        busy = {exchange.letter for exchange in self._on_line}
        turn: tuple[int, ...] = (*SLOTS[self._next_slot :], *SLOTS[: self._next_slot])
        free = [letter for letter in turn if letter not in busy]
        # All rest only when nothing has answered for a while; then the one that rested longest will do.
        rested = [letter for letter in free if self._resting.get(letter, 0.0) <= now]
        letter = rested[0] if rested else min(free, key=lambda letter: self._resting[letter])
        self._resting.pop(letter, None)
        self._next_slot = (SLOTS.index(letter) + 1) % len(SLOTS)
        return letter

    # --- receiving -------------------------------------------------------------------------------------

    async def _read_port(self) -> None:
        try:
            while True:
                data = await self._port.read()
                self._received.append(data)
                self._wake.set()
        finally:
            self._wake.set()

    def _take_received(self) -> list[bytes]:
        received, self._received = self._received, []
        return received

    def _receive(self, data: bytes) -> None:
        self.counters.received_bytes += len(data)
        self._arrivals.append((self.counters.received_bytes, self._now()))
        dropped = self._cutter.dropped_bytes
        frames = self._cutter.feed(data)
        if self._cutter.dropped_bytes != dropped:
            log.debug("dropped %d byte(s) in %s", self._cutter.dropped_bytes - dropped, hex_bytes(data))
        self._dispatch(frames)
        while self._arrivals and self._arrivals[0][0] <= self._cutter.position:
            self._arrivals.popleft()

    def _pending_since(self) -> float:
        """When the first byte of the incomplete frame came in."""
        return next(time for end, time in self._arrivals if end > self._cutter.position)

    def _dispatch(self, frames: list[Frame]) -> None:
        for frame in frames:
            self.counters.received_frames += 1
            self.last_received = self._now()
            wire_log.debug("← %s", frame)
            if frame.leds is not None:
                self._unasked(LedStatus(frame.leds.on, frame.leds.blink))
            if not self._answer(frame) and not self._tell(frame):
                self.counters.stray_frames += 1
                log.debug("stray frame %s", frame)

    def _answer(self, frame: Frame) -> bool:
        """Give a frame to the exchange that it answers; whether there was one."""
        letter = frame.data[0] if frame.type == FrameType.ADAPTER and frame.data else 0
        if letter in SLOTS:
            return self._answer_winmon(letter, frame.data[1:])
        for exchange in self._on_line:
            if isinstance(exchange.request, AdapterRequest):
                answer = exchange.request.read(frame)
                if not isinstance(answer, More):
                    self._on_line.remove(exchange)
                    self._resolve(exchange, answer)
                    if isinstance(exchange.request, SetAddress):
                        self._address = exchange.request.address
                    elif isinstance(answer, AdapterVersion):
                        self._unasked(answer)
                    return True
        return False

    def _answer_winmon(self, letter: int, payload: bytes) -> bool:
        exchange = next((exchange for exchange in self._on_line if exchange.letter == letter), None)
        if exchange is None:
            # A late reply: the slot has nothing more to come and may be used again.
            self._resting.pop(letter, None)
            return False
        request = exchange.request
        if not isinstance(request, Winmon) or not request.is_reply(payload):
            return False
        exchange.parts.append(payload)
        try:
            answer = request.read(tuple(exchange.parts))
        except Mk2Error as error:
            self._on_line.remove(exchange)
            if not exchange.future.done():
                exchange.future.set_exception(error)
            return True
        if isinstance(answer, More):
            exchange.deadline = max(exchange.deadline, self._now() + SPLIT_REPLY_WINDOW_S)
        else:
            self._on_line.remove(exchange)
            self._resolve(exchange, answer)
        return True

    def _tell(self, frame: Frame) -> bool:
        """Pass on what the adapter said by itself; whether it was something known."""
        unasked = read_version(frame) or read_leds(frame) or read_panel(frame)
        if unasked is None:
            return False
        self._unasked(unasked)
        return True

    # --- ends ------------------------------------------------------------------------------------------

    def _resolve(self, exchange: _Exchange, answer: object) -> None:
        if answer is not None:
            self.last_answer = self._now()
        if not exchange.future.done():
            exchange.future.set_result(answer)

    def _end(self, error: Mk2Error) -> None:
        if self._ended is not None:
            return
        self._ended = error
        for exchange in (*self._on_line, *self._waiting):
            if not exchange.future.done():
                exchange.future.set_exception(error)
        self._on_line.clear()
        self._waiting.clear()
