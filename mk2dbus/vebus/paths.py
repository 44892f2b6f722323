"""The leaves of the system and of a device, declared in ``data/paths.csv`` (dbus-contract.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from mk2dbus.items import Kind, Leaf
from mk2dbus.vebus.tables import choices, rows

DEVICE_FOLDER = "/Devices/<n>/"
SENSOR_FOLDER = "/AcSensor/<k>/"
SENSORS = range(9)

_DECIMALS = {"V": 2, "A": 1, "W": 0, "VA": 0, "Hz": 1, "%": 1, "kWh": 2, "°C": 1}
"""Decimals of a text, by unit; volts of an AC leaf have none."""


def unit_decimals(unit: str, *, ac: bool, otherwise: int) -> int:
    """Decimals that the text of a value has, as in Victron's GUIs; ``otherwise`` for other units."""
    return 0 if ac and unit == "V" else _DECIMALS.get(unit, otherwise)


_UNLIMITED = {"/Dc/0/MaxChargeCurrent": 10_000}
"""What Venus writes to lift a limit that it set before."""


@cache
def declared_leaves() -> tuple[Leaf, ...]:
    """All leaves as they are declared, with ``<n>`` for a device and ``<k>`` for a sensor."""
    return tuple(
        Leaf(
            path=row["path"],
            kind=Kind(row["type"]),
            unit=row["unit"],
            writable=row["access"] == "W",
            meaning=row["meaning"],
            source=row["source"],
            decimals=unit_decimals(row["unit"], ac=_is_ac(row["path"]), otherwise=2),
            texts=choices(row["meaning"]) if row["type"] == "i" else {},
            unlimited=_UNLIMITED.get(row["path"]),
        )
        for row in rows("paths.csv")
    )


def _is_ac(path: str) -> bool:
    return "/Ac/" in path or path.startswith(SENSOR_FOLDER)


def _at(leaf: Leaf, path: str) -> Leaf:
    return replace(leaf, path=path)


@cache
def system_leaf(path: str) -> Leaf:
    """The leaf of a path that belongs to no single device."""
    return next(leaf for leaf in system_leaves() if leaf.path == path)


def system_leaves() -> Iterator[Leaf]:
    """The leaves that belong to no single device; they exist always."""
    for leaf in declared_leaves():
        if leaf.path.startswith(SENSOR_FOLDER):
            for number in SENSORS:
                yield _at(leaf, leaf.path.replace("<k>", str(number)))
        elif not leaf.path.startswith(DEVICE_FOLDER):
            yield leaf


def device_leaves(number: int) -> Iterator[Leaf]:
    """The leaves of ``/Devices/<number>`` that every device has."""
    for leaf in declared_leaves():
        if leaf.path.startswith(DEVICE_FOLDER):
            yield _at(leaf, leaf.path.replace("<n>", str(number)))
