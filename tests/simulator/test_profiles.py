"""The profiles' data hold together, and no input whatever upsets any of them."""

from __future__ import annotations

import csv
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mk2dbus.mk2.framing import MAX_LENGTH, Frame, adapter_frame
from mk2dbus.simulator import PROFILES, Core, UnknownProfileError


@pytest.mark.parametrize("name", PROFILES)
def test_defaults_are_within_limits(name: str) -> None:
    for device in Core(name).devices.values():
        for setting in device.settings.values():
            info = setting.info
            assert info.is_flags or info.minimum <= info.default <= info.maximum, info
            assert (setting.stored, setting.ram, setting.writes) == (info.default, info.default, 0)
            assert info.to_raw(info.to_value(info.default)) == info.default


def test_multiplus2_is_the_device_of_the_table() -> None:
    table = resources.files("mk2dbus").joinpath("data", "settings.csv").read_text(encoding="utf-8")
    device = Core("multiplus2").device
    rows = {int(row["id"]): row for row in csv.DictReader(table.splitlines())}
    assert set(device.settings) == {number for number, row in rows.items() if row["scale"] != "0"}
    for number, setting in device.settings.items():
        row, info = rows[number], setting.info
        limits = tuple(int(row[column]) for column in ("default", "minimum", "maximum"))
        assert (info.default, info.minimum, info.maximum) == limits
        if row["scale"]:
            assert info.scale == int(row["scale"])


def test_unknown_profile() -> None:
    with pytest.raises(UnknownProfileError, match="multiplus2"):
        Core("quantum")


_FRAMES = st.builds(
    adapter_frame, st.sampled_from("ADFHLNRSVWXYZxyz?"), st.binary(max_size=MAX_LENGTH - 2)
) | st.builds(Frame, st.sampled_from((0x21, 0x3F, 0x38, 0x20, 0x40)), st.binary(max_size=9))
_WINMON = st.builds(
    lambda slot, command, data: adapter_frame(slot, bytes((command,)) + data),
    st.sampled_from("WXYZ"),
    st.sampled_from((*range(0x04, 0x07), 0x0E, 0x0F, *range(0x30, 0x40))),
    st.binary(max_size=8),
)
_PIECES = st.binary(max_size=30) | _FRAMES.map(bytes) | _WINMON.map(bytes)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(PROFILES)),
    pieces=st.lists(st.tuples(_PIECES, st.floats(0, 3)), min_size=1, max_size=25),
)
def test_any_input(name: str, pieces: list[tuple[bytes, float]]) -> None:
    """Nothing a client sends raises, stops time or grows without bound."""
    core = Core(name)
    now = 1000.0
    core.run(now)
    for piece, pause in pieces:
        core.feed(piece, now)
        now += pause
        core.run(now)
        assert core.deadline > now - 1e-9
    assert len(core.run(now + 10)) <= 10 * 240 + 256
