"""An event loop whose clock jumps: whenever every task waits, it is the next deadline at once."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable, Mapping
from typing import Any


class _JumpingSelector(selectors.BaseSelector):
    """Does not wait for time to pass, moves the clock instead."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        self._real = selectors.DefaultSelector()
        self._advance = advance

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout == 0:
            # Tasks are ready: what comes from outside is looked at when they wait again.
            return []
        ready = self._real.select(0)
        if not ready and timeout is None:
            raise RuntimeError("all tasks wait, and nothing will ever wake them")
        if not ready and timeout is not None and timeout > 0:
            self._advance(timeout)
        return ready

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Starts at 0 s."""

    def __init__(self) -> None:
        self._clock = 0.0
        super().__init__(_JumpingSelector(self._pass))

    def time(self) -> float:
        return self._clock

    def stand_still(self, seconds: float) -> None:
        """Time passes, and nothing happens: the process was stopped, or the machine slept."""
        self._clock += seconds

    def _pass(self, seconds: float) -> None:
        # A nanosecond more, so that rounding never leaves a timer just short of its deadline.
        self._clock += seconds + 1e-9


def simulated(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test in simulated time. Fails when it leaves a task behind."""

    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        async def checked() -> None:
            await test(*args, **kwargs)
            await asyncio.sleep(0)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"tasks left behind: {left}"

        with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
            runner.run(checked())

    return run
