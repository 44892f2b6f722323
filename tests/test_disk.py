"""The disk beside the event loop: order, the newest content, errors, and an end that is bounded."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mk2dbus import disk as disk_module
from mk2dbus import identity as identity_module
from mk2dbus.disk import DiskThread
from mk2dbus.identity import Identity
from mk2dbus.items import NoReply, Refused, Value
from mk2dbus.mk2.winmon import RamInfo
from mk2dbus.state import StateFile
from mk2dbus.vebus.counters import Moment
from mk2dbus.vebus.energybook import EnergyBook, EnergyFile
from mk2dbus.vebus.infocache import InfoCache, Infos

LIMIT_S = 10.0


class Card:
    """A disk that stands still when told so."""

    def __init__(self) -> None:
        self.goes = threading.Event()
        self.goes.set()
        self.reached = threading.Event()
        self._sync = os.fsync

    def fsync(self, descriptor: int) -> None:
        self.reached.set()
        # With an end, so that a test which waits for it on the event loop fails and does not hang.
        assert self.goes.wait(LIMIT_S)
        self._sync(descriptor)

    def stop(self) -> None:
        self.goes.clear()
        self.reached.clear()


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    card = Card()
    monkeypatch.setattr(os, "fsync", card.fsync)
    yield card
    card.goes.set()


async def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def no_thread_left() -> bool:
    return not any(thread.name == "disk" for thread in threading.enumerate())


async def test_in_order_and_the_newest_content_of_a_file(tmp_path: Path) -> None:
    disk = DiskThread()
    go, begun, done, told = threading.Event(), threading.Event(), [], []

    def work(what: str) -> Callable[[], str]:
        def run() -> str:
            begun.set()
            assert go.wait(LIMIT_S)
            done.append(what)
            return what

        return run

    energy, infos = tmp_path / "energy", tmp_path / "infos"
    disk.submit(work("energy 1"), told.append, file=energy)
    await until(begun.is_set)
    for number in (2, 3):
        disk.submit(work(f"energy {number}"), told.append, file=energy)
        disk.submit(work(f"infos {number}"), told.append, file=infos)
    disk.submit(work("name 1"), told.append)
    take_back = disk.submit(work("name 2"), told.append)
    disk.submit(work("name 3"), told.append)
    assert take_back()
    assert not take_back()
    go.set()
    await disk.close()
    await asyncio.sleep(0)
    assert done == ["energy 1", "energy 3", "infos 3", "name 1", "name 3"] == told
    assert no_thread_left()
    with pytest.raises(RuntimeError):
        disk.submit(work("too late"))


async def test_a_defect_in_one_piece_of_work_is_said_and_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk = DiskThread()
    told: list[int] = []
    disk.submit(lambda: 1 // 0, told.append)
    disk.submit(lambda: 7, told.append)
    await disk.close()
    assert told == [7]
    assert "ZeroDivisionError" in caplog.text


async def test_the_end_waits_for_the_last_save(tmp_path: Path, card: Card) -> None:
    """Also when another one is under way, and a third one waits."""
    disk, clock = DiskThread(), 0.0
    book = EnergyBook(EnergyFile(tmp_path, "a"), lambda: Moment("boot", clock), disk)
    card.stop()
    for number in (5, 6, 9):
        book.count("system", "device", [number] * 10, 256)
        clock += 60
        book.save_at_times()
        await until(card.reached.is_set)
    book.count("system", "device", [20] * 10, 256)
    book.save()
    asyncio.get_running_loop().call_later(0.3, card.goes.set)
    await disk.close()
    assert no_thread_left()
    again = EnergyBook(EnergyFile(tmp_path, "a"), lambda: Moment("boot", clock))
    assert again.count("system", "device", [20] * 10, 256) == (15,) * 10


async def test_the_end_does_not_wait_for_ever(
    tmp_path: Path, card: Card, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_module, "CLOSE_S", 0.4)
    disk = DiskThread()
    card.stop()
    InfoCache(tmp_path, disk).save(2729560, True, Infos())
    await until(card.reached.is_set)
    start = time.monotonic()
    disk.close_soon()
    await asyncio.sleep(0.2)
    await disk.close()
    assert 0.3 < time.monotonic() - start < 0.8
    assert "the service ends without it" in caplog.text
    card.goes.set()
    await until(no_thread_left)


async def test_what_could_not_be_written_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, clock = DiskThread(), 0.0
    book = EnergyBook(EnergyFile(tmp_path, "a"), lambda: Moment("boot", clock), disk)
    written: list[bool] = []
    save = EnergyFile.save

    def counted(*args: object) -> bool:
        written.append(save(*args))  # type: ignore[arg-type]  # whatever the book hands over
        return written[-1]

    monkeypatch.setattr(EnergyFile, "save", counted)
    book.count("system", "device", [5] * 10, 256)
    monkeypatch.setattr("tempfile.mkstemp", _full)
    book.save_at_times()
    await until(lambda: written == [False])
    await asyncio.sleep(0)
    monkeypatch.undo()
    clock = 60.0
    book.save_at_times()
    await disk.close()
    assert EnergyFile(tmp_path, "a").path.exists()


def _full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


async def test_infos_that_are_on_their_way_to_the_disk_are_known(tmp_path: Path, card: Card) -> None:
    """The session may begin anew meanwhile."""
    disk = DiskThread()
    cache = InfoCache(tmp_path, disk)
    card.stop()
    for offset in (1, 2):
        cache.save(2729560, True, Infos(ram={4: RamInfo(1, offset)}))
        assert cache.load(2729560, True).ram == {4: RamInfo(1, offset)}
    card.goes.set()
    await disk.close()
    assert cache.load(2729560, True).ram == InfoCache(tmp_path).load(2729560, True).ram == {4: RamInfo(1, 2)}


class Named:
    """A name, and what is shown of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.disk = DiskThread()
        self.shown: dict[str, Value] = {}
        self.identity = Identity("/f", StateFile(directory, "a"), None, self.shown.update, self.disk)

    @property
    def kept(self) -> str:
        return StateFile(self.directory, "a").get("CustomName", "")


async def test_a_name_that_cannot_be_kept_is_refused_after_it_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = Named(tmp_path)
    await named.identity.write_name("Galley")
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.mkstemp", _full)
        with pytest.raises(Refused, match="No space left"):
            await named.identity.write_name("Cellar")
    assert named.shown["/CustomName"] == named.kept == "Galley"
    await named.disk.close()


async def test_names_while_the_disk_stands_still(
    tmp_path: Path, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was begun is not known, and shown as soon as it is; what was not begun never is."""
    monkeypatch.setattr(identity_module, "DISK_S", 0.2)
    named = Named(tmp_path)
    await named.identity.write_name("Galley")
    card.stop()
    with pytest.raises(NoReply, match="may still"):
        await named.identity.write_name("Cellar")
    with pytest.raises(Refused, match="stays as it is"):
        await named.identity.write_name("Attic")
    cut_off = asyncio.create_task(named.identity.write_name("Roof"))
    await asyncio.sleep(0.02)
    cut_off.cancel()
    await asyncio.gather(cut_off, return_exceptions=True)
    assert named.shown["/CustomName"] == "Galley"
    card.goes.set()
    await until(lambda: named.shown["/CustomName"] == "Cellar")
    await named.disk.close()
    assert named.kept == "Cellar"


async def test_the_service_ends_while_a_name_is_written(tmp_path: Path, card: Card) -> None:
    named = Named(tmp_path)
    card.stop()
    writing = asyncio.create_task(named.identity.write_name("Galley"))
    await until(card.reached.is_set)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    failures: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    loop.call_later(0.1, card.goes.set)
    await named.disk.close()
    await asyncio.sleep(0)
    assert named.shown["/CustomName"] == named.kept == "Galley"
    assert failures == []
