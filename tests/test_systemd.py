"""What systemd is told, over a real socket; and that it is not told what is not so."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bus import Daemon
from support.clock import simulated

from mk2dbus.pulse import Pulse
from mk2dbus.systemd import Notifier, supervise, watchdog_interval_s


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    @property
    def told(self) -> list[str]:
        """What came since the last look, each notification by itself."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    async def until(self, text: str, limit_s: float = 30.0) -> list[str]:
        """What came until a notification held a text."""
        found = []
        async with asyncio.timeout(limit_s):
            while True:
                data = await asyncio.get_running_loop().sock_recv(self._socket, 4096)
                found.append(data.decode())
                if text in found[-1]:
                    return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify") if request.param == "path" else f"@mk2dbus-test-{os.getpid()}")
    yield manager
    manager.close()


def test_notifications(manager: Manager) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.address})
    assert notifier.wanted
    notifier.ready("on the bus")
    notifier.status("on the bus")
    notifier.status("connected to\n a MultiPlus")
    notifier.alive()
    notifier.stopping()
    assert manager.told == [
        "READY=1\nSTATUS=on the bus",
        "STATUS=connected to a MultiPlus",
        "WATCHDOG=1",
        "STOPPING=1",
    ]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_manager_nothing_happens(environment: dict[str, str]) -> None:
    notifier = Notifier.from_environment(environment)
    assert not notifier.wanted
    notifier.ready("x")
    notifier.alive()
    notifier.stopping()


def test_a_manager_that_is_gone_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(str(tmp_path / "nobody"))
    notifier.ready("x")
    notifier.alive()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_manager_that_does_not_read_holds_up_for_a_second_only(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mk2dbus.systemd.SEND_TIMEOUT_S", 0.001)
    notifier = Notifier(manager.address)
    for _ in range(600):
        notifier.alive()
    assert 0 < len(manager.told) < 600
    notifier.alive()
    assert manager.told == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid() + 1)}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "x"}, None),
    ],
)
def test_the_interval(environment: dict[str, str], expected: float | None) -> None:
    assert watchdog_interval_s(environment) == expected


def test_a_promise_is_kept_or_not() -> None:
    now = 0.0
    pulse = Pulse(lambda: now)
    bus, inverter = pulse.part("bus"), pulse.part("inverter")
    assert pulse.late() == []
    bus(10.0)
    now = 10.0 + Pulse.MARGIN_S
    assert pulse.late() == []
    inverter(1.0)
    now += 0.1
    assert pulse.late() == ["bus"]
    now += 10
    assert pulse.late() == ["bus", "inverter"]
    bus(1.0)
    inverter(1.0)
    assert pulse.late() == []


@simulated
async def test_pings_stop_when_a_task_hangs() -> None:
    loop = asyncio.get_running_loop()
    pulse = Pulse(loop.time)
    pings: list[float] = []
    hold = asyncio.Event()
    hold.set()

    class Noted(Notifier):
        def _send(self, text: str) -> None:
            if text == "WATCHDOG=1":
                pings.append(loop.time())

    async def work() -> None:
        beat = pulse.part("work")
        while True:
            beat(1.0)
            await asyncio.sleep(1)
            await hold.wait()

    tasks = [
        asyncio.create_task(work()),
        asyncio.create_task(supervise(Noted(None), pulse, lambda: "fine", 30.0)),
    ]
    await asyncio.sleep(100)
    assert pings == pytest.approx([0, 15, 30, 45, 60, 75, 90], abs=0.1)
    hold.clear()
    await asyncio.sleep(100)
    assert pings[-1] == pytest.approx(105, abs=0.1)
    hold.set()
    await asyncio.sleep(31)
    assert len(pings) == 8 + 2
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


BLOCKED = """
import asyncio, time
from mk2dbus.pulse import Pulse
from mk2dbus.systemd import Notifier, supervise, watchdog_interval_s

async def main():
    notifier = Notifier.from_environment()
    task = asyncio.create_task(supervise(notifier, Pulse(), lambda: "", watchdog_interval_s()))
    notifier.ready("")
    await asyncio.sleep(1)
    notifier.status("blocked from here on")
    time.sleep(60)

asyncio.run(main())
"""


async def test_a_blocked_loop_sends_no_pings(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BLOCKED),
        env=os.environ | {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "200000"},
    )
    try:
        before = await manager.until("blocked")
        assert before.count("WATCHDOG=1") >= 5
        await asyncio.sleep(1)
        assert manager.told == []
    finally:
        process.kill()
        await process.wait()
        manager.close()


async def test_the_service(dbus_daemon: Daemon, tmp_path: Path) -> None:
    """Ready when the name is owned and not before, alive, connected, silent when stopped, stopping."""
    manager = Manager(str(tmp_path / "notify"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mk2dbus", "run", "--simulate", "--bus", dbus_daemon.address),
        *("--state-dir", str(tmp_path / "state")),
        env=os.environ | {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "400000"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        first = await manager.until("READY=1")
        assert len(first) == 1
        owners = await asyncio.create_subprocess_exec(
            *("busctl", f"--address={dbus_daemon.address}", "list", "--acquired"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert b"com.victronenergy.vebus.sim0" in (await owners.communicate())[0]
        told = await manager.until("STATUS=connected to MultiPlus-II 48/3000/35-50 120V")
        told += await manager.until("WATCHDOG=1")
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.3)
        manager.told  # noqa: B018  # what was under way
        await asyncio.sleep(0.8)
        assert manager.told == []
        process.send_signal(signal.SIGCONT)
        await manager.until("WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        await manager.until("STOPPING=1")
        assert await process.wait() == 0
        assert not [text for text in manager.told if "READY" in text]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        manager.close()


async def test_a_service_that_cannot_start_is_never_ready(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mk2dbus", "run", "--simulate", "--bus", f"unix:path={tmp_path}/no-bus"),
        env=os.environ | {"NOTIFY_SOCKET": manager.address},
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 1
    assert manager.told == []
    manager.close()
