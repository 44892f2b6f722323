"""What a found system is made of: telemetry, control, energy … each in a module of its own."""

from __future__ import annotations

from mk2dbus.vebus.device import Device


class Part:
    """One matter of a system; lives as long as the system answers. All methods may be left as they are."""

    def start(self) -> None:
        """The system was found: put polls into the plan."""

    async def run(self) -> None:
        """Do what there is to do beside the polls; may end at once. Cancelled when the system is gone."""

    def devices_changed(self) -> None:
        """Other devices are there, or have other numbers."""

    def assistants_read(self, number: int, device: Device) -> None:
        """It is known which assistants a device has; that is long before all of it is."""

    def discovered(self, number: int, device: Device) -> None:
        """All of a device was read: which RAM variables, assistants and settings it has."""

    async def release(self) -> None:
        """The service ends while the system answers: give back what was taken for as long as it ran."""

    def stop(self) -> None:
        """The system is gone, or the service ends. Polled values are withdrawn without it."""
