"""Infos on disk: kept whole, taken back only when they make sense."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk2dbus.mk2.winmon import RamInfo, SettingInfo
from mk2dbus.vebus.infocache import FORMAT, InfoCache, Infos

VERSION = 2729560
INFOS = Infos(
    settings={
        2: SettingInfo(-100, 0, 5760, 4800, 6400),
        13: None,
        63: SettingInfo(-100, -0x8000, 1, 0, 2, 0x81),
    },
    ram={4: RamInfo(0x7F9C, 0), 10: RamInfo(4, -0x8000), 20: None},
)


@pytest.fixture
def cache(tmp_path: Path) -> InfoCache:
    return InfoCache(tmp_path / "state")


def test_there_and_back(cache: InfoCache) -> None:
    assert cache.load(VERSION, True) == Infos()
    cache.save(VERSION, True, INFOS)
    assert cache.load(VERSION, True) == INFOS
    assert cache.load(VERSION, False) == Infos()
    assert cache.load(VERSION + 1, True) == Infos()
    assert [path.name for path in cache.path(VERSION, True).parent.iterdir()] == ["infos-2729560-new.json"]


def _content(**changes: Any) -> dict[str, Any]:
    return {"format": FORMAT, "version": VERSION, "new": True, "settings": {}, "ram": {}} | changes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        "\x00\xff",
        json.dumps(_content(format=FORMAT + 1)),
        json.dumps(_content(version=VERSION + 1)),
        json.dumps(_content(new=False)),
        json.dumps(_content(settings=None)),
        json.dumps(_content(settings=[])),
        json.dumps(_content(settings={"x": None})),
        json.dumps(_content(settings={"-1": None})),
        json.dumps(_content(settings={"70000": None})),
        json.dumps(_content(settings={"2": [1, 2, 3]})),
        json.dumps(_content(settings={"2": [0, 0, 1, 2, 3, 0]})),
        json.dumps(_content(settings={"2": [-100, 0, 5760, 4800, 70000, 0]})),
        json.dumps(_content(settings={"2": [-100.5, 0, 5760, 4800, 6400, 0]})),
        json.dumps(_content(settings={"2": [True, 0, 5760, 4800, 6400, 0]})),
        json.dumps(_content(settings={"2": "text"})),
        json.dumps(_content(ram={"4": [0, 0]})),
        json.dumps(_content(ram={"4": [40000, 0]})),
        json.dumps({"format": FORMAT}),
        " " * (1 << 20) + "{}",
    ],
)
def test_what_makes_no_sense_is_ignored_and_said(
    cache: InfoCache, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = cache.path(VERSION, True)
    path.parent.mkdir()
    path.write_text(text, encoding="latin-1")
    with caplog.at_level(logging.WARNING):
        assert cache.load(VERSION, True) == Infos()
    assert "ignoring" in caplog.text
    # And it is replaced by what is true.
    cache.save(VERSION, True, INFOS)
    assert cache.load(VERSION, True) == INFOS


def test_a_place_that_cannot_be_written_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    cache = InfoCache(tmp_path / "file" / "state")
    with caplog.at_level(logging.WARNING):
        cache.save(VERSION, True, INFOS)
        cache.save(VERSION, True, INFOS)
        assert cache.load(VERSION, True) == Infos()
    assert len(caplog.records) == 1
    assert "cannot be kept" in caplog.text


@given(st.recursive(st.none() | st.integers() | st.text() | st.booleans() | st.floats(), st.lists), st.data())
def test_nothing_in_a_file_raises(
    tmp_path_factory: pytest.TempPathFactory, junk: Any, data: st.DataObject
) -> None:
    field = data.draw(st.sampled_from(["format", "version", "new", "settings", "ram"]))
    cache = InfoCache(tmp_path_factory.mktemp("state"))
    cache.path(VERSION, True).write_text(json.dumps(_content(**{field: junk})))
    cache.load(VERSION, True)
