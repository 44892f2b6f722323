"""A month of service in minutes, and ten minutes in real time: polling, writes, faults, reconnects.

    python tests/benchmarks/soak.py --days 30
    python tests/benchmarks/soak.py --real --minutes 10

**Simulated time.** The driver runs on the simulated adapter, on a clock that jumps to the next thing to do.
Each hour of the month has ``--active`` seconds (60) of work: polling every 2 s instead of every 0.1 s,
writes of all kinds, and one fault (noise, silence, reset, another panel, a lost port …). In the rest of the
hour the cable is out, which takes next to no work: the driver tries the port every 30 s, as it would; or,
every other hour, the process is as good as stopped: the clock jumps over it at once. So a month is 720
rounds of work, reconnects and recoveries, not a month of polling; ``--active 3600`` polls all the time and
takes an hour or two.

In the end memory, objects, tasks, descriptors and pending requests must be what they were after the first
hours, every write must have had a true outcome, and nothing false may have been shown.

**Real time.** ``mk2dbus run`` as a process, at a pseudo-terminal with the simulator behind it at line
speed, on a bus of its own, with two clients reading and one writing; the cable is pulled, the bus daemon
killed, the line damaged now and then.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import common
from support.clock import SimulatedLoop
from support.driven import MODES, Driven, Mode, driven
from support.ports import CorePort
from support.truth import Truth

from mk2dbus.items import WriteFailed
from mk2dbus.mk2.errors import PortUnusable
from mk2dbus.simulator import Console, Core, Kind, RandomDamage
from mk2dbus.vebus.options import Options

HOUR_S = 3600.0
WARM_UP_HOURS = 3
SLACK = {"tasks": 3, "timers": 6, "objects": 1500}
"""What more there may be at one moment than at another: polls under way, readings that are kept."""
RESIDENT_KIB = 4096
"""Growth of memory that counts as none, however long the run: what the interpreter keeps for itself."""
VOLTAGE = "/Dc/0/Voltage"
SETTINGS = "/Devices/0/Settings"


@dataclass
class State:
    """What must not grow."""

    tasks: int
    descriptors: int
    timers: int
    objects: int
    resident_kib: int

    @classmethod
    def now(cls) -> State:
        gc.collect()
        loop = asyncio.get_running_loop()
        return cls(
            len(asyncio.all_tasks()),
            len(list(Path("/proc/self/fd").iterdir())),
            sum(not timer.cancelled() for timer in loop._scheduled),  # type: ignore[attr-defined]
            len(gc.get_objects()),
            int(Path("/proc/self/statm").read_text().split()[1]) * 4,
        )


@dataclass
class Soak:
    """The run and what came of it."""

    run: Driven
    active_s: float
    random: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    plugged: bool = True

    async def hour(self, number: int) -> None:
        start = self.run.now
        await self._active()
        rest = start + HOUR_S - self.run.now
        if rest <= 0:
            return
        self.plugged = False
        self.run.port.lose()
        if number % 2:
            # As if the process had been stopped.
            await asyncio.sleep(5.0)
            self._stop(rest - 5.0)
            await asyncio.sleep(5.0)
        else:
            await asyncio.sleep(rest)
        self.plugged = True
        await self._back()

    async def _active(self) -> None:
        truth = Truth(self.run, share=0.02)
        watching = asyncio.create_task(truth.watch())
        end = self.run.now + self.active_s
        fault = self.random.choice(list(FAULTS))
        self.counts[f"fault: {fault}"] += 1
        begun = False
        while self.run.now < end:
            await asyncio.sleep(self.random.uniform(2.0, 6.0))
            self.run.core.plant.load_w = self.random.choice((100.0, 500.0, 1500.0))
            if not begun and self.run.now > end - 0.6 * self.active_s:
                begun = True
                FAULTS[fault](self.run)
            await self._write()
        _heal(self.run)
        await self._back()
        watching.cancel()
        for lie in truth.lies[:1]:
            true = sorted(one for one in lie.true if one is not None)
            self.problems.append(
                f"{fault}: {lie.path} was shown as {lie.shown} at {lie.at:.1f} s, it was "
                f"{true[0] if true else None} to {true[-1] if true else None}"
            )
        for path, shown, true in truth.false_settings()[:1]:
            self.problems.append(f"{fault}: {path} is shown as {shown}, it is {true}")
        self.counts["values compared"] += truth.shown

    async def _write(self) -> None:
        path, choices, id = self.random.choice(WRITES)
        item = self.run.tree.get(path)
        if item is None:
            return
        value = self.random.choice(choices)
        device = self.run.core.device
        stores = device.settings[id].writes if id is not None else 0
        try:
            await self.run.write(path, value)
        except WriteFailed as failed:
            self.counts[f"writes: {type(failed).__name__}"] += 1
            done = False
        else:
            self.counts["writes: done"] += 1
            done = True
        device = self.run.core.device
        if id is None:
            return
        setting = device.settings[id]
        if setting.writes > stores + 1:
            self.problems.append(f"{path} was stored {setting.writes - stores} times")
        if done and abs(setting.value - float(value)) > 1e-6:
            self.problems.append(f"{path} = {value} was called done, it is {setting.value}")

    async def _back(self) -> None:
        try:
            await self.run.until(lambda: self.run.value(VOLTAGE) is not None, 90.0)
        except AssertionError:
            self.problems.append(f"nothing is shown 90 s after a fault, at {self.run.now:.0f} s")
        self.counts["sessions"] = self.run.opened

    def _stop(self, seconds: float) -> None:
        asyncio.get_running_loop()._clock += seconds  # type: ignore[attr-defined]  # the simulated one


WRITES: tuple[tuple[str, tuple[float, ...], int | None], ...] = (
    (f"{SETTINGS}/AbsorptionVoltage", (56.5, 57.0, 57.6), 2),
    (f"{SETTINGS}/FloatVoltage", (54.0, 54.4), 3),
    (f"{SETTINGS}/DisableCharger", (0, 1), None),
    ("/Devices/0/RamOnly/ChargeCurrent", (20.0, 30.0), None),
    ("/Mode", (1, 3), None),
    ("/Ac/ActiveIn/CurrentLimit", (12.0, 16.0), None),
    ("/Dc/0/MaxChargeCurrent", (20.0, 30.0), None),
)


def _noise(run: Driven) -> None:
    run.core.incoming = RandomDamage(loss=0.001, flip=0.001, insert=0.001, seed=int(run.now))
    run.core.outgoing = RandomDamage(loss=0.001, flip=0.001, insert=0.001, delay=0.01, seed=int(run.now) + 1)


def _command(*lines: str) -> object:
    def act(run: Driven) -> None:
        for line in lines:
            Console(run.core).execute(line)

    return act


def _heal(run: Driven) -> None:
    run.core.incoming = run.core.outgoing = None
    run.core.device.overrides.clear()
    for line in ("adapter fault none", "wake", "set mains 120"):
        Console(run.core).execute(line)


FAULTS = {
    "none": lambda run: None,
    "noise": _noise,
    "silence": _command("adapter fault silent"),
    "stuck": _command("adapter fault stuck"),
    "reset": _command("adapter reset"),
    "asleep": _command("sleep"),
    "panel": _command("press 3 16"),
    "mains": _command("set mains 0"),
    "units reset": _command("unit reset all"),
    "port": lambda run: run.port.lose(),
    "replies lost": _command("unit answer 0 49 lost 3", "unit answer 0 55 lost 2"),
    "writes lost": _command("unit answer 0 55 ignored 2"),
}


async def simulated(days: float, active_s: float, mode: Mode, seed: int, quiet: bool = False) -> list[str]:
    """Run so many days; what was wrong."""
    core = Core("multiplus2")
    core.log.events = type(core.log.events)(maxlen=100)
    core.log.traffic = type(core.log.traffic)(maxlen=10)
    with TemporaryDirectory(prefix="mk2dbus-soak-") as state:
        async with driven(
            core=core, mode=mode, state=Path(state), options=Options(poll_interval_s=2.0)
        ) as run:
            soak = Soak(run, active_s, random.Random(seed))
            opened = run.driver._open_port

            async def open_port() -> CorePort:
                if not soak.plugged:
                    raise PortUnusable("the cable is out")
                return await opened()  # type: ignore[return-value]

            run.driver._open_port = open_port
            await run.until_all_read()
            started, before = time.monotonic(), None
            hours = round(days * 24)
            for number in range(hours):
                await soak.hour(number)
                run.sent.clear()
                if number == min(WARM_UP_HOURS, hours // 3):
                    await asyncio.sleep(10.0)
                    before = State.now()
                if not quiet and number % 24 == 23:
                    print(f"day {number // 24 + 1}: {dict(soak.counts)}", flush=True)
            await run.until(lambda: run.value(VOLTAGE) is not None)
            await asyncio.sleep(10.0)
            after = State.now()
            assert before is not None
            pending = run.driver._session.link.figures().outstanding if run.driver._session else 0
            problems = soak.problems
            for name in ("tasks", "descriptors", "timers", "objects"):
                low, high = getattr(before, name), getattr(after, name)
                if high > low + SLACK.get(name, 0):
                    problems.append(f"{high} {name} instead of {low}")
            if pending > 6:
                problems.append(f"{pending} requests are pending")
            growth = after.resident_kib - before.resident_kib
            if growth > RESIDENT_KIB:
                problems.append(f"memory grew by {growth} KiB")
            if not quiet:
                print(f"{hours} hours, {hours * active_s / 60:.0f} minutes of them active, {mode}")
                print(f"took {time.monotonic() - started:.0f} s, {run.now / 86400:.1f} simulated days")
                for name, count in sorted(soak.counts.items()):
                    print(f"  {name}: {count}")
                print(f"panel frames {core.log.counts[Kind.PANEL]}, stored {core.log.counts[Kind.STORED]}")
                print(f"before {before}\nafter  {after}")
            return problems


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--active", type=float, default=60.0, metavar="SECONDS", help="of each hour")
    parser.add_argument("--mode", choices=[str(mode) for mode in MODES], default=str(MODES[0]))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", action="store_true", help="in real time, with processes")
    parser.add_argument("--minutes", type=float, default=10.0, help="with --real")
    arguments = parser.parse_args()
    common.end_on_sigterm()
    if arguments.real:
        from soak_real import real

        return report(asyncio.run(real(arguments.minutes, arguments.seed)))
    logging.disable(logging.CRITICAL)
    mode = next(mode for mode in MODES if str(mode) == arguments.mode)
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return report(runner.run(simulated(arguments.days, arguments.active, mode, arguments.seed)))


def report(problems: list[str]) -> int:
    for problem in problems[:20]:
        print(f"WRONG: {problem}")
    print("nothing wrong" if not problems else f"{len(problems)} things wrong")
    return min(len(problems), 1)


if __name__ == "__main__":
    sys.exit(main())
