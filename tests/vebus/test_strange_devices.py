"""Devices that answer with other words than any known one: whatever they say, nothing false comes of it."""

from __future__ import annotations

import asyncio
import logging
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clock import simulated
from support.driven import driven

from mk2dbus.items import Kind, OutOfRange, WriteFailed
from mk2dbus.mk2.winmon import SettingInfo
from mk2dbus.simulator import Override
from mk2dbus.vebus.scaling import SettingScale
from mk2dbus.vebus.tables import settings
from mk2dbus.vebus.views import views

GET_VERSION = 0x05

words = st.integers(0, 0xFFFF)
signed = st.integers(-0x8000, 0x7FFF)
infos = st.builds(SettingInfo, signed.filter(bool), signed, words, words, words, st.integers(0, 255))


@given(infos, words, st.sampled_from(sorted(settings())), st.floats(allow_nan=True, allow_infinity=True))
def test_any_info_gives_items_that_hold_together(info: SettingInfo, word: int, id: int, wish: float) -> None:
    for view in views("/Devices/0/Settings", settings()[id], SettingScale(info)):
        value = view.value(word)
        if value is not None:
            assert type(value) is (int if view.leaf.kind is Kind.INTEGER else float)
            assert math.isfinite(value)
            assert view.leaf.text(value)
            if view.leaf.writable and info.minimum <= word <= info.maximum:
                # What the device has can be written back, and is the same word.
                mask, bits = view.bits(value)
                assert bits == word & mask or view.mask != 0xFFFF
        try:
            accepted = view.leaf.accept(wish, view.limits)
            mask, bits = view.bits(accepted)
        except WriteFailed:
            continue
        assert 0 <= bits <= 0xFFFF
        if mask == 0xFFFF and view.mask == 0xFFFF:
            assert info.minimum <= bits <= info.maximum


@pytest.mark.parametrize("seed", range(4))
@simulated
async def test_a_session_with_random_words(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    generator = random.Random(seed)
    caplog.set_level(logging.WARNING)
    async with driven() as run:
        device = run.core.device
        expected: dict[int, tuple[SettingInfo, int]] = {}
        for id in generator.sample(sorted(settings()), 60):
            prefix = id.to_bytes(2, "little")
            body = generator.randbytes(generator.choice((0, 1, 2, 5, 9, 10, 10, 10, 10, 11, 11, 14)))
            device.overrides.append(Override(0x35, prefix=prefix, reply=(b"\x89" + body,)))
            raw = generator.randrange(0x10000)
            device.overrides.append(
                Override(0x31, prefix=prefix, reply=(b"\x86" + raw.to_bytes(2, "little"),))
            )
            if len(body) in (10, 11) and any(body[:2]):
                numbers = [int.from_bytes(body[at : at + 2], "little") for at in range(0, 10, 2)]
                scale, offset = (n - 0x10000 if n & 0x8000 else n for n in numbers[:2])
                expected[id] = SettingInfo(scale, offset, *numbers[2:], *body[10:]), raw
        for id in (9, 12, 17):
            body = generator.randbytes(4)
            device.overrides.append(Override(0x36, prefix=id.to_bytes(2, "little"), reply=(b"\x8e" + body,)))
        progress = "/Devices/0/Settings/ReadProgress"
        await run.until(lambda: progress in run.tree and run.value(progress) is not None, 30)
        for _ in range(600):
            if run.value(progress) == 100:
                break
            await run.until(lambda: run.value("/Connected") == 1, 1)
            await asyncio.sleep(0.5)
        for id, (info, raw) in expected.items():
            shown = run.value(f"/Devices/0/Settings/{settings()[id].name}")
            if raw == 0xFFFF > info.maximum:
                assert shown is None
                continue
            number = raw + info.offset
            value = info.scale * number if info.scale > 0 else number / -info.scale
            assert shown == pytest.approx(value), (id, info)
        assert run.value("/Dc/0/Voltage") is not None
        writable = [item for item in run.tree.items() if item.writable and "/Settings/" in item.leaf.path]
        for item in generator.sample(writable, 30):
            low, high = item.limits.minimum, item.limits.maximum
            if low is None or high is None:
                continue
            if low > high:
                # Limits that contradict each other leave nothing to write.
                with pytest.raises(OutOfRange):
                    await run.write(item.leaf.path, low)
                continue
            before = {id: setting.writes for id, setting in device.settings.items()}
            try:
                await run.write(item.leaf.path, low)
            except WriteFailed:
                continue
            after = {id: setting.writes for id, setting in device.settings.items()}
            assert sum(after.values()) - sum(before.values()) <= 1
    assert "internal error" not in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("version", [999_999, 10_000_000, 4_091_983_345])
@simulated
async def test_a_version_that_no_product_has_is_not_believed(version: int) -> None:
    async with driven() as run:
        run.core.device.overrides.append(
            Override(GET_VERSION, reply=(b"\x82" + version.to_bytes(4, "little"),))
        )
        await asyncio.sleep(10)
        assert run.value("/Connected") == 0
        assert run.value("/ProductId") is None
