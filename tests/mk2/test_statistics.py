"""Figures of the line, and the port lent to somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.clock import simulated
from support.ports import CorePort, Ear, QuietPort

from mk2dbus.mk2.adapter import ConfigureAdapter, GetLeds
from mk2dbus.mk2.errors import LinkClosed, NoReply, PortLost
from mk2dbus.mk2.link import Link
from mk2dbus.mk2.quality import BAD_SHARE, QUALITY_WINDOW_S, Quality
from mk2dbus.mk2.statistics import WINDOW_S
from mk2dbus.mk2.winmon import ReadSetting
from mk2dbus.simulator import Core

LEDS = bytes.fromhex("06 FF 4C 03 00 00 00 AC")


@asynccontextmanager
async def linked(port: Any, **options: Any) -> AsyncIterator[Link]:
    link = Link(port, **options)
    task = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# --- figures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("baudrate", [2400, 115200])
@simulated
async def test_shares_of_the_line_and_round_trips(baudrate: int) -> None:
    core = Core("multiplus2")
    core.adapter.baudrate = baudrate
    port = CorePort(core, baudrate)
    async with linked(port, pipeline=1) as link:
        await link.request(ConfigureAdapter())
        before = link.figures()
        assert before.baudrate == baudrate
        assert before.outstanding == 0
        seconds = 5
        for _ in range(10 * seconds):
            await link.request(ReadSetting(2), 0)
            await asyncio.sleep(0.1)
        sent, received = link.counters.sent_bytes, link.counters.received_bytes
        figures = link.figures()
        elapsed = asyncio.get_running_loop().time()
        capacity = elapsed * baudrate / 10
        assert figures.sent_share == pytest.approx((sent - before.sent_bytes) / capacity, rel=0.05)
        assert figures.received_share == pytest.approx(
            (received - before.received_bytes) / capacity, rel=0.05
        )
        # 7 bytes there, 15 ms, 7 bytes back.
        expected = 14 * 10 / baudrate + 0.015
        assert figures.round_trip_mean_s == pytest.approx(expected, rel=0.1, abs=2e-3)
        assert figures.round_trip_max_s is not None
        assert figures.round_trip_mean_s is not None
        assert figures.round_trip_mean_s <= figures.round_trip_max_s < 2 * expected + 0.1
        assert (figures.timeouts, figures.retries, figures.dropped_bytes) == (0, 0, 0)
        # They are of the last seconds.
        for _ in range(3):
            await asyncio.sleep(WINDOW_S)
            figures = link.figures()
        assert figures.round_trip_mean_s is figures.round_trip_max_s is None
        assert figures.sent_share == 0
        assert figures.sent_bytes == sent
    port.lose()


@simulated
async def test_bad_frames_per_minute() -> None:
    port = QuietPort()
    async with linked(port) as link:
        for _ in range(5):
            port.deliver(b"\x00\x00\x00" + LEDS)
            await asyncio.sleep(1)
        assert (link.figures().bad_frames, link.figures().bad_frames_per_minute) == (5, 5)
        assert link.figures().dropped_bytes == 15
        await asyncio.sleep(QUALITY_WINDOW_S + 10)
        assert (link.figures().bad_frames, link.figures().bad_frames_per_minute) == (5, 0)


@simulated
async def test_asking_all_the_time_costs_no_memory() -> None:
    async with linked(QuietPort()) as link:
        for _ in range(5000):
            link.figures()
            await asyncio.sleep(0.05)
        assert link._sampler is not None
        assert len(link._sampler._samples) < 100


def test_quality() -> None:
    quality = Quality()
    quality.damaged(0.0, 3)
    assert quality.bad_share(0.0) == 0  # too few to tell
    quality.good(1.0, 97)
    assert quality.bad_share(1.0) == pytest.approx(0.03)
    # A damaged reply is one that stays out, too.
    for _ in range(3):
        quality.unanswered(2.0)
    assert quality.bad_share(2.0) == pytest.approx(0.03)
    for _ in range(3):
        quality.unanswered(2.0)
    assert quality.bad_frames(2.0) == 6
    assert quality.bad_frames(2.0 + QUALITY_WINDOW_S) == 0
    for second in range(1000):
        quality.good(float(second))
    assert len(quality._parts) <= 10


@simulated
async def test_a_bad_line_is_told_once_until_it_begins_anew() -> None:
    told: list[float] = []
    port = QuietPort()
    async with linked(port, bad_line=told.append) as link:
        for _ in range(2):
            for _ in range(50):
                port.deliver(LEDS + b"\x00" + LEDS)
                await asyncio.sleep(0.1)
            assert len(told) == 1
            assert told[0] > BAD_SHARE
            async with link.suspended():
                told.clear()


# --- the port lent -------------------------------------------------------------------------------------


@simulated
async def test_a_suspended_link_leaves_the_port_alone() -> None:
    port = QuietPort()
    async with linked(port) as link:
        asked = asyncio.create_task(link.request(GetLeds()))
        await asyncio.sleep(0.1)
        entered = asyncio.Event()
        done = asyncio.Event()

        async def borrow() -> bytes:
            async with link.suspended():
                entered.set()
                ear = Ear()
                port.attach(ear)
                await done.wait()
                return bytes(ear.data)

        borrowing = asyncio.create_task(borrow())
        await asyncio.sleep(0.1)
        # First the reply that is due.
        assert not entered.is_set()
        port.deliver(LEDS)
        await asked
        await entered.wait()
        waiting = asyncio.create_task(link.request(GetLeds()))
        await asyncio.sleep(5)
        assert len(port.sent) == 1
        port.deliver(LEDS)
        await asyncio.sleep(0.01)
        assert not waiting.done()
        port.set_baudrate(115200)
        done.set()
        assert await borrowing == LEDS
        await asyncio.sleep(0.01)
        assert len(port.sent) == 2
        port.deliver(LEDS)
        await waiting
        assert link.figures().baudrate == 115200


@simulated
async def test_suspending_waits_no_longer_than_for_a_reply_that_stays_out() -> None:
    port = QuietPort()
    async with linked(port) as link:
        asked = asyncio.create_task(link.request(GetLeds()))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(0.6), link.suspended():
            assert not asked.done()
        with pytest.raises(NoReply):
            await asked


@simulated
async def test_a_port_that_is_lost_while_it_is_lent() -> None:
    port = QuietPort()
    link = Link(port)
    run = asyncio.create_task(link.run())
    await asyncio.sleep(0)
    async with link.suspended():
        waiting = asyncio.create_task(link.request(GetLeds()))
        await asyncio.sleep(1)
        port.lose("cable pulled")
    for task in (waiting, run):
        with pytest.raises(PortLost, match="cable pulled"):
            await task


@simulated
async def test_a_link_that_is_closed_cannot_be_suspended() -> None:
    link = Link(QuietPort())
    run = asyncio.create_task(link.run())
    await asyncio.sleep(0)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    with pytest.raises(LinkClosed):
        async with link.suspended():
            raise AssertionError("not reached")


@simulated
async def test_suspending_before_the_link_runs() -> None:
    port = QuietPort()
    link = Link(port)
    async with link.suspended():
        run = asyncio.create_task(link.run())
        asked = asyncio.create_task(link.request(GetLeds()))
        await asyncio.sleep(1)
        assert not port.sent
    await asyncio.sleep(0.01)
    port.deliver(LEDS)
    await asked
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
