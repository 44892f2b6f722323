"""How well the serial line is used: telemetry, and the reading of all settings with nothing cached.

The driver talks to the simulated adapter at 2400 baud, where the inverter takes 15 ms to answer, in simulated
time: nobody waits, and the figures are the same on every machine and in every run.

A telemetry cycle is over when every poll of the plan was done once. "back to back" starts each poll when the
one before is done; "as scheduled" is what the service does: every poll at its own pace (power and state every
0.5 s, what changes slowly less often), so its cycle is the time from one request for DC values to the next.
"minimum" is what the bytes of the busier direction take alone, 240 a second, as if the line never paused.
"one by one" is about what it takes where only one request may be under way: the bytes of both directions, and
15 ms for each request. The ratio to "minimum" is 1 at best. Bytes include all that the adapter says unasked.
Values are those that were shown, also where they stay the same (while settings are read, those of telemetry
too); "per value" counts the bytes of both directions.
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
from support.driven import Driven, driven

from mk2dbus.items import Value
from mk2dbus.simulator import PROFILES
from mk2dbus.vebus import telemetry

BYTES_PER_S = 240
LATENCY_MS = 15.0
"""What the simulator has unless told otherwise."""
WINDOW_S = 120.0
SETTLE_S = 15.0
DISCOVERY_LIMIT_S = 600.0
PROGRESS = "/Devices/0/Settings/ReadProgress"
DC_REQUEST = b"F\x00"


@dataclass(frozen=True)
class Traffic:
    """What has gone over the line up to a moment."""

    at: float
    sent: int
    received: int
    requests: int
    cycles: int
    values: int

    def __sub__(self, before: Traffic) -> Traffic:
        return Traffic(
            self.at - before.at,
            self.sent - before.sent,
            self.received - before.received,
            self.requests - before.requests,
            self.cycles - before.cycles,
            self.values - before.values,
        )

    @property
    def minimum(self) -> float:
        """Seconds that the bytes take, each direction for itself."""
        return max(self.sent, self.received) / BYTES_PER_S

    @property
    def one_by_one(self) -> float:
        """Seconds when never two things are under way."""
        return (self.sent + self.received) / BYTES_PER_S + self.requests * LATENCY_MS / 1000


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
        )

    async def all_read(self) -> None:
        """Wait until all settings are read."""
        tree = self.system.tree
        await self.system.until(
            lambda: PROGRESS in tree and tree.value(PROGRESS) == 100, limit_s=DISCOVERY_LIMIT_S
        )


async def measure(profile: str) -> tuple[Traffic, Traffic, Traffic]:
    """Reading of all settings from the first byte on, telemetry after it, and a second start."""
    with TemporaryDirectory() as state:
        async with driven(profile, state=Path(state)) as system:
            # The driver has not done anything yet.
            meter = Meter(system)
            begun = meter.traffic()
            await meter.all_read()
            discovery = meter.traffic() - begun
            await asyncio.sleep(SETTLE_S)
            begun = meter.traffic()
            await asyncio.sleep(WINDOW_S)
            polling = meter.traffic() - begun
        async with driven(profile, state=Path(state)) as system:
            meter = Meter(system)
            begun = meter.traffic()
            await meter.all_read()
            return discovery, polling, meter.traffic() - begun


def simulated(profile: str) -> tuple[Traffic, Traffic, Traffic]:
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(measure(profile))


def row(what: str, traffic: Traffic, count: int) -> list[str]:
    took, minimum, one_by_one = traffic.at / count, traffic.minimum / count, traffic.one_by_one / count
    return [
        what,
        f"{took:.3f} s",
        f"{minimum:.3f} s",
        f"{took / minimum:.2f}",
        f"{one_by_one:.3f} s",
        f"{traffic.requests / count:.1f}",
        f"{traffic.sent / count:.0f}",
        f"{traffic.received / count:.0f}",
        f"{traffic.values / count:.0f}",
        f"{(traffic.sent + traffic.received) / traffic.values:.1f}",
        f"{traffic.values / traffic.at:.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--profile",
        choices=[name for name in PROFILES if name != "nodevice"],
        default="multiplus2",
        help="of the simulator (default: multiplus2)",
    )
    profile = parser.parse_args().profile
    common.end_on_sigterm()
    discovery, scheduled, again = simulated(profile)
    with patch.multiple(telemetry, FAST_S=0.0, INPUT_S=0.0, SLOW_S=0.0):
        _, back_to_back, _ = simulated(profile)
    rows = [["what", "takes", "minimum", "ratio", "one by one", "requests", "bytes sent", "received"]]
    rows[0] += ["values", "bytes per value", "values per s"]
    rows.append(row("telemetry cycle, back to back", back_to_back, back_to_back.cycles))
    rows.append(row("telemetry cycle, as scheduled", scheduled, scheduled.cycles))
    rows.append(row("all settings, nothing cached", discovery, 1))
    rows.append(row("all settings, infos cached", again, 1))
    common.table(f"The line at 2400 baud, {LATENCY_MS:g} ms latency, profile {profile}", rows)
    busy = max(scheduled.sent, scheduled.received) / scheduled.at / BYTES_PER_S
    print(f"as scheduled the busier direction is used {busy:.0%} of the time")


if __name__ == "__main__":
    main()
