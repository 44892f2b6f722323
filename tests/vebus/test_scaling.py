"""Scaling: the recorded infos, and there and back again."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mk2dbus.mk2.winmon import RamInfo, SettingInfo
from mk2dbus.vebus.scaling import RamScale, SettingScale, ram_scale


def _info(text: str) -> RamInfo:
    data = bytes.fromhex(text)
    return RamInfo(
        int.from_bytes(data[:2], "little", signed=True), int.from_bytes(data[2:], "little", signed=True)
    )


@pytest.mark.parametrize(
    ("info", "raw", "value"),
    [
        ("9C7F 0000", 1441, 14.41),
        ("9C7F 0000", 0xFFFF, 655.35),  # unsigned
        ("6480 0000", 0xFF5F, -1.61),
        ("5778 0001", 0x88, 392 / 1961),
        ("2F7C 0000", 0xC3, 195 / 977),
        ("387F 0000", 200, 1.0),
        ("0400 0080", 0b1000, 1),
        ("0400 0080", 0b0111, 0),
        ("0100 0080", 1, 1),
        ("0600 0080", 0x20, 1),
        ("0180 0000", 0xFE89, -375.0),  # 0x8001: signed, steps of one
        ("FFFF 0000", 0xFE89, -375.0),  # so is 0xFFFF
    ],
)
def test_recorded_ram_infos(info: str, raw: int, value: float) -> None:
    scale = ram_scale(_info(info))
    assert scale is not None
    assert scale.value(raw) == pytest.approx(value, rel=1e-12)


def test_frequency_of_the_recorded_periods() -> None:
    inverter, mains = RamScale(_info("5778 0001")), RamScale(_info("2F7C 0000"))
    assert 10 / inverter.scaled(0x88) == pytest.approx(50.0255, abs=1e-4)
    assert 10 / mains.scaled(0xC3) == pytest.approx(50.1026, abs=1e-4)


def test_a_hundredth_is_the_decimal_that_is_meant() -> None:
    scale = RamScale(_info("9C7F 0000"))
    assert scale.value(5055) == 50.55
    assert SettingScale(SettingInfo(-100, 0, 0, 0, 7000)).value(5760) == 57.6


@pytest.mark.parametrize(
    "info", [RamInfo(0, 0), RamInfo(-0x8000, 0), RamInfo(17, -0x8000), RamInfo(0, -0x8000)]
)
def test_infos_that_make_no_sense_are_not_used(info: RamInfo) -> None:
    assert ram_scale(info) is None


words = st.integers(0, 0xFFFF)
signed_words = st.integers(-0x8000, 0x7FFF)


@given(signed_words, signed_words, words)
def test_ram_words_survive_the_way_there_and_back(scale: int, offset: int, raw: int) -> None:
    usable = ram_scale(RamInfo(scale, offset))
    assume(usable is not None and not usable.is_bit)
    assert usable is not None
    value = usable.value(raw)
    assert math.isfinite(value)
    assert usable.raw(value) == raw


@given(signed_words.filter(bool), signed_words, words)
def test_setting_words_survive_the_way_there_and_back(scale: int, offset: int, raw: int) -> None:
    usable = SettingScale(SettingInfo(scale, offset, 0, 0, 0xFFFF))
    value = usable.value(raw)
    assert value is not None
    assert usable.raw(value) == raw


@given(signed_words.filter(bool), signed_words, words, words, st.floats(-1e9, 1e9))
def test_no_value_becomes_a_word_outside_the_limits(
    scale: int, offset: int, low: int, high: int, value: float
) -> None:
    usable = SettingScale(SettingInfo(scale, offset, 0, low, high))
    try:
        raw = usable.raw(value)
    except ValueError:
        return
    assert low <= raw <= high


def test_not_applicable_is_not_a_value() -> None:
    assert SettingScale(SettingInfo(1, 0, 0, 0, 100)).value(0xFFFF) is None
    assert SettingScale(SettingInfo(1, 0, 0, 0, 0xFFFF)).value(0xFFFF) == 65535


def test_limits_are_in_units() -> None:
    limits = SettingScale(SettingInfo(-60, -1, 2, 0, 255)).limits
    assert (limits.minimum, limits.default, limits.maximum) == pytest.approx((-1 / 60, 1 / 60, 254 / 60))
    assert SettingScale(SettingInfo(1, 0, 9, 0, 5)).limits.default is None


@pytest.mark.parametrize(
    ("scale", "decimals"), [(-100, 2), (-10, 1), (1, 0), (15, 0), (-2, 1), (-60, 2), (-1, 0)]
)
def test_decimals_show_every_step(scale: int, decimals: int) -> None:
    assert SettingScale(SettingInfo(scale, 0, 0, 0, 1)).decimals == decimals
