"""The list of assistants, good and bad ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
from support.clock import simulated
from support.driven import Driven, driven

from mk2dbus.simulator import Core
from mk2dbus.simulator.assistants import Assistant
from mk2dbus.simulator.winmon import Override
from mk2dbus.vebus.options import Options

CALM = Options(poll_interval_s=1.5)
READ = b"\x30"


class Raw(Assistant):
    """Words as they are, whatever they say of themselves."""

    def __init__(self, words: Sequence[int]) -> None:
        super().__init__(0, list(words[1:]))
        self._header = words[0]

    @property
    def header(self) -> int:
        return self._header


def core_with(*words: int) -> Core:
    core = Core("multiplus2")
    core.device.assistants[:] = [Raw(words)]
    return core


async def discovered(run: Driven) -> None:
    await run.until_known("/Devices/0/Assistants", 60)


def assistant_reads(run: Driven) -> int:
    """Reads of a single variable, of those from 128 up."""
    singles = [frame.data[2] for frame in run.sent if frame.data[1:2] == READ and frame.data[3:] == b"\0"]
    return sum(id >= 128 for id in singles)


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        pytest.param([0], (), id="none"),
        pytest.param([0x0090, 0x0040, 0x0052, 0, 0], (9, 4, 5), id="as recorded"),
        pytest.param([0x0001, 7, 0x0052, 0, 0], (0, 5), id="an id of 0 is not the end"),
        pytest.param([0xFFFF, *[1] * 15, 0xFFF0], (0xFFF, 0xFFF), id="the largest"),
        pytest.param([*[0x0010] * 127, 0x0020], (*[1] * 127, 2), id="without an end"),
        pytest.param([*[0x002F, *[9] * 15] * 8], (2,) * 8, id="full to the last word"),
        pytest.param([*[0x002E, *[9] * 14] * 8, 0x0052, 0, 0, 0x0015], (*[2] * 8, 5), id="runs out"),
        pytest.param([*[0xFFFF] * 128], (0xFFF,) * 8, id="garbage"),
    ],
)
@simulated
async def test_lists_good_and_bad(words: list[int], kinds: tuple[int, ...]) -> None:
    async with driven(core=core_with(*words), options=CALM) as run:
        await discovered(run)
        assert run.value("/Devices/0/Assistants") == kinds
        # Objects reach as far as the list, and not beyond.
        numbers = {path.rpartition("/")[2] for path in run.tree if path.startswith("/Devices/0/RamVars/")}
        assert max((int(number) for number in numbers if number.isdecimal()), default=0) <= 255
        assert run.value("/Hub4/AssistantId") == (5 if 5 in kinds else None)


@simulated
async def test_a_list_without_an_end_is_said_and_read_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with driven(core=core_with(*[0x0010] * 128), options=CALM) as run:
        await discovered(run)
        await run.until_all_read()
        assert caplog.text.count("has no end") == 1
        assert run.value("/AcSensor/Count") == 0, "sensors without words are none"


@simulated
async def test_a_device_without_these_variables_has_no_assistants() -> None:
    core = core_with(0)
    core.device.overrides.append(Override(READ[0], bytes((128,)), execute=False, reply=(b"\x90\x01",)))
    async with driven(core=core, options=CALM) as run:
        await discovered(run)
        assert run.value("/Devices/0/Assistants") == ()
        assert run.value("/AcSensor/Count") == 0


@simulated
async def test_a_list_that_was_not_answered_is_read_later() -> None:
    core = core_with(0x0052, 0, 0)
    core.device.overrides.append(Override(READ[0], bytes((128,)), reply=None, times=3))
    async with driven(core=core, options=CALM) as run:
        await discovered(run)
        assert run.value("/Devices/0/Assistants") == (5,)
        await run.until_known("/Hub4/L1/AcPowerSetpoint", 200)


@simulated
async def test_the_list_is_read_once() -> None:
    async with driven("multiplus2-ess", options=CALM) as run:
        await run.until_known("/Hub4/AssistantId")
        reads = assistant_reads(run)
        await run.until_all_read()
        assert assistant_reads(run) == reads == 4
