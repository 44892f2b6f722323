"""The part of :mod:`.soak` in real time: the service as a process, clients, and things that happen to it."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import common
from support.bus import Daemon

from mk2dbus.bus.connection import Connection
from mk2dbus.bus.errors import BusError
from mk2dbus.bus.library import variant
from mk2dbus.bus.names import BUS_ITEM
from mk2dbus.simulator import RandomDamage, Simulator

NAME = "com.victronenergy.vebus.soak"
VOLTAGE = "/Dc/0/Voltage"
ABSORPTION = "/Devices/0/Settings/AbsorptionVoltage"
EVENT_S = 20.0
WARM_UP_S = 60.0
BACK_S = 45.0
"""Until values are there again, pauses of the driver included."""
SLACK = {"descriptors": 2, "KiB": 3072}


class _Clients:
    """Two that read, one that writes; what they saw."""

    def __init__(self, daemon: Daemon, simulator: Simulator) -> None:
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.valid_at = time.monotonic()
        self._daemon = daemon
        self._simulator = simulator

    async def read(self) -> None:
        while True:
            try:
                client = await Connection.open(self._daemon.address)
                try:
                    while True:
                        (items,) = await client.call(NAME, "/", BUS_ITEM, "GetItems")
                        self.counts["reads"] += 1
                        if items[VOLTAGE]["Value"].value != []:
                            self.valid_at = time.monotonic()
                        await asyncio.sleep(0.2)
                finally:
                    client.close()
            except BusError:
                self.counts["reads that failed"] += 1
                await asyncio.sleep(0.2)

    async def write(self) -> None:
        number = 0
        while True:
            number += 1
            value = (56.5, 57.0)[number % 2]
            setting = self._simulator.device.settings[2]
            before = setting.writes
            try:
                client = await Connection.open(self._daemon.address)
                try:
                    (code,) = await client.call(
                        NAME, ABSORPTION, BUS_ITEM, "SetValue", "v", [variant("d", value)], timeout_s=10
                    )
                finally:
                    client.close()
            except BusError:
                code = None
            self.counts[f"writes: {code}"] += 1
            if code == 0 and setting.value != value:
                self.problems.append(f"a write of {value} was called done, stored is {setting.value}")
            if setting.writes > before + 1:
                self.problems.append(f"stored {setting.writes - before} times")
            await asyncio.sleep(4.0)


async def real(minutes: float, seed: int) -> list[str]:
    """So many minutes; what was wrong."""
    generator = random.Random(seed)
    with TemporaryDirectory(prefix="mk2dbus-soak-") as name:
        folder = Path(name)
        daemon = Daemon(folder)
        daemon.start()
        try:
            async with Simulator("multiplus2", link=folder / "tty") as simulator:
                return await _serve(daemon, simulator, folder, minutes, generator)
        finally:
            daemon.go_on()
            daemon.kill()


async def _serve(
    daemon: Daemon, simulator: Simulator, folder: Path, minutes: float, generator: random.Random
) -> list[str]:
    log = folder / "log"
    with log.open("wb") as file:
        service = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mk2dbus", "run", "--tty", str(simulator.port), "--name", "soak"),
            *("--bus", daemon.address, "--state-dir", str(folder / "state")),
            stdout=asyncio.subprocess.PIPE,
            stderr=file,
        )
    clients = _Clients(daemon, simulator)
    tasks: list[asyncio.Task[None]] = []
    try:
        assert service.stdout is not None
        await service.stdout.readline()
        tasks = [asyncio.create_task(work()) for work in (clients.read, clients.read, clients.write)]
        end = time.monotonic() + 60 * minutes
        begin = time.monotonic() + min(WARM_UP_S, 20 * minutes)
        before: dict[str, int] | None = None
        while time.monotonic() < end:
            await _happen(daemon, simulator, clients, generator)
            if service.returncode is not None:
                clients.problems.append(f"the service ended with {service.returncode}")
                break
            if before is None and time.monotonic() > begin:
                before = _size(service.pid)
        after = _size(service.pid) if service.returncode is None else {}
        for kind, count in after.items():
            if before is not None and count > before[kind] + SLACK[kind]:
                clients.problems.append(f"{count} {kind} instead of {before[kind]}")
        print(f"{minutes:g} minutes, before {before}, after {after}")
        for kind, count in sorted(clients.counts.items()):
            print(f"  {kind}: {count}")
        return clients.problems
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if service.returncode is None:
            service.terminate()
            try:
                async with asyncio.timeout(10):
                    if await service.wait() != 0:
                        clients.problems.append(f"the service ended with {service.returncode}")
            except TimeoutError:
                service.kill()
                clients.problems.append("the service did not end")
        text = log.read_text()
        if "Traceback" in text or "internal error" in text:
            clients.problems.append(text)
        print(f"its log has {len(text.splitlines())} lines; the last: {text.splitlines()[-1:]}")


async def _happen(daemon: Daemon, simulator: Simulator, clients: _Clients, generator: random.Random) -> None:
    """Something happens for a while, and then all must be well again."""
    kind = generator.choice(("nothing", "cable", "bus", "bus stopped", "noise", "silence", "asleep"))
    clients.counts[f"event: {kind}"] += 1
    match kind:
        case "cable":
            simulator.unplug()
        case "bus":
            daemon.kill()
        case "bus stopped":
            daemon.stop()
        case "noise":
            simulator.core.outgoing = RandomDamage(loss=0.002, flip=0.002, seed=generator.randrange(1000))
        case "silence":
            simulator.adapter.silent = True
        case "asleep":
            simulator.core.system.sleep("soak")
    await asyncio.sleep(EVENT_S / 2 if kind != "cable" else 3.0)
    match kind:
        case "cable":
            simulator.plug()
        case "bus":
            daemon.start()
        case "bus stopped":
            daemon.go_on()
    simulator.core.outgoing = None
    simulator.adapter.silent = False
    simulator.core.system.wake("soak")
    simulator.refresh()
    over = time.monotonic()
    while clients.valid_at < over:
        if time.monotonic() > over + BACK_S:
            clients.problems.append(f"nothing is shown {BACK_S:g} s after: {kind}")
            return
        await asyncio.sleep(0.1)
    clients.counts["seconds until all was well again"] += round(time.monotonic() - over)
    await asyncio.sleep(EVENT_S / 2)


def _size(process: int) -> dict[str, int]:
    return {
        "descriptors": len(list(Path(f"/proc/{process}/fd").iterdir())),
        "KiB": int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4,
    }


if __name__ == "__main__":
    common.end_on_sigterm()
    print(asyncio.run(real(1.0, 1)))
