"""The scheduler alone, on a line that takes time: order, rates, and that nothing starves, over hours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from types import SimpleNamespace
from typing import cast

import pytest
from support.clock import simulated

from mk2dbus.bus.tree import Tree
from mk2dbus.items import Kind, Leaf
from mk2dbus.mk2 import errors
from mk2dbus.mk2.link import Link
from mk2dbus.vebus.board import Freshness
from mk2dbus.vebus.readings import Values
from mk2dbus.vebus.schedule import Implausible, Lane, Poll, Scheduler, SystemGone

HOUR_S = 3600.0


class Line:
    """Carries one request at a time; ``last_answer`` as a link has it."""

    def __init__(self) -> None:
        self.free = asyncio.Lock()
        self.last_answer: float | None = None
        self.noisy = False
        self.times: dict[str, list[float]] = {}

    def poll(
        self, name: str, every_s: float, cost_s: float, lane: Lane = Lane.WINMON, relaxed_s: float = 2.0
    ) -> Poll:
        times = self.times[name] = []

        async def read() -> Values:
            async with self.free:
                await asyncio.sleep(cost_s)
            self.last_answer = asyncio.get_running_loop().time()
            times.append(self.last_answer)
            return {f"/{name}": len(times)}

        return Poll(name, lane, every_s, read, relaxed_s)

    def longest_gap(self, name: str) -> float:
        return max(later - earlier for earlier, later in pairwise(self.times[name]))


def _scheduler(
    line: Line, *names: str, busy: Callable[[], bool] = lambda: False, **options: object
) -> tuple[Scheduler, Tree]:
    tree = Tree()
    for name in names:
        tree.add(Leaf(f"/{name}", Kind.INTEGER))
    scheduler = Scheduler(cast(Link, line), Freshness(tree), busy=busy, **options)  # type: ignore[arg-type]  # passed on
    return scheduler, tree


async def _run(scheduler: Scheduler, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await scheduler.run()


@simulated
async def test_nothing_starves_on_a_line_that_is_too_slow_for_all() -> None:
    line = Line()
    plan = [line.poll(f"fast{n}", 0.1, 0.11, Lane.INFO if n % 2 else Lane.WINMON) for n in range(6)]
    plan += [line.poll("status", 0.5, 0.08, Lane.INFO), line.poll("slow", 2.0, 0.3)]
    plan += [line.poll(f"seldom{n}", 10.0, 0.2) for n in range(4)]
    scheduler, _ = _scheduler(line)
    scheduler.add(plan)
    await _run(scheduler, 2 * HOUR_S)
    once = sum(0.3 if poll.name == "slow" else 0.2 for poll in plan)
    for poll in plan:
        # When its time has come it waits at most until each of the others had its turn.
        assert line.longest_gap(poll.name) <= poll.every_s + 2 * once, poll.name
        assert len(line.times[poll.name]) >= 2 * HOUR_S / (poll.every_s + 2 * once)


@simulated
async def test_a_value_is_as_old_as_the_oldest_part_of_it() -> None:
    line = Line()
    other_read_at = 0.0
    scheduler, tree = _scheduler(line, "fast", "sum")

    async def read() -> Values:
        line.last_answer = asyncio.get_running_loop().time()
        return {"/fast": 1, "/sum": 2}

    scheduler.add([Poll("fast", Lane.WINMON, 0.5, read, parts=lambda: {"/sum": other_read_at})])
    other_read_at = asyncio.get_running_loop().time()
    running = asyncio.create_task(_run(scheduler, 60))
    await asyncio.sleep(4)
    assert (tree.value("/fast"), tree.value("/sum")) == (1, 2)
    await asyncio.sleep(1)
    assert (tree.value("/fast"), tree.value("/sum")) == (1, None)
    other_read_at = asyncio.get_running_loop().time()
    await asyncio.sleep(1)
    assert (tree.value("/fast"), tree.value("/sum")) == (1, 2)
    scheduler.show("fast", {"/fast": 3, "/sum": 4})
    assert (tree.value("/fast"), tree.value("/sum")) == (3, 4)
    scheduler.remove("fast")
    assert (tree.value("/fast"), tree.value("/sum")) == (None, None)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@simulated
async def test_the_slow_ones_are_as_seldom_as_asked() -> None:
    line = Line()
    scheduler, _ = _scheduler(line)
    scheduler.add([line.poll("fast", 0.1, 0.05), line.poll("slow", 10.0, 0.05)])
    await _run(scheduler, 1000)
    assert len(line.times["slow"]) == pytest.approx(100, abs=2)
    assert len(line.times["fast"]) == pytest.approx(10_000, rel=0.02)


@simulated
async def test_on_a_fast_line_it_does_not_spin() -> None:
    line = Line()
    scheduler, _ = _scheduler(line)
    scheduler.add([line.poll("fast", 0.1, 0.001)])
    await _run(scheduler, 60)
    assert len(line.times["fast"]) == pytest.approx(600, abs=2)


@simulated
async def test_while_background_work_wants_the_line_rates_are_kept_not_exceeded() -> None:
    line = Line()
    busy = True
    scheduler, _ = _scheduler(line, busy=lambda: busy)
    scheduler.add(
        [line.poll("fast", 0.1, 0.1), line.poll("calm", 5.0, 0.1), line.poll("own", 0.1, 0.1, relaxed_s=3.0)]
    )
    await _run(scheduler, 120)
    assert len(line.times["fast"]) == pytest.approx(60, abs=2)
    assert len(line.times["own"]) == pytest.approx(40, abs=2)
    assert len(line.times["calm"]) == pytest.approx(24, abs=2)
    assert line.longest_gap("fast") < 2.5


@simulated
async def test_what_does_not_answer_takes_little_and_comes_back() -> None:
    line = Line()
    answering = False

    async def read() -> Values:
        async with line.free:
            await asyncio.sleep(0.5)
        line.times.setdefault("mute", []).append(asyncio.get_running_loop().time())
        if not answering:
            raise errors.NoReply("nothing")
        return {"/mute": 1}

    failed: list[str] = []
    scheduler, tree = _scheduler(line, "mute", on_failure=lambda poll: failed.append(poll.name))
    scheduler.add([line.poll("fast", 0.1, 0.05), Poll("mute", Lane.WINMON, 0.1, read)])
    await _run(scheduler, 300)
    assert 5 < len(line.times["mute"]) < 25
    assert failed.count("mute") == len(line.times["mute"])
    assert tree.value("/mute") is None
    answering = True
    await _run(scheduler, 60)
    assert tree.value("/mute") == 1


@simulated
async def test_values_that_cannot_be_true_are_left_out_and_asked_again_soon() -> None:
    line = Line()
    answers = iter([1, None, None, 2])

    async def read() -> Values:
        await asyncio.sleep(0.1)
        line.last_answer = asyncio.get_running_loop().time()
        answer = next(answers, 3)
        if answer is None:
            raise Implausible("never")
        return {"/value": answer}

    scheduler, tree = _scheduler(line, "value", busy=lambda: True)
    scheduler.add([Poll("value", Lane.WINMON, 0.1, read)])
    await _run(scheduler, 2.7)
    assert scheduler.implausible == 2
    assert tree.value("/value") == 2


@simulated
async def test_silence_ends_it() -> None:
    line = cast(Link, SimpleNamespace(last_answer=None))
    scheduler = Scheduler(line, Freshness(Tree()))

    async def read() -> Values:
        await asyncio.sleep(1.5)
        raise errors.NoReply("nothing")

    scheduler.add([Poll("any", Lane.INFO, 0.1, read)])
    start = asyncio.get_running_loop().time()
    with pytest.raises(ExceptionGroup) as caught:
        await scheduler.run()
    assert caught.group_contains(SystemGone)
    assert asyncio.get_running_loop().time() - start == pytest.approx(4.0, abs=0.1)


@simulated
async def test_a_poll_that_is_removed_takes_its_values_along() -> None:
    line = Line()
    scheduler, tree = _scheduler(line, "one", "two")
    scheduler.add([line.poll("one", 0.1, 0.05), line.poll("two", 0.1, 0.05)])
    running = asyncio.create_task(scheduler.run())
    await asyncio.sleep(1)
    assert tree.value("/one")
    assert tree.value("/two")
    scheduler.remove("one")
    await asyncio.sleep(1)
    assert tree.value("/one") is None
    assert tree.value("/two")
    assert [poll.name for poll in scheduler.polls] == ["two"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@simulated
async def test_hurry_brings_a_poll_at_once_also_while_it_runs() -> None:
    line = Line()
    scheduler, _ = _scheduler(line)
    scheduler.add([line.poll("fast", 0.1, 0.01), line.poll("seldom", 100.0, 1.0)])
    running = asyncio.create_task(scheduler.run())
    await asyncio.sleep(10)
    scheduler.hurry("seldom")
    await asyncio.sleep(0.5)
    scheduler.hurry("seldom")
    await asyncio.sleep(5)
    assert len(line.times["seldom"]) == 3
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@simulated
async def test_age_of_the_oldest_value() -> None:
    line = Line()
    scheduler, _ = _scheduler(line, "fast", "slow")
    assert scheduler.oldest_s() is None
    scheduler.add([line.poll("fast", 0.1, 0.05), line.poll("slow", 3.0, 0.05)])
    running = asyncio.create_task(scheduler.run())
    await asyncio.sleep(2.9)
    age = scheduler.oldest_s()
    assert age == pytest.approx(2.8, abs=0.15)
    assert scheduler.period_s("fast") == pytest.approx(0.1, abs=0.06)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@simulated
async def test_a_poll_may_stay_unanswered_for_days() -> None:
    line = Line()
    scheduler, _ = _scheduler(line)
    asked = 0

    async def read() -> Values:
        nonlocal asked
        asked += 1
        raise errors.NoReply("nothing")

    scheduler.add([Poll("dumb", Lane.INFO, 0.1, read), line.poll("other", 3.0, 0.1)])
    await _run(scheduler, 9 * HOUR_S)
    assert asked == pytest.approx(9 * HOUR_S / 30, rel=0.01)


@simulated
async def test_a_reading_that_took_longer_than_the_one_before_is_withdrawn_sooner() -> None:
    tree = Tree()
    tree.add(Leaf("/value", Kind.INTEGER))
    freshness = Freshness(tree)
    freshness.publish("poll", {"/value": 1}, 4.5)
    freshness.publish("poll", {"/value": 2}, 3.0)
    await asyncio.sleep(2.9)
    assert tree.value("/value") == 2
    await asyncio.sleep(0.2)
    assert tree.value("/value") is None
