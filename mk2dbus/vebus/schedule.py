"""The scheduler: which poll goes next, so that the line carries what is needed most.

A :class:`Poll` declares what it brings, how often that is wanted and what it keeps when others want the
line. The one whose time has come first goes first, so none starves, however many there are. Info frames and
what devices are asked wait in lanes of their own, as an ``F`` and three winmon commands can be on the line
at a time. What is on the line together, and that clients go first, is decided in :mod:`mk2dbus.mk2.link`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from mk2dbus.mk2 import errors
from mk2dbus.mk2.link import Link
from mk2dbus.pulse import Beat, no_beat
from mk2dbus.vebus.board import STALE_AFTER_S, Freshness
from mk2dbus.vebus.confirm import Readings
from mk2dbus.vebus.readings import Values

log = logging.getLogger(__name__)

SILENCE_S = 4.0
"""Without any answer for this long the system is gone."""

RELAXED_S = 2.0
"""While settings are read in the background, nothing comes more often unless it says so; all stays well below
5 s old."""

REPLY_S = 1.0
"""For the answer to one request, those before it included; more than that it is not waited for."""

Ages = Mapping[str, float]
"""By path: when what a value is made of was read, the oldest part of it; loop time."""

_RETRY_LIMIT_S = 30.0
_CLOCK_STEP_S = 0.001
"""Waiting less is not worth it, and beside a large time may not be waiting at all."""
_REJECTED = 10
"""Failures that a refusal counts for: what the system does not tell it is not asked often."""


class SystemGone(Exception):
    """Nothing answers any more, or something else answers; the session has to start again."""


class Implausible(Exception):
    """A reply that cannot be true: damaged, or of another system. It is not shown."""


class Lane(Enum):
    """What waits for each other; the value is how many are under way at a time."""

    INFO = "info frames"
    WINMON = "winmon commands"
    WATCH = "what nothing waits for"


_WORKERS = {Lane.INFO: 2, Lane.WINMON: 3, Lane.WATCH: 1}
"""An F and an L; a command in each slot."""


@dataclass(slots=True, eq=False)
class Poll:
    """One entry of the plan.

    Attributes:
        name: of the poll, and of the group of values it brings.
        lane: which kind of requests it makes.
        every_s: how often it is wanted.
        read: makes one or more requests; the values they bring.
        relaxed_s: how often it still comes while background work wants the line; never below ``every_s``.
        stale_after_s: age at which its values are withdrawn; ``None``: they stay.
        spread_s: how long before its answer was complete a value was true at most; unless it took less.
        parts: which of its values are made with earlier readings, too; other polls may bring the same ones.
    """

    name: str
    lane: Lane
    every_s: float
    read: Callable[[], Awaitable[Values]]
    relaxed_s: float = RELAXED_S
    stale_after_s: float | None = STALE_AFTER_S
    spread_s: float = REPLY_S
    parts: Callable[[], Ages] = dict[str, float]
    due: float = 0.0
    failures: int = 0
    running: bool = False
    hurried: bool = False
    """Wanted once more while it was running."""
    succeeded: float | None = None
    """When it last brought something."""
    period_s: float | None = None
    """Time from the last success but one to the last."""
    readings: Readings = field(default_factory=Readings)
    groups: set[str] = field(default_factory=set)
    """Of its values: its own, and one for each that is made with earlier readings, named as its path."""


class Scheduler:
    """Runs polls, and shows what they bring, as long as :meth:`run` runs.

    Args:
        freshness: gets the values of each poll, and withdraws those that are not renewed.
        busy: whether background work wants the line.
        on_failure: told of each poll that was not answered.
        beat: says that polling gets on.
    """

    def __init__(
        self,
        link: Link,
        freshness: Freshness,
        *,
        busy: Callable[[], bool] = lambda: False,
        on_failure: Callable[[Poll], None] = lambda _: None,
        beat: Beat = no_beat,
    ) -> None:
        self.freshness = freshness
        self.implausible = 0
        """Replies that could not be true, and were not shown."""
        self._link = link
        self._busy = busy
        self._on_failure = on_failure
        self._beat = beat
        self._polls: list[Poll] = []
        self._sleepers: dict[Lane, set[asyncio.Future[None]]] = {lane: set() for lane in Lane}

    @property
    def polls(self) -> tuple[Poll, ...]:
        """The plan as it is now."""
        return tuple(self._polls)

    def add(self, polls: Iterable[Poll], *, after_s: float = 0.0) -> None:
        """Put polls into the plan; each is due at once, or ``after_s`` from now."""
        due = self._now() + after_s
        for poll in polls:
            poll.due = due
            self._polls.append(poll)
            self._wake(poll.lane)

    def remove(self, name: str) -> None:
        """Take a poll out of the plan, if it is there; what it brought is not known any more."""
        for poll in [poll for poll in self._polls if poll.name == name]:
            self._polls.remove(poll)
            for group in poll.groups:
                self.freshness.withdraw(group)

    def hurry(self, name: str) -> None:
        """Let a poll come as soon as possible."""
        for poll in self._polls:
            if poll.name == name:
                poll.due = self._now()
                poll.hurried = poll.running
                self._wake(poll.lane)

    def oldest_s(self) -> float | None:
        """Age of the oldest measured value that is shown; ``None`` when there is none."""
        now = self._now()
        ages = [
            now - poll.succeeded
            for poll in self._polls
            if poll.succeeded is not None
            # What may be older is counted, not measured.
            and poll.stale_after_s == STALE_AFTER_S
            and now - poll.succeeded < STALE_AFTER_S
        ]
        return max(ages, default=None)

    def period_s(self, name: str) -> float | None:
        """How long a poll's last round took; ``None`` where there was none."""
        return next((poll.period_s for poll in self._polls if poll.name == name), None)

    async def run(self) -> None:
        """Poll until the system is gone.

        Raises:
            SystemGone: no answer to anything for a while.
            PortLost, LinkClosed: the link is over.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_silence(), name="silence")
            for lane, workers in _WORKERS.items():
                for _ in range(workers):
                    tasks.create_task(self._work(lane), name=lane.value)

    # --- workers ---------------------------------------------------------------------------------------

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _work(self, lane: Lane) -> None:
        while True:
            poll = min(
                (poll for poll in self._polls if poll.lane is lane and not poll.running),
                key=lambda poll: poll.due,
                default=None,
            )
            if poll is None or poll.due > self._now() + _CLOCK_STEP_S:
                await self._sleep(lane, None if poll is None else poll.due)
                continue
            poll.running = True
            try:
                await self._run_poll(poll)
            finally:
                poll.running = False
                self._wake(lane)

    async def _sleep(self, lane: Lane, until: float | None) -> None:
        """Wait for a time, or for a change of the plan."""
        loop = asyncio.get_running_loop()
        sleeper: asyncio.Future[None] = loop.create_future()
        timer = None if until is None else loop.call_at(until, _end, sleeper)
        self._sleepers[lane].add(sleeper)
        try:
            await sleeper
        finally:
            self._sleepers[lane].discard(sleeper)
            if timer is not None:
                timer.cancel()

    def _wake(self, lane: Lane) -> None:
        for sleeper in self._sleepers[lane]:
            _end(sleeper)

    async def _run_poll(self, poll: Poll) -> None:
        left_out = False
        asked_at = self._now()
        try:
            values = await poll.read()
            self._check(poll, values)
        except errors.NoReply as error:
            poll.failures += 1
            log.debug("%s: %s", poll.name, error)
            self._on_failure(poll)
        except errors.Rejected as error:
            if poll.failures < _REJECTED:
                log.info("the system does not tell %s values: %s", poll.name, error)
            poll.failures = _REJECTED
        except Implausible as error:
            self.implausible += 1
            left_out = True
            log.debug("%s: left out: %s", poll.name, error)
        else:
            if poll in self._polls:
                self._show(poll, values, asked_at)
        if poll.hurried:
            poll.hurried = False
            poll.due = self._now()
        elif left_out:
            # Wanted again soon, before what is shown gets too old.
            poll.due = self._now() + poll.every_s
        else:
            poll.due = self._next_due(poll, self._now())

    def _check(self, poll: Poll, values: Values) -> None:
        """What is measured must have support on a noisy line.

        Raises:
            Implausible: it has none yet.
        """
        if poll.stale_after_s is None:
            return
        believed = not self._link.noisy or poll.readings.support(values)
        poll.readings.add(values)
        if not believed:
            raise Implausible("another reading has to confirm it")

    def _show(self, poll: Poll, values: Values, asked_at: float) -> None:
        now = self._now()
        poll.period_s = None if poll.succeeded is None else now - poll.succeeded
        poll.succeeded = now
        poll.failures = 0
        self._publish(poll, values, min(now - asked_at, poll.spread_s))

    def show(self, name: str, values: Values) -> None:
        """Show values of a poll that somebody else has just read."""
        for poll in self._polls:
            if poll.name == name:
                self._publish(poll, values, 0.0)

    def _publish(self, poll: Poll, values: Values, age_s: float) -> None:
        if poll.stale_after_s is None:
            self.freshness.publish(poll.name, values, None)
            return
        ages = poll.parts()
        read_at = self._now() - age_s
        own = {path: value for path, value in values.items() if path not in ages}
        self._publish_group(poll, poll.name, own, read_at)
        for path, since in ages.items():
            if path in values:
                self._publish_group(poll, path, {path: values[path]}, min(read_at, since))

    def _publish_group(self, poll: Poll, group: str, values: Values, read_at: float) -> None:
        assert poll.stale_after_s is not None
        poll.groups.add(group)
        self.freshness.publish(group, values, read_at + poll.stale_after_s - self._now())

    def _next_due(self, poll: Poll, now: float) -> float:
        if poll.failures:
            # What alone does not answer must not take the line from the rest. It may not do so for months.
            doubled = max(poll.every_s, 0.5) * 2.0 ** min(poll.failures, _REJECTED)
            return now + min(doubled, _RETRY_LIMIT_S)
        every = max(poll.every_s, poll.relaxed_s) if self._busy() else poll.every_s
        return max(poll.due + every, now)

    async def _watch_silence(self) -> None:
        """Notice in time that nothing is answered any more, whatever the polls wait for."""
        loop = asyncio.get_running_loop()
        answered = loop.time()
        while (left := answered + SILENCE_S - loop.time()) > 0:
            self._beat(left)
            await asyncio.sleep(max(left, _CLOCK_STEP_S))
            answered = max(answered, self._link.last_answer or answered)
        raise SystemGone(f"no answer for {SILENCE_S} s")


def _end(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
