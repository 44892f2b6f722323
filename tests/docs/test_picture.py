"""The picture of the monitor in the README and in docs/monitor.md is one that it draws."""

from __future__ import annotations

import math
from typing import Any

from cli.monitoring import drawn, scene, told

from mk2dbus.monitor.scene import Scene

from .markdown import FOLDER, README

SIZE = (80, 23)
MINUTES = 10
LIMIT_W = 2300.0
LEDS = ("Bulk", "Absorption", "Float", "Inverter", "Overload", "LowBattery", "Temperature")


def evening(second: int) -> dict[str, Any]:
    """A kettle for two minutes of ten: more than the mains may give, so that the battery helps."""
    kettle = 2000.0 if 240 <= second < 360 else 0.0
    load = 430.0 + 25 * math.sin(second / 40) + kettle
    battery = min(35.0 * 52.5, LIMIT_W - load)
    mains = load + battery
    volts = 52.2 + second / 1500 + battery / 6000
    amperes = battery / volts
    return {
        "/Dc/0/Voltage": (volts, f"{volts:.2f}V"),
        "/Dc/0/Current": (amperes, f"{amperes:.1f}A"),
        "/Dc/0/Power": (battery, f"{battery:.0f}W"),
        "/Ac/ActiveIn/P": (mains, f"{mains:.0f}W"),
        "/Ac/ActiveIn/L1/I": (mains / 230, f"{mains / 230:.1f}A"),
        "/Ac/Out/P": (load, f"{load:.0f}W"),
        "/Ac/Out/L1/I": (load / 230, f"{load / 230:.1f}A"),
    }


def picture() -> str:
    """The display after ten minutes."""
    view: Scene = scene(
        {
            "/ProductName": "MultiPlus-II 48/3000/35-32",
            "/CustomName": "cellar",
            "/Connected": (1, "yes"),
            "/State": (3, "Bulk"),
            "/Mode": (3, "On"),
            "/VebusError": (0, "No error"),
            "/Soc": (81.0, "81.0%"),
            "/Dc/0/Temperature": (None, "---"),
            "/Ac/NumberOfPhases": (1, "1"),
            "/Ac/ActiveIn/ActiveInput": (0, "AC-in 1"),
            "/Ac/ActiveIn/CurrentLimit": (10.0, "10.0A"),
            "/Alarms/LowBattery": (0, "OK"),
            "/Leds/Mains": (1, "On"),
            **{f"/Leds/{name}": (int(name == "Bulk"), "") for name in LEDS},
            **{f"/Ac/{side}/L1/V": (230.0, "230V") for side in ("ActiveIn", "Out")},
            **{f"/Ac/{side}/L1/F": (50.0, "50.0Hz") for side in ("ActiveIn", "Out")},
        }
    )
    for second in range(60 * MINUTES):
        view.items.update(told(evening(second)))
        view.tick(float(second))
    return "\n".join(drawn(view, *SIZE))


def test_the_pictures() -> None:
    shown = picture()
    for page in (README, FOLDER / "monitor.md"):
        assert f"```text\n{shown}\n```" in page.read_text(encoding="utf-8"), f"{page}: it draws\n{shown}"
