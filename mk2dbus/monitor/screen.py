"""The display: when to draw, and what the keys do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from .controls import Controls, Service
from .dialog import Dialog
from .draw import draw
from .scene import Page, Scene
from .terminal import QUIT, REDRAW, SUSPEND, TAB, Terminal

REFRESH_S = 0.25
"""Least time between two drawings that nobody pressed a key for."""

TICK_S = 0.5
"""How often the histories go on; also half the period of what blinks."""


class Screen:
    """A scene on the terminal, from :meth:`start` to :meth:`close`.

    Args:
        scene: what is drawn; kept up to date from here on.
        service: who is written to.
        end: called when the person wants to end, or with what went wrong; a BrokenPipeError when the terminal
            is gone.
        terminal: makes the terminal from what takes its keys, its changes of size, and its end.
    """

    def __init__(
        self,
        scene: Scene,
        service: Service,
        end: Callable[[BaseException | None], None],
        terminal: Callable[[Callable[[str], None], Callable[[], None], Callable[[], None]], Terminal],
    ) -> None:
        self._scene = scene
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._controls = Controls(service, self._ask, end)
        self._terminal = terminal(self._press, self._refresh, self._lost)
        self._due: asyncio.TimerHandle | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._drawn_at = self._loop.time() - REFRESH_S
        self._back = scene.page
        self._said = _Said(self._controls.say)
        self._others_handler = self._loop.get_exception_handler()

    async def start(self) -> None:
        """Take the terminal."""
        self._loop.set_exception_handler(self._on_error)
        # Our own stderr is the terminal: what is logged would be written across the display.
        logging.getLogger().addHandler(self._said)
        try:
            self._terminal.take()
            self._on_tick()
        except (EOFError, OSError):
            self._lost()

    def items(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        self._scene.items.update(changes)
        self._changed()

    def there(self, there: bool, what: str = "service") -> None:
        """The service, or the bus, came or went."""
        self._scene.items.there = there
        self._scene.gone = what
        if not there:
            self._scene.items.clear()
        self._changed()

    async def close(self) -> None:
        """Give the terminal back."""
        for timer in (self._due, self._tick):
            if timer is not None:
                timer.cancel()
        try:
            self._terminal.give_back()
        except OSError:
            self._lost()
        finally:
            logging.getLogger().removeHandler(self._said)
            self._loop.set_exception_handler(self._others_handler)
        await self._controls.close()

    def _lost(self) -> None:
        self._end(BrokenPipeError("the terminal is gone"))

    def _on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What a callback raised, drawing among them: end with it instead of going on blindly."""
        error = context.get("exception")
        if isinstance(error, OSError):
            self._lost()
        else:
            self._end(error or RuntimeError(context["message"]))

    # --- drawing ---

    def _changed(self) -> None:
        """Draw, but not more often than a person can see."""
        if self._due is None:
            self._due = self._loop.call_at(self._drawn_at + REFRESH_S, self._refresh)

    def _refresh(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self._drawn_at = self._loop.time()
        self._terminal.draw(draw(self._scene, *self._terminal.size()))

    def _on_tick(self) -> None:
        self._tick = self._loop.call_later(TICK_S, self._on_tick)
        self._scene.tick(self._loop.time())
        self._changed()

    def _ask(self, dialog: Dialog) -> None:
        self._scene.dialog = dialog
        self._changed()

    # --- keys ---

    def _press(self, key: str) -> None:
        scene = self._scene
        if key == QUIT:
            self._end(None)
        elif key == REDRAW:
            self._terminal.forget()
        elif key == SUSPEND:
            self._terminal.suspend()
        elif self._controls.key(key):
            pass
        elif key == "q":
            self._end(None)
        elif scene.page is Page.HELP:
            scene.page = self._back
        elif key == TAB:
            scene.page = Page.LINE if scene.page is Page.OVERVIEW else Page.OVERVIEW
        elif key in ("?", "h"):
            self._back, scene.page = scene.page, Page.HELP
        elif key == "n":
            scene.show_notes = not scene.show_notes
        self._refresh()


class _Said(logging.Handler):
    """Warnings of this process, in the display."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())
