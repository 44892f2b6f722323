"""Wrong usage and things that are not there: one line that says what to do, and the right exit code."""

from __future__ import annotations

import asyncio
import io
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from support.bus import Daemon

from mk2dbus.cli import main
from mk2dbus.simulator import Simulator
from system.conftest import Outcome, Service, call, mk2dbus


def typed(*arguments: str) -> Outcome:
    """What a process would do whose arguments are wrong, or ask for help: it ends before it begins."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else -1
    return Outcome(code, out.getvalue(), err.getvalue())


def _one_line(text: str) -> str:
    assert "Traceback" not in text
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["run", "--simulate", "multiplus9"], "multiplus9"),
        (["run", "--simulate", "--name", "9x"], "9x"),
        (["run", "--simulate", "--name", "a.b"], "a.b"),
        (["simulate", "multiplus9"], "multiplus9"),
    ],
)
async def test_wrong_names(arguments: list[str], word: str) -> None:
    outcome = await mk2dbus(*arguments)
    assert outcome.code == 2
    assert word in _one_line(outcome.err)


def test_wrong_usage() -> None:
    for outcome in (
        typed("run"),
        typed("run", "--tty", "/dev/ttyUSB0", "--simulate"),
        typed("run", "--simulate", "--baudrate", "9600"),
        typed("run", "--simulate", "--device-instance", "-1"),
        typed("run", "--simulate", "--log-level", "loud"),
        typed("set", "/Mode"),
        typed("nonsense"),
        typed("run", "--simulate", "--poll-interval", "fast"),
        typed("run", "--simulate", "--device-instance", "x"),
        typed("capture", "--seconds", "nan", "x"),
        typed("backup", "--wait", "x", "x"),
    ):
        assert outcome.code == 2
        assert outcome.err
        assert "Traceback" not in outcome.err
        assert "invalid _" not in outcome.err
    outcome = typed("run", "--simulate", "--poll-interval", "9")
    assert outcome.err == (
        "mk2dbus run: argument --poll-interval: '9' is no number from 0.1 to 2; see mk2dbus run --help\n"
    )


async def test_commands_that_are_none() -> None:
    wrong, alone = await asyncio.gather(mk2dbus("moniter"), mk2dbus())
    assert wrong.code == alone.code == 2
    assert wrong.err == "mk2dbus: there is no command 'moniter'; did you mean monitor?\n"
    assert "    watch     print values" in alone.err


async def test_help() -> None:
    outcome = await mk2dbus("--help")
    assert outcome.code == 0
    assert "usage: mk2dbus" in outcome.out


def test_help_for_each_command() -> None:
    commands = ("run", "simulate", "list", "get", "set", "watch", "monitor", "backup", "restore", "diff")
    for command in (*commands, "read-ram", "write-ram"):
        outcome = typed(command, "--help")
        assert outcome.code == 0
        assert f"usage: mk2dbus {command}" in outcome.out


async def test_ports_that_are_none(dbus_daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a port")
    address = dbus_daemon.address
    for port, word in (
        (str(tmp_path / "missing"), "does not exist"),
        (str(file), "not a serial port"),
        (str(tmp_path), "not a serial port"),
        ("/dev/null", "not a serial port"),
    ):
        outcome = await mk2dbus("run", "--tty", port, "--bus", address)
        assert outcome.code == 1
        line = _one_line(outcome.err)
        assert port in line
        assert word in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every port")
async def test_no_permission(simulator: Simulator, dbus_daemon: Daemon) -> None:
    await call("chmod", "0", str(simulator.port))
    outcome = await mk2dbus("run", "--tty", str(simulator.port), "--bus", dbus_daemon.address)
    assert outcome.code == 1
    assert "group" in _one_line(outcome.err)


async def test_a_busy_port(service: Service, simulator: Simulator) -> None:
    outcome = await mk2dbus("run", "--tty", str(simulator.port), "--bus", service.address, "--name", "second")
    assert outcome.code == 1
    assert "in use by another program" in _one_line(outcome.err)


async def test_a_name_already_owned(service: Service, tmp_path: Path) -> None:
    outcome = await mk2dbus(
        "run", "--simulate", "--bus", service.address, "--name", "ttySim", "--state-dir", str(tmp_path)
    )
    assert outcome.code == 1
    assert service.name in outcome.err.strip().splitlines()[-1]
    assert "Traceback" not in outcome.err


async def test_no_bus(tmp_path: Path) -> None:
    addresses = (f"unix:path={tmp_path}/nothing", "nonsense", "tcp:host=127.0.0.1,port=1")
    run = ("run", "--simulate", "--state-dir", str(tmp_path))
    commands = [(*run, "--bus", address) for address in addresses]
    commands += [("list", "--bus", addresses[0]), ("get", "/Mode", "--bus", addresses[1])]
    for outcome in await asyncio.gather(*(mk2dbus(*command) for command in commands)):
        assert outcome.code in (1, 2)
        assert outcome.out == ""
        assert "Traceback" not in outcome.err
        assert outcome.err.strip()


async def test_clients_without_a_service(dbus_daemon: Daemon) -> None:
    for command in (["list"], ["get", "/Mode"], ["set", "/Mode", "1"]):
        outcome = await mk2dbus(*command, "--bus", dbus_daemon.address)
        assert outcome.code in (1, 2)
        _one_line(outcome.err)


async def test_clients_ask_for_what_is_not_there(service: Service) -> None:
    outcome = await mk2dbus("get", "/Nothing/Here", "--bus", service.address)
    assert outcome.code == 1
    assert "/Nothing/Here" in _one_line(outcome.err)
    outcome = await mk2dbus("set", "/Dc/0/Voltage", "12", "--bus", service.address)
    assert outcome.code == 1
    assert "read-only" in _one_line(outcome.err)
    outcome = await mk2dbus("get", "Dc", "--bus", service.address)
    assert outcome.code in (1, 2)
    _one_line(outcome.err)
