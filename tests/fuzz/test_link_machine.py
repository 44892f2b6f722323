"""The link against a model: requests asked, answered rightly, late, twice, on other slots, or not at all.

The model is the adapter: it knows what each frame on the line asks, and gives each answer a mark of its own,
so that an answer that ends up with the wrong request is seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.clock import SimulatedLoop
from support.ports import QuietPort

from mk2dbus.mk2.adapter import GetDc, GetLeds
from mk2dbus.mk2.errors import NoReply, PortLost, Rejected
from mk2dbus.mk2.exchange import Priority
from mk2dbus.mk2.framing import Frame, FrameType, adapter_frame
from mk2dbus.mk2.link import Link
from mk2dbus.mk2.winmon import ReadSetting

T = TypeVar("T")

LIMIT_S = 10.0
"""Once everything is answered again: for letters that rest, and for what is damaged by what came before."""
LATEST_S = 2.4
"""A reply that is later than this could be taken for another: its letter rests no longer."""


@dataclass
class Asked:
    """A request under way: the setting it asks for, and who waits."""

    id: int
    task: asyncio.Task[Any]


class Linking(RuleBasedStateMachine):
    """Settings have ids that are used once, and the true value of a setting is its id."""

    @initialize(pipeline=st.integers(1, 3))
    def begin(self, pipeline: int) -> None:
        self.loop = SimulatedLoop()
        self.port = QuietPort()
        self.next_id = 1
        self.asked: list[Asked] = []
        self.seen = 0
        self.sent: list[tuple[float, Frame]] = []

        async def start() -> None:
            self.link = Link(self.port, pipeline=pipeline)
            self.running = asyncio.create_task(self.link.run())
            await asyncio.sleep(0)

        self.loop.run_until_complete(start())

    def _run(self, call: Callable[[], T]) -> T:
        """Call something that needs the running loop."""

        async def run() -> T:
            return call()

        return self.loop.run_until_complete(run())

    def _deliver(self, data: bytes) -> None:
        self._run(lambda: self.port.deliver(data))

    def _pass(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))
        frames = [frame for _, frame in self.port.sent[self.seen :]]
        self.seen = len(self.port.sent)
        for frame in frames:
            if frame.data[:1] == b"A":
                self._say(adapter_frame("A", frame.data[1:]))
            else:
                self.sent.append((self.loop.time(), frame))
        if frames:
            self.loop.run_until_complete(asyncio.sleep(0.02))

    @property
    def unanswered(self) -> bool:
        """Whether there is a request that an answer can still come to."""
        now = self.loop.time()
        self.sent = [(at, frame) for at, frame in self.sent if now - at < LATEST_S]
        return bool(self.sent)

    def _say(self, frame: Frame) -> None:
        self._deliver(bytes(frame))

    def _answer(self, frame: Frame, letter: str | None = None) -> Frame:
        """The true answer to a frame."""
        if frame.data[:1] == b"F":
            return Frame(FrameType.INFO, bytes((0, 0, 0, 0, 0x0C)) + bytes(9))
        if frame.data[:1] == b"L":
            return adapter_frame("L", bytes(4))
        return adapter_frame(letter or chr(frame.data[0]), b"\x86" + frame.data[2:4])

    @rule(address=st.integers(0, 2), priority=st.sampled_from(Priority))
    def ask(self, address: int, priority: Priority) -> None:
        id, self.next_id = self.next_id, self.next_id + 1

        async def request() -> None:
            assert await self.link.request(ReadSetting(id), address, priority) == id

        self.asked.append(Asked(id, self.loop.create_task(request())))
        self._pass(0.0)

    @rule(kind=st.sampled_from([GetDc(), GetLeds()]), priority=st.sampled_from(Priority))
    def ask_adapter(self, kind: Any, priority: Priority) -> None:
        async def request() -> None:
            await self.link.request(kind, priority=priority)

        self.asked.append(Asked(0, self.loop.create_task(request())))
        self._pass(0.0)

    @rule(seconds=st.sampled_from([0.01, 0.05, 0.3, 0.6, 2.5]))
    def wait(self, seconds: float) -> None:
        self._pass(seconds)

    @precondition(lambda self: self.unanswered)
    @rule(which=st.integers(0, 10), times=st.integers(1, 2))
    def reply(self, which: int, times: int) -> None:
        """To the newest or an older one, in time or late, perhaps twice."""
        _, frame = self.sent.pop(-1 - which % len(self.sent))
        for _ in range(times):
            self._say(self._answer(frame))
        self._pass(0.05)

    @precondition(lambda self: self.unanswered)
    @rule()
    def never_reply(self) -> None:
        self.sent.pop()

    @precondition(lambda self: self.unanswered)
    @rule(cut=st.integers(1, 6))
    def damaged_reply(self, cut: int) -> None:
        self._deliver(bytes(self._answer(self.sent.pop()[1]))[:-cut])
        self._pass(0.05)

    @rule(noise=st.binary(max_size=20))
    def noise(self, noise: bytes) -> None:
        # What looks like a good answer by chance is none of the link's faults.
        self._deliver(noise.replace(b"\x86", b"").replace(b"\x20", b""))
        self._pass(0.05)

    @precondition(lambda self: any(not one.task.done() for one in self.asked))
    @rule(which=st.integers(0, 10))
    def give_up(self, which: int) -> None:
        open_ = [one for one in self.asked if not one.task.done()]
        open_[which % len(open_)].task.cancel()
        self._pass(0.0)

    @invariant()
    def nothing_wrong_came(self) -> None:
        if not hasattr(self, "asked"):
            return
        assert not self.running.done(), self.running
        for one in [one for one in self.asked if one.task.done()]:
            self.asked.remove(one)
            if not one.task.cancelled():
                error = one.task.exception()
                assert error is None or isinstance(error, NoReply | Rejected), repr(error)

    @invariant()
    def not_too_many_at_once(self) -> None:
        if hasattr(self, "link"):
            assert self._run(self.link.figures).outstanding <= 6
            assert len(list(self.link._slots.deadlines())) <= 3
            assert len(self.link._late._missing) <= 10

    def teardown(self) -> None:
        if not hasattr(self, "link"):
            return
        try:
            start = self.loop.time()
            limit_s = LIMIT_S + 0.5 * len(self.asked)
            self.sent.clear()
            while any(not one.task.done() for one in self.asked):
                assert self.loop.time() - start < limit_s, "a request hangs"
                self._pass(0.1)
                for _, frame in self.sent:
                    self._say(self._answer(frame))
                self.sent.clear()
            self.nothing_wrong_came()
            self._pass(5.0)
            assert self.link.idle
            self._run(self.port.lose)
            (outcome,) = self.loop.run_until_complete(self._ended(self.running))
            assert isinstance(outcome, PortLost)
            assert not asyncio.all_tasks(self.loop)
        finally:
            left = {self.running, *(one.task for one in self.asked)}
            for task in left:
                task.cancel()
            self.loop.run_until_complete(self._ended(*left))
            self.loop.close()

    @staticmethod
    async def _ended(*tasks: asyncio.Task[Any]) -> list[Any]:
        return await asyncio.gather(*tasks, return_exceptions=True)


TestLinking = Linking.TestCase
TestLinking.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None, phases=(Phase.explicit, Phase.generate)
)
