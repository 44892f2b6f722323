"""Settings and flags of a device on the board: found one after the other, read, written, shown."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping

from mk2dbus.items import ReadOnly
from mk2dbus.mk2 import errors
from mk2dbus.mk2.exchange import Priority
from mk2dbus.vebus.board import Board
from mk2dbus.vebus.device import Device
from mk2dbus.vebus.readings import Values
from mk2dbus.vebus.schedule import Lane, Poll
from mk2dbus.vebus.settingword import Mirrors, SettingWord, Source
from mk2dbus.vebus.tables import settings
from mk2dbus.vebus.views import View, views

log = logging.getLogger(__name__)

FIRST_IDS = (64, 2, 3, 0, 4)
"""Read first: the battery capacity decides whether there is a state of charge; the others people ask for."""

READERS = 3
"""Settings that are found at a time; the adapter has three slots."""

ROUNDS = 3
"""How often a setting that does not answer is tried before it is left for the refresh."""

AGAIN_S = 1.0
"""Between attempts to read what is not known, or in doubt."""

REFRESH_PAUSE_S = 3.0
"""Between two settings that are read again in the background: somebody may use another program."""


class DeviceSettings:
    """All settings of one device: finds out which it has, keeps their items.

    Args:
        folder: ``/Devices/<n>``.
        reset_needed: called when a stored value takes effect only after a reset.
    """

    def __init__(
        self,
        source: Source,
        board: Board,
        folder: str,
        mirrors: Mirrors,
        reset_needed: Callable[[], None],
    ) -> None:
        self._source = source
        self._board = board
        self._folder = folder
        self._mirrors = mirrors
        self._reset_needed = reset_needed
        self._words: dict[int, SettingWord] = {}
        self._doubts: Mapping[int, int] = {}
        self._missing: asyncio.Queue[int] = asyncio.Queue()

    def detach(self) -> None:
        """The device is gone."""
        for word in self._words.values():
            word.detach()

    @property
    def doubts(self) -> dict[int, int]:
        """Bits, by setting, that may be in effect in RAM only, once the device was away."""
        return {id: word.doubt for id, word in self._words.items() if word.doubt}

    def found(self, doubts: Mapping[int, int]) -> None:
        """Another device is attached next; which bits may be in effect in its RAM only."""
        self._doubts = doubts
        for id, word in self._words.items():
            word.found(doubts.get(id, 0))

    def reset(self) -> None:
        """The device was reset: what was in its RAM is gone."""
        for word in self._words.values():
            word.reset()

    def clear(self) -> None:
        """Take all items off the board: another device is there now."""
        for word in self._words.values():
            word.withdraw()
        self._words.clear()

    def find(self, path: str) -> tuple[SettingWord, View, bool] | None:
        """The word and the item at a path, and whether it is in RAM only."""
        for word in self._words.values():
            found = word.view(path)
            if found is not None:
                return word, *found
        return None

    def attach(self, device: Device) -> None:
        """Put on the board at once what is remembered of this kind of device."""
        for id in settings():
            self._place(device, id)
        for word in self._words.values():
            word.show()
        self._progress(100 if device.read else 0)

    def in_effect(self, id: int) -> int | None:
        """The raw word of a setting that is in effect; ``None`` when it is not known."""
        word = self._words.get(id)
        if word is not None:
            return word.in_effect
        device = self._source.device
        return None if device is None else device.words.get(id)

    async def write(self, name: str, value: int | float | str, *, ram_only: bool = False) -> None:
        """Write a setting or flag by name; as :meth:`SettingWord.write`.

        Raises:
            ReadOnly: the device does not have it, or it was not found yet.
        """
        path = f"{self._folder}/{'RamOnly' if ram_only else 'Settings'}/{name}"
        found = self.find(path)
        device = self._source.device
        if found is None and device is not None:
            # It may have been asked for already by somebody else than the reading of everything.
            for id, setting in settings().items():
                if setting.name == name:
                    self._place(device, id)
            found = self.find(path)
        if found is None:
            raise ReadOnly(f"{self._folder} has no setting {name} (yet)")
        word, view, ram_only = found
        await word.write(view, ram_only, value)

    async def discover(self, device: Device) -> None:
        """Find the settings of the device and read them, in the background. Ends when all were tried."""
        ids = [*FIRST_IDS, *(id for id in settings() if id not in FIRST_IDS)]
        total, known = len(ids), 0
        for _ in range(ROUNDS):
            unanswered: list[int] = []
            waiting = iter(ids)

            async def work(waiting: Iterator[int] = waiting, unanswered: list[int] = unanswered) -> None:
                nonlocal known
                for id in waiting:
                    try:
                        await self._find(device, id)
                    except errors.NoReply:
                        unanswered.append(id)
                        continue
                    except errors.Rejected as error:
                        log.info("%s: cannot read setting %d: %s", device, id, error)
                    known += 1
                    self._progress(100 * known // total)

            async with asyncio.TaskGroup() as tasks:
                for _ in range(READERS):
                    tasks.create_task(work(), name="settings")
            ids = unanswered
        if ids:
            log.warning("%s did not answer for settings %s", device, ", ".join(map(str, ids)))

    async def run(self, device: Device) -> None:
        """Read again what a write left behind unknown. Runs as long as the device is there."""
        while True:
            word = self._words.get(await self._missing.get())
            while word is not None and not word.known and self._source.device is device:
                try:
                    await word.read(device, Priority.TELEMETRY)
                except errors.NoReply:
                    await asyncio.sleep(AGAIN_S)
                except errors.Rejected as error:
                    log.info("%s: cannot read setting %d: %s", device, word.id, error)
                    break

    def forget(self, device: Device, id: int) -> None:
        """A reading of a setting is not to be believed."""
        device.words.pop(id, None)
        if id in self._words:
            self._words[id].show()

    async def check_scale(self, device: Device, id: int) -> bool:
        """Ask scale and limits of a setting anew; whether they are as known. Its items begin anew when they
        are not.

        Raises:
            NoReply, Rejected: they were not told.
        """
        as_known = await device.ask_setting_scale_again(id)
        if not as_known:
            self._outdated(device, id)
        return as_known

    def refresh_poll(self, name: str, device: Device) -> Poll:
        """Reads what was found again and again, slowly, and first what is not known."""
        turn = itertools.count()

        async def read() -> Values:
            words = list(self._words.values())
            missing = next((word for word in words if not word.known), None)
            if words:
                word = missing or words[next(turn) % len(words)]
                try:
                    await word.read(device, Priority.TELEMETRY)
                except errors.Rejected as error:
                    log.debug("%s: cannot read setting %d: %s", device, word.id, error)
            return {}

        return Poll(name, Lane.WINMON, REFRESH_PAUSE_S, read, stale_after_s=None)

    async def _find(self, device: Device, id: int) -> None:
        """Find out about one setting and read it."""
        await device.setting_scale(id)
        self._place(device, id)
        if id in self._words:
            await self._words[id].read(device)

    def _place(self, device: Device, id: int) -> None:
        """Put the items of a setting on the board, if the device is known to have it."""
        scale = device.known_setting_scale(id)
        if scale is None or id in self._words:
            return
        setting = settings()[id]
        self._words[id] = SettingWord(
            self._source,
            self._board,
            id,
            scale,
            tuple(views(f"{self._folder}/Settings", setting, scale)),
            tuple(views(f"{self._folder}/RamOnly", setting, scale)),
            self._mirrors,
            self._reset_needed,
            self._outdated,
            self._missing.put_nowait,
        )
        self._words[id].found(self._doubts.get(id, 0))
        self._words[id].place()
        self._words[id].show()

    def _outdated(self, device: Device, id: int) -> None:
        """The device scales a setting in another way than remembered: start its items anew."""
        log.warning("%s: setting %d has other limits than remembered", device, id)
        word = self._words.pop(id, None)
        if word is not None:
            word.withdraw()
        self._place(device, id)

    def _progress(self, percent: int) -> None:
        self._board.update({f"{self._folder}/Settings/ReadProgress": percent})
