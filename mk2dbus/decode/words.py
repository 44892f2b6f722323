"""Requests and answers as a person reads them. Pure functions; what is declared has its text here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from mk2dbus.decode.book import Address, Book, hex_word, ram_name, ram_unit, setting_name
from mk2dbus.mk2 import adapter, info, winmon
from mk2dbus.mk2.framing import hex_bytes
from mk2dbus.mk2.request import Request
from mk2dbus.vebus import readings
from mk2dbus.vebus.paths import system_leaves
from mk2dbus.vebus.scaling import SettingScale, ram_scale
from mk2dbus.vebus.tables import SettingKind, product_name, settings

_REPEATS = 0x01
"""Flag of an ``S``: the adapter repeats the panel frame by itself (§3.2); on purpose not in StateFlag."""

_FORCED = {1: "equalise", 2: "absorption", 3: "float"}

_PLAIN: Mapping[type[Request[Any]], str] = {
    adapter.GetVersion: "version of the adapter?",
    adapter.Reset: "reset the adapter",
    adapter.GetAddress: "address?",
    adapter.GetDetail: "state of the adapter?",
    adapter.GetLeds: "LEDs?",
    adapter.GetDc: "DC info?",
    adapter.GetAcInput: "AC input configuration?",
    adapter.HighSpeed: "115200 baud from now on",
    adapter.WakeUp: "wake up",
    adapter.GoToSleep: "go to sleep",
    winmon.GetVersion: "version?",
    winmon.GetVersionHigh: "version, high half?",
    winmon.GetEnergyCounters: "energy counters?",
    winmon.ReadSnapshot: "values of the snapshot?",
    winmon.SendPassword: "password for an access level",
    winmon.GetSerial: "serial number?",
}
"""Requests that always mean the same."""


def request_text(request: Request[Any], book: Book, address: Address) -> str:
    """What a request asks or commands; never a password."""
    match request:
        case adapter.SetAddress():
            return f"talk to device {request.address}"
        case adapter.Lines():
            return "lines?" if request.lines is None else f"set lines: {lines_text(request.lines)}"
        case adapter.GetAc():
            return f"AC info of L{request.phase}?"
        case adapter.TakeSnapshot():
            return f"take a snapshot of RAM {_ram_names(request.ids)}"
        case adapter.GetConfiguration():
            return f"configuration of device {request.address}?"
        case adapter.ResetDevices():
            number = request.unique_number
            return f"reset device with number 0x{number:08X}" if number else "reset all devices"
        case adapter.FindAccessory():
            return f"is a {request.kind.name} there?"
        case adapter.ConfigureAdapter() | adapter.SendPanel():
            return panel_text(request.frame().data[1:])
        case winmon.GetState():
            return f"force {_FORCED.get(request.force, request.force)}" if request.force else "state?"
        case winmon.ReadRam():
            return f"RAM {_ram_names(request.ids)}?"
        case winmon.ReadSetting():
            return f"setting {setting_name(request.id)}?"
        case winmon.GetSettingInfo():
            return f"info of setting {setting_name(request.id)}?"
        case winmon.GetRamInfo():
            return f"info of RAM {ram_name(request.id)}?"
        case winmon.GetAccessLevels():
            return f"access levels of setting {setting_name(request.id)}?"
        case winmon.WriteById():
            where = " (RAM only)" if request.setting and request.ram_only else ""
            return f"write {_target(request, book, address)}{where}"
        case winmon.WriteArmed():
            return f"write {_target(request, book, address)}"
        case _:
            return _PLAIN.get(type(request), type(request).__name__)


def _ram_names(ids: tuple[int, ...]) -> str:
    return ", ".join(map(ram_name, ids))


def _target(request: winmon.WriteById | winmon.WriteArmed, book: Book, address: Address) -> str:
    if request.setting:
        return f"setting {book.setting_text(address, request.id, request.value)}"
    return f"RAM {book.ram_text(address, request.id, request.value)}"


def arm_text(setting: bool, id: int) -> str:
    """The first frame of a write to an old device."""
    return f"arm a write of {f'setting {setting_name(id)}' if setting else f'RAM {ram_name(id)}'}"


def lines_text(lines: int) -> str:
    """The two lines of an MK3 (§3)."""
    names = [name for bit, name in ((1, "panel detect"), (2, "standby")) if lines & bit]
    return f"0x{lines:02X}, {' and '.join(names) or 'none'} pulled"


def panel_text(data: bytes) -> str:
    """An ``S`` (§3.2): what it commands, or that it commands nothing."""
    if len(data) < 5:
        return f"panel frame of {len(data)} bytes, too short"
    mode, limit = data[0], int.from_bytes(data[1:3], "little")
    flags, extended = data[4], data[6] if len(data) > 6 else None
    names = ["REPEATS"] if flags & _REPEATS else []
    names += [flag.name for flag in adapter.StateFlag if flags & flag and flag.name]
    known = _REPEATS | sum(adapter.StateFlag)
    names += [f"0x{flags & ~known:02X}"] if flags & ~known else []
    text = f"flags {'|'.join(names) or 'none'}"
    if extended is not None:
        text += f", ext0 {_flag_names(extended)}"
    if flags & adapter.StateFlag.NOT_TO_BUS:
        return f"configure the adapter, nothing is sent to the bus; {text}"
    if not flags & adapter.StateFlag.LIMIT_IN_AMPS:
        amount = f"limit {hex_word(limit)}"
    else:
        amount = "limit not given" if limit == 0x8000 else f"limit {limit / 10:.1f} A"
    return f"command mode {_mode(mode)}, {amount}; {text}"


def _flag_names(bits: int) -> str:
    names = [flag.name for flag in adapter.ExtendedFlag if bits & flag and flag.name]
    rest = bits & ~sum(adapter.ExtendedFlag)
    names += [f"0x{rest:02X}"] if rest else []
    return "|".join(names) or "none"


@cache
def _texts(path: str) -> Mapping[int, str]:
    return next(leaf.texts for leaf in system_leaves() if leaf.path == path)


def _named(path: str, value: int) -> str:
    return _texts(path).get(value, f"unknown {value}").casefold()


def _mode(mode: int) -> str:
    return _named("/Mode", mode)


def answer_text(request: Request[Any], answer: object, book: Book, address: Address) -> str:
    """What the answer to a request says."""
    match request, answer:
        case _, adapter.AdapterVersion():
            return version_text(answer)
        case _, adapter.LedStatus():
            return leds_text(answer)
        case _, info.AcInfo() | info.DcInfo() | info.AcInput() | info.Configuration() | info.Accessory():
            return info_text(answer, book)
        case ((adapter.SetAddress() | adapter.GetAddress()), int()):
            return f"talking to device {answer}"
        case adapter.GetDetail(), bytes():
            return f"state of the adapter: {hex_bytes(answer)}"
        case adapter.Lines(), int():
            return f"lines {lines_text(answer)}"
        case ((adapter.ConfigureAdapter() | adapter.SendPanel()), _):
            return "taken"
        case _, winmon.Version():
            return device_version_text(answer)
        case winmon.GetVersionHigh(), int():
            return f"version, high half: {hex_word(answer)}"
        case _, winmon.DeviceState():
            state = _named("/VebusMainState", answer.main)
            sub = _named("/VebusChargeState", answer.sub) if readings.is_charging(answer) else str(answer.sub)
            return f"state {state}, sub state {sub}"
        case winmon.GetEnergyCounters(), tuple():
            return f"energy counters {' '.join(map(str, answer))}"
        case winmon.ReadRam(), tuple():
            return _rams(book, address, request.ids, answer)
        case winmon.ReadSetting(), int():
            return f"setting {book.setting_text(address, request.id, answer)}"
        case winmon.GetSettingInfo(), winmon.SettingInfo():
            return f"setting {setting_name(request.id)}: {setting_info_text(answer, request.id)}"
        case winmon.GetRamInfo(), winmon.RamInfo():
            return f"RAM {ram_name(request.id)}: {ram_info_text(answer, request.id)}"
        case ((winmon.WriteById() | winmon.WriteArmed()), winmon.Written()):
            what = f"setting {setting_name(request.id)}" if request.setting else f"RAM {ram_name(request.id)}"
            return f"{what} written{', needs a reset' if answer.reset_needed else ''}"
        case winmon.SendPassword(), _:
            return "password accepted"
        case winmon.GetSerial(), str():
            return f"serial number {answer}"
        case winmon.GetAccessLevels(), winmon.AccessLevels():
            return f"setting {setting_name(request.id)}: {access_text(answer)}"
        case _:
            return str(answer)


def _rams(book: Book, address: Address, ids: tuple[int, ...], words: tuple[int, ...]) -> str:
    return "RAM " + "; ".join(book.ram_text(address, id, word) for id, word in zip(ids, words, strict=False))


def snapshot_text(ids: tuple[int, ...], words: tuple[int, ...], book: Book, address: Address) -> str:
    """The answer to a 38; ``ids`` are those of the ``F 06`` before, as far as seen."""
    if not words:
        return "no snapshot"
    if len(ids) == len(words):
        return f"snapshot: {_rams(book, address, ids, words)}"
    return f"snapshot of variables asked for before: {words_text(words)}"


def words_text(words: tuple[int, ...]) -> str:
    return " ".join(map(hex_word, words))


def version_text(version: adapter.AdapterVersion) -> str:
    """A ``V``."""
    mode = chr(version.mode) if version.mode in b"BW" else str(version.mode)
    product, firmware = divmod(version.version, 1000)
    return f"adapter {version.version} (product {product}, firmware {firmware}), mode {mode}"


def device_version_text(version: winmon.Version) -> str:
    """Version of a device, or half of it."""
    if not version.complete:
        return f"version, low half: {hex_word(version.value)}"
    product, firmware = divmod(version.value, 1000)
    name = product_name(int(str(product), 16)) if product else "no product"
    return f"version {version.value} ({name}, firmware {firmware:03})"


def leds_text(status: adapter.LedStatus) -> str:
    """An ``L``, or LED status appended to another frame."""
    if not status.known:
        return "LEDs not known (no device)"
    words = ("off", "on", "blinking", "blinking in antiphase")
    values = readings.status_values(status)
    leds = [
        f"{path.rpartition('/')[2]} {words[value]}"
        for path, value in values.items()
        if path.startswith("/Leds/") and isinstance(value, int) and value
    ]
    text = f"LEDs {', '.join(leds) or 'all off'}"
    if status.alarms is None or status.error is None:
        return text
    alarms = [
        f"{path.rpartition('/')[2]} {'pre-alarm' if value == 1 else 'alarm'}"
        for path, value in values.items()
        if path.startswith("/Alarms/") and path != "/Alarms/VeBusError" and value
    ]
    text += f"; {', '.join(alarms) or 'no alarm'}; error {readings.vebus_error(status)}"
    return f"{text}; the adapter is blocked" if status.error & 0x80 else text


def info_text(
    found: info.AcInfo | info.DcInfo | info.AcInput | info.Configuration | info.Accessory, book: Book
) -> str:
    """An info frame (§3.3, §3.4)."""
    scales = book.info_scales()
    match found:
        case info.DcInfo():
            values = readings.dc_values(found, scales)
            volts = _figure(values["/Dc/0/Voltage"], found.voltage, "V")
            amps = _figure(values["/Dc/0/Current"], found.charging_current - found.inverting_current, "A")
            hertz = _figure(
                scales.frequency(readings.INVERTER_PERIOD, found.inverter_period), found.inverter_period, "Hz"
            )
            return f"DC info: {volts} {amps}, output {hertz}"
        case info.AcInfo():
            return _ac_text(found, book)
        case info.AcInput():
            extra = [
                text
                for told, text in (
                    (found.overrulable, "panel may set it"),
                    (found.dmc_present, "a DMC is there"),
                    (found.generator_selected, "generator selected"),
                )
                if told
            ]
            return (
                f"AC input {found.active_input + 1} of {found.input_count}: mode {_mode(found.mode)}, limit "
                f"{found.actual / 10:.1f} A ({found.minimum / 10:.1f} to {found.maximum / 10:.1f} A)"
                + "".join(f", {text}" for text in extra)
            )
        case info.Configuration():
            devices = [str(bit) for bit in range(32) if found.present >> bit & 1]
            return (
                f"configuration of device {found.address}: number 0x{found.unique_number:08X}, "
                f"present: {', '.join(devices) or 'none'}"
            )
        case info.Accessory():
            return f"a {adapter.AccessoryKind(found.phase).name} is there, version {found.version}"


def _ac_text(found: info.AcInfo, book: Book) -> str:
    scales = book.info_scales()
    values = readings.ac_values(found, scales, None)
    mains, output = f"/Ac/ActiveIn/L{found.phase}/", f"/Ac/Out/L{found.phase}/"
    phases = f" of {found.phase_count}" if found.phase_count is not None else ""
    return (
        f"AC info L{found.phase}{phases}: state {_named('/VebusMainState', found.state)}; "
        f"input {_figure(values[mains + 'V'], found.mains_voltage, 'V')} "
        f"{_figure(values[mains + 'I'], found.mains_current, 'A')} "
        f"{_figure(values[mains + 'F'], found.mains_period, 'Hz')}; "
        f"output {_figure(values[output + 'V'], found.inverter_voltage, 'V')} "
        f"{_figure(values[output + 'I'], found.inverter_current, 'A')}; "
        f"factors {found.backfeed_factor} {found.inverter_factor}"
    )


def _figure(value: object, raw: int, unit: str) -> str:
    """A value with its unit; the raw number where no scale is known."""
    return f"{value:.2f} {unit}" if isinstance(value, (int, float)) else f"raw {raw} ({unit})"


def setting_info_text(found: winmon.SettingInfo, id: int | None = None) -> str:
    """Scale and limits; limits with the unit of the setting where that is known."""
    text = f"scale {found.scale}, offset {found.offset}"
    declared = settings().get(id) if id is not None else None
    if declared is None:
        text += f", default {found.default}, {found.minimum} to {found.maximum}"
    elif declared.kind is SettingKind.FLAGS:
        text += f", default {hex_word(found.default)}, may be set {hex_word(found.maximum)}"
    else:
        scale = SettingScale(found)
        unit = f" {declared.unit}" if declared.unit else ""
        default, low, high = (
            f"{value:.{scale.decimals}f}" if value is not None else "none"
            for value in (scale.limits.default, scale.limits.minimum, scale.limits.maximum)
        )
        text += f", default {default}, {low} to {high}{unit}"
    for bit, meaning in ((0x01, "grid-code protected"), (0x80, "needs a reset")):
        text += f", {meaning}" if found.access & bit else ""
    return text


def ram_info_text(found: winmon.RamInfo, id: int | None = None) -> str:
    """The words of an info and what they mean."""
    text = f"scale {hex_word(found.scale & 0xFFFF)}, offset {hex_word(found.offset & 0xFFFF)}"
    scale = ram_scale(found)
    if scale is None:
        return f"{text}, makes no sense"
    if scale.is_bit:
        return f"{text}, bit {found.scale - 1}"
    unit = f" {ram_unit(id)}".rstrip() if id is not None else ""
    step = scale.scaled(1) - scale.scaled(0)
    return f"{text}, steps of {step:.4g}{unit}{', signed' if found.scale < 0 else ''}"


def access_text(found: winmon.AccessLevels) -> str:
    protected = [f"flag {bit} level 0x{level:02X}" for bit, level in enumerate(found.levels) if level]
    return f"access levels: {', '.join(protected) or 'none'}"
