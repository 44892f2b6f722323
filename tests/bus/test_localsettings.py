"""Instance and name in the settings of Venus, which come, go, refuse and hang."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from support.settings_service import REFUSED, TYPE_DIFFERS, SettingsService

from mk2dbus.bus import localsettings
from mk2dbus.bus.client import Client
from mk2dbus.bus.connection import Connection
from mk2dbus.bus.library import encode, variant
from mk2dbus.bus.localsettings import FIRST_WAIT_S, LocalSettings
from mk2dbus.bus.names import BUS_ITEM, DAEMON, DAEMON_PATH, SETTINGS
from mk2dbus.bus.service import BusService
from mk2dbus.bus.tree import Tree
from mk2dbus.bus.wire import Body, Message, MessageType
from mk2dbus.identity import Identity, settings_folder
from mk2dbus.items import Kind, Leaf
from mk2dbus.state import StateFile

NAME = "com.victronenergy.vebus.test0"
FOLDER = settings_folder("test0")
INSTANCE = f"{FOLDER}/ClassAndVrmInstance"
CUSTOM_NAME = f"{FOLDER}/CustomName"
OTHER = "/Settings/Devices/other/ClassAndVrmInstance"


class Box:
    """A service with nothing but a name and an instance, its state directory, and a client that listens."""

    def __init__(self, address: str, state: Path) -> None:
        self.address = address
        self.state = state
        self.given: int | None = None
        self.client: Connection
        self.first: tuple[Any, Any] | None = None

    async def start(self) -> None:
        self.tree = Tree()
        self.identity = Identity(FOLDER, StateFile(self.state, "test0"), self.given, self.tree.update)
        self.tree.add(Leaf("/DeviceInstance", Kind.INTEGER), self.identity.instance)
        self.tree.add(
            Leaf("/CustomName", Kind.TEXT, writable=True), self.identity.name, write=self.identity.write_name
        )
        self.service = BusService(self.tree, self.address)
        self.settings = LocalSettings(FOLDER, self.identity)
        self.identity.use(self.settings)
        self.service.follow(self.settings)
        await self.service.start(NAME)
        self.first = (self.tree.value("/DeviceInstance"), self.tree.value("/CustomName"))
        self.running = asyncio.create_task(self.service.run())

    async def stop(self) -> None:
        self.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.running
        await self.service.close()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    @property
    def shown(self) -> tuple[Any, Any]:
        return (self.tree.value("/DeviceInstance"), self.tree.value("/CustomName"))

    async def write(self, name: str) -> int:
        (code,) = await self.client.call(
            NAME, "/CustomName", BUS_ITEM, "SetValue", "v", [variant("s", name)], timeout_s=10
        )
        return int(code)

    async def until(self, holds: Callable[[], bool]) -> None:
        for _ in range(2000):
            if holds():
                return
            await asyncio.sleep(0.005)
        pytest.fail("it did not come")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(localsettings, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(localsettings, "ANSWER_S", 0.3)


@pytest.fixture
async def box(dbus_daemon: Any, tmp_path: Path) -> AsyncIterator[Box]:
    box = Box(dbus_daemon.address, tmp_path / "state")
    box.client = await Connection.open(dbus_daemon.address)
    yield box
    box.client.close()
    await box.stop()


@pytest.fixture
async def venus(dbus_daemon: Any) -> AsyncIterator[SettingsService]:
    venus = SettingsService(dbus_daemon.address)
    await venus.start()
    yield venus
    if venus._connection is not None:
        await venus.stop()


async def test_without_settings_they_are_in_the_file(box: Box) -> None:
    await box.start()
    assert box.shown == (257, "")
    assert await box.write("Galley ⚡") == 0
    await box.restart()
    assert box.shown == (257, "Galley ⚡")
    box.given = 3
    await box.restart()
    assert box.shown == (3, "Galley ⚡")


async def test_they_are_known_before_the_name_is_on_the_bus(box: Box, venus: SettingsService) -> None:
    venus.settings |= {INSTANCE: "vebus:261", CUSTOM_NAME: "Galley"}
    await box.start()
    assert box.first == (261, "Galley")


async def test_what_is_asked_for(box: Box, venus: SettingsService) -> None:
    venus.settings[OTHER] = "vebus:300"
    box.given = 300
    await box.start()
    assert venus.defaults == {INSTANCE: "vebus:300", CUSTOM_NAME: ""}
    # A class has each instance once, so we get the next.
    assert box.first == (301, "")


async def test_the_settings_win_and_are_remembered_without_them(box: Box, venus: SettingsService) -> None:
    venus.settings |= {INSTANCE: "vebus:261", CUSTOM_NAME: "Galley"}
    box.given = 5
    await box.start()
    assert box.first == (261, "Galley")
    await venus.stop()
    box.given = None
    await box.restart()
    assert box.first == (261, "Galley")
    box.given = 5
    await box.restart()
    assert box.first == (5, "Galley")


@pytest.mark.parametrize("way", ["tell_properties", "tell_items"])
async def test_changes_there_are_followed_and_announced(box: Box, venus: SettingsService, way: str) -> None:
    venus.tells = getattr(venus, way)
    await box.start()
    client = await Client.open(box.address, NAME)
    heard: dict[str, Any] = {}
    await client.watch(heard.update, lambda there: None)
    venus.change(INSTANCE, "vebus:270")
    venus.change(CUSTOM_NAME, "Engine room")
    await box.until(lambda: set(heard) == {"/DeviceInstance", "/CustomName"})
    client.close()
    assert heard["/DeviceInstance"]["Value"] == 270
    assert heard["/CustomName"]["Value"] == "Engine room"
    await venus.stop()
    await box.restart()
    assert box.first == (270, "Engine room")


async def test_a_write_goes_there(box: Box, venus: SettingsService) -> None:
    await box.start()
    assert await box.write("Galley") == 0
    assert venus.settings[CUSTOM_NAME] == "Galley"
    assert box.shown[1] == "Galley"
    assert await box.write("x" * 65) == 1
    assert venus.written == [(CUSTOM_NAME, "Galley")]
    await venus.stop()
    await box.restart()
    assert box.first == (257, "Galley")


async def test_a_write_that_is_refused_there(box: Box, venus: SettingsService) -> None:
    venus.settings[CUSTOM_NAME] = "Galley"
    await box.start()
    venus.errors[CUSTOM_NAME] = REFUSED
    assert await box.write("Engine room") == 2
    assert box.shown[1] == "Galley"
    venus.errors.clear()
    del venus.settings[CUSTOM_NAME]
    assert await box.write("Engine room") == 2
    assert box.shown[1] == "Galley"


async def test_a_write_that_is_not_answered_there(box: Box, venus: SettingsService) -> None:
    await box.start()
    venus.hangs = True
    assert await box.write("Galley") == 2
    assert box.shown[1] == ""
    waiting = asyncio.create_task(box.write("Galley"))
    await box.until(lambda: venus.calls.count("SetValue") == 2)
    await venus.stop()
    assert await waiting == 2
    assert box.shown[1] == ""


async def test_a_write_whose_effect_is_told_before_it_is_answered_and_undone(
    box: Box, venus: SettingsService
) -> None:
    """What was heard last counts, not whose answer is handled last."""
    await box.start()
    tell = venus.tells

    def undo(path: str, value: Any) -> None:
        tell(path, value)
        venus.settings[path] = "somebody else's"
        tell(path, "somebody else's")

    venus.tells = undo
    assert await box.write("Galley") == 0
    assert box.shown[1] == "somebody else's"


async def test_settings_that_come_late(box: Box, dbus_daemon: Any) -> None:
    box.given = 259
    await box.start()
    assert await box.write("Galley") == 0
    venus = SettingsService(dbus_daemon.address)
    venus.settings[OTHER] = "vebus:259"
    await venus.start()
    await box.until(lambda: box.shown == (260, "Galley"))
    assert venus.settings[CUSTOM_NAME] == "Galley"
    assert await box.write("Engine room") == 0
    assert venus.settings[CUSTOM_NAME] == "Engine room"
    await venus.stop()


async def test_a_name_written_while_they_were_away_is_handed_over(box: Box, venus: SettingsService) -> None:
    venus.settings[CUSTOM_NAME] = "Galley"
    await box.start()
    await venus.stop()
    await box.until(lambda: not box.settings.keeps(CUSTOM_NAME))
    assert await box.write("Engine room") == 0
    # Over a restart of ours, too.
    await box.restart()
    assert box.first == (257, "Engine room")
    await venus.start()
    await box.until(lambda: venus.settings[CUSTOM_NAME] == "Engine room")
    assert box.shown[1] == "Engine room"
    # Once only: from here on what is there counts again.
    await venus.stop()
    venus.settings[CUSTOM_NAME] = "Salon"
    await venus.start()
    await box.until(lambda: box.shown[1] == "Salon")


async def test_a_name_that_cannot_be_handed_over_is_kept(box: Box, venus: SettingsService) -> None:
    await venus.stop()
    await box.start()
    assert await box.write("Engine room") == 0
    venus.settings |= {CUSTOM_NAME: "Galley", INSTANCE: "vebus:261"}
    await venus.start()
    await box.until(lambda: box.shown == (261, "Engine room"))
    await venus.stop()
    await box.restart()
    assert box.first == (261, "Engine room")


async def test_settings_that_restart(box: Box, venus: SettingsService) -> None:
    await box.start()
    for number in range(3):
        await venus.stop()
        venus.settings[INSTANCE] = f"vebus:{280 + number}"
        await venus.start()
        await box.until(lambda number=number: box.shown[0] == 280 + number)
    venus.change(INSTANCE, "vebus:290")
    await box.until(lambda: box.shown[0] == 290)


async def test_settings_that_hang_hold_up_nothing(
    box: Box, venus: SettingsService, caplog: pytest.LogCaptureFixture
) -> None:
    venus.hangs = True
    venus.settings |= {INSTANCE: "vebus:261", CUSTOM_NAME: "Galley"}
    begun = time.monotonic()
    await box.start()
    took = time.monotonic() - begun
    assert FIRST_WAIT_S <= took < FIRST_WAIT_S + 0.5
    assert box.first == (257, "")
    assert "does not answer" in caplog.text
    # Nor a write: it is kept here, and handed over later.
    assert await box.write("Engine room") == 0
    assert box.shown[1] == "Engine room"
    venus.hangs = False
    await box.until(lambda: box.shown[0] == 261)
    await box.until(lambda: venus.settings[CUSTOM_NAME] == "Engine room")


@pytest.mark.parametrize(
    "text",
    [
        "battery:1",
        "vebus",
        "vebus:",
        "vebus:-1",
        "vebus:70000",
        "vebus:1:2",
        "257",
        "",
        "vebus:１",
        "vebus: 3",
    ],
)
async def test_an_instance_that_makes_no_sense(
    box: Box, venus: SettingsService, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    venus.settings |= {INSTANCE: text, CUSTOM_NAME: "Galley"}
    await box.start()
    assert box.first == (257, "Galley")
    assert "it stays 257" in caplog.text
    venus.change(INSTANCE, "vebus:262")
    await box.until(lambda: box.shown[0] == 262)
    venus.change(INSTANCE, text)
    venus.change(CUSTOM_NAME, "later")
    await box.until(lambda: box.shown[1] == "later")
    assert box.shown[0] == 262


async def test_a_change_right_behind_the_answer_is_not_lost(box: Box, venus: SettingsService) -> None:
    venus.then = lambda: venus.change(INSTANCE, "vebus:299")
    await box.start()
    assert box.first == (299, "")


async def test_an_owner_that_is_old_news_is_not_asked() -> None:
    """The answer of GetNameOwner can be handled after the signal that came behind it."""

    class Stub:
        asked: ClassVar[list[str]] = []

        async def add_match(self, rule: str) -> None: ...

        async def call_daemon(self, *_: object) -> list[str]:
            arguments = encode("sss", [SETTINGS, ":1.5", ":1.9"])
            settings.hear(
                Message(
                    MessageType.SIGNAL,
                    member="NameOwnerChanged",
                    sender=DAEMON,
                    signature="sss",
                    body=arguments,
                )
            )
            return [":1.5"]

        async def call(self, destination: str, *_: object, **__: object) -> list[Any]:
            self.asked.append(destination)
            return [[]]

    stub: Any = Stub()
    settings = LocalSettings(FOLDER, Identity(FOLDER, StateFile(Path("/dev/null/nowhere"), "x"), None, print))
    await settings.connected(stub)
    await settings.close()
    assert Stub.asked == [":1.9"]


async def test_what_is_not_added_is_left_out(
    box: Box, venus: SettingsService, caplog: pytest.LogCaptureFixture
) -> None:
    venus.settings |= {INSTANCE: "vebus:261", CUSTOM_NAME: "Galley"}
    venus.errors[CUSTOM_NAME] = TYPE_DIFFERS
    await box.start()
    assert box.first == (261, "")
    assert f"does not take {CUSTOM_NAME}: error {TYPE_DIFFERS}" in caplog.text
    # The name is kept here then.
    assert await box.write("Engine room") == 0
    await box.restart()
    assert box.first == (261, "Engine room")


@pytest.mark.parametrize(
    ("signature", "value"),
    [
        ("i", 3),
        ("", None),
        ("as", ["a"]),
        ("aa{sv}", []),
        ("aa{sv}", [{}]),
        ("aa{sv}", [{"path": ("s", INSTANCE)}]),
        ("aa{sv}", [{"path": ("s", INSTANCE), "error": ("i", 0)}]),
        ("aa{sv}", [{"path": ("s", INSTANCE), "error": ("i", 0), "value": ("i", 261)}]),
        ("aa{sv}", [{"path": ("s", "/Settings/Other"), "error": ("i", 0), "value": ("s", "vebus:261")}]),
        ("aa{sv}", [{"path": ("i", 1), "error": ("s", "none"), "value": ("ai", [])}]),
        ("aaa{sv}", [[{"path": ("s", INSTANCE), "error": ("i", 0), "value": ("s", "vebus:261")}]]),
    ],
)
async def test_answers_that_make_no_sense(
    box: Box, venus: SettingsService, signature: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def packed(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: variant(*content) for key, content in part.items()}
        return [packed(entry) for entry in part] if isinstance(part, list) else part

    venus.answer = Body(signature, encode(signature, [packed(value)]) if signature else b"")
    await box.start()
    assert box.first == (257, "")
    assert await box.write("Galley") == 0
    assert box.shown == (257, "Galley")
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]
    # And then it comes to its senses.
    venus.answer = None
    venus.settings |= {INSTANCE: "vebus:261"}
    await venus.stop()
    await venus.start()
    await box.until(lambda: box.shown == (261, "Galley"))


async def test_settings_of_an_older_make_cannot_be_used(
    box: Box, venus: SettingsService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("support.settings_service.SETTINGS_INTERFACE", "something.Else")
    await box.start()
    assert box.first == (257, "")
    assert "cannot be used" in caplog.text


async def test_only_the_owner_of_the_name_speaks_for_the_settings(box: Box, venus: SettingsService) -> None:
    """Signals that somebody else sends straight to us change nothing."""
    await box.start()
    ours = box.service._connection.unique_name
    impostor = await Connection.open(box.address)

    def send(path: str, interface: str, member: str, signature: str, body: list[Any]) -> None:
        signal = Message(
            MessageType.SIGNAL,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            destination=ours,
        )
        impostor._send(signal, encode(signature, body), impostor._next_serial())

    parts = {"Value": variant("s", "vebus:66"), "Text": variant("s", "")}
    send(INSTANCE, BUS_ITEM, "PropertiesChanged", "a{sv}", [parts])
    send("/", BUS_ITEM, "ItemsChanged", "a{sa{sv}}", [{INSTANCE: parts}])
    send(DAEMON_PATH, DAEMON, "NameOwnerChanged", "sss", [SETTINGS, "", impostor.unique_name])
    send(INSTANCE, BUS_ITEM, "PropertiesChanged", "a{sv}", [parts])
    # They are all there when this is answered, as the daemon keeps the order.
    await impostor.call(NAME, "/DeviceInstance", BUS_ITEM, "GetValue")
    impostor.close()
    assert box.shown == (257, "")
    venus.change(CUSTOM_NAME, "Galley")
    await box.until(lambda: box.shown == (257, "Galley"))


@pytest.mark.parametrize(
    ("member", "signature", "body"),
    [
        ("PropertiesChanged", "i", [3]),
        ("PropertiesChanged", "", []),
        ("PropertiesChanged", "a{sv}", [{}]),
        ("PropertiesChanged", "a{sv}", [{"Value": variant("i", 3)}]),
        ("PropertiesChanged", "a{sv}", [{"Max": variant("i", 3)}]),
        ("ItemsChanged", "a{sv}", [{}]),
        ("ItemsChanged", "a{sa{sv}}", [{INSTANCE: {"Value": variant("d", 3.0)}}]),
        ("Rubbish", "", []),
    ],
)
async def test_signals_that_make_no_sense(
    box: Box, venus: SettingsService, member: str, signature: str, body: list[Any]
) -> None:
    await box.start()
    path = "/" if member == "ItemsChanged" else INSTANCE
    venus.connection.signal(
        path, BUS_ITEM, member, Body(signature, encode(signature, body) if signature else b"")
    )
    venus.change(CUSTOM_NAME, "Galley")
    await box.until(lambda: box.shown == (257, "Galley"))


async def test_settings_that_are_removed_are_added_again(box: Box, venus: SettingsService) -> None:
    await box.start()
    assert await box.write("Galley") == 0
    venus.remove(CUSTOM_NAME)
    await box.until(lambda: venus.settings.get(CUSTOM_NAME) == "Galley")
    assert box.shown == (257, "Galley")


async def test_they_are_followed_over_a_bus_that_dies(
    box: Box, venus: SettingsService, dbus_daemon: Any
) -> None:
    await box.start()
    dbus_daemon.kill()
    await venus.stop()
    venus.settings |= {INSTANCE: "vebus:261", CUSTOM_NAME: "Galley"}
    dbus_daemon.start()
    await venus.start()
    await box.until(lambda: box.service.owns_name and box.shown == (261, "Galley"))
    venus.change(INSTANCE, "vebus:262")
    await box.until(lambda: box.shown[0] == 262)


def test_paths_of_settings_are_paths() -> None:
    assert settings_folder("ttyUSB0") == "/Settings/Devices/mk2_ttyUSB0"
    assert settings_folder("_tty-é.0") == "/Settings/Devices/mk2__tty___0"
