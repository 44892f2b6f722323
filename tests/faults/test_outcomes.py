"""What a client is told of its write, at bad moments: it is true, and nothing is sent after it was told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from dataclasses import replace as changed

import pytest
from support.clock import simulated
from support.driven import Driven, driven

from mk2dbus.bus.access import WRITE_BOUND_S, Access
from mk2dbus.items import Disconnected, NoReply, Refused, WriteFailed
from mk2dbus.simulator import Console, Core, Override
from mk2dbus.vebus.options import Options
from mk2dbus.vebus.scaling import SettingScale

SLOW = Options(poll_interval_s=0.5)
RAM_WORD = "/Devices/0/RamVars/131"
"""The setpoint's word of the ESS assistant."""
SETPOINT, ASSISTANT = "/Hub4/L1/AcPowerSetpoint", "/Hub4/AssistantId"
OUTPUT_VOLTAGE, OUTPUT_VOLTAGE_ID = "/Settings/InverterOutputVoltage", 5
WRITE_BY_ID, LOST_REPLY = 0x37, b"\x87"


@dataclass
class Clients:
    """Write as clients on the bus do, and keep what they were told and when."""

    run: Driven
    access: Access = field(default_factory=Access)
    told: dict[float, tuple[float, WriteFailed | None]] = field(default_factory=dict)

    async def write(self, path: str, value: float) -> WriteFailed | None:
        item = self.run.tree.get(path)
        assert item is not None
        failed: WriteFailed | None = None
        try:
            await self.access.write(item, value)
        except WriteFailed as error:
            failed = error
        self.told[value] = (self.run.now, failed)
        return failed


def _note_writes(run: Driven) -> list[tuple[float, int]]:
    """Gets the time and the word of each write that is sent from now on."""
    writes: list[tuple[float, int]] = []
    note = run.port.on_write

    def noting(data: bytes) -> None:
        before = len(run.sent)
        note(data)
        writes.extend(
            (run.now, int.from_bytes(frame.data[4:6], "little"))
            for frame in run.sent[before:]
            if frame.data[:1].upper() in (b"X", b"Y", b"Z") and frame.data[1] == WRITE_BY_ID
        )

    run.port.on_write = noting
    return writes


@simulated
async def test_no_write_is_sent_after_its_client_was_told() -> None:
    """More writes than the line carries in the time in which they have to be answered."""
    async with driven("multiplus2-ess", options=SLOW) as run:
        await run.until_known(SETPOINT)
        await run.until(lambda: RAM_WORD in run.tree, 60)
        clients, sent = Clients(run), _note_writes(run)
        values = range(1000, 1060)
        start = run.now
        await asyncio.gather(*(clients.write(RAM_WORD, value) for value in values))
        assert run.now - start < 5.0
        await asyncio.sleep(20.0)
        done = {value for value in values if clients.told[value][1] is None}
        assert done
        assert {type(clients.told[value][1]) for value in values if value not in done} == {NoReply}
        assert done <= {word for _, word in sent}
        assert all(at <= clients.told[word][0] for at, word in sent)
        # What was cut off does not stand in the way of the next.
        assert await clients.write(RAM_WORD, 5) is None
        assert WRITE_BOUND_S < 5.0


@simulated
async def test_the_port_is_lost_when_the_device_has_acknowledged(caplog: pytest.LogCaptureFixture) -> None:
    async with driven("multiplus2-ess", options=SLOW) as run:
        await run.until_all_read()

        def lose(data: bytes) -> bytes:
            if LOST_REPLY in data:
                asyncio.get_running_loop().call_later(0.06, run.port.lose)
            return data

        run.core.outgoing = lose
        assert await Clients(run).write(RAM_WORD, 7) is None
        run.core.outgoing = None
        assert run.opened == 1
        await run.until(lambda: run.opened == 2)
    assert "in a way it should not" not in caplog.text


@pytest.mark.parametrize("after_s", [0.02, 0.2, 0.45])
@simulated
async def test_a_write_never_goes_to_the_device_that_is_there_next(after_s: float) -> None:
    """A flag: its word is read first. Meanwhile the session begins again, and finds another product."""
    async with driven(options=SLOW) as run:
        await run.until_all_read()
        run.core.adapter.latency_s = 0.3
        path = "/Devices/0/Settings/DisableCharger"
        flag = run.value(path)
        assert isinstance(flag, int)
        writing = asyncio.create_task(Clients(run).write(path, 1 - flag))
        await asyncio.sleep(after_s)
        await run.write("/RedetectSystem", 1)
        # The line is left to the start-up as soon as what is on it was answered.
        await asyncio.sleep(0.5 - after_s)
        Console(run.core).execute("unit replace 0 multiplus2-230v")
        other = run.core.device
        failed = await writing
        assert isinstance(failed, Disconnected)
        version = other.kind.version
        await run.until(lambda: run.value("/Devices/0/Version") == version, 60)
        await asyncio.sleep(5.0)
        assert not [number for number, setting in other.settings.items() if setting.writes]


@simulated
async def test_a_setpoint_whose_outcome_comes_late_leaves_the_new_session_alone() -> None:
    async with driven("multiplus2-ess", options=SLOW) as run:
        await run.until_known(SETPOINT)
        run.core.outgoing = lambda data: b"" if LOST_REPLY in data else data
        writing = asyncio.create_task(Clients(run).write(SETPOINT, 500.0))
        await asyncio.sleep(0.3)
        await run.write("/RedetectSystem", 1)
        await run.until(lambda: run.value("/Connected") == 0, 1.0)
        while run.value("/Connected") == 0:
            assert run.value(SETPOINT) is None
            assert run.value(ASSISTANT) is None
            await asyncio.sleep(0.02)
        assert isinstance(await writing, Disconnected)
        run.core.outgoing = None
        await run.until_known(ASSISTANT)
        # Nor does it when its time would be over.
        for _ in range(700):
            await asyncio.sleep(0.1)
            assert run.value(ASSISTANT) == 5


@simulated
async def test_a_setpoint_of_a_system_that_falls_silent() -> None:
    async with driven("multiplus2-ess", options=SLOW) as run:
        await run.until_known(SETPOINT)
        Console(run.core).execute("adapter fault silent")
        await asyncio.sleep(3.0)
        assert isinstance(await Clients(run).write(SETPOINT, 500.0), NoReply | Disconnected)
        await run.until(lambda: run.value("/Connected") == 0, 5.0)
        for _ in range(750):
            assert run.value(SETPOINT) is None
            assert run.value(ASSISTANT) is None
            await asyncio.sleep(0.1)


@simulated
async def test_all_devices_are_to_store_and_one_does_not() -> None:
    """The first has stored it: "refused before anything was sent" would not be true."""
    async with driven("quattro3", options=SLOW) as run:
        items = run.driver._context.items
        await run.until(
            lambda: len(items) == 3 and all(one.settings.find(_path(n)) for n, one in enumerate(items))
        )
        device = items[1].device
        assert device is not None
        info = device._setting_scales[OUTPUT_VOLTAGE_ID].info  # type: ignore[union-attr]  # it was found
        device._setting_scales[OUTPUT_VOLTAGE_ID] = SettingScale(changed(info, maximum=info.maximum - 20))
        items[1].settings._outdated(device, OUTPUT_VOLTAGE_ID)
        failed = await Clients(run).write(OUTPUT_VOLTAGE, 240.0)
        assert isinstance(failed, Refused)
        assert "1 of 3 devices have it" in str(failed)
        assert [one.settings[OUTPUT_VOLTAGE_ID].stored for one in run.core.devices.values()] == [
            240,
            230,
            230,
        ]


def _path(number: int) -> str:
    return f"/Devices/{number}/Settings/InverterOutputVoltage"


@simulated
async def test_all_devices_are_to_store_and_the_time_does_not_suffice() -> None:
    core = Core("quattro3")
    async with driven(core=core, options=SLOW) as run:
        items = run.driver._context.items
        await run.until(
            lambda: len(items) == 3 and all(one.settings.find(_path(n)) for n, one in enumerate(items))
        )
        clients, sent = Clients(run), _note_writes(run)
        # The acknowledgement is lost, and what is read back then: that takes two or three seconds.
        for one, times in zip(core.devices.values(), (1, 2, 1), strict=True):
            one.overrides += (Override(0x31, times=times), Override(WRITE_BY_ID, times=1))
        assert isinstance(await clients.write(OUTPUT_VOLTAGE, 240.0), NoReply)
        told = run.now
        await asyncio.sleep(20.0)
        assert sent
        assert not [at for at, _ in sent if at > told]


@pytest.mark.parametrize("amps", [1e308, -1e308, 2.0**64, 3276.8])
@simulated
async def test_a_limit_beyond_all_bounds(amps: float) -> None:
    """That of the input that is not active has no limits to be checked against."""
    async with driven("quattro", options=SLOW) as run:
        await run.until_known("/ModeIsAdjustable")
        for number in (1, 2):
            failed = await Clients(run).write(f"/Ac/In/{number}/CurrentLimit", amps)
            assert type(failed).__name__ in ("OutOfRange", "ReadOnly")
        assert not run.commands_sent()
