"""What ``monitor`` makes of the items: history, overview, dialogs."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from cli.monitoring import SYSTEM, phases, scene
from mk2dbus.bus.client import ItemView
from mk2dbus.bus.errors import CallFailed, CallTimedOut
from mk2dbus.cli import monitor
from mk2dbus.monitor.controls import Controls
from mk2dbus.monitor.dialog import (
    BACKSPACE,
    ENTER,
    ESCAPE,
    LIMIT,
    MODE,
    Choose,
    Confirm,
    Dialog,
    Enter,
    Said,
    Writing,
    ask,
    lines,
    press,
)
from mk2dbus.monitor.glyphs import ASCII, UNICODE, Glyphs
from mk2dbus.monitor.history import History

MODES = {1: "Charger only", 2: "Inverter only", 3: "On", 4: "Off"}
MODE_VIEW = ItemView(MODE, 3, "On", "", True, "switch", None, None, None)
LIMIT_VIEW = ItemView(LIMIT, 35.0, "35.0A", "A", True, "limit", 1.0, 50.0, None)


# --- history ---


def test_history_shows_what_is_known_and_no_more() -> None:
    history = History()
    assert history.columns(5.0, 3) == [None, None, None]
    for second, value in enumerate([1.0, 2.0, None, 4.0, 5.0, 6.0]):
        history.add(second + 0.1, value)
        # The second sample of a second is not needed.
        history.add(second + 0.6, 99.0)
    assert history.columns(6.0, 60)[-6:] == [1.0, 2.0, None, 4.0, 5.0, 6.0]
    assert history.columns(6.0, 30)[-3:] == [1.5, 4.0, 5.5]
    assert history.columns(6.0, 120)[-4:] == [5.0, 5.0, 6.0, 6.0]
    assert history.greatest() == 6.0


def test_history_grows_to_ten_minutes_and_stays_there() -> None:
    history = History()
    spans = {}
    for second in range(5000):
        history.add(float(second), float(second))
        spans.setdefault(history.span_s(float(second)), second)
    assert spans == {60: 0, 300: 61, 600: 301}
    columns = history.columns(5000.0, 10)
    assert columns[-1] == pytest.approx(4970, abs=30)
    assert None not in columns[1:]


def test_a_graph_moves_by_whole_columns() -> None:
    history = History()
    for second in range(70):
        history.add(float(second), float(second))
    before = history.columns(69.0, 30)
    history.add(70.0, 70.0)
    after = history.columns(70.0, 30)
    assert after[:-2] in (before[:-2], before[1:-1])


# --- items ---


def test_items_keep_what_is_not_told_again() -> None:
    view = scene(SYSTEM)
    view.items.update({"/State": {"Text": "Float"}, "/Mode": {"Value": None, "Text": "---"}})
    assert (view.items.whole("/State"), view.items.text("/State")) == (3, "Float")
    assert (view.items.known("/Mode"), view.items.text("/Mode"), view.items.text("/Nothing")) == (
        "",
        "---",
        "---",
    )


@pytest.mark.parametrize(("count", "expected"), [(0, 1), (1, 1), (2, 2), (3, 3), (9, 3)])
def test_phases(count: int, expected: int) -> None:
    view = scene(phases(min(count, 3)), {"/Ac/NumberOfPhases": (count, str(count))}).overview()
    assert len(view.input.phases) == len(view.output.phases) == expected


def test_phases_where_their_number_is_not_told() -> None:
    values = {path: told for path, told in phases(3).items() if path != "/Ac/NumberOfPhases"}
    assert len(scene(values).overview().output.phases) == 3
    assert len(scene().overview().output.phases) == 1


# --- dialogs ---


def shown(dialog: Dialog, columns: int = 80, glyphs: Glyphs = UNICODE) -> list[str]:
    return ["".join(text for _, text in line) for line in lines(dialog, columns, glyphs)]


def typed(dialog: Dialog, keys: str) -> Dialog:
    for key in keys:
        dialog = press(dialog, key)
    return dialog


def test_mode_is_chosen_by_its_number_and_confirmed() -> None:
    dialog = ask(MODE_VIEW, MODES)
    assert shown(dialog) == [
        "Mode (now On):  1 Charger only  2 Inverter only  3 On  4 Off  Esc cancels",
    ]
    assert press(dialog, "7") is dialog
    assert press(dialog, ESCAPE) is None
    chosen = press(dialog, "1")
    assert chosen == Confirm(MODE_VIEW, 1, "Charger only")
    assert shown(chosen) == ["Mode On → Charger only?  y writes, any other key does not"]
    assert press(chosen, "y") == Writing(MODE_VIEW, 1, "Charger only")
    for key in ("n", ENTER, ESCAPE, " ", "1"):
        assert press(chosen, key) == Said("nothing was written")


def test_off_is_warned_of() -> None:
    off = press(ask(MODE_VIEW, MODES), "4")
    assert "only the switch on the unit" in " ".join(shown(off))
    assert len(shown(off, 40)) > len(shown(off, 80))
    assert shown(off, 80, ASCII)[0] == "Mode On -> Off?  y writes, any other key does not"


def test_limit_is_typed() -> None:
    dialog = ask(LIMIT_VIEW, {})
    assert shown(typed(dialog, "12")) == [
        "Input current limit (now 35.0A; 1 to 50 A): 12▏  Enter goes on  Esc cancels"
    ]
    confirm = press(press(typed(dialog, "12,55"), BACKSPACE), ENTER)
    assert confirm == Confirm(LIMIT_VIEW, 12.5, "12.5A")
    assert press(typed(dialog, "12"), ESCAPE) is None


@pytest.mark.parametrize(
    ("keys", "wrong"),
    [
        ("99", "/Ac/ActiveIn/CurrentLimit cannot be 99 A; it takes a number from 1 to 50 A"),
        ("-3", "/Ac/ActiveIn/CurrentLimit cannot be -3 A; it takes a number from 1 to 50 A"),
        ("x", "'x' is no number"),
        ("", "'' is no number"),
        ("nan", "'nan' is no number"),
        ("1e999", "'1e999' is no number"),
    ],
)
def test_a_limit_that_cannot_be(keys: str, wrong: str) -> None:
    dialog = press(typed(ask(LIMIT_VIEW, {}), keys), ENTER)
    assert isinstance(dialog, Enter)
    assert dialog.wrong == wrong
    assert shown(dialog)[-1] == wrong
    # It goes as soon as something else is typed.
    again = press(dialog, "1")
    assert isinstance(again, Enter)
    assert again.wrong == ""


def test_typing_has_an_end() -> None:
    dialog = typed(ask(LIMIT_VIEW, {}), "1" * 100)
    assert isinstance(dialog, Enter)
    assert len(dialog.typed) == 12


def test_what_cannot_be_asked() -> None:
    read_only = dataclasses.replace(MODE_VIEW, writable=False)
    assert ask(read_only, MODES) == Said("the mode cannot be written: /Mode is read-only")
    assert "does not tell" in shown(ask(MODE_VIEW, {}))[0]


class Fake:
    """A service that does what it is told to do."""

    def __init__(self) -> None:
        self.written: list[tuple[str, float | str]] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.after: ItemView | None = None
        """What there is after a write; None: what was written."""
        self._views = {MODE: MODE_VIEW, LIMIT: LIMIT_VIEW}

    async def view(self, path: str) -> ItemView:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self._views[path]

    async def choices(self, path: str) -> dict[int, str]:
        return MODES

    async def set(self, path: str, value: float | str) -> None:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.written.append((path, value))
        text = MODES.get(int(value), f"{value}A")
        self._views[path] = self.after or dataclasses.replace(self._views[path], text=text)


class Bench:
    """Controls with a fake service, and what is shown and failed."""

    def __init__(self) -> None:
        self.service = Fake()
        self.shown: Dialog = None
        self.failed: list[BaseException] = []
        self.controls = Controls(self.service, self._show, self.failed.append)

    def _show(self, dialog: Dialog) -> None:
        self.shown = dialog

    async def press(self, *keys: str) -> list[bool]:
        used = []
        for key in keys:
            used.append(self.controls.key(key))
            for _ in range(5):
                await asyncio.sleep(0)
        return used


async def test_controls_write_what_was_confirmed() -> None:
    bench = Bench()
    assert await bench.press("m", "1", "y") == [True] * 3
    assert bench.service.written == [(MODE, 1)]
    assert bench.shown == Said("Mode On → Charger only", good=True)
    # The next key does what it always does.
    assert await bench.press("x") == [False]
    assert bench.shown is None
    await bench.press("l", "2", "0", ENTER, "y")
    assert bench.service.written[1:] == [(LIMIT, 20)]
    await bench.controls.close()


async def test_what_was_confirmed_is_said_even_where_it_is_not_known_now() -> None:
    bench = Bench()
    unknown = dataclasses.replace(MODE_VIEW, value=None, text="---")
    await bench.press("m", "1")
    bench.service.after = unknown
    await bench.press("y")
    assert bench.shown == Said("Mode On → Charger only", good=True)
    await bench.controls.close()


async def test_controls_write_nothing_else() -> None:
    bench = Bench()
    for keys in (
        ("m", "1", "n"),
        ("m", "1", ESCAPE),
        ("m", ESCAPE, "y"),
        ("l", "9", "9", ENTER, "y"),
        ("y",),
    ):
        await bench.press(*keys, ESCAPE)
    assert bench.service.written == []
    await bench.controls.close()


@pytest.mark.parametrize(
    "error",
    [CallFailed("x", "a VE.Bus BMS controls mode and current limit"), CallTimedOut("it did not answer")],
    ids=lambda error: type(error).__name__,
)
async def test_a_refusal_is_told_in_its_words(error: Exception) -> None:
    bench = Bench()
    await bench.press("m", "1")
    bench.service.error = error
    await bench.press("y")
    assert bench.shown == Said(str(error))
    await bench.press("l")
    assert bench.shown == Said(str(error))
    await bench.controls.close()
    assert bench.failed == []


async def test_keys_wait_while_something_is_under_way() -> None:
    bench = Bench()
    bench.service.gate.clear()
    assert await bench.press("m", "1", "y") == [True] * 3
    assert shown(bench.shown) == ["asking for the mode"]
    bench.controls.say("a warning")
    assert shown(bench.shown) == ["asking for the mode"]
    bench.service.gate.set()
    await bench.press("z")
    assert isinstance(bench.shown, Choose)
    await bench.press("2")
    bench.service.gate.clear()
    await bench.press("y", "y", "y")
    assert shown(bench.shown) == ["writing mode Inverter only …"]
    await bench.controls.close()
    assert bench.service.written == []


async def test_a_bug_ends_it() -> None:
    bench = Bench()
    bench.service.error = RuntimeError("a bug")
    await bench.press("m")
    assert [str(error) for error in bench.failed] == ["a bug"]


async def test_warnings_are_shown() -> None:
    bench = Bench()
    bench.controls.say("a message was left out")
    assert bench.shown == Said("a message was left out")


# --- which glyphs ---


@pytest.mark.parametrize(
    ("locale", "expected"),
    [
        ({"LANG": "en_GB.UTF-8"}, True),
        ({"LANG": "de_DE.utf8"}, True),
        ({"LANG": "C.UTF-8"}, True),
        ({"LC_CTYPE": "UTF-8"}, True),
        ({"LANG": "de_DE@euro"}, False),
        ({"LANG": "C"}, False),
        ({}, False),
        # Python's own doing in a C locale.
        ({"LC_CTYPE": "C.UTF-8"}, False),
        ({"LC_CTYPE": "C.UTF-8", "LANG": "en_GB.UTF-8"}, True),
        ({"LANG": "en_GB.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "C", "LC_ALL": "en_GB.UTF-8"}, True),
    ],
    ids=str,
)
def test_locale(monkeypatch: pytest.MonkeyPatch, locale: dict[str, str], expected: bool) -> None:
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in locale.items():
        monkeypatch.setenv(name, value)
    assert monitor._has_utf8() == expected
