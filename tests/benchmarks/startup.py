"""How long a start of ``mk2dbus run`` takes: to its name on the bus, to the first voltage of the battery.

The service runs as a process on the built-in simulator, anew for each run, nothing cached. Times
are from just before the process is made. "bare Python" is the start and end of an interpreter that does
nothing: what no Python program can be faster than. Ratios are medians divided by what the column says; a
target is met where the ratio to it is at most 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from common import (
    PATIENCE_S,
    Gone,
    RawClient,
    daemon_call,
    decoded,
    end_on_sigterm,
    libraries,
    machine,
    median,
    private_bus,
    process,
    run_command,
    table,
)

from mk2dbus.bus.library import LIBRARIES
from mk2dbus.bus.names import DAEMON, SERVICE_PREFIX

NAME_TARGET_S, VOLTAGE_TARGET_S = 1.0, 3.0
VOLTAGE = "/Dc/0/Voltage"
LOOK_S = 0.005
"""How often the voltage is asked for, once the name is there."""


def bare(code: str) -> float:
    """Start and end of an interpreter that runs ``code``."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begun


def start(address: str, folder: Path, suffix: str, library: str) -> tuple[float, float]:
    """One start: seconds to the name, to the voltage."""
    name = SERVICE_PREFIX + suffix
    with ExitStack() as stack:
        client = stack.enter_context(RawClient(address))
        client.call(daemon_call("AddMatch", f"sender='{DAEMON}',member='NameOwnerChanged',arg0='{name}'"))
        begun = time.perf_counter()
        stack.enter_context(process(*run_command(address, folder, suffix, "--simulate"), library=library))
        while decoded(client.receive()).member != "NameOwnerChanged":
            pass
        owned = time.perf_counter() - begun
        while client.get(name, VOLTAGE) is None:
            if time.perf_counter() - begun > PATIENCE_S:
                raise Gone(f"no {VOLTAGE} in {PATIENCE_S:g} s")
            time.sleep(LOOK_S)
        return owned, time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10, help="starts per library (default: 10)")
    parser.add_argument("--library", choices=LIBRARIES, help="default: each that is installed")
    arguments = parser.parse_args()
    end_on_sigterm()
    used = libraries(arguments.library)
    empty: list[float] = []
    imports: list[float] = []
    names: dict[str, list[float]] = {library: [] for library in used}
    voltages: dict[str, list[float]] = {library: [] for library in used}
    with private_bus() as (address, folder):
        # Taken in turn, so that whatever else the machine does meets all alike.
        for run in range(arguments.runs):
            empty.append(bare("pass"))
            imports.append(bare("import mk2dbus.cli"))
            for library in used:
                owned, voltage = start(address, folder, f"start{run}_{library}", library)
                names[library].append(owned)
                voltages[library].append(voltage)
    floor = median(empty)

    def row(what: str, times: list[float], target: float | None) -> list[str]:
        middle = median(times)
        goal = ["", ""] if target is None else [f"{target:.0f} s", f"{middle / target:.2f}"]
        return [what, f"{middle:.2f} s", f"{max(times):.2f} s", *goal, f"{middle / floor:.1f}"]

    rows = [["what", "median", "max", "target", "to target", "to bare Python"]]
    rows.append(row("bare Python", empty, None))
    rows.append(row("import of the commands, with the default library", imports, None))
    for library in used:
        rows.append(row(f"{library}: name owned", names[library], NAME_TARGET_S))
        rows.append(row(f"{library}: first {VOLTAGE}", voltages[library], VOLTAGE_TARGET_S))
    table(f"Start, {arguments.runs} runs ({machine()})", rows)


if __name__ == "__main__":
    main()
