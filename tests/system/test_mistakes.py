"""Wrong usage and things that are not there: one line that says what to do, and the right exit code."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from support.bus import Daemon

from mk2dbus.simulator import Simulator
from system.conftest import Service, call, mk2dbus


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


async def test_wrong_usage() -> None:
    for outcome in await asyncio.gather(
        mk2dbus(),
        mk2dbus("run"),
        mk2dbus("run", "--tty", "/dev/ttyUSB0", "--simulate"),
        mk2dbus("run", "--simulate", "--baudrate", "9600"),
        mk2dbus("run", "--simulate", "--device-instance", "-1"),
        mk2dbus("run", "--simulate", "--log-level", "loud"),
        mk2dbus("set", "/Mode"),
        mk2dbus("nonsense"),
    ):
        assert outcome.code == 2
        assert outcome.err
        assert "Traceback" not in outcome.err


async def test_help() -> None:
    commands = ("run", "simulate", "list", "get", "set", "monitor", "backup", "restore", "diff")
    helps = [mk2dbus(command, "--help") for command in (*commands, "read-ram", "write-ram")]
    for outcome in await asyncio.gather(mk2dbus("--help"), *helps):
        assert outcome.code == 0
        assert "usage: mk2dbus" in outcome.out


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
    commands = (["run", "--simulate", "--state-dir", str(tmp_path)], ["list"], ["get", "/Mode"])
    for outcome in await asyncio.gather(
        *(mk2dbus(*command, "--bus", address) for address in addresses for command in commands)
    ):
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
