"""``watch``: lines of what is wanted, and of what changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Callable
from datetime import datetime

import pytest
from support.bus import Daemon

from cli.conftest import House, Shell
from mk2dbus.cli import build_parser
from mk2dbus.cli.watch import JsonLines, Lines, wanted

VOLTAGE = "/Dc/0/Voltage"


class Watching:
    """A ``watch`` in this process, and what it has said."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = ""
        self.err = ""

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)
                output, errors = self._capsys.readouterr()
                self.out += output
                self.err += errors


@contextlib.asynccontextmanager
async def watching(
    daemon: Daemon, capsys: pytest.CaptureFixture[str], *words: str
) -> AsyncIterator[Watching]:
    arguments = build_parser("watch").parse_args(["watch", "--bus", daemon.address, *words])
    running = asyncio.create_task(arguments.run(arguments))
    found = Watching(capsys)
    try:
        yield found
        signal.raise_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            assert await running == 0
    finally:
        running.cancel()


async def test_what_is_there_and_what_changes(
    house: House, dbus_daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    async with watching(dbus_daemon, capsys, "/Dc", "Mode") as watch:
        await watch.until(lambda: VOLTAGE in watch.out and "/Mode On" in watch.out)
        assert len(watch.out.splitlines()) == 2
        house.tree.update({VOLTAGE: 51.0, "/ProductName": "another"})
        await watch.until(lambda: f"{VOLTAGE} 51" in watch.out)
    assert "another" not in watch.out
    assert watch.err == ""


async def test_over_a_restart_of_the_bus(
    house: House, dbus_daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    async with watching(dbus_daemon, capsys, "--json", VOLTAGE) as watch:
        await watch.until(lambda: VOLTAGE in watch.out)
        dbus_daemon.kill()
        await watch.until(lambda: "gone" in watch.err)
        dbus_daemon.start()
        await watch.until(lambda: watch.out.count("\n") == 3)
    told = [json.loads(line) for line in watch.out.splitlines()]
    assert [(line["path"], line["value"]) for line in told] == [
        (VOLTAGE, 50.5),
        (VOLTAGE, None),
        (VOLTAGE, 50.5),
    ]
    assert all(datetime.fromisoformat(line["time"]).tzinfo for line in told)
    assert watch.err == "mk2dbus: the bus is gone; waiting for it\nmk2dbus: the bus is back\n"


async def test_ram_variables_are_read_when_they_are_wanted(
    house: House, dbus_daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    async with watching(dbus_daemon, capsys, "UBat") as watch:
        await watch.until(lambda: "/Devices/0/RamVars/UBat 50.25V" in watch.out)
    assert house.reads == ["/Devices/0/RamVars/UBat"]
    house.reads.clear()
    async with watching(dbus_daemon, capsys) as watch:
        await watch.until(lambda: VOLTAGE in watch.out)
    assert house.reads == []


async def test_a_glob_that_fits_nothing(house: House, sh: Shell) -> None:
    watched = await sh("watch", "/Mode", "/Nothing*")
    assert (watched.code, watched.out, watched.err) == (1, "", "mk2dbus: nothing fits '/Nothing*'\n")


def test_a_line_only_where_it_would_say_something_else(capsys: pytest.CaptureFixture[str]) -> None:
    for kind, expected in ((Lines, ["/A 1.0", "/A 1.1"]), (JsonLines, [1.0, 1.01, 1.1])):
        view = kind(wanted(["/A"]))
        for path, value, text in (
            ("/A", 1.0, "1.0"),
            ("/A", 1.01, "1.0"),
            ("/AB", 3, "3"),
            ("/A", 1.01, "1.0"),
            ("/A", 1.1, "1.1"),
        ):
            view.items({path: {"Value": value, "Text": text}})
        said = capsys.readouterr().out.splitlines()
        assert expected == (said if kind is Lines else [json.loads(line)["value"] for line in said])
