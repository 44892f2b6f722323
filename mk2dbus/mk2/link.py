"""The link: sends requests in order of priority and gives each its own reply, as the bytes come.

A late reply never answers another request: winmon commands have slots for that (:mod:`.slots`), and replies
to adapter commands are recognised by what they say (:mod:`.late`).

Several requests are on the line at a time as far as the protocol and the adapter bear it (:mod:`.admission`,
:mod:`.abilities`), and never so many that a client's would wait long (:mod:`.pacing`).

Everything happens in the callbacks of the port and of one timer. Time is that of the event loop.
"""

from __future__ import annotations

import asyncio
import bisect
import itertools
import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from mk2dbus.mk2.abilities import Abilities, NeverAnswered, beside_info
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
from mk2dbus.mk2.admission import Admission
from mk2dbus.mk2.doubled import DoubledReplies
from mk2dbus.mk2.errors import LinkClosed, Mk2Error, NoReply, PortLost
from mk2dbus.mk2.exchange import SLOTS, Exchange, Priority, encoded
from mk2dbus.mk2.framing import Frame, FrameType
from mk2dbus.mk2.incoming import Incoming
from mk2dbus.mk2.late import LateReplies
from mk2dbus.mk2.pacing import Pacing
from mk2dbus.mk2.quality import Quality
from mk2dbus.mk2.request import AdapterRequest, Lane, More, R, Request, Winmon
from mk2dbus.mk2.slots import Slots
from mk2dbus.mk2.statistics import Counters, LineFigures, RoundTrips, Sampler
from mk2dbus.mk2.transport import Port

log = logging.getLogger(__name__)
wire_log = logging.getLogger("mk2dbus.wire")

REST_S = 2.0
"""How long a slot letter rests after its reply stayed out: four times the recommended time-out."""

SPLIT_REPLY_WINDOW_S = 0.5
"""After one part of a split reply, how long the next may take."""

MAX_PARTS = 8
"""Parts taken for one reply: setting info, the longest, has five, and the rest of another can come before."""

LEFT_SLACK_S = 0.005
"""How much later than reckoned a request without a reply counts as arrived."""

SHORTEST_WAIT_S = 0.002
"""What is reckoned moves with the clock; this keeps it from being reckoned all the time."""

SHORTEST_REST_S = 0.01
"""Shorter ones are not worth it."""

STALL_S, HOLD_S = 3.0, 0.05
"""Turns so far apart while something waits mean that this process stood still. What waits may be too late for
whoever asked, who gets the time to take it back."""

QUIET_S = 1.5
"""Without an answer for so long the adapter may have lost its power; it takes two seconds to come back."""

DOUBLE_REST_S = 0.25
"""How long a slot letter rests after each answer while replies come twice."""

Unasked = AdapterVersion | LedStatus | PanelFrame
"""What the adapter tells by itself."""


class Link:
    """One session with the adapter over an open port. Once the port is lost, it is over.

    Args:
        port: the open port.
        unasked: called with what the adapter says by itself.
        doubtful: called with a winmon command and its address whose answer may have been that to another
            one, as replies came twice.
        bad_line: called once, with the share of bad frames, when that is too high.
        pipeline: how many winmon commands may be on the line at once, 1 to 3; with 1 no two requests of any
            kind are.
        beside_info: whether what the adapter answers itself (``L``, ``V``) may be asked while the reply of an
            ``F`` is due. The adapter remembers one requested kind of info frame; an ``L`` is none.

    Attributes:
        counters: what happened so far.
        last_answer: loop time of the last reply that came from an inverter.
        resumed_at: loop time of the last one that came after a silence; see :data:`QUIET_S`.
    """

    def __init__(
        self,
        port: Port,
        *,
        unasked: Callable[[Unasked], None] = lambda _: None,
        bad_line: Callable[[float], None] = lambda _: None,
        doubtful: Callable[[Winmon[Any], int], None] = lambda _, __: None,
        pipeline: int = 3,
        beside_info: bool = True,
    ) -> None:
        self.counters = Counters()
        self.last_answer: float | None = None
        self.resumed_at = -math.inf
        self._port = port
        self._unasked = unasked
        self._bad_line = bad_line
        self._doubtful = doubtful
        self._abilities = Abilities(pipeline, beside_info)
        self._slots = Slots()
        self._late = LateReplies()
        self._doubled = DoubledReplies()
        self._admission = Admission(self._abilities, self._slots)
        self._incoming = Incoming()
        self._serials = itertools.count()
        self._waiting: list[Exchange] = []
        self._on_line: list[Exchange] = []
        self._pacing = Pacing(port.baudrate)
        self._not_before: float | None = None
        self._address: int | None = None
        self._quality = Quality()
        self._never_answered = NeverAnswered()
        self._round_trips = RoundTrips()
        self._sampler: Sampler | None = None
        self._ended: Mk2Error | None = None
        self._failure: BaseException | None = None
        self._over: asyncio.Future[None] | None = None
        self._quiet: asyncio.Future[None] | None = None
        self._suspended = False
        self._turn_is_due = False
        self._turn_at = self._hold_until = -math.inf
        self._timer: asyncio.TimerHandle | None = None

    @property
    def dropped_bytes(self) -> int:
        """Bytes received that were part of no good frame."""
        return self._incoming.dropped_bytes

    @property
    def idle(self) -> bool:
        """Whether no request waits or is on its way."""
        return not self._waiting and not self._on_line

    @property
    def silent(self) -> bool:
        """Whether no inverter has answered for :data:`QUIET_S`, though they are asked."""
        return self.last_answer is not None and self._now() > self.last_answer + QUIET_S

    @property
    def noisy(self) -> bool:
        """Whether frames were damaged lately, or came twice. Eight bits of checksum let one of a hundred or
        two pass, and a second copy can answer another request: what does harm when it is false is better
        asked twice then."""
        now = self._now()
        return self._quality.noisy(now) or self._doubled.expected(now)

    @property
    def addressed(self) -> bool:
        """Winmon commands carry their address: no ``A`` is needed. See :func:`.addressing.find_addressed`."""
        return self._abilities.addressed

    @addressed.setter
    def addressed(self, addressed: bool) -> None:
        self._abilities.addressed = addressed

    @property
    def address(self) -> int | None:
        """Address that the adapter has, as far as known; commands without one go there."""
        return self._address

    def forget_address(self) -> None:
        """The adapter may have been reset: set the address again before a command that needs it."""
        self._address = None

    def abandon(self, why: str) -> None:
        """Fail all requests with :exc:`.LinkClosed`: who they were for is gone. What is on the line stays
        there until it is answered, for nobody."""
        for exchange in (*self._on_line, *self._waiting):
            exchange.fail(LinkClosed(why))
        self._waiting.clear()

    def figures(self) -> LineFigures:
        """The line in figures; shares and times are of the time since this was asked before, at least."""
        now = self._now()
        if self._sampler is None:
            self._sampler = Sampler(self.counters, self._round_trips, now)
        return self._sampler.figures(
            now,
            self._quality,
            baudrate=self._port.baudrate,
            pipeline=self._abilities.pipeline,
            addressed=self.addressed,
            outstanding=len(self._on_line),
            dropped_bytes=self.dropped_bytes,
        )

    async def request(
        self,
        request: Request[R],
        address: int | None = None,
        priority: Priority = Priority.TELEMETRY,
        *,
        addressed: bool | None = None,
        attempts: int | None = None,
    ) -> R:
        """Send a request and wait for its reply. One that has none is done when its bytes are on their way.

        A winmon command needs the short ``address`` of its device. When the caller is cancelled after the
        request was sent, it stays sent; its reply is taken off the line and thrown away.

        Args:
            addressed: send a winmon command in the addressed form or not, whatever the adapter is known for.
            attempts: how often to send it, instead of as often as the request says.

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
        # What cannot be sent is the caller's error, and must not reach who serves all.
        needed = [
            *encoded(request, SLOTS[0], address),
            *([SetAddress(address).frame()] if address is not None else []),
        ]
        for frame in needed:
            bytes(frame)
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        exchange = Exchange(
            request,
            address,
            priority,
            next(self._serials),
            future,
            request.attempts if attempts is None else attempts,
            addressed,
            asked_at=self._now(),
        )
        bisect.insort(self._waiting, exchange)
        self._take_turn_soon()
        try:
            return await future
        finally:
            if exchange in self._waiting:
                self._waiting.remove(exchange)
                self._take_turn_soon()

    async def run(self) -> None:
        """Serve the port until it is lost or the task is cancelled; then every waiter is told.

        Raises:
            PortLost: the port has gone.
        """
        self._over = asyncio.get_running_loop().create_future()
        try:
            if not self._suspended:
                self._attach()
            await self._over
            if self._failure is not None:
                raise self._failure
        finally:
            self._end(LinkClosed("the link was closed"))
            self._over = None
            if not self._suspended:
                self._port.detach()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    @asynccontextmanager
    async def suspended(self) -> AsyncIterator[None]:
        """Leave the port to somebody else: when the replies due have come, or stay out, for as long as the
        context lasts. Requests wait. Afterwards nothing is taken for granted, neither speed nor address.

        Raises:
            PortLost, LinkClosed: the link is over.
        """
        self._suspended = True
        try:
            while self._on_line:
                self._quiet = asyncio.get_running_loop().create_future()
                await self._quiet
            if self._ended is not None:
                raise _copy(self._ended)
            self._port.detach()
            yield
        finally:
            self._suspended = False
            if self._over is not None and not self._over.done():
                try:
                    self._attach()
                except PortLost as error:
                    self.connection_lost(error)

    def _attach(self) -> None:
        """Begin with the port as it is now."""
        self._incoming.clear()
        self._pacing = Pacing(self._port.baudrate)
        self._address = None
        self._turn_at = self._now()
        self._quality.restart()
        try:
            self._port.attach(self)
        except PortLost as error:
            self._end(error)
            raise
        self._take_turn_soon()

    # --- the port and the clock call -------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        try:
            # After a stall of this process, replies may be here that came in time and are old now.
            self._expire_exchanges(self._now())
            if self._receive(data):
                self._take_turn()
            else:
                self._set_timer()
            self._rest()
        except Exception as error:  # reaches whoever runs the link
            self._fail(error)

    def _rest(self) -> None:
        """Nothing can happen before the frame that has begun is whole: be called then, not for each byte."""
        seconds = self._incoming.missing_bytes * self._pacing.byte_s
        if seconds >= SHORTEST_REST_S:
            self._port.rest(seconds)

    def connection_lost(self, error: PortLost) -> None:
        self._end(error)
        self._fail(error)

    def _on_timer(self) -> None:
        self._timer = None
        self._take_turn_now()

    def _take_turn_now(self) -> None:
        self._turn_is_due = False
        try:
            self._take_turn()
        except Exception as error:  # reaches whoever runs the link
            self._fail(error)

    def _take_turn_soon(self) -> None:
        """After all who are about to ask have asked: the most urgent goes first."""
        if not self._turn_is_due and self._over is not None:
            self._turn_is_due = True
            asyncio.get_running_loop().call_soon(self._take_turn_now)

    def _take_turn(self) -> None:
        """Do what time and line ask for now."""
        if self._ended is not None:
            return
        now = self._now()
        if now > self._turn_at + STALL_S and any(now > one.asked_at + STALL_S for one in self._waiting):
            self._hold_until = now + HOLD_S
        self._turn_at = now
        self._expire(now)
        self._not_before = None
        if now < self._hold_until:
            self._not_before = self._hold_until
        elif self._waiting and not self._suspended:
            self._send_what_may(now)
        if self._quiet is not None and not self._on_line:
            self._quiet.set_result(None)
            self._quiet = None
        self._set_timer()

    def _fail(self, error: BaseException) -> None:
        if self._over is not None and not self._over.done():
            self._failure = error
            self._over.set_result(None)

    # --- time ------------------------------------------------------------------------------------------

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _set_timer(self) -> None:
        """See that the timer runs out no later than needed. One that runs out too early does no harm, and
        deadlines mostly move on: it is not set anew for each byte."""
        deadline = self._next_deadline()
        if deadline is None or self._over is None or self._ended is not None:
            return
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(deadline, self._on_timer)

    def _next_deadline(self) -> float | None:
        deadlines = [exchange.deadline for exchange in self._on_line]
        if (incomplete := self._incoming.deadline) is not None:
            deadlines.append(incomplete)
        if self._waiting:
            deadlines += (*self._slots.deadlines(), *self._late.deadlines())
        if self._not_before is not None:
            deadlines.append(self._not_before)
        return min(deadlines, default=None)

    def _expire(self, now: float) -> None:
        while (deadline := self._incoming.deadline) is not None and now >= deadline:
            self._take(self._incoming.give_up(), now)
        self._slots.expire(now)
        self._late.expire(now)
        self._expire_exchanges(now)

    def _expire_exchanges(self, now: float) -> None:
        for exchange in [exchange for exchange in self._on_line if now >= exchange.deadline]:
            self._expire_exchange(exchange, now)

    def _expire_exchange(self, exchange: Exchange, now: float) -> None:
        self._on_line.remove(exchange)
        if not exchange.request.has_reply:
            return
        request = exchange.request
        self.counters.timeouts += not request.silence_answers
        if exchange.letter:
            self._slots.rest(exchange.letter, now + REST_S)
            self._doubled.unanswered(exchange.letter)
        else:
            self._late.miss(exchange, now)
        answering = not request.silence_answers and self._abilities.others_answered(exchange)
        if answering and self._never_answered.counts(exchange):
            self._quality.unanswered(now)
            self._judge_line(now)
        if self._quality.damaged_at < exchange.sent_at:
            # A damaged reply says nothing of the adapter.
            self._say(self._abilities.unanswered(exchange, now))
        exchange.attempts_left -= 1
        if exchange.over:
            return
        if exchange.attempts_left > 0:
            log.debug("no reply to %s, trying again", request)
            self.counters.retries += not request.silence_answers
            exchange.parts.clear()
            exchange.crowded = exchange.beside_info = False
            exchange.letter = exchange.together_with = 0
            if not exchange.priority.urgent and exchange.wanted_by is None:
                # What is not answered must not keep the others waiting meanwhile.
                exchange.serial = next(self._serials)
            bisect.insort(self._waiting, exchange)
            return
        if isinstance(request, Winmon):
            # The adapter may have lost its address with whatever made it silent.
            self._address = None
        exchange.fail(
            NoReply(f"no reply to {request} in {request.reply_timeout_s} s, {exchange.times_sent} time(s)")
        )

    @staticmethod
    def _say(change: str | None) -> None:
        if change is not None:
            log.warning("%s", change)

    # --- sending ---------------------------------------------------------------------------------------

    def _send_what_may(self, now: float) -> None:
        """Send in order of priority. Nobody is overtaken by what would delay him."""
        closed: frozenset[Lane] = frozenset()
        hurry = False
        for exchange in tuple(self._waiting):
            if exchange.over:
                self._waiting.remove(exchange)
                continue
            if self._late.stand_against(exchange):
                continue
            lane = exchange.lane
            needed = self._needed_lane(exchange)
            if (
                lane in closed
                or needed in closed
                or not self._admission.may_enter(exchange, needed, self._on_line, now)
            ):
                closed |= self._admission.conflicts(needed) | {lane}
                hurry |= exchange.priority.urgent
                continue
            through = self._pacing.replies_through(self._on_line, now, self._incoming.begun_bytes)
            if not exchange.priority.urgent:
                at = self._pacing.earliest(exchange, through, hurry)
                if lane is Lane.WINMON and self._admission.free_slots(self._on_line) == 1:
                    at = max(at, self._pacing.slot_soon(self._on_line, now, self._incoming.begun_bytes))
                if at > now:
                    self._not_before = max(at, now + SHORTEST_WAIT_S)
                    break
            if needed is not lane:
                assert exchange.address is not None
                self._send(self._address_exchange(exchange, exchange.address), now, through)
                closed |= self._admission.conflicts(needed)
                continue
            self._waiting.remove(exchange)
            self._send(exchange, now, through)

    def _needed_lane(self, exchange: Exchange) -> Lane:
        """The lane of an exchange, or that of the address it needs first."""
        if exchange.lane is not Lane.WINMON or exchange.address == self._address:
            return exchange.lane
        return Lane.WINMON if self._in_address_form(exchange) else Lane.ADDRESS

    def _in_address_form(self, exchange: Exchange) -> bool:
        return self.addressed if exchange.addressed is None else exchange.addressed

    def _address_exchange(self, waiting: Exchange, address: int) -> Exchange:
        """An exchange that sets the address; when it fails, the one that needed it fails."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        request = SetAddress(address)
        return Exchange(request, None, waiting.priority, -1, future, request.attempts, wanted_by=waiting)

    def _send(self, exchange: Exchange, now: float, through: float) -> None:
        """Put an exchange on the line. It is registered before its bytes leave.

        Args:
            through: when the replies due are through.
        """
        request = exchange.request
        exchange.in_address_form = isinstance(request, Winmon) and self._in_address_form(exchange)
        if isinstance(request, Winmon):
            exchange.letter = self._slots.take(self._on_line)
        elif isinstance(request, SetAddress | Reset):
            # It may be done although its reply is lost: until that comes nothing is known.
            self._address = None
        address = exchange.address if exchange.in_address_form else None
        frames = encoded(request, exchange.letter, address)
        data = b"".join(bytes(frame) for frame in frames)
        exchange.sent_at = now
        exchange.times_sent += 1
        exchange.left_at = self._pacing.written(len(data), now)
        for other in self._on_line:
            other.crowded = exchange.crowded = True
            if beside_info(other.lane, exchange.lane):
                other.beside_info = exchange.beside_info = True
        self._on_line.append(exchange)
        if exchange.request.has_reply:
            exchange.expected_at = self._pacing.replies_through(
                self._on_line, now, self._incoming.begun_bytes
            )
            reply_s = request.reply_bytes * self._pacing.byte_s
            exchange.deadline = max(exchange.left_at, through) + reply_s + request.reply_timeout_s
        else:
            exchange.deadline = exchange.left_at + LEFT_SLACK_S
            if not exchange.future.done():
                exchange.future.set_result(None)
        self.counters.sent_frames += len(frames)
        self.counters.sent_bytes += len(data)
        if wire_log.isEnabledFor(logging.DEBUG):
            for frame in frames:
                wire_log.debug("→ %s  %s", frame, request)
        self._port.write(data)

    # --- receiving -------------------------------------------------------------------------------------

    def _receive(self, data: bytes) -> bool:
        """Take received bytes; whether a frame came with them."""
        now = self._now()
        self.counters.received_bytes += len(data)
        frames = self._incoming.feed(data, now)
        self._take(frames, now)
        return bool(frames)

    def _take(self, frames: list[Frame], now: float) -> None:
        if damaged := self._incoming.take_damaged():
            self.counters.bad_frames += damaged
            self._quality.damaged(now, damaged)
            self._judge_line(now)
        if frames:
            self._quality.good(now, len(frames))
            self._dispatch(frames, now)

    def _judge_line(self, now: float) -> None:
        share = self._quality.turned_bad(now)
        if share is not None:
            self._bad_line(share)

    def _dispatch(self, frames: list[Frame], now: float) -> None:
        for frame in frames:
            self.counters.received_frames += 1
            wire_log.debug("← %s", frame)
            if frame.leds is not None:
                self._unasked(LedStatus(frame.leds.on, frame.leds.blink))
            if self._answer(frame, now):
                continue
            late = self._late.take(frame)
            if not self._tell(frame) or late:
                self.counters.stray_frames += 1
                log.debug("stray frame %s", frame)

    def _answer(self, frame: Frame, now: float) -> bool:
        """Give a frame to the exchange that it answers; whether there was one."""
        letter = frame.data[0] if frame.type == FrameType.ADAPTER and frame.data else 0
        if letter in SLOTS:
            return self._answer_winmon(letter, frame.data[1:], now)
        for exchange in self._on_line:
            request = exchange.request
            if isinstance(request, AdapterRequest) and now >= exchange.sent_at + request.not_before_s:
                answer = request.read(frame)
                if not isinstance(answer, More):
                    self._on_line.remove(exchange)
                    self._resolve(exchange, answer, now)
                    if isinstance(request, SetAddress):
                        self._address = request.address
                    elif isinstance(answer, AdapterVersion):
                        self._unasked(answer)
                    return True
        return False

    def _answer_winmon(self, letter: int, payload: bytes, now: float) -> bool:
        exchange = next((exchange for exchange in self._on_line if exchange.letter == letter), None)
        if exchange is None:
            self._doubt(letter, payload, now)
            # A late reply: nothing more to come but the rest of it.
            self._slots.came(letter, now + SPLIT_REPLY_WINDOW_S)
            return False
        request = exchange.request
        assert isinstance(request, Winmon)
        if not request.is_reply(payload) or len(exchange.parts) == MAX_PARTS:
            self._doubt(letter, payload, now)
            return False
        exchange.parts.append(payload)
        try:
            answer = request.read(tuple(exchange.parts))
        except Mk2Error as error:
            self._on_line.remove(exchange)
            if len(request.payloads()) > 1:
                # Each of its frames may be answered with a refusal.
                self._slots.rest(letter, now + SPLIT_REPLY_WINDOW_S)
            self._account(exchange, now)
            exchange.fail(error)
            return True
        if isinstance(answer, More):
            exchange.deadline = max(exchange.deadline, now + SPLIT_REPLY_WINDOW_S)
        else:
            self._on_line.remove(exchange)
            self._resolve(exchange, answer, now)
        return True

    def _doubt(self, letter: int, payload: bytes, now: float) -> None:
        """A reply came in a slot that nobody waits for there."""
        for command, address in self._doubled.unexpected(letter, payload, now):
            # Not before whoever asked has the answer: they may have come together.
            asyncio.get_running_loop().call_soon(self._doubtful, command, address)

    def _tell(self, frame: Frame) -> bool:
        """Pass on what the adapter said by itself; whether it was something known."""
        unasked = read_version(frame) or read_leds(frame) or read_panel(frame)
        if unasked is None:
            return False
        self._unasked(unasked)
        return True

    # --- ends ------------------------------------------------------------------------------------------

    def _resolve(self, exchange: Exchange, answer: object, now: float) -> None:
        if exchange.request.from_device:
            if self.silent:
                self.resumed_at = now
            self.last_answer = now
        self._account(exchange, now)
        if not exchange.future.done():
            exchange.future.set_result(answer)

    def _account(self, exchange: Exchange, now: float) -> None:
        """An exchange is answered, this way or that."""
        self.counters.replies += 1
        self._round_trips.add(now - exchange.sent_at)
        self._say(self._abilities.answered(exchange, now))
        self._never_answered.answered(exchange)
        if isinstance(exchange.request, Winmon):
            self._doubled.answered(exchange, now)
            if self._doubled.expected(now):
                # Until a second copy of this reply cannot come any more.
                self._slots.rest(exchange.letter, now + DOUBLE_REST_S)
        for other in self._on_line:
            other.together_with += other.sent_at >= exchange.sent_at
        if not self._on_line:
            self._pacing.all_left(now)

    def _end(self, error: Mk2Error) -> None:
        if self._ended is not None:
            return
        self._ended = error
        for exchange in (*self._on_line, *self._waiting):
            exchange.fail(_copy(error))
        self._on_line.clear()
        self._waiting.clear()
        if self._quiet is not None:
            self._quiet.set_result(None)
            self._quiet = None


def _copy(error: Mk2Error) -> Mk2Error:
    """One for each who is told: an exception raised again keeps all the places where it was raised."""
    return type(error)(*error.args)
