"""The objects of one device on the board, ``/Devices/<n>``; they stay while the device comes and goes."""

from __future__ import annotations

import logging
from functools import partial

from mk2dbus.items import Value
from mk2dbus.vebus.board import Board
from mk2dbus.vebus.device import Device
from mk2dbus.vebus.paths import device_leaves
from mk2dbus.vebus.ramvars import DeviceRam
from mk2dbus.vebus.settings import DeviceSettings
from mk2dbus.vebus.settingword import Mirrors
from mk2dbus.vebus.units import Units

log = logging.getLogger(__name__)

UPS_FUNCTION = "DisableWaveCheck"
"""The flag that Venus knows as ``UpsFunction``."""

SYSTEM_SETTINGS = {
    "AssistCurrentBoostFactor": "/Settings/AssistCurrentBoostFactor",
    "InverterOutputVoltage": "/Settings/InverterOutputVoltage",
    "PowerAssistEnabled": "/Settings/PowerAssistEnabled",
    UPS_FUNCTION: "/Settings/UpsFunction",
}
"""Settings of the first device that paths of the system show; written there they go to all (paths.csv)."""


def mirrors(folder: str, number: int) -> Mirrors:
    """Paths that show a setting of this device once more."""
    paths: dict[str, tuple[str, ...]] = {f"{folder}/{UPS_FUNCTION}": (f"{folder}/UpsFunction",)}
    if number == 0:
        for name, path in SYSTEM_SETTINGS.items():
            own = f"{folder}/{name}"
            paths[own] = (*paths.get(own, ()), path)
    return paths


class DeviceItems:
    """``/Devices/<number>``: identity, measured values, settings."""

    def __init__(self, board: Board, number: int, units: Units) -> None:
        self.device: Device | None = None
        self._units = units
        self._board = board
        self._folder = f"/Devices/{number}"
        self._version: int | None = None
        self._leaves = list(device_leaves(number))
        shown_twice = mirrors(f"{self._folder}/Settings", number)
        self.settings = DeviceSettings(self, board, self._folder, shown_twice, self._require_reset)
        self.ram = DeviceRam(self, board, self._folder)

    def attach(self, device: Device) -> None:
        """A device was found: show who it is. Another kind than before gets new settings."""
        if self._version not in (None, device.version):
            log.warning("%s is there now instead of version %s", device, self._version)
            self.settings.clear()
            self.ram.clear()
        writers = {f"{self._folder}/Settings/UpsFunction": partial(self.settings.write, UPS_FUNCTION)}
        for leaf in self._leaves:
            if leaf.path not in self._board:
                self._board.add(leaf, write=writers.get(leaf.path))
        if device is not self.device:
            self.settings.found(self._units.of(device).ram_doubt)
        self._version = device.version
        self.device = device
        self._board.update(
            {
                f"{self._folder}/Version": device.version,
                f"{self._folder}/ProductId": device.product_id,
                f"{self._folder}/FirmwareVersion": device.firmware,
                f"{self._folder}/SerialNumber": device.serial,
                f"{self._folder}/Settings/ResetRequired": int(self._units.of(device).reset_required),
            }
        )
        self.settings.attach(device)
        self.ram.attach(device)

    def _require_reset(self) -> None:
        if self.device is None:
            return
        self._units.of(self.device).reset_required = True
        self._board.update({f"{self._folder}/Settings/ResetRequired": 1})

    def see_reset(self) -> None:
        """The device was reset while it was away: what is stored is in effect, and nothing else."""
        if self.device is None:
            return
        unit = self._units.of(self.device)
        unit.reset_required = False
        unit.ram_doubt.clear()
        self.settings.reset()
        self._board.update({f"{self._folder}/Settings/ResetRequired": 0})

    def detach(self) -> None:
        """The device is gone: all its values are invalid."""
        if self.device is not None:
            self._units.of(self.device).ram_doubt = self.settings.doubts
        self.device = None
        values: dict[str, Value] = dict.fromkeys(leaf.path for leaf in self._leaves)
        self._board.update({path: None for path in values if path in self._board})
        self.settings.detach()
        self.ram.detach()

    def remove(self) -> None:
        """Take all objects off the board: no device has this number any more."""
        self.detach()
        self.settings.clear()
        self.ram.clear()
        for leaf in self._leaves:
            if leaf.path in self._board:
                self._board.remove(leaf.path)
