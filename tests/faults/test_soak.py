"""Some hours of the month that ``tests/benchmarks/soak.py`` runs."""

from __future__ import annotations

import asyncio
import importlib
import logging
from pathlib import Path

import pytest
from support.clock import SimulatedLoop
from support.driven import MODES

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
HOURS = 6
ACTIVE_S = 30.0


def test_some_hours(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    caplog.set_level(logging.CRITICAL)
    soak = importlib.import_module("soak")
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        assert runner.run(soak.simulated(HOURS / 24, ACTIVE_S, MODES[0], 2, quiet=True)) == []
