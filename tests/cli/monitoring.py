"""Scenes for the tests of the display."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mk2dbus.monitor.draw import draw
from mk2dbus.monitor.glyphs import UNICODE, Glyphs
from mk2dbus.monitor.scene import Scene
from mk2dbus.monitor.text import length

SERVICE = "com.victronenergy.vebus.ttyUSB0"

LEDS = {"Mains": 1, "Bulk": 1, "Absorption": 0, "Float": 0, "Inverter": 2, "Overload": 0, "LowBattery": 3}

SYSTEM = {
    "/ProductName": "MultiPlus-II 48/3000/35-50",
    "/CustomName": "cellar",
    "/Connected": (1, "yes"),
    "/State": (3, "Bulk"),
    "/Mode": (3, "On"),
    "/VebusError": (0, "No error"),
    "/Dc/0/Voltage": (50.53, "50.53V"),
    "/Dc/0/Current": (16.1, "16.1A"),
    "/Dc/0/Power": (814.0, "814W"),
    "/Dc/0/Temperature": (21.0, "21.0°C"),
    "/Soc": (81.0, "81.0%"),
    "/Ac/NumberOfAcInputs": (1, "1"),
    "/Ac/ActiveIn/ActiveInput": (0, "AC-in 1"),
    "/Ac/ActiveIn/CurrentLimit": (35.0, "35.0A"),
    "/Ac/ActiveIn/P": (1234.0, "1234W"),
    "/Ac/Out/P": (420.0, "420W"),
    "/Alarms/HighTemperature": (0, "OK"),
    "/Alarms/LowBattery": (0, "OK"),
    "/Alarms/VeBusError": (0, "OK"),
    **{f"/Leds/{name}": (state, str(state)) for name, state in LEDS.items()},
}

FIGURES = {
    "/Interfaces/Mk2/ProductName": "MK3",
    "/Interfaces/Mk2/Connection": "/dev/ttyUSB0",
    "/Interfaces/Mk2/Version": (1170216, "1170216"),
    "/Interfaces/Mk2/Status/Baudrate": (2400, "2400"),
    "/Mgmt/Statistics/ShareReceived": (50.0, "50.0%"),
    "/Mgmt/Statistics/RoundTripMax": (0.071, "0.071s"),
    "/Mgmt/Statistics/Retries": (None, "---"),
}


def phases(count: int) -> dict[str, Any]:
    """AC in and out of so many phases."""
    found: dict[str, Any] = {"/Ac/NumberOfPhases": (count, str(count))}
    for number in range(1, count + 1):
        for folder, amperes in (("/Ac/ActiveIn", 5.4), ("/Ac/Out", 1.8)):
            for name, value, text in (
                ("V", 230.0, f"{229 + number}V"),
                ("I", amperes, f"{amperes}A"),
                ("P", amperes * 76, f"{amperes * 76:.0f}W"),
                ("F", 50.0, "50.0Hz"),
            ):
                found[f"{folder}/L{number}/{name}"] = (value, text)
    return found


def devices(count: int) -> dict[str, Any]:
    """Several devices of a system."""
    found: dict[str, Any] = {"/Devices/NumberOfMultis": (count, str(count))}
    for number in range(count):
        folder = f"/Devices/{number}"
        found[f"{folder}/SerialNumber"] = f"HQ2223{number:05}"
        found[f"{folder}/Ac/In/P"] = (411.0, "411W")
        found[f"{folder}/Ac/Inverter/P"] = (271.0, "271W")
        found[f"{folder}/Ac/Out/P"] = (140.0, "140W")
    return found


def told(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Path → text, or value and text, as the service tells them."""
    return {
        path: {"Value": told, "Text": told}
        if isinstance(told, str)
        else dict(zip(("Value", "Text"), told, strict=True))
        for path, told in values.items()
    }


def scene(*parts: Mapping[str, Any], glyphs: Glyphs = UNICODE, **more: Any) -> Scene:
    found = Scene(SERVICE, glyphs, **more)
    for part in parts:
        found.items.update(told(part))
    return found


def drawn(scene: Scene, columns: int, rows: int) -> list[str]:
    """The text of a drawing, which fills its size exactly."""
    lines = draw(scene, columns, rows)
    assert len(lines) == rows
    assert {length(line) for line in lines} <= {columns}
    return ["".join(text for _, text in line).rstrip() for line in lines]
