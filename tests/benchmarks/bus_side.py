"""Speed of the bus side with the full tree of three phases, against plain ServiceInterface objects.

Both services show the same items and give the same answers (checked first); ``served.py`` has them, each in a
process of its own on one bus. The same client asks both, in blocks that alternate, so that whatever else the
machine does meets both alike. It sends ready-made messages and decodes nothing.

"time" is what the client waits: the service, and the way through the bus daemon both ways, which is the same
for all and long for long answers, as the daemon checks every value in them. "way" is that alone: a service
that sends a ready answer of the same bytes and does nothing else; nothing on this bus can be faster.
"processor" is what the *service process* spends per call, user and system time. Ratios are plain divided by
mk2dbus: 2 means that mk2dbus is twice as fast.

GetItems is asked for in two ways: with nothing changed since the last call, and after forty values changed,
as it is between two cycles of telemetry. GetValue goes through all items in turn. ItemsChanged is a signal of
forty values that two clients hear; its processor time includes the write that brings it about. Clients in
parallel have a call under way each, all the time; "lost" means that the service did not survive that, as both
libraries end their connection when its socket is full.
"""

from __future__ import annotations

import argparse
import selectors
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from common import (
    PATIENCE_S,
    Gone,
    RawClient,
    answered,
    cpu_s,
    daemon_call,
    decoded,
    end_on_sigterm,
    first_line,
    libraries,
    machine,
    median,
    method_call,
    percentile,
    private_bus,
    process,
    table,
    variant_body,
)
from served import CHANGING_COUNT, TOLD, UNTOLD, WRITTEN

from mk2dbus.bus.library import LIBRARIES, decode
from mk2dbus.bus.names import ITEMS_CHANGED
from mk2dbus.bus.wire import MessageType

OWN, PLAIN, READY = "own", "plain", "ready"
MANY, FEW, LISTENERS = 20, 3, 2
SIGNAL_EVERY_S = 0.12  # the service tells changes at most ten times a second
SERVED = str(Path(__file__).with_name("served.py"))
WARM_UP = 5

ITEMS = "GetItems, nothing changed"
CHANGED = f"GetItems, {CHANGING_COUNT} values changed"
VALUE = "GetValue"
SIGNAL = f"ItemsChanged of {CHANGING_COUNT} values, {LISTENERS} listeners"
PARALLEL = {
    f"{MANY} clients: GetValue": (MANY, VALUE, 4),
    f"{FEW} clients: GetItems": (FEW, ITEMS, 4),
    f"{MANY} clients: GetItems": (MANY, ITEMS, 1),
}
"""Clients, what they call, and how often that is measured; last what not every service survives."""
CHANGED_WAY = {CHANGED: ITEMS}
"""What has the way of what else."""


@dataclass
class Figures:
    """What was measured of one kind of call."""

    times: list[float] = field(default_factory=list)
    cpu: float = 0.0
    calls: int = 0

    @property
    def cpu_per_call(self) -> float:
        return self.cpu / self.calls

    def __str__(self) -> str:
        return f"{1000 * median(self.times):.3f} / {1000 * percentile(self.times, 0.95):.3f}"


@dataclass
class Served:
    """A running service."""

    kind: str
    name: str
    pid: int
    figures: dict[str, Figures] = field(default_factory=dict)

    def call(self, path: str, member: str) -> bytearray:
        return method_call(self.name, path, member)

    def write(self, value: int) -> bytearray:
        return method_call(self.name, WRITTEN, "SetValue", variant_body("i", value))


def same_answers(client: RawClient, services: Sequence[Served]) -> tuple[list[str], int]:
    """Check that all services say the same; the paths, and how long the answer to GetItems is."""
    answers = []
    for service in services:
        message = client.call(service.call("/", "GetItems"))
        (items,) = decode(decoded(message))
        plain = {
            path: {key: (part.signature, part.value) for key, part in parts.items()}
            for path, parts in items.items()
        }
        answers.append(plain)
        if plain != answers[0]:
            raise AssertionError("the services do not show the same items")
    for path in answers[0]:
        values = {bytes(decoded(client.call(service.call(path, "GetValue"))).body) for service in services}
        if len(values) != 1:
            raise AssertionError(f"the services do not agree on {path}")
    return list(answers[0]), len(message)


def measure(
    service: Served, what: str, client: RawClient, messages: Iterable[bytearray], change: bool = False
) -> None:
    """A block of calls, one after the other; with ``change`` there is a write before each, not counted."""
    found = service.figures.setdefault(what, Figures())
    write = service.write(UNTOLD)
    for message in messages:
        if change:
            client.call(write)
        before = cpu_s(service.pid)
        begun = time.perf_counter()
        client.call(message)
        found.times.append(time.perf_counter() - begun)
        found.cpu += cpu_s(service.pid) - before
        found.calls += 1


def tell(service: Served, client: RawClient, address: str, count: int) -> None:
    """So many writes that change values, each told to two listeners before the next."""
    found = service.figures.setdefault(SIGNAL, Figures())
    rule = f"type='signal',sender='{service.name}',member='{ITEMS_CHANGED}'"
    write = service.write(TOLD)
    with ExitStack() as stack:
        listeners = [stack.enter_context(RawClient(address)) for _ in range(LISTENERS)]
        for listener in listeners:
            listener.call(daemon_call("AddMatch", rule))
        before = cpu_s(service.pid)
        for _ in range(count):
            time.sleep(SIGNAL_EVERY_S)
            begun = time.perf_counter()
            client.call(write)
            for listener in listeners:
                while decoded(listener.receive()).member != ITEMS_CHANGED:
                    pass
            found.times.append(time.perf_counter() - begun)
        found.cpu += cpu_s(service.pid) - before
        found.calls += count


def together(
    service: Served, what: str, address: str, clients: int, calls: int, messages: Sequence[bytearray]
) -> None:
    """Every client makes so many calls, the messages in turn, all of them at the same time.

    The time noted is that of the whole, per call.

    Raises:
        Gone: the service left the bus meanwhile.
    """
    turn = cycle(messages)
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        left = {stack.enter_context(RawClient(address)): calls for _ in range(clients)}
        before = cpu_s(service.pid)
        begun = time.perf_counter()
        for client in left:
            selector.register(client.sock, selectors.EVENT_READ, client)
            client.send(next(turn))
        while left:
            ready = selector.select(PATIENCE_S)
            if not ready:
                raise Gone(f"no answer in {PATIENCE_S:g} s")
            for key, _ in ready:
                client = key.data
                client.fill()
                while (message := client.take()) is not None:
                    if message[1] == MessageType.SIGNAL:
                        continue
                    answered(message)
                    left[client] -= 1
                    if left[client]:
                        client.send(next(turn))
                    else:
                        del left[client]
                        selector.unregister(client.sock)
        took = time.perf_counter() - begun
    found = service.figures.setdefault(what, Figures())
    found.times.append(took / (clients * calls))
    found.cpu += cpu_s(service.pid) - before
    found.calls += clients * calls


def run_all(library: str, services: Sequence[Served], address: str, options: argparse.Namespace) -> None:
    """Measure the services of one library against each other, and print the tables."""
    own, plain, ready = services
    with ExitStack() as stack:
        client = stack.enter_context(RawClient(address))
        paths, length = same_answers(client, (own, plain))
        next_path = cycle(paths)
        for number in range(options.rounds):
            for service in services if number % 2 else reversed(services):
                get_items = [service.call("/", "GetItems")] * options.calls
                get_value = [service.call(next(next_path), "GetValue") for _ in range(options.calls)]
                for message in get_items[:WARM_UP]:
                    client.call(message)
                measure(service, ITEMS, client, get_items)
                measure(service, VALUE, client, get_value)
                if service is not ready:
                    measure(service, CHANGED, client, get_items, change=True)
                    tell(service, client, address, options.calls // 10)
    lost: dict[tuple[str, str], str] = {}
    for what, (clients, called, rounds) in PARALLEL.items():
        for number in range(rounds):
            for service in (own, plain) if number % 2 else (plain, own):
                if called == VALUE:
                    messages = [service.call(path, "GetValue") for path in paths]
                else:
                    messages = [service.call("/", "GetItems")]
                if any(kind == service.kind for kind, _ in lost):
                    lost.setdefault((service.kind, what), "it was gone before")
                    continue
                try:
                    together(service, what, address, clients, options.parallel_calls, messages)
                except Gone as gone:
                    lost[service.kind, what] = str(gone)

    rows = [["what", "mk2dbus, ms", "plain, ms", "way, ms", "ratio"]]
    for what in (ITEMS, CHANGED, VALUE, SIGNAL):
        ours, theirs = own.figures[what], plain.figures[what]
        way = ready.figures.get(CHANGED_WAY.get(what, what))
        rows.append(
            [
                f"{what}: time (median / p95)",
                str(ours),
                str(theirs),
                "" if way is None else str(way),
                f"{median(theirs.times) / median(ours.times):.1f}",
            ]
        )
    for what in (ITEMS, CHANGED, VALUE, SIGNAL, *PARALLEL):
        if (OWN, what) in lost or (PLAIN, what) in lost:
            continue
        ours, theirs = own.figures[what], plain.figures[what]
        rows.append(
            [
                f"{what}: processor",
                f"{1000 * ours.cpu_per_call:.3f}",
                f"{1000 * theirs.cpu_per_call:.3f}",
                "",
                f"{theirs.cpu_per_call / ours.cpu_per_call:.1f}",
            ]
        )
    table(f"{library}: {len(paths)} items, GetItems answers {length} bytes ({machine()})", rows)

    rows = [["what", "mk2dbus, calls/s", "plain, calls/s", "ratio"]]
    for what in PARALLEL:
        rates = [
            None if (service.kind, what) in lost else 1 / median(service.figures[what].times)
            for service in (own, plain)
        ]
        cells = ["lost" if rate is None else f"{rate:.0f}" for rate in rates]
        ratio_text = "" if None in rates else f"{rates[0] / rates[1]:.1f}"  # type: ignore[operator]
        rows.append([f"{what}, {options.parallel_calls} calls each", *cells, ratio_text])
    table(f"{library}: in parallel", rows)
    for (kind, what), why in lost.items():
        print(f"lost: {kind} left the bus during {what}: {why}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="blocks of each kind (default: 20)")
    parser.add_argument("--calls", type=int, default=50, help="calls in a block (default: 50)")
    parser.add_argument("--parallel-calls", type=int, default=200, help="calls of each client (default: 200)")
    parser.add_argument("--items", type=int, default=0, help="take only so many items (default: all)")
    parser.add_argument("--library", choices=LIBRARIES, help="default: each that is installed, in turn")
    options = parser.parse_args()
    end_on_sigterm()
    for library in libraries(options.library):
        with ExitStack() as stack:
            address, _ = stack.enter_context(private_bus())
            services = []
            for kind in (OWN, PLAIN, READY):
                name = f"com.victronenergy.vebus.{kind}"
                command = (SERVED, kind, address, name, str(options.items))
                started = stack.enter_context(process(*command, library=library))
                first_line(started)
                services.append(Served(kind, name, started.pid))
            run_all(library, services, address, options)


if __name__ == "__main__":
    main()
