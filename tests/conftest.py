"""Shared by all tests: a private bus daemon, and the check that no test leaves a task behind."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.bus import Daemon


@pytest.fixture
def dbus_daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A bus with nobody on it."""
    daemon = Daemon(tmp_path)
    daemon.start()
    yield daemon
    daemon.kill()


@pytest.fixture(autouse=True)
def no_leaked_tasks(request: pytest.FixtureRequest) -> None:
    """Fail an async test that leaves a task running."""
    # Hypothesis hides the function of the test in its own.
    function = getattr(request.function, "hypothesis", None)
    if inspect.iscoroutinefunction(function.inner_test if function else request.function):
        request.getfixturevalue("_task_check")


@pytest.fixture
async def _task_check() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    # A task that was cancelled ends in the next turn; one that goes on has no owner.
    await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()]
    assert not left, f"tasks left behind: {left}"
