"""Memory and processor time of the service while it polls at full rate, with two clients that listen.

The simulator is a process of its own, so the figures are those of a service at a real port. Measuring begins
when all settings are read and lasts as many minutes as asked for; the hour of the requirement is
``--minutes 60``. Growth is the slope of a line through samples of the resident memory, one each 5 s: over a
few minutes a single page more makes MiB per hour of it, so only long runs say something about growth.
Processor time is user and system time of the service, as a share of one core. With two libraries both are
measured at the same time, each with a simulator of its own.
"""

from __future__ import annotations

import argparse
import selectors
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from common import (
    Gone,
    RawClient,
    cpu_s,
    daemon_call,
    end_on_sigterm,
    first_line,
    libraries,
    machine,
    memory_mib,
    private_bus,
    process,
    run_command,
    table,
)

from mk2dbus.bus.library import LIBRARIES
from mk2dbus.bus.names import BUS_ITEM, ITEMS_CHANGED

MEMORY_TARGET_MIB = 40.0
CPU_TARGET = {"2400": 0.02, "115200": 0.06}
"""Share of a core, by the speed of the line."""
SAMPLE_S = 5.0
CLIENTS = 2
DISCOVERY_LIMIT_S = 300.0
PROGRESS = "/Devices/0/Settings/ReadProgress"


@dataclass
class Subject:
    """A service that is measured."""

    library: str
    name: str
    pid: int
    clients: list[RawClient]
    times: list[float] = field(default_factory=list)
    samples: list[float] = field(default_factory=list)
    signals: int = 0
    cpu_before: float = 0.0
    cpu: float = 0.0
    discovery_cpu: float = 0.0

    def sample(self) -> None:
        self.times.append(time.monotonic())
        self.samples.append(memory_mib(self.pid))


def wait_for_settings(subjects: list[Subject]) -> None:
    """Wait until every service has read all settings."""
    limit = time.monotonic() + DISCOVERY_LIMIT_S
    for subject in subjects:
        with RawClient(subject.clients[0].address) as client:
            while client.get(subject.name, PROGRESS) != 100:
                if time.monotonic() > limit:
                    raise Gone(f"{subject.name} did not read all settings in {DISCOVERY_LIMIT_S:g} s")
                time.sleep(0.5)


def listen(subjects: list[Subject], seconds: float) -> None:
    """Let the clients take what is sent to them, and look at the memory now and then."""
    with selectors.DefaultSelector() as selector:
        for subject in subjects:
            for client in subject.clients:
                selector.register(client.sock, selectors.EVENT_READ, (subject, client))
        end = time.monotonic() + seconds
        due = time.monotonic()
        while (now := time.monotonic()) < end:
            if now >= due:
                for subject in subjects:
                    subject.sample()
                due += SAMPLE_S
            for key, _ in selector.select(max(0.0, min(due, end) - now)):
                subject, client = key.data
                client.fill()
                while client.take() is not None:
                    subject.signals += 1
    for subject in subjects:
        subject.sample()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="how long to measure (default: 3)")
    parser.add_argument("--profile", default="multiplus2", help="of the simulator (default: multiplus2)")
    parser.add_argument("--baudrate", choices=CPU_TARGET, default="2400", help="of the line (default: 2400)")
    parser.add_argument("--library", choices=LIBRARIES, help="default: each that is installed")
    arguments = parser.parse_args()
    end_on_sigterm()
    seconds = 60 * arguments.minutes
    with ExitStack() as stack:
        address, folder = stack.enter_context(private_bus())
        idle = stack.enter_context(process("-c", "print('up', flush=True); import signal; signal.pause()"))
        first_line(idle)
        bare_mib = memory_mib(idle.pid)
        subjects = []
        for library in libraries(arguments.library):
            link = folder / f"tty_{library}"
            simulator = process("-m", "mk2dbus", "simulate", arguments.profile, "--link", str(link))
            first_line(stack.enter_context(simulator))
            device = ("--tty", str(link), "--baudrate", arguments.baudrate)
            command = run_command(address, folder, library, *device)
            service = stack.enter_context(process(*command, library=library))
            name = first_line(service).split()[0]
            clients = [stack.enter_context(RawClient(address)) for _ in range(CLIENTS)]
            subjects.append(Subject(library, name, service.pid, clients))
        print(f"reading all settings, then measuring for {seconds:.0f} s …", file=sys.stderr)
        wait_for_settings(subjects)
        for subject in subjects:
            for client in subject.clients:
                rule = f"sender='{subject.name}',interface='{BUS_ITEM}',member='{ITEMS_CHANGED}'"
                client.call(daemon_call("AddMatch", rule))
            subject.discovery_cpu = subject.cpu_before = cpu_s(subject.pid)
        begun = time.monotonic()
        listen(subjects, seconds)
        took = time.monotonic() - begun
        for subject in subjects:
            subject.cpu = cpu_s(subject.pid) - subject.cpu_before
        rows = [["what", *(subject.library for subject in subjects)]]

        def row(what: str, *cells: str) -> None:
            rows.append([what, *cells])

        row("memory, all settings read", *(f"{s.samples[0]:.1f} MiB" for s in subjects))
        row("memory at the end", *(f"{s.samples[-1]:.1f} MiB" for s in subjects))
        row("  most it ever was", *(f"{memory_mib(s.pid, 'VmHWM'):.1f} MiB" for s in subjects))
        row(
            f"  to the target of {MEMORY_TARGET_MIB:.0f} MiB",
            *(f"{s.samples[-1] / MEMORY_TARGET_MIB:.2f}" for s in subjects),
        )
        row(f"  to bare Python, {bare_mib:.1f} MiB", *(f"{s.samples[-1] / bare_mib:.1f}" for s in subjects))
        slopes = [3600 * statistics.linear_regression(s.times, s.samples).slope for s in subjects]
        row("  growth per hour", *(f"{slope:+.2f} MiB" for slope in slopes))
        row("processor, share of a core", *(f"{s.cpu / took:.2%}" for s in subjects))
        target = CPU_TARGET[arguments.baudrate]
        row(f"  to the target of {target:.0%}", *(f"{s.cpu / took / target:.2f}" for s in subjects))
        rates = [s.signals / CLIENTS / took for s in subjects]
        row("signals per second to each client", *(f"{rate:.1f}" for rate in rates))
        row(
            "processor time per signal sent",
            *(f"{1000 * s.cpu / took / rate:.1f} ms" for s, rate in zip(subjects, rates, strict=True)),
        )
        row("processor time up to then, with start", *(f"{s.discovery_cpu:.2f} s" for s in subjects))
    circumstances = f"{CLIENTS} clients, {took / 60:.1f} minutes ({machine()})"
    table(f"Footprint at {arguments.baudrate} baud, {circumstances}", rows)


if __name__ == "__main__":
    main()
