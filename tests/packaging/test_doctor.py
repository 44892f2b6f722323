"""``mk2dbus doctor`` at adapters that work, and at all that can be in the way."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.bus import Daemon
from support.system_bus import STRANGER, SystemBus, own, python_as_user, why_not
from system.conftest import Outcome, Service, call

from mk2dbus.doctor.examine import examine
from mk2dbus.doctor.findings import Level
from mk2dbus.doctor.ports import examine_competitors, find_ports
from mk2dbus.doctor.services import examine_installations, examine_policy
from mk2dbus.host.adapters import adapters, serial_ports
from mk2dbus.host.processes import Process, processes, users_of
from mk2dbus.install.checks import owners, policy_missing
from mk2dbus.install.errors import InstallError
from mk2dbus.install.layout import POLICY, UNIT
from mk2dbus.install.machine import Machine
from mk2dbus.install.plan import plan_install
from mk2dbus.simulator import Kind, Simulator

COMMAND = (sys.executable, "-m", "mk2dbus", "doctor")
needs_users = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


@pytest.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[Simulator]:
    async with Simulator("multiplus2", baudrate=0, latency_ms=2, link=tmp_path / "ttySim") as simulator:
        yield simulator


def _device(simulator: Simulator) -> str:
    """The port itself: others cannot enter the folder with the link."""
    return str(Path(simulator.port).resolve())


async def doctor(bus: str, *arguments: str) -> Outcome:
    return await call(*COMMAND, "--bus", bus, *arguments)


async def test_an_adapter_that_nobody_uses(dbus_daemon: Daemon, simulator: Simulator) -> None:
    outcome = await doctor(dbus_daemon.address, "--tty", str(simulator.port))
    assert outcome.code == 0, outcome.out
    assert "all is well" in outcome.out
    assert f"no program uses {simulator.port}" in outcome.out
    assert f"answers at {simulator.port}: version 1170216" in outcome.out
    assert "MultiPlus-II 48/3000/35-50 120V, firmware 560, at address 0" in outcome.out
    assert simulator.log.of(Kind.PANEL) == simulator.log.of(Kind.GARBAGE) == []


async def test_a_running_service_is_asked_and_not_disturbed(
    dbus_daemon: Daemon, simulator: Simulator, tmp_path: Path
) -> None:
    service = Service(dbus_daemon.address, tmp_path)
    await service.start("--tty", str(simulator.port))
    try:
        await service.until("/Connected", 1.0)
        await service.until("/FirmwareVersion", ...)
        outcome = await doctor(dbus_daemon.address, "--tty", str(simulator.port))
        assert outcome.code == 0, outcome.out
        assert f"{simulator.port} is used by the service on the bus, mk2dbus" in outcome.out
        assert "MultiPlus-II 48/3000/35-50 120V, firmware 560" in outcome.out
        assert "answers at" not in outcome.out
        assert await service.value("/Connected") == 1.0

        simulator.unplug()
        await service.until("/Connected", 0.0, 10)
        outcome = await doctor(dbus_daemon.address)
        assert outcome.code == 1
        assert "has no connection to the inverter" in outcome.out
    finally:
        assert await service.stop() == 0


async def test_a_program_in_the_way(dbus_daemon: Daemon, simulator: Simulator, tmp_path: Path) -> None:
    program = tmp_path / "mk2-dbus"
    program.write_text('exec 3<>"$1"; echo open; read -r line\n')
    other = await asyncio.create_subprocess_exec(
        *("sh", str(program), str(simulator.port)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert other.stdout is not None
    try:
        assert await other.stdout.readline() == b"open\n"
        outcome = await doctor(dbus_daemon.address, "--tty", str(simulator.port))
    finally:
        other.kill()
        await other.wait()
    assert outcome.code == 1
    assert f"is used by mk2-dbus (process {other.pid}), which is Victron's own driver" in outcome.out
    assert "answers at" not in outcome.out


async def test_something_else_talks(dbus_daemon: Daemon) -> None:
    """A talker at the far end of the line; nobody else has the near end."""
    code = (
        "import os, tty, time\n"
        "ours, theirs = os.openpty()\n"
        "tty.setraw(theirs)\n"
        "print(os.ttyname(theirs), flush=True)\n"
        "os.close(theirs)\n"
        "while True:\n"
        "    try:\n"
        "        os.write(ours, {words!r})\n"
        "    except OSError:\n"
        "        pass\n"
        "    time.sleep(0.05)\n"
    )

    async def look(words: bytes) -> Outcome:
        other = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code.format(words=words)), stdout=asyncio.subprocess.PIPE
        )
        assert other.stdout is not None
        try:
            port = (await other.stdout.readline()).decode().strip()
            return await doctor(dbus_daemon.address, "--tty", port)
        finally:
            other.kill()
            await other.wait()

    talks, silent = await asyncio.gather(look(b"$GPGGA,123519,4807.038,N\r\n"), look(b""))
    assert talks.code == silent.code == 1
    assert "talks, but is no MK2" in talks.out
    assert "nothing answers at" in silent.out


async def test_ports_that_are_none(dbus_daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    ports = {
        str(tmp_path / "missing"): "does not exist",
        str(file): "is not a serial port",
        "/dev/full": "is not a serial port",
    }
    outcomes = await asyncio.gather(*(doctor(dbus_daemon.address, "--tty", port) for port in ports))
    for (port, reason), outcome in zip(ports.items(), outcomes, strict=True):
        assert outcome.code == 1
        assert f"{port} {reason}" in outcome.out
        assert "Traceback" not in outcome.err


async def test_no_bus(tmp_path: Path, simulator: Simulator) -> None:
    outcome = await doctor(f"unix:path={tmp_path}/nothing", "--tty", str(simulator.port))
    assert outcome.code == 1
    assert "FAIL  bus:" in outcome.out
    assert "answers at" in outcome.out  # the rest is looked at all the same


async def test_json(dbus_daemon: Daemon, simulator: Simulator) -> None:
    outcome = await doctor(dbus_daemon.address, "--tty", str(simulator.port), "--json")
    findings = json.loads(outcome.out)
    assert {finding["level"] for finding in findings} <= {"ok", "note", "fail"}
    assert all(finding.keys() == {"level", "about", "text", "advice"} for finding in findings)
    assert [finding["about"] for finding in findings][:2] == ["bus", "permission"]


@needs_users
async def test_what_cannot_be_seen_is_left_alone(dbus_daemon: Daemon, simulator: Simulator) -> None:
    """Without being root it is not known who uses the port."""
    own(STRANGER, Path(_device(simulator)))
    outcome = await call(
        *python_as_user(STRANGER, "-m", "mk2dbus", "doctor", "--bus", dbus_daemon.address),
        *("--tty", _device(simulator)),
    )
    assert "cannot be seen, so it is left alone" in outcome.out
    assert "sudo mk2dbus doctor" in outcome.out
    assert "answers at" not in outcome.out


# --- the machine ----------------------------------------------------------------------------------------


def _plug(root: Path, port: str, **attributes: str) -> None:
    """A USB serial port as /sys shows one."""
    device = root / "sys/devices/usb1" / port
    inner = device / "1-1:1.0" / port
    inner.mkdir(parents=True)
    for name, text in attributes.items():
        (device / name).write_text(f"{text}\n")
    entry = root / "sys/class/tty" / port
    entry.mkdir(parents=True)
    (entry / "device").symlink_to(inner)


MK3 = {"idVendor": "0403", "idProduct": "6015", "product": "MK3-USB Interface", "serial": "HQ2132ABCDE"}


def test_adapters_are_told_from_other_cables(tmp_path: Path) -> None:
    _plug(tmp_path, "ttyUSB0", idVendor="0403", idProduct="6015", product="FT230X Basic UART")
    _plug(tmp_path, "ttyUSB1", **MK3)
    (tmp_path / "sys/class/tty/tty1").mkdir()
    assert [port.port for port in serial_ports(tmp_path)] == ["ttyUSB0", "ttyUSB1"]
    (found,) = adapters(tmp_path)
    assert (found.port, found.kind, found.stable_name) == ("ttyUSB1", "mk3", "mk3/HQ2132ABCDE")
    assert found.instance(tmp_path) == "ttyUSB1"
    (tmp_path / "etc/mk2dbus").mkdir(parents=True)
    (tmp_path / "etc/mk2dbus/mk3-HQ2132ABCDE.conf").touch()
    assert found.instance(tmp_path) == "mk3-HQ2132ABCDE"
    ports, findings = find_ports(tmp_path)
    assert ports == ["/dev/ttyUSB1"]
    assert [finding.level for finding in findings] == [Level.OK]


def test_no_adapter(tmp_path: Path) -> None:
    ports, (finding,) = find_ports(tmp_path)
    assert (ports, finding.level) == ([], Level.FAIL)
    _plug(tmp_path, "ttyUSB0", idVendor="1a86", idProduct="7523")
    ports, (finding,) = find_ports(tmp_path)
    assert (ports, finding.level) == ([], Level.FAIL)
    assert "/dev/ttyUSB0 (1a86:7523, no serial number)" in finding.text
    assert "--tty /dev/ttyUSB0" in finding.advice


def _process(proc: Path, pid: int, *command: str) -> None:
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "cmdline").write_text("".join(f"{word}\0" for word in command))


def test_programs_that_take_ports(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    _process(proc, 71, "/usr/sbin/ModemManager")
    _process(proc, 72, "/bin/bash", "/opt/victronenergy/serial-starter/serial-starter.sh")
    _process(proc, 73, "/usr/bin/python3", "-m", "http.server")
    _process(proc, 74)
    assert {process.name for process in processes(proc)} == {
        "ModemManager",
        "serial-starter.sh",
        "http.server",
    }
    found = list(examine_competitors((), tmp_path, proc))
    assert [finding.text.split()[0] for finding in found] == ["ModemManager", "serial-starter.sh"]
    assert all(finding.level is Level.NOTE and finding.advice for finding in found)
    starter = Process(72, ("/bin/bash", "/opt/victronenergy/serial-starter/serial-starter.sh"))
    (tmp_path / "etc/udev/rules.d").mkdir(parents=True)
    (tmp_path / "etc/udev/rules.d/70-mk2dbus.rules").touch()
    # Kept off by our rules, and said before.
    assert list(examine_competitors((starter,), tmp_path, proc)) == []


def test_names_of_programs() -> None:
    for command, name in (
        (("/usr/local/lib/mk2dbus/mk2dbus", "run"), "mk2dbus"),
        (("/usr/bin/python3.11", "-I", "/usr/local/lib/mk2dbus/mk2dbus", "run"), "mk2dbus"),
        (("/usr/bin/python3", "-m", "mk2dbus", "run"), "mk2dbus"),
        (("sh",), "sh"),
    ):
        assert Process(1, command).name == name


async def test_who_has_a_device_open(simulator: Simulator) -> None:
    holder = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'exec 3<>"$0"; echo open; read -r line', str(simulator.port)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert holder.stdout is not None
    try:
        assert await holder.stdout.readline() == b"open\n"
        found = users_of(Path(simulator.port))
    finally:
        holder.kill()
        await holder.wait()
    assert [process.pid for process in found.processes] == [holder.pid]
    assert users_of(Path("/dev/no-such-port")).processes == ()


# --- systemd --------------------------------------------------------------------------------------------

SYSTEMCTL = """#!/bin/sh
for unit; do :; done
case "$1 $unit" in
    list-units*) echo "mk2dbus@ttyS0.service loaded failed failed An inverter" ;;
    show*ttyS0*) printf 'LoadState=loaded\nActiveState=failed\nResult=exit-code\n' ;;
    show*ttyUSB1*) printf 'LoadState=not-found\nActiveState=inactive\n' ;;
    show*) printf 'LoadState=loaded\nActiveState=inactive\n' ;;
esac
"""


async def test_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the adapters that are plugged in, and those that somebody started."""
    root, tools = tmp_path / "root", tmp_path / "tools"
    tools.mkdir()
    (tools / "systemctl").write_text(SYSTEMCTL)
    (tools / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
    (root / "run/systemd/system").mkdir(parents=True)
    _plug(root, "ttyUSB1", **MK3)
    _plug(root, "ttyUSB2", **MK3 | {"serial": "HQ2132ABCDF"})
    found = [finding async for finding in examine(None, "system", root) if finding.about == "unit"]
    assert [(finding.level, finding.text.split(":")[0]) for finding in found] == [
        (Level.FAIL, "mk2dbus@ttyUSB1.service is not installed"),
        (Level.FAIL, "mk2dbus@ttyUSB2.service does not run"),
        (Level.FAIL, "mk2dbus@ttyS0.service is failed (exit-code)"),
    ]
    assert [finding.advice.split(";")[0] for finding in found] == [
        "sudo mk2dbus install",
        "sudo systemctl start mk2dbus@ttyUSB2.service",
        "journalctl -u mk2dbus@ttyS0.service says why",
    ]


async def test_a_bus_that_does_not_know_the_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "systemctl").write_text("#!/bin/sh\necho Id=dbus-broker.service\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    finding, *_ = [finding async for finding in examine_policy("system", [], tmp_path)]
    assert finding.level is Level.FAIL
    assert "dbus-broker" in finding.text
    monkeypatch.setattr(Machine, "require", lambda *words, **options: None)
    with pytest.raises(InstallError, match="dbus-daemon is needed"):
        plan_install(Machine(), lambda: None)


def test_two_installations(tmp_path: Path) -> None:
    for place in (UNIT.local, UNIT.packaged):
        assert list(examine_installations(tmp_path)) == []
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_bytes(UNIT.content())
    (finding,) = examine_installations(tmp_path)
    assert finding.level is Level.NOTE
    assert "uninstall" in finding.advice


# --- the bus --------------------------------------------------------------------------------------------


@pytest.fixture
def system_bus() -> Iterator[SystemBus]:
    """Not started yet."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        bus = SystemBus(folder)
        yield bus
        bus.stop()


@needs_users
@pytest.mark.parametrize("loaded", [False, True])
async def test_whether_the_policy_is_in_force(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system_bus: SystemBus, loaded: bool
) -> None:
    source = Path(__file__).parents[2] / POLICY.source
    system_bus.policies = {source.name: source} if loaded else {}
    system_bus.start()
    assert (await policy_missing(system_bus.address) is None) == loaded
    assert await owners(system_bus.address) == {}
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", system_bus.address)
    (tmp_path / POLICY.local).parent.mkdir(parents=True)
    (tmp_path / POLICY.local).write_bytes(POLICY.content())
    found = [finding async for finding in examine_policy("system", [], tmp_path)]
    assert [finding.level for finding in found] == [Level.OK if loaded else Level.FAIL]


@needs_users
async def test_a_port_that_the_service_has_is_no_concern_of_the_user(
    system_bus: SystemBus, simulator: Simulator, tmp_path: Path
) -> None:
    source = Path(__file__).parents[2] / POLICY.source
    system_bus.policies = {source.name: source}
    system_bus.start()
    service = Service(system_bus.address, tmp_path)
    await service.start("--tty", _device(simulator), "--name", "ttySim")
    try:
        await service.until("/Connected", 1.0)
        outcome = await call(
            *python_as_user(STRANGER, "-m", "mk2dbus", "doctor", "--bus", system_bus.address),
            *("--tty", _device(simulator)),
        )
    finally:
        assert await service.stop() == 0
    assert outcome.code == 0, outcome.out
    assert f"{_device(simulator)} is used by {service.name}" in outcome.out
    assert "you may not use" not in outcome.out
    assert "left alone" not in outcome.out


async def test_no_policy_at_all(tmp_path: Path) -> None:
    (finding,) = [finding async for finding in examine_policy("system", [], tmp_path)]
    assert finding.level is Level.FAIL
    assert finding.advice == "sudo mk2dbus install"
