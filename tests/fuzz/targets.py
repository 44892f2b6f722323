"""What is fuzzed: each target takes bytes and fails only by raising what it must not.

:mod:`.long` feeds them millions of inputs; what once failed is kept in ``corpus/`` and fed to them by
``test_corpus.py``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from mk2dbus.bus.errors import Malformed
from mk2dbus.bus.library import decode
from mk2dbus.bus.values import plain, unwrapped
from mk2dbus.bus.wire import BIG_ENDIAN, LITTLE_ENDIAN, MAX_MESSAGE, Argument, Cutter, Message, Reader
from mk2dbus.cli.archive import load
from mk2dbus.decode.decoder import Decoder, Direction
from mk2dbus.decode.errors import NotARecording
from mk2dbus.decode.recording import read
from mk2dbus.decode.redact import Redactor
from mk2dbus.mk2 import adapter, winmon
from mk2dbus.mk2.errors import Rejected
from mk2dbus.mk2.framing import MAX_LENGTH, Frame, FrameCutter
from mk2dbus.mk2.info import AcInfo, AcInput, Configuration, DcInfo
from mk2dbus.mk2.request import AdapterRequest, Winmon
from mk2dbus.mk2.winmon import DeviceState, RamInfo, SettingInfo
from mk2dbus.state import StateFile
from mk2dbus.vebus import plausible, readings
from mk2dbus.vebus.energybook import EnergyFile
from mk2dbus.vebus.infocache import InfoCache
from mk2dbus.vebus.readings import InfoScales
from mk2dbus.vebus.scaling import SettingScale, ram_scale
from mk2dbus.vebus.schedule import Implausible

ADAPTER_REQUESTS: tuple[AdapterRequest[object], ...] = (
    adapter.GetVersion(),
    adapter.Reset(),
    adapter.SetAddress(3),
    adapter.GetAddress(),
    adapter.GetDetail(),
    adapter.Lines(None),
    adapter.GetLeds(),
    adapter.ConfigureAdapter(),
    adapter.SendPanel(adapter.SwitchPosition.ON, 100),
    adapter.GetDc(),
    adapter.GetAc(1),
    adapter.GetAc(3),
    adapter.GetAcInput(),
    adapter.GetConfiguration(0),
    adapter.FindAccessory(adapter.AccessoryKind.BMS),
)
WINMON_REQUESTS: tuple[Winmon[object], ...] = (
    winmon.GetVersion(),
    winmon.GetVersionHigh(),
    winmon.GetState(),
    winmon.GetEnergyCounters(),
    winmon.ReadRam((4,)),
    winmon.ReadRam((4, 5, 6)),
    winmon.ReadSetting(2),
    winmon.GetSettingInfo(2),
    winmon.GetRamInfo(4),
    winmon.WriteById(2, 5650, setting=True),
    winmon.WriteArmed(2, 5650, setting=True),
    winmon.ReadSnapshot(),
    winmon.GetSerial(),
    winmon.GetAccessLevels(0),
)
SCALES = InfoScales({id: ram_scale(RamInfo(-100, 0)) for id in range(16)})


def cut(data: bytes) -> list[Frame]:
    """All frames in some bytes; the buffer stays bounded, no byte is lost track of."""
    cutter = FrameCutter()
    frames = []
    for start in range(0, len(data), 7):
        frames += cutter.feed(data[start : start + 7])
        assert cutter.begun_bytes <= MAX_LENGTH + 1
    while cutter.pending:
        frames += cutter.give_up()
    assert cutter.position == len(data)
    assert sum(len(bytes(frame)) for frame in frames) + cutter.dropped_bytes == len(data)
    return frames


def line(data: bytes) -> None:
    """Received bytes, up to the values that would be shown."""
    for frame in cut(data):
        adapter.read_version(frame)
        adapter.read_leds(frame)
        adapter.read_panel(frame)
        for request in ADAPTER_REQUESTS:
            _show(request.read(frame))
        for command in WINMON_REQUESTS:
            payload = frame.data[1:]
            if command.is_reply(payload):
                try:
                    _show(command.read((payload,)))
                    _show(command.read((payload, payload)))
                except Rejected:
                    continue


def _show(answer: object) -> None:
    try:
        match answer:
            case DcInfo():
                plausible.check_values(readings.dc_values(answer, SCALES))
            case AcInfo():
                plausible.check_ac(answer)
                plausible.check_values(readings.ac_values(answer, SCALES, 160))
            case AcInput():
                plausible.check_input(answer)
                readings.ac_input_values(answer, False)
                readings.active_input_values(answer, True)
                assert adapter.SwitchPosition(answer.panel_mode)
            case Configuration():
                plausible.check_configuration(answer)
            case DeviceState():
                plausible.check_state(answer)
                readings.state_values(answer, 0)
            case adapter.LedStatus():
                readings.status_values(answer)
            case SettingInfo():
                scale = SettingScale(answer)
                for word in (0, 1, 0x7FFF, 0x8000, 0xFFFF):
                    scale.value(word)
                assert scale.limits
            case RamInfo():
                ram = ram_scale(answer)
                if ram is not None:
                    for word in (0, 0x7FFF, 0x8000, 0xFFFF):
                        ram.value(word)
    except Implausible:
        return


def decoder(data: bytes) -> None:
    """The same bytes in a recording that somebody sent in."""
    told = Decoder()
    for start in range(0, len(data), 11):
        way = Direction.SENT if start % 2 else Direction.RECEIVED
        told.feed(way, data[start : start + 11], start / 100)
    told.finish()
    redactor = Redactor(True)
    for frame in cut(data):
        redactor.frame(True, frame)
        redactor.frame(False, frame)


def bus(data: bytes) -> None:
    """A stream of D-Bus messages, and their arguments."""
    cutter = Cutter()
    try:
        for start in range(0, len(data), 61):
            cutter.feed(data[start : start + 61])
            for message in cutter.messages():
                if isinstance(message, Message):
                    _arguments(message)
            assert len(cutter._buffer) <= MAX_MESSAGE
    except Malformed:
        return


def _arguments(message: Message) -> None:
    try:
        for argument in message.arguments():
            if isinstance(argument, Argument):
                plain(unwrapped(argument))
    except Malformed:
        pass
    if len(message.signature) < 16:
        try:
            decode(message)
        except Malformed:
            return


def reader(data: bytes) -> None:
    """Simple values at any place."""
    for endian in (LITTLE_ENDIAN, BIG_ENDIAN):
        for token in "ybnqiuxtdsoghv":
            one = Reader(data, endian)
            try:
                while True:
                    before = one.position
                    _ = one.variant() if token == "v" else one.simple(token)
                    assert one.position > before
            except Malformed:
                continue


_FOLDER = Path(tempfile.gettempdir())


def files(data: bytes) -> None:
    """Each file that is read at the start, with these bytes in it; and those that people hand in."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("x.json", "x.energy.json", "infos-2729560-new.json", "x.toml"):
            (folder / file).write_bytes(data)
        StateFile(folder, "x")
        EnergyFile(folder, "x").load()
        InfoCache(folder).load(2729560, True)
        for read_it in (_load, _read):
            read_it(folder / "x.toml")


def _load(path: Path) -> None:
    try:
        load(path)
    except Exception as error:
        if type(error).__module__.startswith("mk2dbus"):
            return
        raise


def _read(path: Path) -> None:
    try:
        for _ in read(path):
            pass
    except NotARecording:
        return


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "line": line,
    "decoder": decoder,
    "bus": bus,
    "reader": reader,
    "files": files,
}
