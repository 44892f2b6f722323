"""Settings that bound each other (``data/bounds.csv``): a sum of some must not exceed a sum of others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from mk2dbus.vebus.tables import rows

_TERM = re.compile(r"([+-]?)(\d+)")


@dataclass(frozen=True, slots=True)
class Bound:
    """``lower`` must not exceed ``upper``; each a sum of settings, by id with their signs."""

    lower: tuple[tuple[int, int], ...]
    upper: tuple[tuple[int, int], ...]
    reason: str

    @property
    def ids(self) -> frozenset[int]:
        """The settings it is about."""
        return frozenset(id for _, id in self.lower + self.upper)

    def holds(self, values: Mapping[int, float]) -> bool:
        """Whether it holds for values by id; all of :attr:`ids` must be there."""
        return _sum(self.lower, values) <= _sum(self.upper, values)


def _sum(terms: tuple[tuple[int, int], ...], values: Mapping[int, float]) -> float:
    return sum(sign * values[id] for sign, id in terms)


def _terms(text: str) -> tuple[tuple[int, int], ...]:
    return tuple((-1 if sign == "-" else 1, int(id)) for sign, id in _TERM.findall(text))


@cache
def bounds() -> tuple[Bound, ...]:
    """All bounds."""
    return tuple(
        Bound(_terms(row["lower"]), _terms(row["upper"]), row["reason"]) for row in rows("bounds.csv")
    )


def bounds_on(id: int) -> tuple[Bound, ...]:
    """The bounds that a setting takes part in."""
    return tuple(bound for bound in bounds() if id in bound.ids)
