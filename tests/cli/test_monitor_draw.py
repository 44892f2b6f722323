"""What the display of ``monitor`` looks like, as text."""

from __future__ import annotations

import ast
import math
import textwrap
from pathlib import Path

import pytest

from cli.monitoring import FIGURES, SYSTEM, devices, drawn, phases, scene, told
from mk2dbus.monitor.dialog import Said
from mk2dbus.monitor.draw import draw
from mk2dbus.monitor.glyphs import ASCII, UNICODE, Glyphs
from mk2dbus.monitor.overview import Led
from mk2dbus.monitor.scene import Page, Scene
from mk2dbus.monitor.text import words
from mk2dbus.monitor.widgets import Scale, bar, graph, lamp, rounded_up

SIZES = [(80, 24), (40, 12), (200, 60)]
ODD_SIZES = [(0, 0), (1, 1), (7, 2), (20, 3), (76, 5), (75, 40), (300, 8), (80, 200)]


def block(text: str) -> list[str]:
    return textwrap.dedent(text).strip("\n").split("\n")


def test_one_phase() -> None:
    shown = drawn(scene(SYSTEM, phases(1)), 80, 24)
    assert shown[:12] == block("""
        MultiPlus-II 48/3000/35-50 (cellar)              com.victronenergy.vebus.ttyUSB0
        ┌─ AC input ───────────┐   ┌─ Inverter/charger ─────┐   ┌─ AC output ──────────┐
        │    1234W █████████▉░░├▶──┤ Bulk                   ├▶──┤     420W ███▍░░░░░░░░│
        │ 230V  5.4A  50.0Hz   │   │ mode On                │   │ 230V  1.8A  50.0Hz   │
        │ limit 35.0A          │   │ a full bar is 1.5 kW   │   │                      │
        └──────────────────────┘   └────────────┬───────────┘   └──────────────────────┘
        ┌─ Front panel ────────┐   ┌─ Battery ──▼───────────┐   ┌─ Alarms ─────────────┐
        │ ● Mains   ◉ Inverter │   │     814W ███████▋░░░░░░│   │ none                 │
        │ ● Bulk    ○ Overload │   │ 50.53V  16.1A  21.0°C  │   │                      │
        │ ○ Absorp. ◎ Low batt │   │    81.0% ███████████▍░░│   │                      │
        │ ○ Float   ○ Temp     │   │ charging               │   │                      │
        └──────────────────────┘   └────────────────────────┘   └──────────────────────┘
    """)
    assert shown[-1] == "m mode  l limit  Tab line  ? help  q quit"


def test_three_phases_in_ascii() -> None:
    shown = drawn(scene(SYSTEM, phases(3), devices(3), glyphs=ASCII), 80, 24)
    assert shown[1:19] == block("""
        +- AC input -----------+   +- Inverter/charger -----+   +- AC output ----------+
        |    1234W ##########..+>--+ Bulk                   +>--+     420W ###.........|
        | L1 230V   5.4A   410W|   | mode On                |   | L1 230V   1.8A   137W|
        | L2 231V   5.4A   410W|   | a full bar is 1.5 kW   |   | L2 231V   1.8A   137W|
        | L3 232V   5.4A   410W|   |                        |   | L3 232V   1.8A   137W|
        | 50.0Hz  limit 35.0A  |   |                        |   | 50.0Hz               |
        +----------------------+   +------------+-----------+   +----------------------+
        +- Front panel --------+   +- Battery --v-----------+   +- Alarms -------------+
        | * Mains   + Inverter |   |     814W ########......|   | none                 |
        | * Bulk    . Overload |   | 50.53V  16.1A  21.0C   |   |                      |
        | . Absorp. - Low batt |   |    81.0% ###########...|   |                      |
        | . Float   . Temp     |   | charging               |   |                      |
        +----------------------+   +------------------------+   +----------------------+
         Device  Serial       Input  Inverter  Output
         0       HQ222300000   411W      271W    140W
         1       HQ222300001   411W      271W    140W
         2       HQ222300002   411W      271W    140W
        Battery voltage  50.53V     last 1 min   Battery current  16.1A      last 1 min
    """)


def test_small() -> None:
    assert drawn(scene(SYSTEM, phases(1)), 40, 12) == block("""
        MultiPlus-II 48/3000/35-50 (cellar)
        Bulk   mode On
        AC input     1234W ▶ ███████████████▋░░░
          230V  5.4A  50.0Hz  limit 35.0A
        Battery       814W ▼ ██████████▎░░░░░░░░
          50.53V  16.1A  81.0%  21.0°C
        AC output     420W ▶ █████▍░░░░░░░░░░░░░
          230V  1.8A  50.0Hz
        Alarms  none
        ● Mains ● Bulk ○ Absorp. ○ Float
        ◉ Inverter ○ Overload ◎ Low batt ○ Temp
        m mode l limit Tab line ? help q quit
    """)


def test_large_has_bars_for_the_phases_and_all_graphs() -> None:
    shown = drawn(scene(SYSTEM, phases(3)), 200, 60)
    assert "│ L2 231V   5.4A   410W ███" in shown[4]
    titles = " ".join(shown)
    for title in ("Battery voltage", "Battery current", "Input power", "Output power", "○ Temperature"):
        assert title in titles


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
@pytest.mark.parametrize("size", [*SIZES, *ODD_SIZES], ids=str)
def test_every_size_is_filled_exactly(size: tuple[int, int], glyphs: Glyphs) -> None:
    notes = ("In another terminal:", "x" * 150)
    alarm = {"/Alarms/LowBattery": (2, "Alarm"), "/CustomName": "Schiffsküche – 船"}
    for parts in ((), (SYSTEM, phases(1)), (SYSTEM, phases(3), devices(3), FIGURES, alarm)):
        for page in Page:
            dialog = (
                Said("the device refused: " + "because " * 30) if page is Page.OVERVIEW and parts else None
            )
            shown = drawn(scene(*parts, glyphs=glyphs, notes=notes, page=page, dialog=dialog), *size)
            assert not glyphs.ascii or "".join(shown).isascii()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_nothing_is_made_up(size: tuple[int, int]) -> None:
    unknown = {
        path: (None, "---")
        for path in (*SYSTEM, *phases(3))
        if not path.startswith(("/ProductName", "/Ac/N"))
    }
    shown = "\n".join(drawn(scene(unknown, {"/Connected": (0, "no")}), *size))
    assert "no connection to the inverter" in shown
    assert "not known" in shown
    assert not any(character in shown for character in "█▉▊▋▌▍▎▏●◉◎▶◀▼▲├┤┬┴")
    assert "full bar" not in shown


def test_power_both_ways() -> None:
    discharging = {"/Dc/0/Power": (-300.0, "-300W"), "/Ac/ActiveIn/P": (-120.0, "-120W")}
    view = scene(SYSTEM, phases(1), discharging)
    wide, small = drawn(view, 80, 24), drawn(view, 40, 12)
    assert "├──◀┤ Bulk" in wide[2]
    assert "── Battery ──▲──" in wide[6].replace("┌─", "──")
    assert "discharging" in wide[10]
    assert "AC input     -120W ◀ " in small[2]
    assert "Battery      -300W ▲ " in small[4]


def test_what_flows_runs_along_a_line() -> None:
    view = scene(SYSTEM, phases(1), {"/Dc/0/Power": (-300.0, "-300W"), "/Ac/ActiveIn/P": (-120.0, "-120W")})
    seen = []
    for now in (10.0, 10.5, 11.0, 11.5):
        view.tick(now)
        line = drawn(view, 80, 24)[2]
        seen.append((line[23:28], line[52:57]))
    assert seen == [("├◀──┤", "├──▶┤"), ("├──◀┤", "├▶──┤"), ("├─◀─┤", "├─▶─┤"), ("├◀──┤", "├──▶┤")]
    assert [drawn(view, columns, 24)[2].count("─") for columns in (80, 120, 200)] == [4, 8, 16]


def test_nothing_flows() -> None:
    """A line without an arrow; no line where the input is open."""
    nothing = {"/Ac/Out/P": (0.0, "0W"), "/Dc/0/Power": (42.0, "42W"), "/Dc/0/Current": (0.0, "0.0A")}
    shown = drawn(scene(SYSTEM, phases(1), nothing, {"/Ac/ActiveIn/ActiveInput": (240, "none")}), 80, 24)
    assert "│   │ Bulk                   ├───┤       0W" in shown[2]
    assert "│ not connected " in shown[3]
    # What the inverter needs for itself is not charging.
    assert "─ Battery ──┴─" in shown[6]
    assert "charging" not in "".join(shown)
    small = drawn(scene(SYSTEM, phases(1), nothing), 40, 12)
    assert small[4].startswith("Battery        42W   ")


def test_setpoints_and_charge_limit() -> None:
    ess = {"/Hub4/L1/AcPowerSetpoint": (-500.0, "-500W"), "/Hub4/L2/AcPowerSetpoint": (None, "---")}
    limit = {"/Dc/0/MaxChargeCurrent": (35.0, "35.0A")}
    shown = "\n".join(drawn(scene(SYSTEM, phases(2), ess, limit), 120, 40))
    assert "mode On  setpoint -500W " in shown
    assert "charge limit 35.0A" in shown


@pytest.mark.parametrize(
    ("level", "style"), [(None, "frame"), (0, "frame"), (1, "warn"), (2, "bad")], ids=str
)
def test_the_box_of_alarms_has_their_colour(level: int | None, style: str) -> None:
    line = draw(scene(SYSTEM, phases(1), {"/Alarms/LowBattery": (level, "")}), 80, 24)[6]
    assert line[-1] == (style, "┐")


def test_what_was_said_leaves_the_keys() -> None:
    shown = drawn(scene(SYSTEM, dialog=Said("nothing was written")), 80, 24)
    assert shown[-2:] == ["nothing was written", "m mode  l limit  Tab line  ? help  q quit"]


def test_keys_that_matter_most_stay() -> None:
    shown = {columns: drawn(scene(SYSTEM), columns, 6)[-1] for columns in (42, 40, 30, 20, 10, 3)}
    assert shown == {
        42: "m mode  l limit  Tab line  ? help  q quit",
        40: "m mode l limit Tab line ? help q quit",
        30: "l limit Tab line ? help q quit",
        20: "? help  q quit",
        10: "q quit",
        3: "q q",
    }


def test_volt_amperes_where_watts_are_not_told() -> None:
    old = {"/Ac/Out/P": (None, "---"), "/Ac/Out/S": (460.0, "460VA"), "/Ac/Out/L1/P": (None, "---")}
    assert "460VA ██" in drawn(scene(SYSTEM, phases(1), old), 80, 24)[2]


def test_inputs() -> None:
    two = {"/Ac/NumberOfAcInputs": (2, "2"), "/Ac/ActiveIn/ActiveInput": (1, "AC-in 2")}
    assert "─ AC input 2 ─" in drawn(scene(SYSTEM, two), 80, 24)[1]
    none = {"/Ac/ActiveIn/ActiveInput": (240, "disconnected")}
    for system in (scene(SYSTEM, phases(1), two, none), scene(SYSTEM, phases(3), two, none)):
        shown = drawn(system, 80, 24)
        assert [line[2:23].rstrip() for line in shown[3:5]] == ["not connected", "limit 35.0A"]
        assert "  not connected  limit 35.0A" in drawn(system, 40, 12)


def test_alarms_are_in_words_the_worst_first() -> None:
    alarms = {
        "/Alarms/HighTemperature": (1, "Warning"),
        "/Alarms/L1/Overload": (2, "Alarm"),
        "/Alarms/VeBusError": (2, "Alarm"),
        "/VebusError": (3, "Not all devices are there"),
    }
    shown = drawn(scene(SYSTEM, phases(1), alarms), 120, 24)
    assert [line[80:].strip(" │") for line in shown[7:10]] == [
        "L1 Overload",
        "VE.Bus error: Not all devices ar…",
        "High temperature (warning)",
    ]
    small = drawn(scene(SYSTEM, phases(1), alarms), 40, 9)
    assert small[-4:-1] == [
        "Alarms  L1 Overload",
        "        VE.Bus error: Not all devices a…",
        "        High temperature (warning)",
    ]


@pytest.mark.parametrize(
    ("state", "lit", "expected"),
    [
        (None, True, [("dim", "○ Mains")]),
        (0, True, [("dim", "○"), ("", " Mains")]),
        (1, False, [("good", "●"), ("", " Mains")]),
        (2, True, [("good", "◉"), ("", " Mains")]),
        (2, False, [("dim", "◎"), ("", " Mains")]),
        (3, True, [("dim", "◎"), ("", " Mains")]),
        (3, False, [("good", "◉"), ("", " Mains")]),
    ],
)
def test_leds(state: int | None, lit: bool, expected: list[tuple[str, str]]) -> None:
    assert list(lamp(Led("Mains", state), "Mains", lit, UNICODE)) == expected


def test_what_blinks_changes_with_time() -> None:
    view = scene(SYSTEM)
    seen = set()
    for now in (10.0, 10.5):
        view.tick(now)
        seen.add(drawn(view, 80, 24)[7][:24])
    assert seen == {"│ ● Mains   ◉ Inverter │", "│ ● Mains   ◎ Inverter │"}


def test_bars() -> None:
    def shown(value: float | None, glyphs: Glyphs = UNICODE) -> str:
        return "".join(part for _, part in bar(value, 100, 8, "flow", glyphs))

    assert [shown(value) for value in (0, 1.6, 50, -50, 100, 1000)] == [
        "░░░░░░░░",
        "▏░░░░░░░",
        "████░░░░",
        "████░░░░",
        "████████",
        "████████",
    ]
    assert shown(None) == " " * 8
    assert shown(55, ASCII) == "####...."


SIGNED = Scale("W", 0, least=8.0, signed=True)
VOLTS = Scale("V", 1, least=1.0, signed=False)


@pytest.mark.parametrize(
    ("values", "rows", "scale", "glyphs", "expected"),
    [
        ([0, 2, None, 4, 8], 2, SIGNED, UNICODE, ["   8W    █", "   0W▁▄ ██"]),
        ([8, 4, -8, -2], 2, SIGNED, UNICODE, ["   8W█▄  ", "  -8W  █▔"]),
        ([8, 4, -8, -16], 3, SIGNED, ASCII, ["   8W|:  ", "       ||", " -16W   |"]),
        ([-8, -8], 2, SIGNED, UNICODE, ["   0W██", "  -8W██"]),
        ([8, -0.1], 1, SIGNED, UNICODE, ["   8W█▁"]),
        ([50.0, 50.5, 51.0], 2, VOLTS, UNICODE, ["51.0V  █", "50.0V▁██"]),
        ([50.5, 50.5], 2, VOLTS, ASCII, ["51.5V  ", "50.5V.."]),
        ([None, None], 2, VOLTS, UNICODE, ["       ", "       "]),
    ],
)
def test_graphs(
    values: list[float | None], rows: int, scale: Scale, glyphs: Glyphs, expected: list[str]
) -> None:
    drawn = graph(values, rows, scale, "flow", glyphs)
    assert [f"{label:>5}{''.join(part for _, part in line)}" for label, line in drawn] == expected


@pytest.mark.parametrize("value", [0.0001, 1.0, 99.0, 100.0, 101.0, 12345.0])
def test_scales_are_a_little_larger_than_what_they_show(value: float) -> None:
    assert value * (1 - 1e-6) <= rounded_up(value) <= 1.5 * value + 1e-9
    assert rounded_up(0) == 0


def test_graphs_over_time() -> None:
    view = scene(SYSTEM, phases(1))
    for second in range(120):
        amperes = 20 * math.sin(second / 19)
        view.items.update(told({"/Dc/0/Current": (amperes, f"{amperes:.1f}A")}))
        view.tick(1000.0 + second)
    shown = drawn(view, 80, 24)
    assert shown[12] == "Battery voltage  50.53V     last 5 min   Battery current  -0.4A      last 5 min"
    assert [line[41:].split()[0] for line in (shown[13], shown[14], shown[16])] == ["20A", "0A", "-20A"]
    assert "█" in shown[13][48:]
    assert "█" in shown[15][48:]


def test_notes() -> None:
    notes = ("In another terminal:", f"  busctl {'x' * 100}")
    view = scene(SYSTEM, phases(1), notes=notes)
    shown = drawn(view, 80, 24)
    assert shown[12:15] == [notes[0], notes[1][:80], notes[1][80:]]
    assert "n notes" in shown[-1]
    view.show_notes = False
    assert notes[0] not in drawn(view, 80, 24)
    view.page = Page.HELP
    assert drawn(view, 80, 24)[10:13] == [notes[0], notes[1][:80], notes[1][80:]]
    view = scene(SYSTEM, phases(1), notes=[f"note {number}" for number in range(40)])
    assert drawn(view, 80, 24)[-3:-1] == ["note 9", "… all of it with ?"]


def test_the_line() -> None:
    view = scene(SYSTEM, FIGURES, page=Page.LINE)
    for second in range(30):
        view.tick(100.0 + second)
    shown = drawn(view, 60, 12)
    assert shown[1:7] == [
        "MK3 at /dev/ttyUSB0, version 1170216",
        "",
        "  Share received   50.0%  █████████████████░░░░░░░░░░░░░░░░░",
        "  Round trip max  0.071s                  ▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇",
        "  Retries            ---",
        "  Baudrate          2400                  ██████████████████",
    ]
    reason = "an adapter that does not know it, found at the last start"
    view.items.update(told({"/Interfaces/Mk2/Status/Reason": reason}))
    assert drawn(view, 60, 12)[6:8] == [shown[6], f"  Reason          {reason}"[:60]]
    assert drawn(view, 60, 6)[4] == "  … 4 more in a higher window"
    assert "tells no figures" in drawn(scene(SYSTEM, page=Page.LINE), 60, 12)[2]


def test_a_service_that_is_gone() -> None:
    view = scene(SYSTEM, phases(1))
    view.items.there = False
    view.items.clear()
    shown = drawn(view, 80, 24)
    assert shown[0].startswith("the service is gone; waiting for it")
    assert "50.53V" not in "".join(shown)


def test_foreign_texts_cannot_do_harm() -> None:
    evil = {"/CustomName": "a\x1b[2Jb\nc\x07", "/State": (99, "\x9b31m")}
    shown = "".join(drawn(scene(SYSTEM, phases(1), evil), 80, 24))
    assert "(a?[2Jb?c?)" in shown
    assert shown.isprintable()


def test_only_styles_that_exist() -> None:
    from mk2dbus.monitor.terminal import STYLES

    used = set()
    alarm = {"/Alarms/LowBattery": (2, "Alarm"), "/Alarms/Ripple": (1, "Warning")}
    for view in (
        Scene("x", UNICODE),
        scene(SYSTEM, phases(3), devices(2), FIGURES, notes=["note"]),
        scene(SYSTEM, alarm, {"/Dc/0/Power": (-9.0, "-9W")}),
    ):
        view.tick(1.0)
        for page in Page:
            view.page = page
            used |= {style for size in SIZES for line in draw(view, *size) for style, _ in line}
    assert used - {""} <= set(STYLES)


def test_words() -> None:
    assert [words(name) for name in ("HighTemperature", "Mains", "RoundTripMax", "BytesSent")] == [
        "High temperature",
        "Mains",
        "Round trip max",
        "Bytes sent",
    ]


def test_only_one_module_knows_the_terminal_library() -> None:
    """And what is drawn depends on no clock and no loop."""
    folder = Path(draw.__code__.co_filename).parent
    outside = {
        "terminal.py": {"asyncio", "prompt_toolkit"},
        "screen.py": {"asyncio"},
        "controls.py": {"asyncio"},
    }
    for file in folder.glob("*.py"):
        nodes = list(ast.walk(ast.parse(file.read_text())))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
        found = {name.partition(".")[0] for name in names} & {"asyncio", "prompt_toolkit", "time"}
        assert found == outside.get(file.name, set()), file.name
