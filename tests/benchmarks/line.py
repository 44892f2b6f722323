"""How well the serial line is used: telemetry, and the reading of all settings with nothing cached.

The driver talks to the simulated adapter, where the inverter takes 15 ms to answer, in simulated time: nobody
waits, and the figures are the same on every machine and in every run.

A *full cycle* brings everything that is measured once: status, state, DC, AC of each phase, power of each
device, state of charge, current limits; it is measured with every poll as often as the line allows. *As
scheduled* is what the service does: power, current, voltage and state as often as the line allows (at most
ten times a second), the rest less often; a cycle is the time from one request for DC values to the next.

*minimum* is what the bytes of the busier direction take alone, as if the line never paused; *ratio* is the
time to that, 1 at best. *one by one* is the same work of the same code with `--pipeline 1`. Bytes include all
that the adapter says unasked. Values are those that were shown, also where they stay the same (while settings
are read, those of telemetry too).
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import common
from support.clock import SimulatedLoop
from support.driven import Driven, Mode, driven

from mk2dbus.items import Value
from mk2dbus.mk2.speed import SpeedChoice
from mk2dbus.simulator import PROFILES
from mk2dbus.vebus import telemetry
from mk2dbus.vebus.options import DEFAULTS, Options

BITS_PER_BYTE = 10
WINDOW_S = 120.0
FAST_WINDOW_S = 20.0
SETTLE_S = 15.0
DISCOVERY_LIMIT_S = 2000.0
DC_REQUEST = b"F\x00"
ALWAYS = 1e-6
"""A poll that is due so soon is always due."""

LOW, ONE_BY_ONE, HIGH = Mode(), Mode(pipeline=1), Mode(SpeedChoice.AUTO)


@dataclass(frozen=True)
class Traffic:
    """What has gone over the line up to a moment."""

    at: float
    sent: int
    received: int
    requests: int
    cycles: int
    values: int
    baudrate: int

    def __sub__(self, before: Traffic) -> Traffic:
        return Traffic(
            self.at - before.at,
            self.sent - before.sent,
            self.received - before.received,
            self.requests - before.requests,
            self.cycles - before.cycles,
            self.values - before.values,
            self.baudrate,
        )

    @property
    def minimum(self) -> float:
        """Seconds that the bytes take, each direction for itself."""
        return max(self.sent, self.received) * BITS_PER_BYTE / self.baudrate


class Meter:
    """Reads what goes over the line between a driver and its simulated system."""

    def __init__(self, system: Driven) -> None:
        self.system = system
        self.values = 0
        self._update = system.tree.update
        system.tree.update = self._count  # type: ignore[method-assign]

    def _count(self, values: Mapping[str, Value]) -> None:
        self.values += sum(value is not None for value in values.values())
        self._update(values)

    def traffic(self) -> Traffic:
        frames = self.system.sent
        return Traffic(
            at=self.system.now,
            sent=self.system.core.received_bytes,
            received=self.system.core.sent_bytes,
            requests=len(frames),
            cycles=sum(frame.data.startswith(DC_REQUEST) for frame in frames),
            values=self.values,
            baudrate=self.system.core.baudrate,
        )

    async def all_read(self) -> None:
        """Wait until all settings of all devices are read."""
        tree = self.system.tree

        def done() -> bool:
            progress = [
                f"/Devices/{number}/Settings/ReadProgress" for number in range(len(self.system.core.devices))
            ]
            return all(path in tree and tree.value(path) == 100 for path in progress)

        await self.system.until(done, limit_s=DISCOVERY_LIMIT_S)


async def measure(profile: str, mode: Mode, options: Options) -> tuple[Traffic, Traffic, Traffic]:
    """Reading of all settings from the first byte on, telemetry after it, and a second start."""
    with TemporaryDirectory() as state:
        async with driven(profile, state=Path(state), mode=mode, options=options) as system:
            # The driver has not done anything yet.
            meter = Meter(system)
            begun = meter.traffic()
            await meter.all_read()
            discovery = meter.traffic() - begun
            await asyncio.sleep(SETTLE_S)
            begun = meter.traffic()
            await asyncio.sleep(WINDOW_S if mode.speed is SpeedChoice.LOW else FAST_WINDOW_S)
            polling = meter.traffic() - begun
        async with driven(profile, state=Path(state), mode=mode, options=options) as system:
            meter = Meter(system)
            begun = meter.traffic()
            await meter.all_read()
            return discovery, polling, meter.traffic() - begun


def simulated(profile: str, mode: Mode, options: Options = DEFAULTS) -> tuple[Traffic, Traffic, Traffic]:
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(measure(profile, mode, options))


def full_cycle(profile: str, mode: Mode) -> Traffic:
    """Telemetry with every poll always due."""
    with patch.multiple(telemetry, STATUS_S=ALWAYS, INPUT_S=ALWAYS, SLOW_S=ALWAYS):
        return simulated(profile, mode, Options(poll_interval_s=ALWAYS))[1]


def row(what: str, traffic: Traffic, count: int, one_by_one: float | None = None) -> list[str]:
    took, minimum = traffic.at / count, traffic.minimum / count
    return [
        what,
        f"{took:.3f} s",
        f"{minimum:.3f} s",
        f"{took / minimum:.2f}",
        "" if one_by_one is None else f"{one_by_one:.3f} s",
        "" if one_by_one is None else f"{one_by_one / took:.2f}",
        f"{traffic.requests / count:.1f}",
        f"{traffic.sent / count:.0f}",
        f"{traffic.received / count:.0f}",
        f"{traffic.values / traffic.at:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--profile",
        choices=[name for name in PROFILES if name != "nodevice"],
        nargs="*",
        default=["multiplus2", "quattro3"],
        help="of the simulator (default: multiplus2, and quattro3 with three phases)",
    )
    profiles = parser.parse_args().profile
    common.end_on_sigterm()
    for profile in profiles:
        discovery, scheduled, again = simulated(profile, LOW)
        slow_discovery, slow_scheduled, slow_again = simulated(profile, ONE_BY_ONE)
        full, slow_full = full_cycle(profile, LOW), full_cycle(profile, ONE_BY_ONE)
        rows = [["what", "takes", "minimum", "ratio", "one by one", "gain", "requests", "sent", "received"]]
        rows[0] += ["values per s"]
        rows.append(row("full telemetry cycle", full, full.cycles, slow_full.at / slow_full.cycles))
        slow_cycle = slow_scheduled.at / slow_scheduled.cycles
        rows.append(row("cycle as scheduled", scheduled, scheduled.cycles, slow_cycle))
        rows.append(row("all settings, nothing cached", discovery, 1, slow_discovery.at))
        rows.append(row("all settings, infos cached", again, 1, slow_again.at))
        common.table(f"Profile {profile} at 2400 baud, 15 ms latency", rows)
        values, slow_values = (one.values / one.at for one in (scheduled, slow_scheduled))
        print(f"values per second as scheduled, to one by one: {values / slow_values:.2f}\n")

        discovery, scheduled, again = simulated(profile, HIGH)
        full = full_cycle(profile, HIGH)
        rows = [rows[0]]
        rows.append(row("full telemetry cycle", full, full.cycles))
        rows.append(row("cycle as scheduled", scheduled, scheduled.cycles))
        rows.append(row("all settings, nothing cached", discovery, 1))
        rows.append(row("all settings, infos cached", again, 1))
        common.table(f"Profile {profile} at 115200 baud, 15 ms latency (start-up at 2400)", rows)
        print()


if __name__ == "__main__":
    main()
