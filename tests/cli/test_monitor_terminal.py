"""``monitor`` on a pseudo-terminal: a service on a bus, and once the whole road to the simulator."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import Input, create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output
from support.bus import Daemon
from support.clock import simulated
from support.terminal import LIMIT_S, Screen
from system.conftest import Service

from cli.conftest import House
from cli.monitoring import SYSTEM, phases, scene, told
from mk2dbus.cli import build_parser
from mk2dbus.items import Kind, Leaf, Limits, Refused
from mk2dbus.monitor.controls import Service as ControlsService
from mk2dbus.monitor.dialog import LIMIT
from mk2dbus.monitor.scene import Page, Scene
from mk2dbus.monitor.screen import REFRESH_S
from mk2dbus.monitor.screen import Screen as Display
from mk2dbus.monitor.terminal import Terminal
from mk2dbus.simulator import Kind as Event
from mk2dbus.simulator import Simulator

ROOT = Path(__file__).parents[2]
MODE = "/Mode"
WITHOUT_LIBRARY = """
import sys
sys.modules["prompt_toolkit"] = None
from mk2dbus.cli import main
sys.exit(main(sys.argv[1:]))
"""


class Monitors:
    """Starts ``mk2dbus monitor`` on terminals."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._processes: list[asyncio.subprocess.Process] = []
        self._screens: list[Screen] = []

    async def start(
        self,
        *words: str,
        size: tuple[int, int] = (80, 24),
        code: str = "",
        keyboard: bool = True,
        **environment: str,
    ) -> tuple[Screen, asyncio.subprocess.Process]:
        screen = Screen(*size)
        self._screens.append(screen)
        kept = {
            key: value for key, value in os.environ.items() if key not in ("LC_ALL", "LC_CTYPE", "NO_COLOR")
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *(("-c", code) if code else ("-m", "mk2dbus"))),
            *("monitor", "--bus", self.address, *words),
            stdin=screen.theirs if keyboard else asyncio.subprocess.DEVNULL,
            stdout=screen.theirs,
            stderr=screen.theirs,
            cwd=ROOT,
            env={**kept, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
        )
        self._processes.append(process)
        os.close(screen.theirs)
        return screen, process

    async def end(self) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.wait()
        for screen in self._screens:
            screen.close()


@pytest.fixture
async def monitors(dbus_daemon: Daemon) -> AsyncIterator[Monitors]:
    monitors = Monitors(dbus_daemon.address)
    yield monitors
    await monitors.end()


@pytest.fixture
def flat(house: House) -> House:
    """A house with a current limit, and figures of its line."""

    async def write(value: int | float | str) -> None:
        if value == 13:
            raise Refused(f"{LIMIT}: says the device")
        house.writes.append((LIMIT, value))
        house.tree.update({LIMIT: value})

    limit = Leaf(LIMIT, Kind.REAL, "A", writable=True, decimals=1)
    house.tree.add(limit, 35.0, limits=Limits(1, 50), write=write)
    house.tree.add(Leaf("/State", Kind.INTEGER, texts={3: "Bulk"}), 3)
    house.tree.add(Leaf("/Mgmt/Statistics/RoundTrip", Kind.REAL, "s", decimals=3), 0.071)
    return house


async def ended(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(LIMIT_S):
        return await process.wait()


def as_it_was(screen: Screen) -> bool:
    return screen.line_mode() and screen.cursor and not screen.modes & {"1049", "2004"}


async def test_the_whole_road(dbus_daemon: Daemon, tmp_path: Path, monitors: Monitors) -> None:
    async with Simulator("multiplus2", baudrate=0, latency_ms=2, link=tmp_path / "ttySim") as simulator:
        service = Service(dbus_daemon.address, tmp_path)
        try:
            await service.start("--tty", str(simulator.port))
            screen, process = await monitors.start("--note", "a note")
            await screen.shows("MultiPlus-II", "Battery voltage", "120V", "a note")
            assert screen.own_screen
            assert not screen.cursor
            await service.until("/ModeIsAdjustable", 1.0)
            screen.press("m")
            await screen.shows("Mode (now On):  1 Charger only")
            assert simulator.log.of(Event.PANEL) == []
            screen.press("1")
            await screen.shows("Mode On → Charger only?")
            assert simulator.log.of(Event.PANEL) == []
            screen.press("y")
            await screen.shows("Mode On → Charger only", "mode Charger only")
            assert {event.data[0] for event in simulator.log.of(Event.PANEL)} == {1}
            assert await service.stop() == 0
            await screen.shows("the service is gone; waiting for it")
            assert "MultiPlus-II" not in screen.text
            await service.start("--tty", str(simulator.port))
            await screen.shows("MultiPlus-II", "Battery")
            dbus_daemon.kill()
            await screen.shows("the bus is gone; waiting for it")
            assert "MultiPlus-II" not in screen.text
            dbus_daemon.start()
            await screen.shows("MultiPlus-II", "120V")
            screen.press("l")
            await screen.shows("Input current limit (now")
            screen.press("\x1b")
            await screen.until(lambda: "limit (now" not in screen.text)
            screen.press("q")
            assert await ended(process) == 0
            assert await service.stop() == 0
        finally:
            if service.process.returncode is None:
                service.process.kill()
                await service.process.wait()
    await screen.until(lambda: as_it_was(screen), "the terminal as it was")


async def test_keys(flat: House, monitors: Monitors) -> None:
    screen, process = await monitors.start()
    await screen.shows("MultiPlus", "Bulk", "q quit")
    screen.press("l")
    await screen.shows("now 35.0A; 1 to 50 A")
    screen.press("13\r")
    await screen.shows("Input current limit 35.0A → 13.0A?")
    screen.press("y")
    await screen.shows("says the device")
    assert flat.writes == []
    # A paste is no key.
    screen.press("\x1b[200~l14\ry\x1b[201~")
    screen.press("l")
    await screen.shows("now 35.0A")
    screen.press("\x1b")
    await screen.until(lambda: "now 35.0A" not in screen.text)
    screen.press("\t")
    await screen.shows("Round trip  0.071s", "Tab overview")
    screen.press("?")
    await screen.shows("input current limit; asks before it writes")
    screen.press(" ")
    await screen.shows("Round trip")
    flat.tree.update({"/Mgmt/Statistics/RoundTrip": 0.5})
    await screen.shows("0.500s")
    screen._lines = ["rubbish"] * 24
    screen.press("\x0c")
    await screen.until(lambda: "Round trip" in screen.text and "rubbish" not in screen.text)
    screen.press("\x03")
    assert await ended(process) == 0
    await screen.until(lambda: as_it_was(screen), "the terminal as it was")
    assert flat.writes == []


async def test_resize(flat: House, monitors: Monitors) -> None:
    screen, process = await monitors.start("--ascii", NO_COLOR="1")
    await screen.shows("+- Front panel", "mode On")
    for columns, rows, seen in ((40, 12, "Bulk   mode On"), (120, 40, "+- Front panel"), (20, 3, "q quit")):
        screen.resize(columns, rows)
        process.send_signal(signal.SIGWINCH)
        if columns == 20:
            await screen.until(lambda: len(screen.lines[-1]) > 0)
        else:
            await screen.shows(seen, "q quit")
        assert max(map(len, screen.lines)) <= columns
    assert screen.text.isascii()
    assert not screen.coloured
    process.send_signal(signal.SIGTERM)
    assert await ended(process) == 0
    await screen.until(lambda: as_it_was(screen), "the terminal as it was")


async def test_without_a_keyboard_on_stdin(flat: House, monitors: Monitors) -> None:
    """As in the background of a script: the keys come from the terminal on stdout."""
    screen, process = await monitors.start("--line", keyboard=False, LANG="C")
    await screen.shows("Round trip  0.071s", "Tab overview")
    assert screen.text.isascii()
    assert screen.coloured
    process.send_signal(signal.SIGINT)
    assert await ended(process) == 0
    await screen.until(lambda: as_it_was(screen), "the terminal as it was")


async def test_a_crash_gives_the_terminal_back(flat: House, monitors: Monitors) -> None:
    code = (
        "import sys, mk2dbus.monitor.screen as screen\n"
        "first = screen.draw\n"
        "def draw(scene, columns, rows):\n"
        "    if scene.page is screen.Page.LINE: raise RuntimeError('a bug')\n"
        "    return first(scene, columns, rows)\n"
        "screen.draw = draw\n"
        "from mk2dbus.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    screen, process = await monitors.start(code=code)
    await screen.shows("MultiPlus")
    screen.press("\t")
    assert await ended(process) == 1
    await screen.until(lambda: "RuntimeError: a bug" in screen.raw.rpartition("\x1b[?1049l")[2])
    assert as_it_was(screen)


async def test_a_terminal_that_goes_away(flat: House, monitors: Monitors) -> None:
    screen, process = await monitors.start()
    await screen.shows("MultiPlus")
    screen.close()
    monitors._screens.remove(screen)
    assert await ended(process) == 0


@pytest.mark.parametrize(
    ("environment", "code", "said"),
    [({"TERM": "dumb"}, "", ""), ({}, WITHOUT_LIBRARY, "please install prompt_toolkit")],
    ids=["dumb", "no library"],
)
async def test_plain_lines(
    flat: House, monitors: Monitors, environment: dict[str, str], code: str, said: str
) -> None:
    screen, process = await monitors.start("--line", code=code, size=(200, 50), **environment)
    await screen.until(lambda: "/Mgmt/Statistics/RoundTrip 0.071s" in screen.raw)
    flat.tree.update({"/Mgmt/Statistics/RoundTrip": 0.5, "/State": 3})
    await screen.until(lambda: "/Mgmt/Statistics/RoundTrip 0.500s" in screen.raw)
    assert said in screen.raw
    assert ("install" in screen.raw) == bool(said)
    assert "\x1b" not in screen.raw
    assert "/State" not in screen.raw
    process.send_signal(signal.SIGINT)
    assert await ended(process) == 0


# --- in this process, without a terminal ---


class Paper:
    """What the terminal part writes, and whom it writes to."""

    def __init__(self) -> None:
        self.file = io.StringIO()
        self.output = Vt100_Output(
            self.file, lambda: Size(rows=24, columns=80), term="xterm", enable_cpr=False
        )

    def drain(self) -> str:
        text = self.file.getvalue()
        self.file.seek(0)
        self.file.truncate()
        return text


def display(paper: Paper, view: Scene, ends: list[BaseException | None], keys: Input) -> Display:
    nobody = cast(ControlsService, None)  # no key that asks the service is pressed
    return Display(
        view, nobody, ends.append, lambda *handlers: Terminal(*handlers, input=keys, output=paper.output)
    )


@simulated
async def test_only_what_changed_is_drawn_and_not_too_often() -> None:
    paper, ends, drawings, total = Paper(), [], 0, 0
    loop = asyncio.get_running_loop()
    with create_pipe_input() as keys:
        screen = display(paper, scene(SYSTEM, phases(1)), ends, keys)
        await screen.start()
        await asyncio.sleep(1)
        assert "50.53V" in paper.drain()
        began = loop.time()
        while loop.time() < began + 60:
            voltage = 50 + loop.time() / 4
            screen.items(told({"/Dc/0/Voltage": (voltage, f"{voltage:.2f}V")}))
            await asyncio.sleep(0.02)
            written = paper.drain()
            drawings += bool(written)
            # The line of the battery, what runs, and with a new second the graphs; nothing of the input.
            assert "230V" not in written
            assert "1234W" not in written
            total += len(written.encode())
        assert drawings == pytest.approx(60 / REFRESH_S, abs=2)
        # So that a line of 19200 baud does, whatever happens: four drawings a second, the graphs once.
        assert total / 60 < 1920
        await screen.close()
    assert paper.drain().endswith("\x1b[?1049l")


@simulated
async def test_nothing_is_drawn_while_nothing_changes() -> None:
    paper, ends = Paper(), []
    with create_pipe_input() as keys:
        quiet = {path: told for path, told in SYSTEM.items() if not path.startswith("/Leds/")}
        screen = display(paper, scene(quiet, page=Page.LINE), ends, keys)
        await screen.start()
        await asyncio.sleep(5)
        assert paper.drain()
        await asyncio.sleep(600)
        screen.items(told({"/Devices/0/RamVars/UBat": (50.0, "50.00V")}))
        await asyncio.sleep(5)
        assert paper.drain() == ""
        await screen.close()


@simulated
async def test_what_goes_wrong_meanwhile_ends_it() -> None:
    paper, ends = Paper(), []
    with create_pipe_input() as keys:
        screen = display(paper, scene(SYSTEM), ends, keys)
        await screen.start()
        logging.getLogger("mk2dbus.test").warning("a message was left out")
        await asyncio.sleep(1)
        assert "a message was left out" in paper.drain()
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)
        assert [type(error) for error in ends] == [ZeroDivisionError]
        await screen.close()
    assert asyncio.get_running_loop().get_exception_handler() is None


def test_help_names_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser("monitor").parse_args(["monitor", "--help"])
    text = capsys.readouterr().out
    for option in ("--line", "--ascii", "--no-ascii", "--note", "--service"):
        assert option in text
