"""ItemsChanged: what is in it and when it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from mk2dbus.bus.announcer import INTERVAL_S, Announcer, Changes
from mk2dbus.bus.client import Client
from mk2dbus.bus.tree import Change, Tree
from mk2dbus.items import Kind, Leaf, Limits

LEAF = Leaf("/A/Value", Kind.REAL, "V")
OTHER = Leaf("/A/Other", Kind.INTEGER)


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due: list[tuple[float, Callable[[], object]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object]) -> Any:
        self.due.append((when, callback))
        return self

    def cancel(self) -> None:
        self.due.clear()

    def move(self, seconds: float = 0.0) -> None:
        self.now += seconds
        due, self.due = self.due, []
        for when, callback in due:
            if when <= self.now:
                callback()
            else:
                self.due.append((when, callback))


class Listener:
    def __init__(self, tree: Tree) -> None:
        self.clock = Clock()
        self.ready = True
        self.told: list[dict[str, object]] = []
        self.announcer = Announcer(tree, self.tell, lambda: self.ready, self.clock)
        tree.on_change = self.announcer.wake

    def tell(self, changes: Changes) -> None:
        self.told.append({item.leaf.path: item.value for item, _ in changes})


@pytest.fixture
def tree() -> Tree:
    tree = Tree()
    tree.add(LEAF, 1.0)
    tree.add(OTHER, 1)
    tree.take_changes()
    return tree


def test_the_first_change_goes_at_once_and_the_next_after_the_interval(tree: Tree) -> None:
    listener = Listener(tree)
    tree.update({LEAF.path: 2.0})
    listener.clock.move()
    assert listener.told == [{LEAF.path: 2.0}]
    tree.update({LEAF.path: 3.0})
    listener.clock.move(INTERVAL_S / 2)
    tree.update({LEAF.path: 4.0, OTHER.path: 5})
    assert len(listener.told) == 1
    listener.clock.move(INTERVAL_S / 2 + 0.001)
    assert listener.told[1:] == [{LEAF.path: 4.0, OTHER.path: 5}]


def test_at_most_ten_a_second(tree: Tree) -> None:
    listener = Listener(tree)
    for step in range(1000):
        tree.update({LEAF.path: float(step + 2)})
        listener.clock.move(0.01)
    assert 90 <= len(listener.told) <= 100
    listener.clock.move(1)
    assert listener.told[-1] == {LEAF.path: 1001.0}


def test_changed_back_is_not_told(tree: Tree) -> None:
    listener = Listener(tree)
    tree.update({LEAF.path: 2.0})
    tree.update({LEAF.path: 1.0})
    listener.clock.move()
    assert listener.told == []
    # And does not count as a signal: the next one need not wait.
    tree.update({LEAF.path: 2.0})
    listener.clock.move()
    assert listener.told == [{LEAF.path: 2.0}]


def test_the_same_value_again_wakes_nobody(tree: Tree) -> None:
    listener = Listener(tree)
    tree.update({LEAF.path: 1.0, OTHER.path: 1})
    assert listener.clock.due == []


def test_changes_wait_merged_while_nothing_can_be_sent(tree: Tree) -> None:
    listener = Listener(tree)
    listener.ready = False
    for step in range(100):
        tree.update({LEAF.path: float(step), OTHER.path: step})
        listener.clock.move(1)
    assert listener.told == []
    listener.ready = True
    listener.announcer.wake()
    listener.clock.move()
    assert listener.told == [{LEAF.path: 99.0, OTHER.path: 99}]


def test_what_a_batch_says_of_each_kind_of_change(tree: Tree) -> None:
    def taken() -> dict[str, Change]:
        return {item.leaf.path: change for item, change in tree.take_changes()}

    tree.set_limits(LEAF.path, Limits(0, 10))
    assert taken() == {LEAF.path: Change.MINIMUM | Change.MAXIMUM}
    tree.set_limits(LEAF.path, Limits(0, 20))
    tree.update({LEAF.path: 2.0})
    assert taken() == {LEAF.path: Change.VALUE | Change.MAXIMUM}
    assert taken() == {}
    tree.add(Leaf("/B/New", Kind.INTEGER), limits=Limits(default=3))
    assert taken() == {"/B/New": Change.VALUE | Change.DEFAULT}
    tree.add(Leaf("/B/Short", Kind.INTEGER), 1)
    tree.remove("/B/Short")
    assert taken() == {}
    tree.remove(LEAF.path)
    assert taken() == {LEAF.path: Change.VALUE | Change.MINIMUM | Change.MAXIMUM}
    tree.add(LEAF, 2.0)
    tree.remove(LEAF.path)
    tree.add(LEAF, 2.0)
    assert taken() == {LEAF.path: Change.VALUE}


@pytest.mark.parametrize(
    "path", ["", "/", "A", "/A/", "//A", "/A-B", "/ä", "/A/Value", "/A", "/A/Value/Below"]
)
def test_what_cannot_be_added(tree: Tree, path: str) -> None:
    with pytest.raises(ValueError, match=r"/|path"):
        tree.add(Leaf(path, Kind.INTEGER))
    assert list(tree) == [LEAF.path, OTHER.path]


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        (Kind.REAL, 3, 3.0),
        (Kind.REAL, float("nan"), None),
        (Kind.REAL, float("-inf"), None),
        (Kind.INTEGER, True, 1),
        (Kind.INTEGER, 2**31, None),
        (Kind.LIST, (), ()),
        (Kind.LIST, (2**31,), None),
        (Kind.TEXT, "a\0b\ud800", "ab?"),
    ],
)
def test_only_what_the_bus_can_carry_is_kept(kind: Kind, value: Any, kept: object) -> None:
    tree = Tree()
    tree.add(Leaf("/X", kind))
    tree.update({"/X": value})
    assert tree.value("/X") == kept
    assert type(tree.value("/X")) is type(kept)


def test_an_update_is_done_as_a_whole_or_not_at_all(tree: Tree) -> None:
    with pytest.raises(KeyError):
        tree.update({LEAF.path: 7.0, "/Nothing": 1})
    with pytest.raises(TypeError):
        tree.update({LEAF.path: 7.0, OTHER.path: "text"})
    assert tree.value(LEAF.path) == 1.0


class Heard:
    """What a client on the bus hears."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.batches: asyncio.Queue[dict[str, dict[str, Any]]] = asyncio.Queue()

    async def next(self) -> dict[str, dict[str, Any]]:
        async with asyncio.timeout(10):
            return await self.batches.get()


@pytest.fixture
async def heard(bench: Any, dbus_daemon: Any) -> Any:
    client = await Client.open(dbus_daemon.address)
    heard = Heard(client)
    await client.watch(lambda items: heard.batches.put_nowait(dict(items)), lambda there: None)
    yield heard
    client.close()


async def test_items_changed_on_the_bus(bench: Any, heard: Heard) -> None:
    bench.tree.update({"/State": 3, "/Dc/0/Voltage": None, "/ProductName": "MultiPlus-II 48/3000"})
    bench.tree.set_limits("/Devices/0/Settings/Absorption", Limits(24.0, 31.0))
    assert await heard.next() == {
        "/State": {"Value": 3, "Text": "3"},
        "/Dc/0/Voltage": {"Value": None, "Text": "---"},
        "/Devices/0/Settings/Absorption": {"Max": 31.0, "Default": None},
    }
    bench.tree.add(Leaf("/New", Kind.REAL, "W", decimals=0), 5, limits=Limits(0, 10, 5))
    assert await heard.next() == {
        "/New": {"Value": 5.0, "Text": "5W", "Min": 0.0, "Max": 10.0, "Default": 5.0}
    }
    bench.tree.remove("/New")
    gone = await heard.next()
    assert gone["/New"]["Value"] is None
    assert gone["/New"]["Text"] == "---"


async def test_no_change_is_told_twice_and_text_goes_with_value(bench: Any, heard: Heard) -> None:
    for step in range(200):
        bench.tree.update({"/Dc/0/Voltage": float(step // 3), "/State": step % 2})
        await asyncio.sleep(0.002)
    bench.tree.update({"/Dc/0/Voltage": -1.0})
    last: dict[str, Any] = {}
    while last.get("/Dc/0/Voltage") != {"Value": -1.0, "Text": "-1.00V"}:
        batch = await heard.next()
        for path, parts in batch.items():
            assert last.get(path) != parts
            if path == "/Dc/0/Voltage":
                assert parts["Text"] == f"{parts['Value']:.2f}V"
        last |= batch
    assert bench.tree.take_changes() == []
