"""The state file of the service, files that are there whole or not at all, and pauses."""

from __future__ import annotations

import logging
import os
from itertools import islice
from pathlib import Path

import pytest

from mk2dbus.files import write_atomically
from mk2dbus.identity import Identity
from mk2dbus.pauses import doubling
from mk2dbus.state import SYSTEM_STATE_DIR, StateFile, StateUnwritable, default_state_dir


def test_texts_are_kept(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "state", "ttyUSB0")
    assert state.get("CustomName", "none") == "none"
    state.set("CustomName", "Galley ⚡")
    assert StateFile(tmp_path / "state", "ttyUSB0").get("CustomName", "") == "Galley ⚡"
    assert StateFile(tmp_path / "state", "ttyUSB1").get("CustomName", "") == ""


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 2, "texts": {}}', '{"format": 1, "texts": {"a": 1}}', '{"format": 1}']
)
def test_a_broken_file_counts_as_empty_and_is_said(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.json").write_text(text)
    with caplog.at_level(logging.WARNING):
        assert StateFile(tmp_path, "a").get("CustomName", "none") == "none"
    assert "ignoring" in caplog.text


def test_what_cannot_be_saved_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    state = StateFile(tmp_path / "file", "a")
    with pytest.raises(StateUnwritable, match="cannot save"):
        state.set("CustomName", "x")
    assert state.get("CustomName", "none") == "none"


def test_a_failed_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_where_the_state_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_state_dir({}) == SYSTEM_STATE_DIR
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert default_state_dir({"XDG_STATE_HOME": "/x"}) == Path("/x/mk2dbus")
    assert default_state_dir({}) == Path("~/.local/state/mk2dbus").expanduser()


def test_pauses_grow_to_a_limit() -> None:
    assert list(islice(doubling(1, 30), 7)) == [1, 2, 4, 8, 16, 30, 30]


def test_texts_change_all_at_once_and_are_written_only_then(tmp_path: Path) -> None:
    state = StateFile(tmp_path, "a")
    state.update({"CustomName": "x", "Owed": "yes"})
    written = state.path.stat().st_mtime_ns, state.path.stat().st_ino
    state.update({"CustomName": "x", "Other": None})
    assert (state.path.stat().st_mtime_ns, state.path.stat().st_ino) == written
    state.update({"CustomName": "y", "Owed": None})
    again = StateFile(tmp_path, "a")
    assert (again.get("CustomName", ""), again.get("Owed", "no")) == ("y", "no")


def test_each_adapter_gets_an_instance_of_its_own(tmp_path: Path) -> None:
    def instance(adapter: str, given: int | None = None) -> int:
        return Identity("/folder", StateFile(tmp_path, adapter), given, lambda _: None).instance

    assert [instance("ttyUSB0"), instance("ttyUSB1"), instance("ttyUSB2")] == [257, 258, 259]
    # It stays; what was asked for does not count.
    assert [instance("ttyUSB1"), instance("ttyUSB3", 300), instance("ttyUSB4")] == [258, 300, 260]
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "ttyUSB1.json").unlink()
    assert instance("ttyUSB5") == 258


def test_an_instance_that_makes_no_sense_is_another_one(tmp_path: Path) -> None:
    for kept in ("9" * 5000, "70000", "-1", "x", "²"):
        state = StateFile(tmp_path, "ttyUSB0")
        state.set("DeviceInstance", kept)
        assert Identity("/folder", StateFile(tmp_path, "ttyUSB0"), None, lambda _: None).instance == 257
