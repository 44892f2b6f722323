"""The tables of the project: settings, flags, RAM variables, products. Loaded once from ``data/``.

They give names, units and meanings. Scales and limits come from the device: its answer counts.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib.resources import files

_CHOICE = re.compile(r"(?:^|[:;])\s*(\d+)=([^;]+)")


def rows(name: str) -> Iterator[dict[str, str]]:
    """Rows of a table in ``data/``, by column name."""
    text = files("mk2dbus").joinpath("data", name).read_text(encoding="utf-8")
    yield from csv.DictReader(text.splitlines())


def choices(text: str) -> dict[int, str]:
    """The enumeration in a text such as ``0=Off;1=On``; empty when there is none."""
    return {int(number): meaning.strip() for number, meaning in _CHOICE.findall(text)}


class SettingKind(StrEnum):
    NUMBER = "number"
    ENUM = "enum"
    FLAGS = "flags"
    """A word of 16 flags; changed flag by flag only."""
    RESERVED = "reserved"


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of ``settings.csv``."""

    id: int
    name: str
    unit: str
    kind: SettingKind
    description: str
    texts: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Flag:
    """A row of ``flags.csv``: one bit of a flag word."""

    number: int
    setting_id: int
    bit: int
    name: str
    settable: bool
    description: str


@dataclass(frozen=True, slots=True)
class RamVariable:
    """A row of ``ramvars.csv``."""

    id: int
    name: str
    unit: str
    writable: bool
    description: str


_UNITS = {"degC": "°C", "V/degC": "V/°C", "0.1 s": "×0.1 s"}
"""Units as they are shown; the periods come out in tenths of a second (§4.2)."""


@cache
def settings() -> Mapping[int, Setting]:
    """All settings by id."""
    return {
        int(row["id"]): Setting(
            id=int(row["id"]),
            name=row["name"],
            unit=_UNITS.get(row["unit"], row["unit"]),
            kind=SettingKind(row["kind"]),
            description="; ".join(filter(None, (row["protocol_name"], row["notes"]))),
            texts=choices(row["enum"]),
        )
        for row in rows("settings.csv")
    }


@cache
def flags() -> Mapping[int, Flag]:
    """All flags by number."""
    return {
        int(row["flag"]): Flag(
            number=int(row["flag"]),
            setting_id=int(row["setting_id"]),
            bit=int(row["bit"]),
            name=row["name"],
            settable=row["settable"] == "yes",
            description=row["description"],
        )
        for row in rows("flags.csv")
    }


@cache
def ram_variables() -> Mapping[int, RamVariable]:
    """All documented RAM variables by id."""
    return {
        int(row["id"]): RamVariable(
            id=int(row["id"]),
            name=row["name"],
            unit=_UNITS.get(row["unit"], row["unit"]),
            writable=row["writable"] == "try",
            description=row["description"],
        )
        for row in rows("ramvars.csv")
    }


@cache
def _products() -> Mapping[int, str]:
    return {int(row["product_id_hex"], 16): row["name"] for row in rows("products.csv")}


def product_name(product_id: int) -> str:
    """Name of a product; its id in hex where the name is not known."""
    return _products().get(product_id, f"VE.Bus product {product_id:04X}")
