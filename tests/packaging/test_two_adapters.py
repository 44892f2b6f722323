"""Two adapters on one machine: two instances, each with its own name, instance number and state."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from support.bus import Daemon
from system.conftest import Service, call, mk2dbus

from mk2dbus.install.checks import owners
from mk2dbus.simulator import Simulator

SETTING = "/Devices/0/Settings/AbsorptionVoltage"


async def test_two_adapters(dbus_daemon: Daemon, tmp_path: Path) -> None:
    """As the unit runs them: by port, options from a file for each, one folder for what they remember."""
    services = [Service(dbus_daemon.address, tmp_path) for _ in range(2)]
    async with AsyncExitStack() as stack:
        simulators = [
            await stack.enter_async_context(
                Simulator("multiplus2", baudrate=0, latency_ms=2, link=tmp_path / f"ttyUSB{number}")
            )
            for number in range(2)
        ]
        for number, service in enumerate(services):
            port = str(simulators[number].port)
            await service.start("--tty", port, "--device-instance", str(257 + number))
            stack.push_async_callback(service.stop)
        names = [f"com.victronenergy.vebus.ttyUSB{number}" for number in range(2)]
        assert [service.name for service in services] == names
        assert await owners(dbus_daemon.address) == {
            service.name: service.process.pid for service in services
        }
        for number, service in enumerate(services):
            await service.until(SETTING, 57.6)
            assert await service.get("/DeviceInstance") == f"v i {257 + number}"
            assert await service.set_value("/CustomName", "s", f"Number {number}") == 0

        # A write to one is none to the other.
        assert await services[1].set_value(SETTING, "d", "56") == 0
        assert [simulator.device.settings[2].writes for simulator in simulators] == [0, 1]
        assert await services[0].value(SETTING) == 57.6

        # One that goes takes nothing with it.
        simulators[0].unplug()
        await services[0].until("/Connected", 0.0)
        assert await services[1].value("/Connected") == 1.0
        assert await services[0].stop() == 0
        assert list(await owners(dbus_daemon.address)) == names[1:]
        simulators[0].plug()
        await services[0].start("--tty", str(simulators[0].port), "--device-instance", "257")
        assert [await service.value("/CustomName") for service in services] == ["Number 0", "Number 1"]

        # The tools ask which, and take either.
        unsaid = await mk2dbus("get", "/CustomName", "--bus", dbus_daemon.address)
        assert unsaid.code == 2
        assert all(name in unsaid.err for name in names)
        said = await mk2dbus("get", "/CustomName", "--bus", dbus_daemon.address, "--service", "ttyUSB1")
        assert "Number 1" in said.out
        found = await mk2dbus("doctor", "--bus", dbus_daemon.address)
        assert all(name in found.out for name in names)
        listed = await call("busctl", f"--address={dbus_daemon.address}", "list", "--acquired")
        assert all(name in listed.out for name in names)
