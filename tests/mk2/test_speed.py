"""The speed of the line, with the simulator's core behind it, in simulated time."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from support.clock import simulated
from support.ports import CorePort, QuietPort

from mk2dbus.mk2.adapter import ConfigureAdapter, GetConfiguration, GetDc, GetLeds
from mk2dbus.mk2.adapter import GetVersion as GetAdapterVersion
from mk2dbus.mk2.errors import NoReply, PortLost
from mk2dbus.mk2.link import Link
from mk2dbus.mk2.port import MK2_BAUDRATE, MK3_BAUDRATE
from mk2dbus.mk2.speed import PROVEN_S, HighSpeedStatus, LineSpeed, SpeedChoice, find_adapter
from mk2dbus.mk2.winmon import ReadSetting
from mk2dbus.simulator import Core
from mk2dbus.simulator.adapter import Adapter
from mk2dbus.simulator.speed import SpeedFault

LEAVE_LIMIT_S = 0.1
POWER_ON_S = 2.5


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def adapter(
    profile: str = "multiplus2", fault: SpeedFault = SpeedFault.NONE, at: int = MK2_BAUDRATE
) -> AsyncIterator[CorePort]:
    """A port to an adapter that is at a speed, with a fault."""
    core = Core(profile)
    core.adapter.speed.fault = fault
    core.adapter.baudrate = at
    port = CorePort(core)
    try:
        yield port
    finally:
        port.lose()


async def assert_works(port: CorePort) -> None:
    """The line carries requests at the speed it has."""
    link = Link(port)
    task = asyncio.create_task(link.run())
    try:
        assert (await link.request(GetAdapterVersion())).firmware
        assert await link.request(ConfigureAdapter())
        assert (await link.request(GetConfiguration(0))).present
        await link.request(GetDc())
        await link.request(ReadSetting(2), 0)
        assert link.counters.timeouts <= 1
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def is_as_after_power_on(adapter: Adapter) -> bool:
    return adapter.baudrate == MK2_BAUDRATE and not adapter.flags and adapter.compat


# --- up ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", [SpeedChoice.AUTO, SpeedChoice.HIGH])
@simulated
async def test_an_mk3_is_brought_to_high_speed(choice: SpeedChoice) -> None:
    async with adapter() as port:
        speed = LineSpeed(port, choice)
        assert speed.state.status is HighSpeedStatus.OFF
        version = await speed.bring_up()
        assert version is not None
        assert version.product_id == 0x1170
        assert speed.state.status is HighSpeedStatus.IN_USE
        assert port.baudrate == port.core.adapter.baudrate == MK3_BAUDRATE
        assert now() < 0.5
        await assert_works(port)


@simulated
async def test_what_is_sent_to_raise_the_speed_and_when() -> None:
    """``N`` at 2400, about 50 ms later five bytes 0x55 at 115200, 100 ms later a ``V`` (§1)."""
    async with adapter() as port:
        sent: list[tuple[float, int, str]] = []
        port.on_write = lambda data: sent.append((now(), port.baudrate, data.hex(" ")))
        await LineSpeed(port).bring_up()
        v = "02 ff 56 a9"
        assert [(baudrate, data) for _, baudrate, data in sent] == [
            (2400, v),
            (2400, "02 ff 4e b1"),
            (115200, "55 55 55 55 55"),
            (115200, v),
        ]
        times = [at for at, _, _ in sent]
        assert times[2] - times[1] == pytest.approx(4 / 240 + 0.05, abs=1e-3)
        assert times[3] - times[2] == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("at", [MK2_BAUDRATE, MK3_BAUDRATE])
@pytest.mark.parametrize("choice", list(SpeedChoice))
@simulated
async def test_the_speed_that_a_crash_left_is_found(at: int, choice: SpeedChoice) -> None:
    async with adapter(at=at) as port:
        speed = LineSpeed(port, choice)
        assert await speed.bring_up() is not None
        high = choice is not SpeedChoice.LOW
        assert port.baudrate == port.core.adapter.baudrate == (MK3_BAUDRATE if high else MK2_BAUDRATE)
        assert (speed.state.status is HighSpeedStatus.IN_USE) is high
        assert now() < (1.0 if high else 4.0)
        await assert_works(port)


@pytest.mark.parametrize("choice", list(SpeedChoice))
@simulated
async def test_an_mk2_stays_as_it_is(choice: SpeedChoice, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with adapter("multiplus-old") as port:
        speed = LineSpeed(port, choice)
        for _ in range(3):
            assert await speed.bring_up() is not None
        assert port.core.adapter.baudrate == port.baudrate == MK2_BAUDRATE
        assert not [data for data in port.core.log.reasons if "N" in data]
        low = choice is SpeedChoice.LOW
        assert speed.state.status is (HighSpeedStatus.OFF if low else HighSpeedStatus.NOT_POSSIBLE)
        # Said once, and louder to who insisted.
        told = [record.levelno for record in caplog.records if "2400 baud" in record.message]
        assert (
            told
            == {
                SpeedChoice.LOW: [],
                SpeedChoice.AUTO: [logging.INFO],
                SpeedChoice.HIGH: [logging.WARNING],
            }[choice]
        )
        await assert_works(port)


@pytest.mark.parametrize("at", [MK2_BAUDRATE, MK3_BAUDRATE])
@simulated
async def test_an_adapter_can_be_found_and_left_as_it_is(at: int) -> None:
    async with adapter(at=at) as port:
        assert await find_adapter(port) is not None
        assert port.baudrate == port.core.adapter.baudrate == at
        await assert_works(port)


@simulated
async def test_no_adapter_at_all() -> None:
    port = QuietPort()
    speed = LineSpeed(port)
    assert await speed.bring_up() is None
    assert port.baudrate == MK2_BAUDRATE
    assert speed.state.status is HighSpeedStatus.OFF
    assert now() < 2.5


@simulated
async def test_an_adapter_that_comes_later() -> None:
    async with adapter() as port:
        port.core.adapter.silent = True
        speed = LineSpeed(port)
        assert await speed.bring_up() is None
        port.core.adapter.silent = False
        assert await speed.bring_up() is not None
        assert speed.state.status is HighSpeedStatus.IN_USE
        await assert_works(port)


# --- and what goes wrong with it -----------------------------------------------------------------------


@pytest.mark.parametrize("choice", [SpeedChoice.AUTO, SpeedChoice.HIGH])
@pytest.mark.parametrize(
    "fault",
    [
        SpeedFault.IGNORED,
        SpeedFault.OLD_SPEED,
        SpeedFault.SILENT,
        SpeedFault.NOISE,
        SpeedFault.DEAD,
    ],
)
@simulated
async def test_a_switch_that_fails_ends_in_a_working_line_at_2400(
    fault: SpeedFault, choice: SpeedChoice, caplog: pytest.LogCaptureFixture
) -> None:
    async with adapter(fault=fault) as port:
        speed = LineSpeed(port, choice)
        version = await speed.bring_up()
        assert version is not None
        assert port.baudrate == port.core.adapter.baudrate == MK2_BAUDRATE
        assert speed.state.status is HighSpeedStatus.FAILED
        assert speed.state.reason
        assert now() < 6
        await assert_works(port)
        # It is not tried again on this port, and said once.
        sent: list[bytes] = []
        port.on_write = sent.append
        for _ in range(3):
            assert await speed.bring_up() is not None
        assert not [data for data in sent if b"N" in data]
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        await assert_works(port)


@simulated
async def test_noise_in_place_of_an_answer_is_told_as_such() -> None:
    for fault, word in ((SpeedFault.NOISE, "noise"), (SpeedFault.SILENT, "nothing")):
        async with adapter(fault=fault) as port:
            speed = LineSpeed(port)
            await speed.bring_up()
            assert word in speed.state.reason


@simulated
async def test_an_mk3_that_does_not_know_the_command() -> None:
    core = Core("multiplus2")
    core.adapter.kind = replace(core.adapter.kind, high_speed=False)
    port = CorePort(core)
    speed = LineSpeed(port)
    assert await speed.bring_up() is not None
    assert speed.state.status is HighSpeedStatus.FAILED
    await assert_works(port)
    port.lose()


@simulated
async def test_high_speed_that_turns_out_bad_is_given_up_when_asked() -> None:
    async with adapter() as port:
        complaints: list[float] = []
        link = Link(port, bad_line=complaints.append)
        task = asyncio.create_task(link.run())
        speed = LineSpeed(port)
        async with link.suspended():
            await speed.bring_up()
        assert speed.state.status is HighSpeedStatus.IN_USE
        port.core.adapter.speed.fault = SpeedFault.BAD_FRAMES
        await link.request(ConfigureAdapter())
        while not complaints:
            assert now() < 60
            try:
                await link.request(ReadSetting(2), 0)
            except NoReply:
                continue
        assert complaints[0] > 0.03
        async with link.suspended():
            assert await speed.fall_back(f"{complaints[0]:.0%} of the frames are bad") is not None
        assert speed.state.status is HighSpeedStatus.FAILED
        assert port.baudrate == port.core.adapter.baudrate == MK2_BAUDRATE
        await link.request(ConfigureAdapter())
        timeouts = link.counters.timeouts
        for _ in range(20):
            await link.request(ReadSetting(2), 0)
        assert (len(complaints), link.counters.timeouts) == (1, timeouts)
        assert link.figures().baudrate == MK2_BAUDRATE
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@simulated
async def test_a_good_line_is_not_complained_about() -> None:
    async with adapter() as port:
        complaints: list[float] = []
        link = Link(port, bad_line=complaints.append)
        task = asyncio.create_task(link.run())
        async with link.suspended():
            await LineSpeed(port).bring_up()
        chance = random.Random(4)
        port.core.outgoing = lambda raw: raw[:-1] if chance.random() < 0.01 else raw
        for _ in range(1000):
            try:
                await link.request(GetLeds())
            except NoReply:
                continue
        assert complaints == []
        assert link.counters.timeouts > 3
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(("used_s", "again"), [(PROVEN_S / 2, False), (PROVEN_S * 2, True)])
@simulated
async def test_an_adapter_that_leaves_high_speed_by_itself(used_s: float, again: bool) -> None:
    """Soon: it does not bear it. After long: it was without power, as in any night."""
    async with adapter() as port:
        speed = LineSpeed(port)
        await speed.bring_up()
        await asyncio.sleep(used_s)
        port.core.adapter.silent = True
        port.core.adapter.baudrate = MK2_BAUDRATE
        assert await speed.bring_up() is None
        assert speed.state.status is HighSpeedStatus.OFF
        port.core.adapter.silent = False
        assert await speed.bring_up() is not None
        assert speed.state.status is (HighSpeedStatus.IN_USE if again else HighSpeedStatus.FAILED)
        await assert_works(port)


# --- and down ------------------------------------------------------------------------------------------


@simulated
async def test_a_clean_stop_leaves_the_adapter_as_after_power_on() -> None:
    async with adapter() as port:
        speed = LineSpeed(port)
        await speed.bring_up()
        await assert_works(port)
        start = now()
        await speed.leave()
        assert now() - start < LEAVE_LIMIT_S
        assert port.baudrate == MK2_BAUDRATE
        await asyncio.sleep(POWER_ON_S)
        assert is_as_after_power_on(port.core.adapter)
        await assert_works(port)


@pytest.mark.parametrize("after_s", [0.07, 0.1, 0.14, 0.2, 0.22])
@simulated
async def test_a_stop_half_way_up(after_s: float) -> None:
    async with adapter() as port:
        speed = LineSpeed(port)
        task = asyncio.create_task(speed.bring_up())
        await asyncio.sleep(after_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await speed.leave()
        await asyncio.sleep(POWER_ON_S)
        assert port.core.adapter.baudrate == port.baudrate == MK2_BAUDRATE
        await assert_works(port)


@simulated
async def test_a_stop_at_2400_takes_no_time() -> None:
    async with adapter() as port:
        speed = LineSpeed(port, SpeedChoice.LOW)
        await speed.bring_up()
        start = now()
        await speed.leave()
        assert now() == start


@pytest.mark.parametrize("when", ["before", "meanwhile"])
@simulated
async def test_a_stop_without_a_port(when: str) -> None:
    async with adapter() as port:
        speed = LineSpeed(port)
        await speed.bring_up()
        if when == "before":
            port.lose()
        else:
            asyncio.get_running_loop().call_later(0.02, port.lose)
        start = now()
        await speed.leave()
        assert now() - start < 1


@simulated
async def test_a_stop_with_a_silent_adapter() -> None:
    async with adapter() as port:
        speed = LineSpeed(port)
        await speed.bring_up()
        port.core.adapter.silent = True
        start = now()
        await speed.leave()
        assert now() - start < LEAVE_LIMIT_S


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.06, 0.1, 0.3])
@simulated
async def test_a_port_that_goes_while_the_speed_is_changed(after_s: float) -> None:
    async with adapter() as port:
        speed = LineSpeed(port)
        task = asyncio.create_task(speed.bring_up())
        await asyncio.sleep(after_s)
        port.lose("cable pulled")
        if task.done():
            assert speed.state.status is HighSpeedStatus.IN_USE
        else:
            with pytest.raises(PortLost, match="cable pulled"):
                await task
        with pytest.raises(PortLost):
            await speed.bring_up()


@simulated
async def test_a_caller_that_is_cancelled_while_the_speed_is_changed() -> None:
    """The next one finds the adapter, wherever it is."""
    for after_s in (0.0, 0.01, 0.05, 0.08, 0.12, 0.2, 0.22):
        async with adapter() as port:
            task = asyncio.create_task(LineSpeed(port).bring_up())
            await asyncio.sleep(after_s)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.sleep(0.05)
            port.set_baudrate(MK2_BAUDRATE)  # as it is when the port is opened anew
            speed = LineSpeed(port)
            version = await speed.bring_up() or await speed.bring_up()
            assert version is not None, after_s
            await assert_works(port)
