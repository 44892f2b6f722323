"""The link: one task owns the port, sends requests in order of priority and gives each its own reply.

Winmon commands travel in slots X, Y, Z, whose letter the reply carries; the letter changes with every
command, and one whose reply stayed out rests until the reply cannot come any more. So a late reply never
answers another request. Replies to adapter commands are recognised by what they say.

Time is that of the event loop; nothing here sleeps.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from mk2dbus.mk2.adapter import (
    AdapterVersion,
    LedStatus,
    PanelFrame,
    Reset,
    SetAddress,
    read_leds,
    read_panel,
    read_version,
)
from mk2dbus.mk2.errors import LinkClosed, Mk2Error, NoReply, PortLost
from mk2dbus.mk2.exchange import Crowding, Exchange, Priority, encoded
from mk2dbus.mk2.framing import Frame, FrameCutter, FrameType, hex_bytes
from mk2dbus.mk2.request import AdapterRequest, More, R, Request, Winmon

log = logging.getLogger(__name__)
wire_log = logging.getLogger("mk2dbus.wire")

INCOMPLETE_TIMEOUT_S = 0.3
"""How long the beginning of a frame may wait for its end (§2)."""

BITS_PER_BYTE = 10
"""Start bit, eight data bits, stop bit."""

SLOTS = b"XYZ"

REST_S = 2.0
"""How long a slot letter rests after its reply stayed out: four times the recommended time-out. When all
letters rest, winmon commands wait: a slow answer is better than the answer to another question."""

SPLIT_REPLY_WINDOW_S = 0.5
"""After one part of a split reply, how long the next may take."""

MAX_PARTS = 8
"""Parts taken for one reply: setting info, the longest, has five, and the rest of another can come before."""


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
        self.last_answer: float | None = None
        """Loop time of the last reply that came from an inverter."""
        self._port = port
        self._unasked = unasked
        self._crowding = Crowding()
        self._depth = winmon_depth
        self._overlap = overlap
        self._cutter = FrameCutter()
        self._arrivals: deque[tuple[int, float]] = deque()
        self._serials = itertools.count()
        self._waiting: list[Exchange] = []
        self._on_line: list[Exchange] = []
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
            ValueError, OverflowError: the request, or the address, cannot be put into bytes.
        """
        if self._ended is not None:
            raise _copy(self._ended)
        if isinstance(request, Winmon) and address is None:
            raise ValueError(f"{request} needs the address of a device")
        # What cannot be sent is the caller's error, and must not reach the task that serves all.
        needed = [
            *encoded(request, SLOTS[0]),
            *([SetAddress(address).frame()] if address is not None else []),
        ]
        for frame in needed:
            bytes(frame)
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        exchange = Exchange(request, address, priority, next(self._serials), future, request.attempts)
        heapq.heappush(self._waiting, exchange)
        self._wake.set()
        try:
            return await future
        finally:
            if exchange in self._waiting:
                self._waiting.remove(exchange)
                heapq.heapify(self._waiting)

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
        except PortLost as error:
            self._end(error)
            raise
        finally:
            # First of all: a second cancellation can end the waiting below.
            self._end(LinkClosed("the link was closed"))
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

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
        if self._waiting:
            deadlines.extend(self._resting.values())
        return min(deadlines, default=None)

    def _expire(self) -> None:
        now = self._now()
        while self._cutter.pending and now >= self._pending_since() + INCOMPLETE_TIMEOUT_S:
            self._dispatch(self._cutter.give_up())
        self._resting = {letter: until for letter, until in self._resting.items() if now < until}
        for exchange in [exchange for exchange in self._on_line if now >= exchange.deadline]:
            self._expire_exchange(exchange, now)

    def _expire_exchange(self, exchange: Exchange, now: float) -> None:
        self._on_line.remove(exchange)
        request = exchange.request
        if isinstance(request, AdapterRequest) and not request.has_reply:
            self._resolve(exchange, None)
            return
        self.counters.timeouts += 1
        if exchange.letter:
            self._resting[exchange.letter] = now + REST_S
        if self._crowding.unanswered(exchange, self.last_answer) and (self._depth > 1 or self._overlap):
            log.warning("the adapter does not take several commands at a time; it gets one at a time now")
            self._depth, self._overlap = 1, False
        exchange.attempts_left -= 1
        if exchange.over:
            return
        if exchange.attempts_left > 0:
            log.debug("no reply to %s, trying again", request)
            self.counters.retries += 1
            exchange.parts.clear()
            exchange.crowded = False
            heapq.heappush(self._waiting, exchange)
            return
        if isinstance(request, Winmon):
            # The adapter may have lost its address with whatever made it silent.
            self._address = None
        exchange.fail(
            NoReply(f"no reply to {request} in {request.reply_timeout_s} s, {request.attempts} time(s)")
        )

    # --- sending ---------------------------------------------------------------------------------------

    def _send_what_may(self) -> None:
        blocked: list[Exchange] = []
        while self._waiting:
            exchange = heapq.heappop(self._waiting)
            if exchange.over:
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

    def _may_send(self, exchange: Exchange) -> bool:
        request = exchange.request
        if isinstance(request, Winmon) and not self._letters():
            return False
        others = self._in_the_way()
        if not others:
            return True
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

    def _address_exchange(self, waiting: Exchange, address: int) -> Exchange:
        """An exchange that sets the address; when it fails, the one that needed it fails."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        request = SetAddress(address)
        return Exchange(request, None, waiting.priority, -1, future, request.attempts, wanted_by=waiting)

    def _send(self, exchange: Exchange) -> None:
        """Put an exchange on the line. It is registered before its bytes leave."""
        request = exchange.request
        if isinstance(request, Winmon):
            exchange.letter = self._letters()[0]
            self._next_slot = SLOTS.index(exchange.letter) + 1
        elif isinstance(request, SetAddress | Reset):
            # It may be done although its reply is lost: until that comes nothing is known.
            self._address = None
        frames = encoded(request, exchange.letter)
        data = b"".join(bytes(frame) for frame in frames)
        now = exchange.sent_at = self._now()
        byte_time = BITS_PER_BYTE / self._port.baudrate if self._port.baudrate else 0.0
        self._line_free_at = max(self._line_free_at, now) + len(data) * byte_time
        unanswered = isinstance(request, AdapterRequest) and not request.has_reply
        exchange.deadline = self._line_free_at + (0.0 if unanswered else request.reply_timeout_s)
        for other in self._on_line:
            other.crowded = exchange.crowded = True
        self._on_line.append(exchange)
        self.counters.sent_frames += len(frames)
        self.counters.sent_bytes += len(data)
        if wire_log.isEnabledFor(logging.DEBUG):
            for frame in frames:
                wire_log.debug("→ %s  %s", frame, request)
        self._port.write(data)

    def _letters(self) -> list[int]:
        """Slot letters that are free and have no late reply to come, the next in turn first."""
        taken = {exchange.letter for exchange in self._on_line} | self._resting.keys()
        turn = (*SLOTS[self._next_slot :], *SLOTS[: self._next_slot])
        return [letter for letter in turn if letter not in taken]

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
            request = exchange.request
            if isinstance(request, AdapterRequest) and self._now() >= exchange.sent_at + request.not_before_s:
                answer = request.read(frame)
                if not isinstance(answer, More):
                    self._on_line.remove(exchange)
                    self._resolve(exchange, answer)
                    if isinstance(request, SetAddress):
                        self._address = request.address
                    elif isinstance(answer, AdapterVersion):
                        self._unasked(answer)
                    return True
        return False

    def _answer_winmon(self, letter: int, payload: bytes) -> bool:
        exchange = next((exchange for exchange in self._on_line if exchange.letter == letter), None)
        if exchange is None:
            if letter in self._resting:
                # A late reply: nothing more to come but the rest of it.
                self._resting[letter] = min(self._resting[letter], self._now() + SPLIT_REPLY_WINDOW_S)
            return False
        request = exchange.request
        assert isinstance(request, Winmon)
        if not request.is_reply(payload) or len(exchange.parts) == MAX_PARTS:
            return False
        exchange.parts.append(payload)
        try:
            answer = request.read(tuple(exchange.parts))
        except Mk2Error as error:
            self._on_line.remove(exchange)
            if len(request.payloads()) > 1:
                # Each of its frames may be answered with a refusal.
                self._resting[letter] = self._now() + SPLIT_REPLY_WINDOW_S
            exchange.fail(error)
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

    def _resolve(self, exchange: Exchange, answer: object) -> None:
        if exchange.request.from_device:
            self.last_answer = self._now()
            self._crowding.answered(exchange)
        if not self._on_line:
            # All that was sent is answered, so it has left, however fast the line really is.
            self._line_free_at = min(self._line_free_at, self._now())
        if not exchange.future.done():
            exchange.future.set_result(answer)

    def _end(self, error: Mk2Error) -> None:
        if self._ended is not None:
            return
        self._ended = error
        for exchange in (*self._on_line, *self._waiting):
            exchange.fail(_copy(error))
        self._on_line.clear()
        self._waiting.clear()


def _copy(error: Mk2Error) -> Mk2Error:
    """One for each who is told: an exception raised again keeps all the places where it was raised."""
    return type(error)(*error.args)
