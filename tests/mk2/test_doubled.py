"""Replies that come twice: which answers are in doubt afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.clock import simulated
from support.ports import QuietPort

from mk2dbus.mk2.doubled import WATCHED_S
from mk2dbus.mk2.errors import NoReply
from mk2dbus.mk2.framing import adapter_frame
from mk2dbus.mk2.link import Link
from mk2dbus.mk2.request import Winmon
from mk2dbus.mk2.winmon import ReadRam, ReadSetting


def reply_to_setting(word: int) -> bytes:
    return b"\x86" + word.to_bytes(2, "little")


@dataclass
class Answering:
    """A link whose commands get the replies that the test gives."""

    port: QuietPort
    link: Link
    doubtful: list[tuple[Winmon[Any], int]] = field(default_factory=list)
    known: dict[int, int] = field(default_factory=dict)
    """Settings as they were answered, and forgotten when they are in doubt."""

    def doubt(self, command: Winmon[Any], address: int) -> None:
        self.doubtful.append((command, address))
        if isinstance(command, ReadSetting):
            self.known.pop(command.id, None)

    async def send(self, command: Winmon[Any]) -> tuple[asyncio.Task[Any], str]:
        """Ask something; the letter of its slot."""
        seen = len(self.port.sent)
        asked = asyncio.create_task(self._keep(command))
        await asyncio.sleep(0.1)
        for _, frame in self.port.sent[seen:]:
            if frame.data[:1] == b"A":
                self.port.deliver(bytes(adapter_frame("A", frame.data[1:])))
        await asyncio.sleep(0.1)
        return asked, chr(self.port.sent[-1][1].data[0])

    async def _keep(self, command: Winmon[Any]) -> Any:
        answer = await self.link.request(command, 0, attempts=1)
        if isinstance(command, ReadSetting):
            self.known[command.id] = answer
        return answer

    async def ask(self, id: int, *words: int) -> str:
        """Ask for a setting; replies with these words come in one piece. The letter of the slot."""
        asked, letter = await self.send(ReadSetting(id))
        self.port.deliver(b"".join(bytes(adapter_frame(letter, reply_to_setting(word))) for word in words))
        assert await asked == words[0]
        return letter

    async def say(self, letter: str, word: int) -> None:
        """A reply that nobody waits for."""
        self.port.deliver(bytes(adapter_frame(letter, reply_to_setting(word))))
        await asyncio.sleep(0.01)

    async def double(self) -> None:
        """Let it be known that replies come twice: from then on each slot is looked at for itself."""
        await self.ask(90, 7, 7)
        await asyncio.sleep(0.3)
        self.doubtful.clear()

    @property
    def ids(self) -> list[int]:
        """Settings that are in doubt."""
        return sorted(command.id for command, _ in self.doubtful if isinstance(command, ReadSetting))


@asynccontextmanager
async def answering() -> AsyncIterator[Answering]:
    port = QuietPort()
    run = Answering(port, Link(port, doubtful=lambda command, address: run.doubt(command, address)))
    task = asyncio.create_task(run.link.run())
    try:
        yield run
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@simulated
async def test_a_second_copy_at_once_leaves_no_doubt() -> None:
    async with answering() as run:
        await run.double()
        for id in range(5):
            await run.ask(id, 100 + id, 100 + id)
            await asyncio.sleep(0.3)
        assert run.doubtful == []


@simulated
async def test_another_reply_after_the_answer() -> None:
    """The answer was a copy of an earlier one, and this is its own."""
    async with answering() as run:
        await run.double()
        letter = await run.ask(1, 5)
        await run.say(letter, 6)
        assert run.ids == [1]


@simulated
async def test_both_in_one_piece() -> None:
    """Who asked has the answer before it is called doubtful: it could not be forgotten otherwise."""
    async with answering() as run:
        await run.double()
        await run.ask(1, 5, 6)
        await asyncio.sleep(0.01)
        assert run.ids == [1]
        assert 1 not in run.known


@simulated
async def test_it_goes_back_as_far_as_the_replies_fit() -> None:
    async with answering() as run:
        await run.double()
        for id in range(1, 10):
            letter = await run.ask(id, id)
        await run.say(letter, 99)
        # Each third is in the same slot.
        assert run.ids == [3, 6, 9]


@simulated
async def test_a_long_pause_ends_it() -> None:
    async with answering() as run:
        await run.double()
        for id in range(1, 7):
            letter = await run.ask(id, id)
        await asyncio.sleep(1.5)
        for id in range(7, 10):
            letter = await run.ask(id, id)
        await run.say(letter, 99)
        assert run.ids == [9]


@simulated
async def test_equal_words_leave_no_doubt() -> None:
    """The word of the next command is that of the last, too: not so its forerunners."""
    async with answering() as run:
        await run.double()
        for id, word in enumerate((0, 0, 5, 0, 0, 8, 0, 0, 8), start=1):
            letter = await run.ask(id, word)
        await run.say(letter, 8)
        assert run.ids == [3]


@simulated
async def test_a_reply_that_does_not_fit_what_the_slot_asks_now() -> None:
    async with answering() as run:
        await run.double()
        letter = await run.ask(1, 5)
        await asyncio.sleep(0.3)
        asked = [asyncio.create_task(run.link.request(ReadRam((id,)), 0)) for id in (4, 5, 6)]
        await asyncio.sleep(0.2)
        assert letter in [chr(frame.data[0]) for _, frame in run.port.sent[-3:]]
        await run.say(letter, 6)
        assert run.ids == [1]
        await asyncio.gather(*asked, return_exceptions=True)


@simulated
async def test_the_first_time_the_other_slots_are_in_doubt_too() -> None:
    """In them it may have happened unseen."""
    async with answering() as run:
        for id in (1, 2, 3):
            letter = await run.ask(id, id)
        await run.say(letter, 3)
        assert run.ids == [1, 2]


@simulated
async def test_a_late_reply_is_none_that_came_twice() -> None:
    async with answering() as run:
        for id in (1, 2, 3):
            await run.ask(id, id)
        late, letter = await run.send(ReadSetting(4))
        with pytest.raises(NoReply):
            await late
        await run.say(letter, 44)
        assert run.doubtful == []


@pytest.mark.parametrize(("after_s", "rests"), [(1.0, True), (WATCHED_S + 1.0, False)])
@simulated
async def test_slots_rest_after_replies_came_twice(after_s: float, rests: bool) -> None:
    """For a while: a copy shall not meet the next command."""
    async with answering() as run:
        await run.double()
        await asyncio.sleep(after_s)
        await run.ask(1, 5)
        assert run.link._slots.resting is rests
