"""Files of recordings: written and read again, cut off, of other kinds; and what must not get into them."""

from __future__ import annotations

import asyncio
import io
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clock import simulated
from support.ports import Ear, QuietPort, ScriptedPort

from mk2dbus.decode.decoder import Decoder, Direction
from mk2dbus.decode.errors import CannotRecord, NotARecording
from mk2dbus.decode.recording import Note, Recorder, Title, Traffic, read
from mk2dbus.decode.redact import Redactor
from mk2dbus.decode.stream import Stream
from mk2dbus.decode.tap import TappedPort, WireLog, tapped
from mk2dbus.mk2.adapter import GetVersion, ResetDevices
from mk2dbus.mk2.framing import Frame, FrameCutter, FrameType, adapter_frame
from mk2dbus.mk2.info import Configuration, read_info
from mk2dbus.mk2.winmon import SendPassword

SENT, RECEIVED = Direction.SENT, Direction.RECEIVED
VERSION = bytes(adapter_frame("V"))
ANSWER = bytes.fromhex("07 FF 56 24 DB 11 00 42 52")
PASSWORD = b"SeCrEt12"
SERIAL = b"HQ2132ABCDE"


def traffic(path: Path) -> list[tuple[str, str]]:
    return [(item.direction.value, item.data.hex(" ")) for item in read(path) if isinstance(item, Traffic)]


def record(path: Path, *chunks: tuple[Direction, bytes], anonymous: bool = True) -> None:
    recorder = Recorder(path, ["a port"], anonymous=anonymous)
    for number, (direction, data) in enumerate(chunks):
        recorder.feed(direction, data, 100 + 0.01 * number)
    recorder.close()
    recorder.close()


# --- writing -------------------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.txt"
    record(path, (SENT, VERSION), (RECEIVED, b"\x00" + ANSWER[:4]), (RECEIVED, ANSWER[4:] + b"\x07"))
    lines = path.read_text().splitlines()
    assert lines[0] == "# mk2dbus recording 1"
    assert lines[1].startswith("# mk2dbus ")
    assert lines[2:] == [
        "# a port",
        "    0.000 → 02 FF 56 A9",
        "    0.010 ← 00",
        "    0.020 ← 07 FF 56 24 DB 11 00 42 52",
        "          ← 07",
    ]
    assert [item.time for item in read(path) if isinstance(item, Traffic)] == [0.0, 0.01, 0.02, None]
    assert traffic(path)[-1] == ("←", "07")


def test_a_file_is_limited_and_the_one_before_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "r.txt"
    path.write_text("of an earlier run")
    recorder = Recorder(path, [], limit=2000)
    assert path.with_name("r.txt.1").read_text() == "of an earlier run"
    for number in range(200):
        recorder.feed(SENT, VERSION, number)
    recorder.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["r.txt", "r.txt.1"]
    assert all(file.stat().st_size < 2100 for file in tmp_path.iterdir())
    assert traffic(path)
    times = [
        item.time
        for part in (path.with_name("r.txt.1"), path)
        for item in read(part)
        if isinstance(item, Traffic)
    ]
    assert times[-1] == 199.0
    assert times == [float(number) for number in range(200 - len(times), 200)]


def test_what_cannot_be_recorded_to(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "r.txt", Path("/dev/null")):
        with pytest.raises(CannotRecord, match=str(path)):
            Recorder(path, [])


def test_a_full_disk_ends_the_recording_alone(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r.txt", [])
    full = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115  # the recorder closes it
    assert recorder._file is not None
    recorder._file.close()
    recorder._file = full
    for number in range(3):
        recorder.feed(SENT, VERSION, number)
    recorder.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"the recording {tmp_path / 'r.txt'} ends: No space left on device"
    ]


# --- reading -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "> 02 FF 56 A9\n< 07 FF 56 24 DB 11 00 42 52\n",
        "\ufeff→ 02 ff 56 a9\r\n←   07FF5624DB11004252  # comment\r\n",
        "# x\n\n  12.5 > 02 FF 56 A9    V version?\n  12.571 < 07 FF 56 24 DB 11 00 42 52",
        "2025-11-22 08:00:00,123 DEBUG mk2dbus.wire: → 02 FF 56 A9              V version?\n"
        "2025-11-22 08:00:00,124 INFO mk2dbus.vebus.session: connected: → 99\n"
        "Traceback (most recent call last):\n"
        "2025-11-22 08:00:00,194 DEBUG mk2dbus.wire: ← 07 FF 56 24 DB 11 00 42 52  V adapter\n",
        "-- Journal begins at Sat 2025-11-22. --\n"
        "Nov 22 08:00:00 boat mk2dbus[123]: DEBUG mk2dbus.wire: → 02 FF 56 A9\n"
        "<7>DEBUG mk2dbus.wire: ← 07 FF 56 24 DB 11 00 42 52\n",
    ],
    ids=["documents", "windows", "times", "log", "journal"],
)
def test_forms_that_are_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.txt"
    path.write_text(text, encoding="utf-8", newline="")
    assert traffic(path) == [("→", "02 ff 56 a9"), ("←", "07 ff 56 24 db 11 00 42 52")]


def test_times_and_titles(tmp_path: Path) -> None:
    path = tmp_path / "r.txt"
    path.write_text("[one]\n 1.5 → 02 FF 56 A9\n# note\n[two]\n> 02 FF 56 A9\n", encoding="utf-8")
    assert list(read(path)) == [
        Title("[one]"),
        Traffic(SENT, VERSION, 1.5),
        Note("# note"),
        Title("[two]"),
        Traffic(SENT, VERSION),
    ]
    path.write_text(
        "2025-11-22 08:00:00,123 DEBUG mk2dbus.wire: → 02 FF 56 A9\n"
        "2025-11-22 08:00:01,500 DEBUG mk2dbus.wire: → 02 FF 56 A9\n",
        encoding="utf-8",
    )
    first, second = (item.time for item in read(path) if isinstance(item, Traffic))
    assert first is not None
    assert second is not None
    assert second - first == pytest.approx(1.377)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no line of it has traffic"),
        (b"# only\n\n# comments\n", "no line of it has traffic"),
        (b"> 02 FF 56 A9\nsomething else\n> 02 FF 56 A9\n", "line 2: 'something else' is no traffic"),
        (b"> 02 FF 56 A\n", "line 1: '> 02 FF 56 A' is no traffic"),
        (b"> zz\n", "line 1"),
        (b"\x7fELF\x02\x01\x00\n", "line 1"),
        (bytes(range(256)) * 100, "line 1"),
        (b"A" * 100_000, "line 1: 'AAAA"),
        (b"# mk2dbus recording 2\n> 02 FF 56 A9\n", "has format 2"),
        (b"> 02 FF 56 A9\ncut", "cut"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "r.txt"
    path.write_bytes(content)
    if message == "cut":
        assert list(read(path))[1:] == [Note("# the last line is cut off: cut")]
        return
    with pytest.raises(NotARecording, match=message) as caught:
        list(read(path))
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 200


def test_a_recording_can_be_cut_anywhere(tmp_path: Path) -> None:
    """What is before the cut is read, whole lines as they are, and decoding it never fails."""
    path = tmp_path / "r.txt"
    record(path, *[(SENT, VERSION), (RECEIVED, ANSWER)] * 3)
    whole = path.read_bytes()
    complete = traffic(path)
    first_line_end = whole.index(b"A9\n") + 3
    for length in range(first_line_end, len(whole)):
        path.write_bytes(whole[:length])
        decoder = Decoder()
        found = []
        for item in read(path):
            if isinstance(item, Traffic):
                found.append((item.direction.value, item.data.hex(" ")))
                decoder.feed(item.direction, item.data)
        decoder.finish()
        lines = whole[:length].count(b"\n") - 3
        assert found[:lines] == complete[:lines]
        assert len(found) <= lines + 1


@given(st.lists(st.binary(max_size=12) | st.sampled_from([VERSION, ANSWER]), max_size=20))
def test_a_stream_loses_nothing(chunks: list[bytes]) -> None:
    stream = Stream()
    pieces = [piece for chunk in chunks for piece in stream.feed(chunk)] + stream.flush()
    assert b"".join(piece.data for piece in pieces) == b"".join(chunks)
    for piece in pieces:
        assert piece.frame is None or bytes(piece.frame) == piece.data


# --- what must not get in ------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", list("WXYZxyz"))
def test_passwords_never(tmp_path: Path, letter: str) -> None:
    path = tmp_path / "r.txt"
    tail = b"\x03" if letter in "xyz" else b""
    frame = adapter_frame(letter, SendPassword(PASSWORD).payloads()[0] + tail)
    record(path, (SENT, bytes(frame)), anonymous=False)
    (item,) = (item for item in read(path) if isinstance(item, Traffic))
    (kept,) = FrameCutter().feed(item.data)
    assert kept.data == letter.encode() + b"\x3a" + bytes(8) + tail
    (entry,) = Decoder().feed(SENT, bytes(frame))
    assert PASSWORD.hex() not in entry.data.hex()
    assert "password" in entry.text
    assert PASSWORD.decode() not in entry.text


def _configuration(number: int) -> Frame:
    data = number.to_bytes(4, "little") + bytes.fromhex("02 00 00 01 00 00 00 00 00 00")
    return Frame(FrameType.INFO, data)


def test_serial_numbers_only_when_asked_for(tmp_path: Path) -> None:
    serial = bytes(adapter_frame("X", b"\x9d" + SERIAL))
    damaged = serial[:-1] + bytes((serial[-1] ^ 1,))
    number = bytes(_configuration(0x12345678))
    reset = bytes(ResetDevices(0x12345678).frame())
    said = [(RECEIVED, serial), (RECEIVED, damaged), (RECEIVED, number), (SENT, reset)]
    path = tmp_path / "r.txt"
    record(path, *said, anonymous=False)
    assert "48 51 32 31 33 32" in path.read_text()
    assert "78 56 34 12" in path.read_text()
    record(path, *said)
    text = path.read_text()
    assert "48 51" not in text
    assert "78 56" not in text
    assert "34 12" not in text
    kept = [FrameCutter().feed(item.data) for item in read(path) if isinstance(item, Traffic)]
    assert [len(frames) for frames in kept] == [1, 0, 1, 1]
    assert kept[0][0].data == b"X\x9dDEVICE00001"


def test_devices_can_still_be_told_apart() -> None:
    redactor = Redactor(anonymous=True)
    first, second = (adapter_frame("X", b"\x9d" + serial) for serial in (SERIAL, b"HQ2132ABCDF"))
    kept = [redactor.frame(False, frame).data for frame in (first, second, first)]
    assert kept[0] == kept[2] != kept[1]
    numbers = []
    for number in (7_000_000, 8_000_000, 7_000_000, 0):
        found = read_info(redactor.frame(False, _configuration(number)))
        assert isinstance(found, Configuration)
        numbers.append(found.unique_number)
    assert numbers[0] == numbers[2] != numbers[1]
    assert numbers[3] == 0
    reset_all = ResetDevices().frame()
    assert redactor.frame(True, reset_all) == reset_all
    told = redactor.frame(True, ResetDevices(8_000_000).frame())
    assert told == ResetDevices(numbers[1]).frame()
    short = redactor.frame(False, adapter_frame("X", b"\x9dHQ21"))
    assert short.data == b"X\x9dXXXX"


# --- listening -----------------------------------------------------------------------------------------


@simulated
async def test_a_port_is_listened_to() -> None:
    heard: list[tuple[Direction, bytes, float]] = []
    scripted = ScriptedPort("→ 02 FF 56 A9\n← 07 FF 56 24 DB 11 00 42 52", delay_s=0.07)

    async def open_port() -> ScriptedPort:
        return scripted

    port = await tapped(open_port, lambda: [lambda *told: heard.append(told)])()
    assert port.baudrate == 2400
    ear = Ear()
    port.attach(ear)
    port.write(bytes(GetVersion().frame()))
    await ear.until(lambda ear: ear.data == ANSWER)
    assert [told[:2] for told in heard] == [(SENT, VERSION), (RECEIVED, ANSWER)]
    assert heard[1][2] == pytest.approx(0.07)
    await port.close()
    scripted.check_done()


@simulated
async def test_a_listener_that_fails_is_left_out() -> None:
    heard: list[bytes] = []
    errors = io.StringIO()
    handler = logging.StreamHandler(errors)
    logging.getLogger("mk2dbus.decode").addHandler(handler)

    def broken(direction: Direction, data: bytes, now: float) -> None:
        raise RuntimeError("defect")

    quiet = QuietPort()
    port = TappedPort(quiet, [broken, lambda _, data, __: heard.append(data)])
    try:
        for _ in range(3):
            port.write(VERSION)
    finally:
        logging.getLogger("mk2dbus.decode").removeHandler(handler)
    assert heard == [VERSION] * 3
    assert len(quiet.sent) == 3
    assert errors.getvalue().count("RuntimeError: defect") == 1


async def test_the_log_of_the_wire(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mk2dbus.wire")
    log = WireLog()
    now = asyncio.get_running_loop().time()
    log(SENT, VERSION, now)
    log(RECEIVED, ANSWER, now)
    assert [record.getMessage() for record in caplog.records] == [
        f"→ {'02 FF 56 A9':44}  V version of the adapter?",
        f"← {'07 FF 56 24 DB 11 00 42 52':44}  V adapter 1170212 (product 1170, firmware 212), mode B",
    ]
