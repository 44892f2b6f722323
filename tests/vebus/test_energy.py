"""Energy: counters that roll over, added up over sessions and runs of the service, and kept on disk."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.clock import simulated
from support.driven import Driven, driven

from mk2dbus.mk2.framing import Frame
from mk2dbus.simulator import Core
from mk2dbus.simulator.unit import EnergyMeter
from mk2dbus.simulator.winmon import Override
from mk2dbus.vebus.counters import (
    FASTEST_STEPS_PER_S,
    STEP_J,
    Jump,
    Moment,
    Reading,
    RollingCounters,
    kilowatt_hours,
    longest_gap_s,
)
from mk2dbus.vebus.energy import FLOWS, MODULUS
from mk2dbus.vebus.energybook import SYSTEM, EnergyBook, EnergyFile, loop_clock, machine_clock
from mk2dbus.vebus.options import Options

LONGEST_S = longest_gap_s(MODULUS) - 0.001
GET_ENERGY = b"\x0f"


def reading(seconds: float, *counters: int, epoch: str = "boot") -> Reading:
    return Reading(Moment(epoch, seconds), counters)


# --- what a difference is -------------------------------------------------------------------------------


@given(
    start=st.integers(0, MODULUS - 1),
    rounds=st.lists(
        st.tuples(
            st.floats(0.1, LONGEST_S),
            st.floats(0, FASTEST_STEPS_PER_S),
        ),
        max_size=60,
    ),
)
@example(start=0, rounds=[(0.5, 0.5), (LONGEST_S, 0.5)] * 50)
@example(start=0, rounds=[(1, 0.499), (LONGEST_S, 0.5)] * 50)
@settings(deadline=None)
def test_nothing_is_lost_or_made_up_over_roll_overs(start: int, rounds: list[tuple[float, float]]) -> None:
    rolling = RollingCounters(MODULUS, reading(0, start))
    now, truth, counted = 0.0, float(start), 0
    for seconds, rate in rounds:
        now += seconds
        truth += seconds * rate
        (steps,) = rolling.advance(reading(now, int(truth) % MODULUS))
        counted += steps
    assert start + counted == int(truth)


def test_the_first_reading_counts_nothing() -> None:
    assert RollingCounters(MODULUS).advance(reading(0, 7, 200)) == (0, 0)


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(reading(longest_gap_s(MODULUS) + 11, 12), id="could have turned round unseen"),
        pytest.param(reading(20, 12, epoch="next boot"), id="other clock"),
        pytest.param(reading(5, 12), id="clock went back"),
        pytest.param(reading(20, 12, 3), id="other counters"),
    ],
)
def test_what_cannot_be_compared_counts_nothing_and_is_where_to_go_on_from(after: Reading) -> None:
    rolling = RollingCounters(MODULUS, reading(10, 10))
    assert not any(rolling.advance(after))
    later = Reading(Moment(after.at.epoch, after.at.seconds + 10), tuple(n + 1 for n in after.counters))
    assert all(step == 1 for step in rolling.advance(later))


def test_a_damaged_reply_is_left_out_and_costs_nothing() -> None:
    rolling = RollingCounters(MODULUS, reading(0, 10, 20))
    with pytest.raises(Jump):
        rolling.advance(reading(10, 10, 120))
    assert rolling.advance(reading(20, 12, 21)) == (2, 1)


def test_counters_that_began_anew_are_believed_when_said_twice() -> None:
    rolling = RollingCounters(MODULUS, reading(0, 100, 200))
    with pytest.raises(Jump):
        rolling.advance(reading(10, 1, 0))
    # What came after the first of the two is energy.
    assert rolling.advance(reading(20, 2, 1)) == (1, 1)
    assert rolling.advance(reading(30, 3, 1)) == (1, 0)


def test_two_damaged_replies_that_differ_are_not_believed() -> None:
    rolling = RollingCounters(MODULUS, reading(0, 10))
    for at, damaged in ((10, 100), (20, 200)):
        with pytest.raises(Jump):
            rolling.advance(reading(at, damaged))
    assert rolling.advance(reading(30, 13)) == (3,)


def test_zeros_of_a_device_that_was_away_are_a_new_beginning() -> None:
    for found_anew, steps in ((True, (0,)), (False, (2,))):
        rolling = RollingCounters(MODULUS, reading(0, 254))
        assert rolling.advance(reading(10, 0), found_anew=found_anew) == steps
    rolling = RollingCounters(MODULUS, reading(0, 254, 9))
    assert rolling.advance(reading(10, 0, 9), found_anew=True) == (2, 0)


def test_random_counters_of_a_device_that_lies_are_not_taken_for_energy() -> None:
    """Left out again and again, as no two of them follow from one another."""
    noise = random.Random(5)
    rolling = RollingCounters(MODULUS, reading(0, *[0] * 10))
    counted = 0
    for second in range(10, 5000, 10):
        try:
            counted += sum(rolling.advance(reading(second, *[noise.randrange(256) for _ in range(10)])))
        except Jump:
            continue
    assert counted == 0


# --- the file -------------------------------------------------------------------------------------------


class Watch:
    """A clock that is set by hand."""

    def __init__(self, seconds: float = 0.0, epoch: str = "boot") -> None:
        self.seconds = seconds
        self.epoch = epoch

    def __call__(self) -> Moment:
        return Moment(self.epoch, self.seconds)


def book_in(directory: Path, watch: Watch, adapter: str = "ttyUSB0") -> EnergyBook:
    return EnergyBook(EnergyFile(directory, adapter), watch)


def count(book: EnergyBook, *counters: int, device: str = "device 1") -> Sequence[int]:
    padded = (*counters, *[0] * (10 - len(counters)))
    return book.count(SYSTEM, device, padded, MODULUS)[: len(counters)]


def test_a_restart_of_the_service_costs_nothing(tmp_path: Path) -> None:
    watch = Watch()
    book = book_in(tmp_path, watch)
    assert count(book, 250) == (0,)
    watch.seconds = 10
    assert count(book, 253) == (3,)
    book.save()
    watch.seconds = 40
    assert count(book_in(tmp_path, watch), 2) == (8,)


def test_what_cannot_be_told_of_the_time_between_is_not_counted(tmp_path: Path) -> None:
    watch = Watch()
    book = book_in(tmp_path, watch)
    count(book, 0)
    watch.seconds = 10
    count(book, 5)
    book.save()
    for later in (Watch(10 + longest_gap_s(MODULUS) + 1), Watch(10.5, "next boot"), Watch(9)):
        assert count(book_in(tmp_path, later), 9) == (5,)
        later.seconds += 10
    # Another device, or the same with another firmware, is a source of its own.
    watch.seconds = 20
    assert count(book_in(tmp_path, watch), 9, device="device 2") == (5,)


def test_it_is_written_once_a_minute_at_most_and_only_with_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[float] = []
    watch = Watch()
    monkeypatch.setattr(EnergyFile, "save", lambda *_: written.append(watch.seconds) or True)
    book = book_in(tmp_path, watch)
    for second in range(0, 300, 10):
        watch.seconds = second
        count(book, second // 40)
        book.save_at_times()
    assert written == [0, 60, 120, 180, 240]
    # Nothing new: the last counters are written when the service ends.
    for second in range(300, 600, 10):
        watch.seconds = second
        count(book, 7)
        book.save_at_times()
    assert written == [0, 60, 120, 180, 240, 300]
    book.save()
    assert written[-1] == 590
    book.save()
    assert len(written) == 7


def test_two_adapters_do_not_share_a_file(tmp_path: Path) -> None:
    for adapter, counter in (("ttyUSB0", 3), ("ttyUSB1", 5)):
        watch = Watch()
        book = book_in(tmp_path, watch, adapter)
        count(book, 0)
        watch.seconds = 10
        count(book, counter)
        book.save()
    for adapter, counter in (("ttyUSB0", 3), ("ttyUSB1", 5)):
        assert count(book_in(tmp_path, Watch(20), adapter), counter) == (counter,)


GOOD = {"format": 1, "totals": {"system": [1] * 10}, "last": {}}
BROKEN = {
    "cut": json.dumps(GOOD)[:-9],
    "no JSON": "energy",
    "a list": "[]",
    "other format": json.dumps(GOOD | {"format": 2}),
    "no totals": json.dumps({"format": 1, "last": {}}),
    "negative": json.dumps(GOOD | {"totals": {"system": [-1] * 10}}),
    "fraction": json.dumps(GOOD | {"totals": {"system": [1.5] * 10}}),
    "truth": json.dumps(GOOD | {"totals": {"system": [True] * 10}}),
    "endless": json.dumps(GOOD | {"totals": {"system": [1 << 70] * 10}}),
    "too few": json.dumps(GOOD | {"totals": {"system": [1] * 9}}),
    "reading": json.dumps(GOOD | {"last": {"device": {"epoch": "b", "seconds": "1", "counters": [0] * 10}}}),
    "no number": '{"format": 1, "totals": {}, "last": {"": {"epoch": "", "seconds": NaN, "counters": []}}}',
    "a number too large": '{"format": 1, "totals": {}, "last": {"": {"epoch": "", "seconds": 1'
    + "0" * 400
    + ', "counters": []}}}',
    "binary": "\x00\x01\x02",
    "deep": "[" * 100_000,
}


def test_a_directory_that_may_not_be_entered_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    book = book_in(tmp_path, Watch())
    count(book, 1)
    book.save()
    book.save()
    assert len(caplog.records) == 2


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_put_aside(content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = EnergyFile(tmp_path, "ttyUSB0").path
    path.write_text(content)
    watch = Watch()
    with caplog.at_level(logging.WARNING):
        book = book_in(tmp_path, watch)
    assert caplog.records
    assert not path.exists()
    assert path.with_name(f"{path.name}.broken").read_text() == content
    count(book, 1)
    book.save()
    assert json.loads(path.read_text())["totals"] == {SYSTEM: [0] * 10}
    # The next one does not take the place of the first.
    path.write_text("broken again")
    book_in(tmp_path, watch)
    assert path.with_name(f"{path.name}.broken").read_text() == content
    assert path.with_name(f"{path.name}.broken1").read_text() == "broken again"


def test_a_good_file_reads(tmp_path: Path) -> None:
    EnergyFile(tmp_path, "ttyUSB0").path.write_text(json.dumps(GOOD))
    assert count(book_in(tmp_path, Watch()), 9) == (1,)


def test_a_file_that_cannot_be_read_or_put_aside_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = EnergyFile(tmp_path, "ttyUSB0").path
    path.write_text("broken")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(Path, "rename", refuse)
        book = book_in(tmp_path, Watch())
        for counter in range(3):
            count(book, counter)
            book.save()
    assert path.read_text() == "broken"
    assert sum("in the way" in record.message for record in caplog.records) == 1
    book.save()
    assert json.loads(path.read_text())["totals"] == {SYSTEM: [2, *[0] * 9]}
    assert path.with_name(f"{path.name}.broken").read_text() == "broken"


def test_a_directory_that_cannot_be_written_is_said_once_and_energy_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "state"
    place.write_text("a file in the place of the directory")
    watch = Watch()
    with caplog.at_level(logging.WARNING):
        book = book_in(place, watch)
        for second in range(0, 600, 10):
            watch.seconds = second
            totals = count(book, second // 10)
            book.save_at_times()
    assert totals == (59,)
    assert len(caplog.records) == 1
    place.unlink()
    # It is there now: what was counted meanwhile is kept.
    book.save()
    assert count(book_in(place, watch), 59) == (59,)
    # It vanishes.
    EnergyFile(place, "ttyUSB0").path.unlink()
    place.rmdir()
    watch.seconds += 60
    count(book, 60)
    book.save_at_times()
    assert count(book_in(place, watch), 60) == (60,)


def test_readings_of_an_earlier_boot_are_not_kept_for_ever(tmp_path: Path) -> None:
    for boot in range(5):
        book = book_in(tmp_path, Watch(100.0, f"boot {boot}"))
        count(book, 1, device=f"device {boot}")
        book.save()
    content = json.loads(EnergyFile(tmp_path, "ttyUSB0").path.read_text())
    assert list(content["last"]) == ["device 4"]


def test_the_clock_of_the_machine_goes_on_over_runs_of_the_service() -> None:
    first, second = machine_clock()(), machine_clock()()
    elapsed = first.until(second)
    assert elapsed is not None
    assert elapsed < 10


# --- the system -----------------------------------------------------------------------------------------

CALM = Options(poll_interval_s=1.5)
"""Leaves out what these tests do not look at."""


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meters of the units stand still, but for what a test adds."""
    monkeypatch.setattr(EnergyMeter, "add", lambda *_: None)


def add(core: Core, *steps: float) -> None:
    """All units pass on energy: steps for each counter, or the same for all."""
    for device in core.devices.values():
        if device.present:
            for index in range(10):
                device.unit.energy.joules[index] += steps[index % len(steps)] * STEP_J


async def live(run: Driven, seconds: float, *steps: float) -> None:
    """Let time pass; so much is passed on every 10 s."""
    for _ in range(round(seconds / 10)):
        add(run.core, *steps)
        await asyncio.sleep(10)


def shown(run: Driven) -> list[object]:
    return [run.value(f"/Energy/{flow}") for flow in FLOWS]


def energy(*steps: float) -> list[object]:
    return [pytest.approx(kilowatt_hours(1) * one) for one in steps]


RATES = (4, 0, 3, 0, 0, 1, 0, 0, 2, 5)


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize("profile", ["multiplus2", "multiplus-old", "quattro3"])
@simulated
async def test_energy_of_all_units_is_added_up_over_roll_overs(profile: str) -> None:
    async with driven(profile, options=CALM) as run:
        add(run.core, 250)
        await asyncio.sleep(30)
        assert shown(run) == energy(*[0] * 10)
        await live(run, 60, *RATES)
        await asyncio.sleep(15)
        units = len(run.core.devices)
        assert shown(run) == energy(*(6 * rate * units for rate in RATES))
        item = run.tree.get("/Energy/AcIn1ToInverter")
        assert item is not None
        assert item.leaf.text(1.2345) == "1.23kWh"


@simulated
async def test_energy_is_what_the_plant_passes_on() -> None:
    async with driven("quattro", options=CALM) as run:
        run.core.plant.load_w = 4000
        await run.until_known("/Energy/AcIn1ToAcOut")
        began = run.now
        await asyncio.sleep(240)
        # To a step at the beginning and at the end, and what came after the last reading.
        truth = 4.0 * (run.now - began) / 3600
        assert run.value("/Energy/AcIn1ToAcOut") == pytest.approx(truth, abs=kilowatt_hours(2) + 0.012)
        assert run.value("/Energy/AcIn2ToAcOut") == 0


@pytest.mark.usefixtures("by_hand")
@simulated
async def test_resets_of_adapter_and_session_cost_nothing() -> None:
    async with driven("split2", options=CALM) as run:
        add(run.core, 245)
        await asyncio.sleep(20)
        for number in range(2):
            await live(run, 20, 3)
            if number % 2:
                run.core.adapter.power_cycle()
            else:
                await run.write("/RedetectSystem", 1)
            await live(run, 20, 3)
        await asyncio.sleep(20)
        assert shown(run) == energy(*[8 * 3 * 2] * 10)


@pytest.mark.usefixtures("by_hand")
@simulated
async def test_everything_is_invalid_while_the_system_is_away_and_back_with_it() -> None:
    async with driven(options=CALM) as run:
        await asyncio.sleep(20)
        await live(run, 20, 3)
        run.core.adapter.silent = True
        await run.until(lambda: run.value("/Connected") == 0, 10)
        assert shown(run) == [None] * 10
        await live(run, 20, 3)
        run.core.adapter.silent = False
        await run.until_known("/Energy/AcIn1ToAcOut", 30)
        assert shown(run) == energy(*[12] * 10)


def still_clock() -> Moment:
    """As the machine's: goes on over runs of the service."""
    return Moment("boot", loop_clock().seconds)


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize("killed", [False, True])
@simulated
async def test_the_service_is_restarted(tmp_path: Path, killed: bool) -> None:
    core = Core("split2")
    file = EnergyFile(tmp_path, "sim0")
    add(core, 240)
    for number in range(2):
        book = EnergyBook(EnergyFile(tmp_path, "sim0"), still_clock)
        async with driven(core=core, energy=book, options=CALM) as run:
            await asyncio.sleep(20)
            assert shown(run) == energy(*[number * 2 * 24] * 10)
            await live(run, 70, 3)
            kept = file.path.read_text()
        if killed:
            # As if what was written at the end had not been.
            file.path.write_text(kept)
        # The counters go on meanwhile.
        add(core, 3)
        await asyncio.sleep(60)


@pytest.mark.usefixtures("by_hand")
@simulated
async def test_a_device_that_was_reset_adds_nothing_false() -> None:
    async with driven(options=CALM) as run:
        add(run.core, 200)
        await asyncio.sleep(20)
        await live(run, 20, 3)
        before = shown(run)
        await run.write("/SystemReset", 1)
        await run.until(lambda: shown(run) == [None] * 10)
        await run.until_known("/Energy/AcIn1ToAcOut", 60)
        assert shown(run) == before


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize("jump", [35, 130, 200])
@simulated
async def test_a_jump_that_stays_is_counted_after_the_next_reading(jump: int) -> None:
    async with driven(options=CALM) as run:
        add(run.core, 20)
        await run.until_known("/Energy/AcIn1ToAcOut", 60)
        await asyncio.sleep(25)
        before = shown(run)
        add(run.core, jump)
        await asyncio.sleep(30)
        assert shown(run)[0] == pytest.approx(before[0] + kilowatt_hours(jump))


@pytest.mark.usefixtures("by_hand")
@simulated
async def test_a_unit_vanishes_and_comes_back_or_another_one_does() -> None:
    async with driven("parallel3", options=CALM) as run:
        add(run.core, 50)
        await asyncio.sleep(40)
        unit = run.core.devices[3]
        for serial, counters in ((unit.serial, 60), ("HQ9999ABCDE", 70)):
            before = run.value("/Energy/AcIn1ToAcOut")
            unit.present = False
            await run.until(lambda: run.value("/Devices/NumberOfMultis") == 2, 60)
            await live(run, 20, 1)
            await asyncio.sleep(10)
            gone = run.value("/Energy/AcIn1ToAcOut")
            assert gone == pytest.approx(before + kilowatt_hours(4))
            unit.serial = serial
            unit.present = True
            unit.unit.energy.joules[:] = [counters * STEP_J] * 10
            await run.until(lambda: run.value("/Devices/NumberOfMultis") == 3, 60)
            await asyncio.sleep(20)
            # What the same unit has counted meanwhile is energy; what another one had counted is not.
            meanwhile = 10 if counters == 60 else 0
            assert run.value("/Energy/AcIn1ToAcOut") == pytest.approx(gone + kilowatt_hours(meanwhile))


@pytest.mark.usefixtures("by_hand")
@simulated
async def test_a_glitch_is_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mk2dbus.vebus.schedule")
    async with driven(options=CALM) as run:
        await asyncio.sleep(20)
        await live(run, 20, 2)
        assert "left out" not in caplog.text
        glitch = Override(0x0F, reply=(b"\x98" + bytes(range(100, 200, 10)),), times=1)
        run.core.device.overrides.append(glitch)
        await live(run, 10, 2)
        assert caplog.text.count("energy: left out") == 1
        await live(run, 20, 2)
        await asyncio.sleep(10)
        assert shown(run) == energy(*[10] * 10)


def energy_requests(run: Driven) -> list[Frame]:
    return [frame for frame in run.sent if frame.data[1:2] == GET_ENERGY]


@simulated
async def test_energy_is_invalid_where_a_slave_does_not_tell_the_truth() -> None:
    async with driven("mixed", options=CALM) as run:
        await run.until_known("/Devices/4/Version")
        await asyncio.sleep(30)
        assert run.value("/Quirks") == 1
        assert shown(run) == [None] * 10
        assert not energy_requests(run)


@simulated
async def test_energy_is_invalid_where_a_device_does_not_count() -> None:
    async with driven("quattro3", options=CALM) as run:
        run.core.devices[1].overrides.append(Override(0x0F, execute=False, reply=(b"\x80\x00",)))
        await run.until_known("/Ac/Out/P")
        await asyncio.sleep(40)
        assert shown(run) == [None] * 10
        # It is not asked again and again.
        assert len(energy_requests(run)) <= 4


@simulated
async def test_each_unit_is_asked_seldom_and_well_before_its_counters_turn() -> None:
    async with driven("parallel-3phase") as run:
        await run.until_known("/Energy/AcIn1ToAcOut", 60)
        before = len(energy_requests(run))
        await asyncio.sleep(60)
        rate = (len(energy_requests(run)) - before) / len(run.core.devices) / 60
        assert 1 / 30 <= rate <= 1 / 9
