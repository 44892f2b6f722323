"""The keys that write: what can be is asked of the service, whether it should of the person."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from mk2dbus.bus.client import ItemView
from mk2dbus.bus.errors import BusError

from .dialog import LIMIT, MODE, NAMES, Busy, Dialog, Said, Writing, ask, press

KEYS = {"m": MODE, "l": LIMIT}


class Service(Protocol):
    """What is needed of :class:`mk2dbus.bus.client.Client`."""

    async def view(self, path: str) -> ItemView: ...

    async def choices(self, path: str) -> dict[int, str]: ...

    async def set(self, path: str, value: float | str) -> None: ...


class Controls:
    """One dialog at a time.

    Args:
        service: who is asked and written to.
        show: takes each new dialog.
        failed: takes what nobody expects.
    """

    def __init__(
        self, service: Service, show: Callable[[Dialog], None], failed: Callable[[BaseException], None]
    ) -> None:
        self._service = service
        self._show = show
        self._failed = failed
        self._dialog: Dialog = None
        self._task: asyncio.Task[None] | None = None

    def key(self, key: str) -> bool:
        """Take a key; whether it was of any use here."""
        dialog = self._dialog
        if dialog is None or isinstance(dialog, Said):
            # What was said goes with the next key, which still does what it always does.
            self._turn(None)
            if key in KEYS:
                self._turn(Busy(f"asking for the {NAMES[KEYS[key]]}"))
                self._start(self._ask(KEYS[key]))
                return True
            return False
        after = press(dialog, key)
        self._turn(after)
        if isinstance(after, Writing) and after is not dialog:
            self._start(self._write(after))
        return True

    def say(self, text: str) -> None:
        """Show a sentence, unless something is being asked."""
        if self._dialog is None or isinstance(self._dialog, Said):
            self._turn(Said(text))

    async def close(self) -> None:
        """Wait for nothing any more. What was sent to the service may still be done."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _turn(self, dialog: Dialog) -> None:
        self._dialog = dialog
        self._show(dialog)

    def _start(self, work: Coroutine[Any, Any, Dialog]) -> None:
        self._task = asyncio.create_task(self._run(work))

    async def _run(self, work: Coroutine[Any, Any, Dialog]) -> None:
        try:
            self._turn(await work)
        except BusError as error:
            self._turn(Said(str(error)))
        except Exception as error:
            self._failed(error)

    async def _ask(self, path: str) -> Dialog:
        view = await self._service.view(path)
        return ask(view, await self._service.choices(path) if path == MODE else {})

    async def _write(self, wanted: Writing) -> Dialog:
        path = wanted.view.path
        await self._service.set(path, wanted.value)
        now = await self._service.view(path)
        # It was done and confirmed, even where the value is not known at this moment.
        after = wanted.after if now.value is None else now.text
        return Said(f"{NAMES[path].capitalize()} {wanted.view.text} → {after}", good=True)
