"""A service with two made-up devices on a bus, and the commands run against it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pty
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest
from support.bus import Daemon

from mk2dbus.bus.access import Access
from mk2dbus.bus.names import DEVICES
from mk2dbus.bus.raw import raw_interface
from mk2dbus.bus.service import BusService
from mk2dbus.bus.tree import Tree
from mk2dbus.cli import build_parser
from mk2dbus.items import InvalidValue, Kind, Leaf, Limits, OutOfRange, Refused, Value, WriteFailed

NAME = "com.victronenergy.vebus.test0"
YES_NO = {0: "no", 1: "yes"}

Check = Callable[["House", str, float], None]
"""Raises what the device says to a write."""


class House:
    """A service whose devices keep what is written; ``writes`` notes it in order."""

    def __init__(self, devices: int = 1) -> None:
        self.tree = Tree()
        self.writes: list[tuple[str, int | float | str]] = []
        self.reads: list[str] = []
        self.ram = {(0, 4): 2412, (0, 128): 5}
        self.checks: dict[str, Check] = {}
        self.lies: set[str] = set()
        """Paths whose writes succeed and do nothing."""
        self._fill(devices)

    def _fill(self, devices: int) -> None:
        self._add("/Connected", Kind.INTEGER, 1, texts=YES_NO)
        self._add("/ProductName", Kind.TEXT, "MultiPlus")
        self._add("/CustomName", Kind.TEXT, "", writable=True)
        self._add(
            "/Mode", Kind.INTEGER, 3, texts={1: "Charger only", 3: "On", 4: "Off"}, writable=True, unit=""
        )
        self._add("/Dc/0/Voltage", Kind.REAL, 50.5, unit="V")
        self._add("/Settings/PowerAssist", Kind.INTEGER, 0, texts=YES_NO, writable=True)
        self._add(f"{DEVICES}/NumberOfMultis", Kind.INTEGER, devices)
        for number in range(devices):
            self.add_device(number)

    def add_device(self, number: int) -> None:
        folder = f"{DEVICES}/{number}"
        self._add(f"{folder}/ProductId", Kind.INTEGER, 0x2729)
        self._add(f"{folder}/FirmwareVersion", Kind.INTEGER, 0x560)
        self._add(f"{folder}/SerialNumber", Kind.TEXT, f"HQ000{number}")
        self._add(f"{folder}/Assistants", Kind.LIST, (5, 6))
        settings = f"{folder}/Settings"
        self._add(f"{settings}/ReadProgress", Kind.INTEGER, 100, unit="%")
        self._add(f"{settings}/ResetRequired", Kind.INTEGER, 0, texts=YES_NO)
        self._add(f"{settings}/UpsFunction", Kind.INTEGER, 0, texts={0: "UPS on", 1: "UPS off"})
        self._add(f"{settings}/FlagsWord0", Kind.INTEGER, 35252)
        self._add(f"{settings}/GridCode", Kind.INTEGER, 0, limits=Limits(0, 5, 0), texts={0: "None"})
        for name, default in (("Absorption", 57.6), ("Float", 55.2)):
            for below, value in (("Settings", default), ("RamOnly", None)):
                self._add(
                    f"{folder}/{below}/{name}",
                    Kind.REAL,
                    value,
                    unit="V",
                    limits=Limits(48.0, 64.0, default),
                    writable=True,
                )
        self._add(
            f"{settings}/Low", Kind.REAL, 45.0, unit="V", limits=Limits(37.0, 60.0, 45.0), writable=True
        )
        self._add(
            f"{settings}/Curve",
            Kind.INTEGER,
            3,
            limits=Limits(1, 3, 3),
            texts={1: "Fixed", 2: "Adaptive", 3: "Adaptive+BatterySafe"},
            writable=True,
        )
        self._add(
            f"{settings}/Delay", Kind.REAL, 1 / 30, unit="min", limits=Limits(0.0, 5.0, 1 / 30), writable=True
        )
        self._add(
            f"{settings}/NotApplicable", Kind.REAL, None, unit="A", limits=Limits(0.0, 9.0), writable=True
        )
        for name in ("DisableCharger", "DisableAes"):
            self._add(
                f"{settings}/{name}", Kind.INTEGER, 0, limits=Limits(0, 1, 0), texts=YES_NO, writable=True
            )
        self._add(f"{settings}/Leader", Kind.INTEGER, 0, limits=Limits(0, 1, 0), texts=YES_NO)
        self._add(f"{folder}/RamVars/UBat", Kind.REAL, None, unit="V", fetched=50.25)
        self._add(f"{folder}/RamVars/128", Kind.INTEGER, None, writable=True, fetched=7)

    def _add(
        self,
        path: str,
        kind: Kind,
        value: Value,
        *,
        unit: str = "",
        limits: Limits | None = None,
        texts: dict[int, str] | None = None,
        writable: bool = False,
        fetched: Value = None,
    ) -> None:
        leaf = Leaf(path, kind, unit, writable=writable, meaning=f"what {path} is", texts=texts or {})

        async def write(value: int | float | str) -> None:
            await asyncio.sleep(0)
            if path in self.checks and not isinstance(value, str):
                self.checks[path](self, path, value)
            self.writes.append((path, value))
            if path not in self.lies:
                self.tree.update({path: value})

        async def fetch() -> None:
            self.reads.append(path)
            self.tree.update({path: fetched})

        self.tree.add(
            leaf,
            value,
            limits=limits or Limits(),
            write=write if writable else None,
            fetch=fetch if fetched is not None else None,
        )

    def setting(self, name: str, device: int = 0) -> Value:
        return self.tree.value(setting(name, device))

    def put(self, **values: Value) -> None:
        """Settings of device 0."""
        self.tree.update({setting(name): value for name, value in values.items()})

    def refuse(self, name: str, error: type[WriteFailed] = Refused) -> None:
        def check(house: House, path: str, value: float) -> None:
            raise error(f"{path}: says the device")

        self.checks[setting(name)] = check

    def keep_below(self, name: str, other: str) -> None:
        """A setting that has to be lower than another one, and the other higher."""

        def low(house: House, path: str, value: float) -> None:
            if value >= float(house.setting(other)):  # type: ignore[arg-type]
                raise OutOfRange(f"{path} has to be below {other}")

        def high(house: House, path: str, value: float) -> None:
            if value <= float(house.setting(name)):  # type: ignore[arg-type]
                raise OutOfRange(f"{path} has to be above {name}")

        self.checks[setting(name)], self.checks[setting(other)] = low, high

    # --- the provider of the raw interface ---

    async def read_ram(self, device: int, id: int) -> tuple[Value, int]:
        if (device, id) not in self.ram:
            raise InvalidValue(f"device {device} has no such variable")
        raw = self.ram[device, id]
        return (None if id == 128 else raw / 100), raw

    async def write_ram(self, device: int, id: int, value: float) -> tuple[Value, int]:
        await self.read_ram(device, id)
        self.ram[device, id] = round(value * (1 if id == 128 else 100))
        return await self.read_ram(device, id)

    async def preview(self, path: str, value: int | float | str) -> str:
        if path in self.checks and not isinstance(value, str):
            self.checks[path](self, path, value)
        return "" if path == "/CustomName" else f"{path} = {value}\n→ 07 FF"


def setting(name: str, device: int = 0) -> str:
    return f"{DEVICES}/{device}/Settings/{name}"


@dataclasses.dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Shell:
    """Runs commands in this process."""

    def __init__(self, address: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.address = address
        self._capsys = capsys

    async def __call__(self, command: str, *words: str) -> Outcome:
        arguments = build_parser().parse_args([command, "--bus", self.address, *words])
        async with asyncio.timeout(20):
            code = await arguments.run(arguments)
        output, errors = self._capsys.readouterr()
        assert "Traceback" not in errors
        return Outcome(code, output, errors)


@contextlib.asynccontextmanager
async def serving(house: House, address: str, raw: bool = True) -> AsyncIterator[BusService]:
    service = BusService(house.tree, address, Access(write_bound_s=0.5, fetch_bound_s=0.5))
    if raw:
        service.extend(DEVICES, raw_interface(house))
    await service.start(NAME)
    running = asyncio.create_task(service.run())
    try:
        yield service
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await service.close()


@pytest.fixture
async def house(dbus_daemon: Daemon) -> AsyncIterator[House]:
    house = House()
    async with serving(house, dbus_daemon.address):
        yield house


@pytest.fixture
def sh(dbus_daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(dbus_daemon.address, capsys)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "backup.toml"


class Terminal:
    """A terminal on stdin; ``answer`` is what the person types."""

    def __init__(self, ours: int, stdin: TextIO) -> None:
        self._ours = ours
        self.stdin = stdin

    def answer(self, text: str) -> None:
        os.write(self._ours, f"{text}\n".encode())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        yield Terminal(ours, stdin)
    os.close(ours)
