"""Every setting, flag and RAM variable of a device: there, true, and writable as the contract says."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from support.clock import simulated
from support.driven import Driven, driven

from mk2dbus.bus.tree import Tree
from mk2dbus.items import (
    Disconnected,
    InvalidValue,
    Kind,
    Leaf,
    NoReply,
    OutOfRange,
    ReadOnly,
    Refused,
    WriteFailed,
)
from mk2dbus.mk2.link import Link
from mk2dbus.mk2.winmon import RamInfo
from mk2dbus.simulator import Kind as Event
from mk2dbus.simulator import Override
from mk2dbus.vebus.assistants import Assistant
from mk2dbus.vebus.device import Device
from mk2dbus.vebus.infocache import InfoCache, Infos
from mk2dbus.vebus.ramvars import DeviceRam
from mk2dbus.vebus.settingword import Source
from mk2dbus.vebus.tables import flags, ram_variables, settings

SETTINGS = "/Devices/0/Settings"
RAM_ONLY = "/Devices/0/RamOnly"
RAM_VARS = "/Devices/0/RamVars"
GET_SETTING_INFO, WRITE_BY_ID = 0x35, 0x37
PROFILES = ["multiplus2", "multiplus-old"]


def _stored(run: Driven) -> dict[int, tuple[int, int]]:
    """Raw word and number of EEPROM writes of every setting."""
    return {id: (setting.stored, setting.writes) for id, setting in run.core.device.settings.items()}


async def _ask(run: Driven, path: str) -> object:
    """As GetValue does: what is there, or read now."""
    item = run.tree.get(path)
    assert item is not None
    if item.value is None and item.fetch is not None:
        await item.fetch()
    return item.value


async def _ask_again_and_again(run: Driven, path: str) -> None:
    while True:
        await _ask(run, path)
        await asyncio.sleep(1.0)


@pytest.mark.parametrize("profile", PROFILES)
@simulated
async def test_what_the_device_supports_has_objects_and_nothing_else(profile: str) -> None:
    async with driven(profile) as run:
        await run.until_all_read()
        device = run.core.device
        expected = set()
        for setting in settings().values():
            if setting.id in device.settings:
                expected.add(setting.name)
                expected |= {
                    flag.name for flag in flags().values() if flag.setting_id == setting.id and flag.name
                }
        for folder, own in ((SETTINGS, {"ReadProgress", "ResetRequired", "UpsFunction"}), (RAM_ONLY, set())):
            found = {path.rpartition("/")[2] for path in run.tree if path.startswith(f"{folder}/")}
            assert found - own == expected
        named = {
            path.rpartition("/")[2]
            for path in run.tree
            if path.startswith(f"{RAM_VARS}/") and not path.rpartition("/")[2].isdigit()
        }
        assert named <= {row.name for row in ram_variables().values()}
        assert "UBat" in named


@pytest.mark.parametrize("profile", PROFILES)
@simulated
async def test_every_setting_is_what_the_device_has(profile: str) -> None:
    async with driven(profile) as run:
        await run.until_all_read()
        for id, setting in run.core.device.settings.items():
            shown = run.value(f"{SETTINGS}/{settings()[id].name}")
            item = run.tree.get(f"{SETTINGS}/{settings()[id].name}")
            assert item is not None
            if shown is None:
                assert setting.stored == 0xFFFF
            else:
                assert shown == pytest.approx(setting.value), settings()[id].name
        for flag in flags().values():
            if flag.name and flag.setting_id in run.core.device.settings:
                bit = run.core.device.settings[flag.setting_id].stored >> flag.bit & 1
                assert run.value(f"{SETTINGS}/{flag.name}") == bit


@simulated
async def test_ram_variables_are_read_when_somebody_asks_and_kept_fresh_for_a_while() -> None:
    async with driven() as run:
        await run.until_all_read()
        paths = [f"{RAM_VARS}/{name}" for name in ("UMainsRms", "IInverterRms", "InverterPeriod", "IBat")]
        assert [run.value(path) for path in paths] == [None] * 4
        before = len(run.sent)
        await asyncio.gather(*(_ask(run, path) for path in paths))
        reads = [frame for frame in run.sent[before:] if frame.data[1:2] == b"\x30"]
        assert len(reads) <= 2  # all four in one request, and perhaps one of the telemetry's
        unit = run.core.plant.units[0]
        assert run.value(paths[0]) == pytest.approx(unit.mains_v, abs=0.01)
        assert run.value(paths[3]) == pytest.approx(unit.battery_a, abs=0.2)
        await asyncio.sleep(20)
        assert None not in [run.value(path) for path in paths]
        await asyncio.sleep(30)
        assert [run.value(path) for path in paths] == [None] * 4
        # What the telemetry brings is always there.
        for name in ("UBat", "IgnoreAcInputState", "InverterPower", "OutputPower"):
            assert run.value(f"{RAM_VARS}/{name}") is not None, name


@simulated
async def test_ram_variables_keep_their_scale_while_a_device_is_found_again() -> None:
    """Their objects are there before the device that is found again was asked for all its scales."""
    async with driven("multiplus2-ess") as run:
        await run.until_all_read()
        await run.write("/RedetectSystem", 1)
        await run.until(lambda: run.value("/Connected") != 1, 5)
        await run.until(lambda: run.value("/Connected") == 1, 5)
        assert run.value(f"{SETTINGS}/ReadProgress") != 100
        unit = run.core.plant.units[0]
        relay = f"{RAM_VARS}/MultiFunctionalRelayState"
        capacity = run.core.device.settings[64]
        capacity.stored = capacity.ram = 200
        await run.write(f"{RAM_VARS}/ChargeState", 0.5)
        assert run.core.device.ram_value(13) == pytest.approx(0.5, abs=0.02)
        assert await _ask(run, f"{RAM_VARS}/MainsPeriod") == pytest.approx(10 / unit.mains_hz, abs=0.002)
        assert await _ask(run, f"{RAM_VARS}/SignedAcLoadCurrent") == pytest.approx(unit.output_a, abs=0.02)
        assert await _ask(run, relay) in (0, 1)


@simulated
async def test_ram_variables_of_an_old_device_are_never_shown_too_long() -> None:
    """It tells one at a time: the first of many is old when the last has come."""
    async with driven("multiplus-old") as run:
        await run.until_all_read()
        watched = f"{RAM_VARS}/UMainsRms"
        asked = asyncio.gather(*(_ask_again_and_again(run, path) for path in run.tree if RAM_VARS in path))
        true_until: dict[object, float] = {}
        ages: list[float] = []
        end = run.now + 40
        while run.now < end:
            run.core.plant.mains_voltage = 220 + (run.now % 20)
            await asyncio.sleep(0.1)
            true_until[round(run.core.plant.units[0].mains_v, 2)] = run.now
            shown = run.value(watched)
            if isinstance(shown, float):
                ages.append(run.now - true_until[round(shown, 2)])
        asked.cancel()
        assert max(ages) < 5.0
        assert len(ages) > 100


@simulated
async def test_assistants_bring_their_words() -> None:
    async with driven("multiplus2-ess") as run:
        await run.until_all_read()
        assert run.value("/Devices/0/Assistants") == (9, 4, 5)
        numbers = {path for path in run.tree if path.startswith(f"{RAM_VARS}/1")}
        assert numbers == {f"{RAM_VARS}/{number}" for number in range(128, 133)}
        assert await _ask(run, f"{RAM_VARS}/128") == 0x90
        assert await _ask(run, f"{RAM_VARS}/130") == 0x52
    async with driven("multiplus2") as run:
        await run.until_all_read()
        assert run.value("/Devices/0/Assistants") == ()


@simulated
async def test_ram_only_takes_effect_and_is_not_stored() -> None:
    async with driven() as run:
        await run.until_all_read()
        before = _stored(run)
        path = f"{RAM_ONLY}/AbsorptionVoltage"
        assert run.value(path) is None
        await run.write(path, 56.0)
        assert run.value(path) == 56.0
        assert run.core.device.settings[2].ram == 5600
        assert _stored(run) == before
        assert run.value(f"{SETTINGS}/AbsorptionVoltage") == 57.6
        # Flags in RAM keep one another, and what is stored.
        await run.write(f"{RAM_ONLY}/DisableCharger", 1)
        await run.write(f"{RAM_ONLY}/WeakAcInput", 1)
        word = run.core.device.settings[0]
        assert word.ram == word.stored | 1 << 6 | 1 << 14
        assert _stored(run) == before
        assert run.value(f"{RAM_ONLY}/DisableCharger") == 1
        assert run.value(f"{RAM_ONLY}/Is60Hz") is None
        assert run.value(f"{SETTINGS}/DisableCharger") == 0
        # A stored flag is in effect from then on; the one beside it in RAM stays as it was asked for.
        await run.write(f"{SETTINGS}/WeakAcInput", 1)
        assert word.stored == before[0][0] | 1 << 14
        assert word.ram == word.stored | 1 << 6
        assert run.value(f"{RAM_ONLY}/DisableCharger") == 1
        assert run.value(f"{RAM_ONLY}/WeakAcInput") is None
        # Nor does a write that changes nothing make it forgotten.
        await run.write(f"{SETTINGS}/WeakAcInput", 1)
        await run.write(f"{RAM_ONLY}/DisableAes", 0)
        assert word.ram == (word.stored | 1 << 6) & ~(1 << 8)
        assert word.writes == before[0][1] + 1


@simulated
async def test_ram_only_stays_in_bounds() -> None:
    async with driven() as run:
        await run.until_all_read()
        with pytest.raises(OutOfRange):
            await run.write(f"{RAM_ONLY}/AbsorptionVoltage", 64.01)
        for name in ("DisableLowRippleCheck", "DisableHighRippleCheck", "UseBulkChargeInsteadOfBulkTime"):
            with pytest.raises(ReadOnly):
                await run.write(f"{RAM_ONLY}/{name}", 1)
        run.core.device.overrides.append(Override(0x37, execute=False, reply=None))
        with pytest.raises(NoReply, match="not known"):
            await run.write(f"{RAM_ONLY}/AbsorptionVoltage", 56.0)
        assert run.value(f"{RAM_ONLY}/AbsorptionVoltage") is None


@simulated
async def test_an_old_device_has_no_ram_only() -> None:
    async with driven("multiplus-old") as run:
        await run.until_all_read()
        with pytest.raises(ReadOnly, match="RAM only"):
            await run.write(f"{RAM_ONLY}/AbsorptionVoltage", 14.0)
        assert not run.core.log.of(Event.STORED)


@simulated
async def test_what_venus_calls_otherwise_is_the_same() -> None:
    async with driven() as run:
        await run.until_all_read()
        await run.write(f"{SETTINGS}/UpsFunction", 1)
        assert run.value(f"{SETTINGS}/DisableWaveCheck") == run.value("/Settings/UpsFunction") == 1
        await run.write("/Settings/UpsFunction", 0)
        assert run.value(f"{SETTINGS}/UpsFunction") == run.value(f"{SETTINGS}/DisableWaveCheck") == 0
        assert run.core.device.settings[0].writes == 2
    async with driven("quattro3") as run:
        await run.until_known("/Devices/2/Settings/InverterOutputVoltage", 120)
        assert run.value("/Settings/InverterOutputVoltage") == 230
        await run.write("/Settings/InverterOutputVoltage", 225)
        assert [device.settings[5].value for device in run.core.devices.values()] == [225] * 3
        with pytest.raises(OutOfRange):
            await run.write("/Settings/InverterOutputVoltage", 400)


@simulated
async def test_settings_that_bound_each_other() -> None:
    async with driven() as run:
        await run.until_all_read()
        with pytest.raises(OutOfRange, match="SocStartInvert"):
            await run.write(f"{SETTINGS}/SocStopInvert", 20)
        await run.write(f"{SETTINGS}/SocStartInvert", 30)
        await run.write(f"{SETTINGS}/SocStopInvert", 20)
        with pytest.raises(OutOfRange, match="SocStopInvert"):
            await run.write(f"{SETTINGS}/SocStartInvert", 19.5)
        assert run.core.device.settings[83].stored == 40
        assert run.core.device.settings[84].stored == 60
        await run.write(f"{SETTINGS}/AcLowSwitchInputOff", 120)
        with pytest.raises(OutOfRange, match="AcHighSwitchInputOn"):
            await run.write(f"{SETTINGS}/AcHighSwitchInputOn", 120)


@simulated
async def test_a_setting_that_needs_a_reset() -> None:
    async with driven() as run:
        await run.until_all_read()
        assert run.value(f"{SETTINGS}/ResetRequired") == 0
        await run.write(f"{SETTINGS}/BatteryCapacity", 200)
        assert run.value(f"{SETTINGS}/ResetRequired") == 1
        await run.write("/SystemReset", 1)
        await run.until(lambda: run.value("/Connected") == 0, 5)
        await run.until(lambda: run.value("/Connected") == 1, 30)
        assert run.value(f"{SETTINGS}/ResetRequired") == 0
        await run.until(lambda: run.value("/Soc") is not None, 30)
        assert run.core.device.settings[64].writes == 1
        assert run.core.device.ram_value(13) * 100 == pytest.approx(run.value("/Soc"), abs=1)


@simulated
async def test_a_reset_is_required_until_there_was_one() -> None:
    """An adapter is silent without power from the inverter, and when its cable is out."""
    required = f"{SETTINGS}/ResetRequired"
    async with driven() as run:
        await run.until_all_read()
        await run.until_known("/Energy/InverterToAcOut")
        joules = run.core.device.unit.energy.joules
        joules[8] = 1e6
        await asyncio.sleep(25)
        await run.write(f"{SETTINGS}/BatteryCapacity", 200)
        await run.write(f"{RAM_ONLY}/DisableCharger", 1)
        run.core.adapter.silent = True
        with pytest.raises(WriteFailed, match="nothing was reset"):
            await run.write("/SystemReset", 1)
        await run.until(lambda: run.value("/Connected") == 0)
        await asyncio.sleep(10)
        run.core.adapter.silent = False
        await run.until(lambda: run.value("/Connected") == 1)
        await asyncio.sleep(30)
        assert run.value(required) == 1
        # And now it was off in truth.
        run.core.adapter.silent = True
        await run.until(lambda: run.value("/Connected") == 0)
        run.core.device.restart()
        joules[:] = [0.0] * 10
        run.core.adapter.silent = False
        await run.until(lambda: run.value(required) == 0)


@simulated
async def test_devices_are_detected_again_when_asked() -> None:
    async with driven() as run:
        await run.until_all_read()
        before = len(run.sent)
        await run.write("/RedetectSystem", 1)
        await run.until(lambda: any(frame.data[:2] == b"F\x07" for frame in run.sent[before:]), 5)
        await run.until(lambda: run.value("/Connected") == 1, 5)
        await run.until_known("/Dc/0/Voltage", 5)
        with pytest.raises(InvalidValue):
            await run.write("/RedetectSystem", 2)


@simulated
async def test_a_device_that_is_found_again_is_asked_for_limits_before_a_write() -> None:
    """Not after it: when that fails it would not be true that nothing was written."""
    async with driven() as run:
        await run.until_all_read()
        await run.write("/RedetectSystem", 1)
        await run.until(lambda: run.value("/Connected") != 1, 5)
        await run.until(lambda: run.value("/Connected") == 1, 5)
        before = len(run.sent)
        await run.write(f"{SETTINGS}/VsMinimumOnTime", 17)
        commands = [frame.data[1:4] for frame in run.sent[before:]]
        info, write = bytes([GET_SETTING_INFO, 43, 0]), bytes([WRITE_BY_ID, 1, 43])
        assert commands.index(info) < commands.index(write)
        assert run.core.device.settings[43].stored == 17


@simulated
async def test_changes_made_by_another_program_are_seen() -> None:
    async with driven() as run:
        await run.until_all_read()
        run.core.device.settings[2].stored = 5500
        await run.until(lambda: run.value(f"{SETTINGS}/AbsorptionVoltage") == 55.0, 900)


@simulated
async def test_a_second_start_shows_everything_at_once(tmp_path: Path) -> None:
    async with driven(state=tmp_path) as run:
        await run.until_all_read()
        first = {path for path in run.tree if "/Settings/" in path or "/RamOnly/" in path}
        infos = [frame for frame in run.sent if frame.data[1:2] in (b"\x35", b"\x36")]
        assert len(infos) > 190
        await asyncio.sleep(1)
    async with driven(state=tmp_path) as run:
        await run.until(lambda: run.value("/Connected") == 1, 5)
        await asyncio.sleep(0.5)
        assert {path for path in run.tree if "/Settings/" in path or "/RamOnly/" in path} == first
        await run.until_all_read()
        assert not [frame for frame in run.sent if frame.data[1:2] in (b"\x35", b"\x36")]
        # Before the first write the device is asked once more.
        await run.write(f"{SETTINGS}/AbsorptionVoltage", 56.0)
        assert run.core.device.settings[2].stored == 5600
        assert len([frame for frame in run.sent if frame.data[1:2] == b"\x35"]) == 1


@simulated
async def test_what_is_remembered_is_not_trusted_for_a_write(tmp_path: Path) -> None:
    async with driven(state=tmp_path) as run:
        await run.until_all_read()
        await asyncio.sleep(1)
    cache = InfoCache(tmp_path)
    infos = cache.load(2729560, True)
    info = infos.settings[2]
    assert info is not None
    infos.settings[2] = type(info)(-10, 0, 576, 480, 640)
    cache.save(2729560, True, infos)
    async with driven(state=tmp_path) as run:
        await run.until_all_read()
        path = f"{SETTINGS}/AbsorptionVoltage"
        with pytest.raises(WriteFailed, match="other limits"):
            await run.write(path, 60)
        assert not run.core.log.of(Event.STORED)
        await run.until(lambda: run.value(path) == 57.6, 10)
        await run.write(path, 60)
        assert run.core.device.settings[2].stored == 6000


@pytest.mark.parametrize("profile", PROFILES)
@simulated
async def test_every_writable_item_takes_what_it_says_and_refuses_the_rest(profile: str) -> None:
    """Minimum, maximum and default of every stored item; what is outside; and nothing but that is stored."""
    async with driven(profile) as run:
        await run.until_all_read()
        items = [item for item in run.tree.items() if item.leaf.path.startswith(f"{SETTINGS}/")]
        writable = [item for item in items if item.writable]
        assert len(writable) > 80
        for item in items:
            before = _stored(run)
            if not item.writable:
                with pytest.raises(ReadOnly):
                    await run.write(item.leaf.path, 1)
                assert _stored(run) == before
                continue
            limits = item.limits
            assert limits.minimum is not None
            assert limits.maximum is not None
            step = 1 if item.leaf.kind is Kind.INTEGER else 0.001 * max(1.0, abs(limits.maximum))
            for value, error in (
                (limits.minimum - step, OutOfRange),
                (limits.maximum + step, OutOfRange),
                (float("nan"), InvalidValue),
                (float("-inf"), InvalidValue),
                (1e300, OutOfRange),
                ("1", InvalidValue),
                ((1, 2), InvalidValue),
                (None, InvalidValue),
            ):
                with pytest.raises(error):
                    await run.write(item.leaf.path, value)
            assert _stored(run) == before
            for value in (limits.minimum, limits.maximum, limits.default):
                if value is None:
                    continue
                refusal = await _refusal(run, item.leaf.path, value)
                # Bounded by another setting, or of the grid code, which wants a password.
                assert refusal is None or "must" in refusal or "access level" in refusal, refusal
                if refusal is None:
                    assert run.value(item.leaf.path) == pytest.approx(value), item.leaf.path


async def _refusal(run: Driven, path: str, value: object) -> str | None:
    try:
        await run.write(path, value)
    except WriteFailed as error:
        return str(error)
    return None


@pytest.mark.parametrize("profile", PROFILES)
@simulated
async def test_random_writes_do_what_they_say(profile: str) -> None:
    """After each write the device's own store and write counters are what the outcome claims."""
    generator = random.Random(3)
    async with driven(profile) as run:
        await run.until_all_read()
        by_path = {f"{SETTINGS}/{settings()[id].name}": id for id in run.core.device.settings}
        by_path |= {
            f"{SETTINGS}/{flag.name}": flag.setting_id
            for flag in flags().values()
            if flag.name and flag.setting_id in run.core.device.settings
        }
        paths = [path for path in by_path if (item := run.tree.get(path)) is not None and item.writable]
        done = 0
        for _ in range(300):
            path = generator.choice(paths)
            item = run.tree.get(path)
            assert item is not None
            low, high = item.limits.minimum, item.limits.maximum
            assert low is not None
            assert high is not None
            value = generator.uniform(low - (high - low) / 5, high + (high - low) / 5)
            if item.leaf.kind is Kind.INTEGER:
                value = round(value)
            before = _stored(run)
            shown = item.value
            try:
                await run.write(path, value)
            except WriteFailed:
                assert _stored(run) == before, path
                continue
            done += 1
            after = _stored(run)
            changed = {id for id in after if after[id] != before[id]}
            assert changed <= {by_path[path]}
            if changed:
                assert after[by_path[path]][1] == before[by_path[path]][1] + 1
            else:
                assert run.value(path) == shown
            assert run.value(path) == pytest.approx(value, abs=_step(run, by_path[path]))
        assert done > 100


def _step(run: Driven, id: int) -> float:
    scale = run.core.device.settings[id].info.scale
    return (scale if scale > 0 else 1 / -scale) / 2 + 1e-9


@simulated
async def test_ram_variables_that_can_be_written() -> None:
    async with driven("multiplus2-ess") as run:
        await run.until_all_read()
        for path, value in ((f"{RAM_VARS}/132", 1), (f"{RAM_VARS}/131", -300)):
            assert run.tree.get(path) is not None, path
            await run.write(path, value)
            assert run.value(path) == value & 0xFFFF  # their info says unsigned
        with pytest.raises(ReadOnly):
            await run.write(f"{RAM_VARS}/UBat", 12)
        with pytest.raises(OutOfRange):
            await run.write(f"{RAM_VARS}/131", 70000)
        capacity = run.core.device.settings[64]
        capacity.stored = capacity.ram = 200  # without one the state of charge is always 1
        await run.write(f"{RAM_VARS}/ChargeState", 0.5)
        assert run.core.device.ram_value(13) == pytest.approx(0.5, abs=0.02)
        bit = f"{RAM_VARS}/MultiFunctionalRelayState"
        refused = await _refusal(run, bit, 1)
        assert refused is None or "refused" in refused


@simulated
async def test_words_of_assistants_have_no_objects_before_their_scale_is_known() -> None:
    """The list is known first; nobody can tell a large number from a negative one then."""
    device = Device(cast(Link, SimpleNamespace(noisy=False)), 0)
    device.assistants = (Assistant(5, 128, 1),)
    tree = Tree()
    tree.add(Leaf("/Devices/0/Assistants", Kind.LIST))
    ram = DeviceRam(cast(Source, SimpleNamespace(device=device)), tree, "/Devices/0")
    ram.attach(device)
    assert list(tree) == ["/Devices/0/Assistants"]
    device.remember(Infos({}, {128: RamInfo(1, 0), 129: RamInfo(1, 0)}))
    ram.attach(device)
    ram.show({129: 63692}, asyncio.get_running_loop().time())
    assert tree.value(f"{RAM_VARS}/129") == 63692


@simulated
async def test_any_ram_variable_by_number() -> None:
    async with driven("multiplus2-ess") as run:
        await run.until_all_read()
        raw = run.driver.raw
        value, word = await raw.read_ram(0, 4)
        assert value == word / 100
        assert value == pytest.approx(run.value("/Dc/0/Voltage"), abs=0.05)
        with pytest.raises(Refused, match="not supported"):
            await raw.read_ram(0, 20)
        for device, id in ((1, 4), (-1, 4), (0, -1), (0, 256), (0, 65535)):
            with pytest.raises(InvalidValue):
                await raw.read_ram(device, id)
        assert await raw.write_ram(0, 131, -100.0) == (-100 & 0xFFFF, -100 & 0xFFFF)
        with pytest.raises(OutOfRange):
            await raw.write_ram(0, 131, 1e9)
        with pytest.raises(Refused):
            await raw.write_ram(0, 4, 12.0)
        run.core.adapter.silent = True
        await asyncio.sleep(6)
        with pytest.raises(Disconnected):
            await raw.read_ram(0, 4)


@pytest.mark.parametrize(
    ("profile", "path", "value", "shown"),
    [
        ("multiplus2", f"{SETTINGS}/AbsorptionVoltage", 56.5, ["56.50V", "07 FF 58 37 01 02 12 16 40"]),
        ("multiplus2", f"{RAM_ONLY}/AbsorptionVoltage", 56.5, ["RAM only", "07 FF 58 37 03 02 12 16 3E"]),
        ("multiplus2", f"{SETTINGS}/DisableCharger", 1, ["yes", "FF 58 37 01 00"]),
        ("multiplus2", f"{SETTINGS}/AbsorptionVoltage", 57.6, []),
        ("multiplus-old", f"{SETTINGS}/AbsorptionVoltage", 14.1, ["05 FF 58 33 02 00", "05 FF 58 34 82 05"]),
        ("multiplus2", "/Mode", 1, ["panel frames"]),
        ("multiplus2", "/CustomName", "x", []),
    ],
)
@simulated
async def test_preview_sends_nothing(profile: str, path: str, value: float, shown: list[str]) -> None:
    async with driven(profile) as run:
        await run.until_all_read()
        before = _stored(run)
        text = await run.driver.raw.preview(path, value)
        assert all(word in text for word in shown), text
        assert bool(text) == bool(shown)
        await asyncio.sleep(3)
        assert _stored(run) == before
        assert not run.core.log.of(Event.PANEL)
        assert not run.core.log.of(Event.RAM_WRITTEN)


@simulated
async def test_preview_says_what_the_write_would_say() -> None:
    async with driven() as run:
        await run.until_all_read()
        run.core.adapter.silent = True
        await asyncio.sleep(6)
        for path in (
            f"{SETTINGS}/AbsorptionVoltage",
            f"{RAM_ONLY}/DisableCharger",
            f"{RAM_VARS}/ChargeState",
        ):
            with pytest.raises(Disconnected):
                await run.driver.raw.preview(path, 1)
