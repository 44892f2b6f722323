"""capture and replay: real processes at a real pseudo-terminal; nothing commanded, nothing private kept."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from support.bus import Daemon
from support.recordings import FILE

from mk2dbus.cli import build_parser
from mk2dbus.decode.decoder import Decoder, Sort
from mk2dbus.decode.recording import Traffic, about_port, read
from mk2dbus.simulator import Kind, Simulator

from .conftest import Outcome


@pytest.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[Simulator]:
    async with Simulator("multiplus2", baudrate=0, latency_ms=2, link=tmp_path / "ttySim") as simulator:
        yield simulator


@pytest.fixture
def replay(capsys: pytest.CaptureFixture[str]) -> type[Replay]:
    Replay.capsys = capsys
    return Replay


class Replay:
    """Runs ``replay`` in this process."""

    capsys: pytest.CaptureFixture[str]

    @classmethod
    async def run(cls, *words: str) -> Outcome:
        arguments = build_parser("replay").parse_args(["replay", *words])
        code = await arguments.run(arguments)
        out, err = cls.capsys.readouterr()
        assert "Traceback" not in err
        return Outcome(code, out, err)


class Program:
    """A running command."""

    def __init__(self, *words: str) -> None:
        self._words = words
        self.process: asyncio.subprocess.Process

    async def start(self) -> Program:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mk2dbus", *self._words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return self

    async def ended(self) -> Outcome:
        async with asyncio.timeout(30):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        assert b"Traceback" not in err, err.decode()
        return Outcome(self.process.returncode, out.decode(), err.decode())


async def mk2dbus(*words: str) -> Outcome:
    return await (await Program(*words).start()).ended()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while True:
            if condition():
                return
            await asyncio.sleep(0.05)


def has(path: Path, text: str, times: int = 1) -> bool:
    return path.exists() and path.read_text().count(text) >= times


def sorts(path: Path) -> set[Sort]:
    decoder = Decoder()
    entries = []
    for item in read(path):
        if isinstance(item, Traffic):
            entries += decoder.feed(item.direction, item.data, item.time or 0.0)
    return {entry.sort for entry in entries}


def untouched(simulator: Simulator) -> None:
    """Nothing was commanded, stored, reset or garbled."""
    for kind in (Kind.PANEL, Kind.STORED, Kind.RAM_WRITTEN, Kind.GARBAGE):
        assert simulator.log.of(kind) == []


async def test_a_capture(simulator: Simulator, tmp_path: Path, replay: type[Replay]) -> None:
    path = tmp_path / "report.txt"
    done = await mk2dbus("capture", "--tty", str(tmp_path / "ttySim"), "--seconds", "3", str(path))
    assert (done.code, done.out) == (0, "")
    assert "recording" in done.err
    assert "connected: MultiPlus-II 48/3000/35-50 120V" in done.err
    assert done.err.splitlines()[-1].endswith("found MultiPlus-II 48/3000/35-50 120V")
    untouched(simulator)
    assert sorts(path) <= {Sort.REQUEST, Sort.REPLY, Sort.UNASKED}
    text = path.read_text()
    assert f"\n# {about_port(simulator.port)}\n" in text
    serial = simulator.device.serial
    assert serial
    assert serial.encode().hex(" ").upper() not in text

    shown = await replay.run(str(path))
    assert shown.code == 0
    assert "    0.000 → 02 FF 56 A9" in shown.out
    for expected in ("DC info: 5", "serial number DEVICE00", "AbsorptionVoltage = 0x1680, 57.60 V"):
        assert expected in shown.out
    counted = await replay.run("--stats", str(path))
    assert " 0 frames that are not understood" in counted.out
    assert "  DC info?\n" in counted.out
    assert len(counted.out) < len(shown.out) / 5


async def test_ctrl_c_ends_it_sooner(simulator: Simulator, tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    program = await Program(
        "capture", "--tty", str(simulator.port), "--with-serial-numbers", "--seconds", "600", str(path)
    ).start()
    await until(lambda: has(path, " 9D "))
    program.process.send_signal(signal.SIGINT)
    assert (await program.ended()).code == 0
    assert simulator.device.serial.encode().hex(" ").upper() in path.read_text()
    untouched(simulator)


async def test_a_cable_pulled_meanwhile(simulator: Simulator, tmp_path: Path) -> None:
    """What was recorded stays, and goes on when the cable is back."""
    path = tmp_path / "report.txt"
    link = tmp_path / "ttySim"
    program = await Program("capture", "--tty", str(link), "--seconds", "600", str(path)).start()
    await until(lambda: has(path, "\n", 40))
    simulator.unplug()
    await asyncio.sleep(0.2)
    before = path.read_text()
    simulator.plug()
    await until(lambda: has(path, "→ 02 FF 56 A9", 2))
    program.process.send_signal(signal.SIGTERM)
    assert (await program.ended()).code == 0
    assert path.read_text().startswith(before)


async def test_the_service_records(simulator: Simulator, dbus_daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "service.txt"
    program = await Program(
        *("run", "--tty", str(simulator.port), "--bus", dbus_daemon.address),
        *("--state-dir", str(tmp_path / "state"), "--capture", str(path), "--log-level", "debug"),
    ).start()
    await until(lambda: has(path, "\n", 100))
    program.process.send_signal(signal.SIGTERM)
    done = await program.ended()
    assert done.code == 0, done.err
    assert sorts(path) <= {Sort.REQUEST, Sort.REPLY, Sort.UNASKED}
    assert "mk2dbus.wire: ← " in done.err
    assert "DC info: " in done.err
    log = tmp_path / "log.txt"
    log.write_text(done.err)
    assert Sort.UNKNOWN not in sorts(log)


async def test_no_capture(simulator: Simulator, dbus_daemon: Daemon, tmp_path: Path) -> None:
    """One line that says what is wrong, and nothing left behind."""
    there = tmp_path / "there"
    there.write_text("mine")
    port = str(simulator.port)
    for words, code, text in (
        (("capture", "--tty", port, str(there)), 2, f"{there} exists"),
        (("capture", "--tty", port, str(tmp_path / "no" / "x")), 1, "No such file"),
        (("capture", "--tty", str(there), str(tmp_path / "x")), 1, "not a serial port"),
        (("capture", "--tty", "/dev/nonsense", str(tmp_path / "x")), 1, "does not exist"),
        (("run", "--tty", port, "--bus", dbus_daemon.address, "--capture", str(tmp_path)), 1, "no ordinary"),
    ):
        outcome = await mk2dbus(*words)
        assert outcome.code == code, outcome
        assert len(outcome.err.splitlines()) == 1, outcome
        assert text in outcome.err
    assert there.read_text() == "mine"
    assert not (tmp_path / "x").exists()


async def test_replay_of_the_recordings(replay: type[Replay]) -> None:
    done = await replay.run(str(FILE))
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("# Recordings of real adapters")
    assert "[old device, replies in parts]\n" in done.out
    assert "X 82 version 2648304 (Quattro 24/5000/120-2x100, firmware 304)" in done.out
    assert len(done.lines) == len(FILE.read_text().splitlines())


async def test_replay_of_other_files(replay: type[Replay], tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("# notes\nhello\n")
    refused = await replay.run(str(path))
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith(f"mk2dbus: {path}, line 2: 'hello' is no traffic")
    for other in (tmp_path, tmp_path / "missing"):
        refused = await replay.run(str(other))
        assert refused.code == 1
        assert str(other) in refused.err
        assert len(refused.err.splitlines()) == 1


async def test_replay_into_a_closed_pipe() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mk2dbus", "replay", str(FILE)),
        stdout=writing,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writing)
    _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")


async def test_which_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    from mk2dbus.cli import capture
    from mk2dbus.cli.common import Stop
    from mk2dbus.host.adapters import Adapter

    def adapter(port: str) -> Adapter:
        return Adapter(port, "0403", "6015", "MK3-USB_Interface", "HQ2132ABCDE")

    monkeypatch.setattr(capture, "adapters", lambda: [adapter("ttyUSB3")])
    assert capture._only_adapter() == "/dev/ttyUSB3"
    for several in ([], [adapter("ttyUSB0"), adapter("ttyUSB1")]):
        monkeypatch.setattr(capture, "adapters", lambda several=several: several)
        with pytest.raises(Stop, match="none" if not several else "/dev/ttyUSB0, /dev/ttyUSB1") as caught:
            capture._only_adapter()
        assert caught.value.code == 2
