"""``list``, ``get``, ``set`` and ``monitor`` against a service on a bus."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mk2dbus.bus.connection import Connection
from mk2dbus.cli import build_parser

ROOT = Path(__file__).parents[2]
ABSORPTION = "/Devices/0/Settings/Absorption"


class Shell:
    """Runs commands, in this process or in one of their own."""

    def __init__(self, address: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.address = address
        self._capsys = capsys
        self._spawned: list[asyncio.subprocess.Process] = []

    async def run(self, command: str, *words: str) -> tuple[int, list[str], str]:
        """Exit code, lines of stdout, stderr."""
        arguments = build_parser().parse_args([command, "--bus", self.address, *words])
        code = await arguments.run(arguments)
        output, errors = self._capsys.readouterr()
        return code, output.splitlines(), errors

    async def spawn(self, *words: str, stdout: int = asyncio.subprocess.PIPE) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "mk2dbus",
            words[0],
            "--bus",
            self.address,
            *words[1:],
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        self._spawned.append(process)
        return process

    async def end(self) -> None:
        """Nothing stays behind after a test that failed."""
        for process in self._spawned:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
async def shell(bench: Any, dbus_daemon: Any, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Shell]:
    shell = Shell(dbus_daemon.address, capsys)
    yield shell
    await shell.end()


async def test_list_shows_everything_in_columns(bench: Any, shell: Shell) -> None:
    code, lines, errors = await shell.run("list")
    assert (code, errors) == (0, "")
    assert lines[0].split() == ["PATH", "VALUE", "UNIT", "MIN", "MAX", "DEFAULT", "WRITABLE"]
    rows = {line.split()[0]: line for line in lines if line.startswith("/")}
    assert set(rows) == set(bench.tree)
    assert rows[ABSORPTION].split() == [ABSORPTION, "28.80V", "V", "24", "32", "28.5", "yes"]
    assert rows["/Dc/0/Current"].split() == ["/Dc/0/Current", "---", "A"]
    assert rows["/State"].split() == ["/State", "Float"]
    assert {line.index(text) for line, text in ((rows[ABSORPTION], "28.80V"), (rows["/State"], "Float"))} == {
        lines[0].index("VALUE")
    }


async def test_get(bench: Any, shell: Shell) -> None:
    assert await shell.run("get", "/State") == (0, ["Float"], "")
    assert await shell.run("get", "/State", "/Mode") == (0, ["/State Float", "/Mode On"], "")
    assert await shell.run("get", "/Dc") == (0, ["/Dc/0/Voltage 24.12V", "/Dc/0/Current ---"], "")
    code, lines, errors = await shell.run("get", "/Nothing", "/State")
    assert (code, lines) == (1, ["/State Float"])
    assert errors == "mk2dbus: there is no object /Nothing\n"


async def test_set(bench: Any, shell: Shell) -> None:
    assert await shell.run("set", ABSORPTION, "28.5", "/Mode", "4") == (
        0,
        [f"{ABSORPTION} 28.80V → 28.50V", "/Mode On → Off"],
        "",
    )
    # Digits are a text where the item is one.
    assert await shell.run("set", "/CustomName", "123") == (0, ["/CustomName cellar → 123"], "")
    assert bench.device == [(ABSORPTION, 28.5), ("/Mode", 4), ("/CustomName", "123")]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((ABSORPTION, "99"), 1, "99"),
        ((ABSORPTION, "-1"), 1, "-1"),
        ((ABSORPTION, "high"), 1, "number"),
        ((ABSORPTION, "nan"), 1, "nan"),
        ((ABSORPTION, "1e300"), 1, "1e+300"),
        (("/Mode", "99999999999999999999"), 1, "/Mode"),
        (("/State", "1"), 1, "read-only"),
        (("/Nothing", "1"), 1, "/Nothing"),
        (("/Dc", "1"), 1, "/Dc"),
        (("/Failing/AccessLevelRequired", "1"), 1, "says the device"),
        (("/Failing/Stuck", "1"), 1, "not confirmed"),
        ((ABSORPTION,), 2, "pairs"),
        ((ABSORPTION, "28", "/Mode"), 2, "pairs"),
    ],
)
async def test_set_refused_says_why_in_one_line(
    bench: Any, shell: Shell, words: tuple[str, ...], code: int, said: str
) -> None:
    got, lines, errors = await shell.run("set", *words)
    assert (got, lines) == (code, [])
    assert said in errors
    assert errors.count("\n") == 1
    assert bench.device == []


async def test_set_stops_at_the_first_refusal(bench: Any, shell: Shell) -> None:
    code, lines, errors = await shell.run("set", "/Mode", "4", "/Failing/Refused", "3", "/CustomName", "x")
    assert (code, lines) == (1, ["/Mode On → Off"])
    assert errors == ("mk2dbus: /Failing/Refused: says the device (done: /Mode; not tried: /CustomName)\n")
    assert bench.device == [("/Mode", 4)]


async def test_set_writes_nothing_when_one_of_the_values_cannot_be(bench: Any, shell: Shell) -> None:
    for words in (
        (ABSORPTION, "99"),
        ("/State", "1"),
        ("/Nothing", "1"),
        (ABSORPTION, "default", "/Mode", "default"),
    ):
        code, lines, errors = await shell.run("set", "/Mode", "4", *words)
        assert (code, lines, errors.count("\n")) == (1, [], 1)
    assert bench.device == []


async def test_which_service(bench: Any, shell: Shell) -> None:
    assert (await shell.run("get", "--service", bench.name, "/State"))[0] == 0
    assert (await shell.run("get", "--service", "test0", "/State"))[0] == 0
    code, _, errors = await shell.run("get", "--service", "other", "/State")
    assert (code, errors.count("\n")) == (2, 1)
    assert "com.victronenergy.vebus.other" in errors
    second = await Connection.open(shell.address)
    await second.request_name("com.victronenergy.vebus.second")
    code, _, errors = await shell.run("get", "/State")
    second.close()
    assert code == 2
    assert f"com.victronenergy.vebus.second, {bench.name}" in errors
    await bench.service.close()
    code, _, errors = await shell.run("get", "/State")
    assert code == 2
    assert "is mk2dbus running" in errors


@pytest.mark.parametrize("command", [("list",), ("get", "/State"), ("set", "/State", "1"), ("monitor",)])
async def test_no_bus(capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    code, lines, errors = await Shell("unix:path=/nowhere", capsys).run(*command)
    assert (code, lines) == (2, [])
    assert errors == "mk2dbus: cannot reach the bus at unix:path=/nowhere: No such file or directory\n"


async def test_a_reader_that_goes_away_is_no_error(bench: Any, shell: Shell) -> None:
    reading, writing = os.pipe()
    process = await shell.spawn("list", stdout=writing)
    os.close(writing)
    os.close(reading)
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")


async def line_with(reader: asyncio.StreamReader, text: str) -> str:
    async with asyncio.timeout(20):
        while text not in (line := (await reader.readline()).decode()):
            assert line, f"ended before {text!r}"
    return line


async def test_monitor_in_lines(bench: Any, shell: Shell) -> None:
    process = await shell.spawn("monitor")
    assert process.stdout is not None
    assert process.stderr is not None
    await line_with(process.stdout, "/State Float")
    await line_with(process.stdout, "/Failing/Stuck 1")
    bench.tree.update({"/State": 3})
    assert await line_with(process.stdout, "/State") == "/State 3\n"
    await bench.service._connection.release_name(bench.name)
    await line_with(process.stderr, "gone")
    await line_with(process.stderr, "back")
    await line_with(process.stdout, "/State 3")
    process.send_signal(signal.SIGINT)
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")


async def test_monitor_ends_with_its_reader(bench: Any, shell: Shell) -> None:
    reading, writing = os.pipe()
    process = await shell.spawn("monitor", stdout=writing)
    os.close(writing)
    assert await asyncio.to_thread(os.read, reading, 100)
    os.close(reading)
    changing = asyncio.create_task(_change_on(bench))
    try:
        async with asyncio.timeout(20):
            _, errors = await process.communicate()
    finally:
        changing.cancel()
    assert (process.returncode, errors) == (0, b"")


async def _change_on(bench: Any) -> None:
    for step in range(10_000):
        bench.tree.update({"/State": step})
        await asyncio.sleep(0.05)
