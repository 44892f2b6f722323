"""Replies that come twice while everything is read: the second copy answers the next command of its slot.

Nothing in a copy tells it from the reply to the next command. It shows only afterwards, when a reply comes
that nobody waits for. Then nothing false may stay: no setting, no scale, neither shown nor kept in a file.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.clock import simulated
from support.driven import MODES, Driven, Mode, driven
from support.truth import Truth

from mk2dbus.vebus.infocache import InfoCache, Infos

SETTLED_S = 40.0
"""What is in doubt is asked again one after the other."""


@dataclass
class Doubled:
    """The copy of every n-th reply in a slot comes right before the next reply in it."""

    nth: int
    seen: int = 0
    copies: int = 0
    kept: dict[bytes, bytes] = field(default_factory=dict)

    def __call__(self, data: bytes) -> bytes:
        letter = data[2:3]
        if data[1] != 0xFF or letter not in (b"X", b"Y", b"Z"):
            return data
        copy = self.kept.pop(letter, None)
        if copy is not None:
            self.copies += 1
            return copy + data
        self.seen += 1
        if self.seen % self.nth == 0:
            self.kept[letter] = data
        return data


def _infos(run: Driven) -> Infos:
    device = run.driver._context.items[0].device
    assert device is not None
    return device.infos


def _kept(run: Driven, state: Path) -> Infos:
    device = run.driver._context.items[0].device
    assert device is not None
    return InfoCache(state).load(device.version, device.is_new)


@pytest.mark.parametrize(
    ("profile", "mode", "nth"),
    [("multiplus2", MODES[0], 7), ("multiplus-old", MODES[0], 20), ("multiplus2", MODES[2], 20)],
    ids=str,
)
@simulated
async def test_nothing_false_stays(profile: str, mode: Mode, nth: int, tmp_path: Path) -> None:
    async with driven(profile, mode=mode) as run:
        await run.until_all_read()
        true = _infos(run)
    async with driven(profile, mode=mode, state=tmp_path) as run:
        doubled = run.core.outgoing = Doubled(nth)
        await run.until_all_read()
        run.core.outgoing = None
        assert doubled.copies > 10
        await asyncio.sleep(SETTLED_S)
        assert Truth(run).false_settings() == []
        assert _infos(run) == true
        assert _kept(run, tmp_path) == true
        assert run.opened == 1
