"""A conversation in words: each frame with its meaning, replies put to the requests that they answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from mk2dbus.decode import words
from mk2dbus.decode.book import Address, Book, hex_word
from mk2dbus.decode.redact import Redactor
from mk2dbus.decode.requests import adapter_request, armed_write, winmon_request
from mk2dbus.decode.stream import Piece, Stream
from mk2dbus.mk2 import adapter, info, winmon
from mk2dbus.mk2.errors import AccessRequired, NotSupported, Rejected
from mk2dbus.mk2.framing import Frame, FrameType, hex_bytes
from mk2dbus.mk2.request import NOT_SUPPORTED, AdapterRequest, More, Winmon

_SLOTS = b"WXYZ"
_ADDRESSED_SLOTS = b"xyz"
_MAX_PENDING = 8
_REPLY_LIMIT_S = 5.0
"""Adapter commands whose replies are waited for, and how long: a recording can hold many that get none."""
_MAX_PARTS = 8
_SPEED_MARK = 0x55
_SPEED_TEXT = "for the adapter to find the new speed"
"""Sent after the change to high speed (§1)."""


class Direction(Enum):
    """Which way bytes go; the value is how they are marked."""

    SENT = "→"
    RECEIVED = "←"


class Sort(Enum):
    """What a piece of traffic is."""

    REQUEST = "requests"
    REPLY = "replies"
    UNASKED = "frames that the adapter sends by itself"
    STRAY = "replies without a request"
    UNKNOWN = "frames that are not understood"
    NO_FRAME = "runs of bytes that are no frame"


@dataclass(frozen=True, slots=True)
class Entry:
    """A piece of traffic and its meaning; passwords are blanked in ``data``."""

    direction: Direction
    data: bytes
    sort: Sort
    text: str

    def __str__(self) -> str:
        return f"{self.direction.value} {hex_bytes(self.data):<44}  {self.text}"


@dataclass(slots=True)
class _Asked:
    """A winmon command whose reply is waited for."""

    request: Winmon[Any]
    question: str
    address: Address
    parts: list[bytes] = field(default_factory=list)


class Decoder:
    """Reads a conversation along; forgets what is over, so it can run for ever.

    Bytes come in any pieces, each direction by itself; ``now`` is a time in seconds, by any clock.
    """

    def __init__(self) -> None:
        self._streams = {direction: Stream() for direction in Direction}
        self._book = Book()
        self._redactor = Redactor()
        self._address: Address = None
        self._slots: dict[int, _Asked] = {}
        self._pending: list[tuple[float, AdapterRequest[Any]]] = []
        self._low_halves: dict[Address, int] = {}
        self._now = 0.0
        self._armed: tuple[bool, int] | None = None
        self._snapshot: tuple[int, ...] = ()

    def feed(self, direction: Direction, data: bytes, now: float = 0.0) -> list[Entry]:
        """What is complete with these bytes, in order."""
        self._now = now
        other = Direction.SENT if direction is Direction.RECEIVED else Direction.RECEIVED
        pieces = [(other, piece) for piece in self._streams[other].expire(now)]
        pieces += [(direction, piece) for piece in self._streams[direction].feed(data, now)]
        return [entry for way, piece in pieces for entry in self._entries(way, piece)]

    def finish(self) -> list[Entry]:
        """What is left: nothing more will come."""
        return [
            entry
            for direction, stream in self._streams.items()
            for piece in stream.flush()
            for entry in self._entries(direction, piece)
        ]

    def _entries(self, direction: Direction, piece: Piece) -> Iterator[Entry]:
        if piece.frame is None:
            marks = direction is Direction.SENT and set(piece.data) == {_SPEED_MARK}
            text = _SPEED_TEXT if marks else f"{len(piece.data)} byte(s) that are no frame"
            yield Entry(direction, piece.data, Sort.REQUEST if marks else Sort.NO_FRAME, text)
            return
        shown = bytes(self._redactor.frame(direction is Direction.SENT, piece.frame))
        if direction is Direction.SENT:
            sort, text = self._sent(piece.frame)
        else:
            sort, text = self._received(piece.frame)
            if piece.frame.leds is not None:
                leds = adapter.LedStatus(piece.frame.leds.on, piece.frame.leds.blink)
                text += f"; with {words.leds_text(leds)}"
        yield Entry(direction, shown, sort, text)

    # --- sent ------------------------------------------------------------------------------------------

    def _sent(self, frame: Frame) -> tuple[Sort, str]:
        letter = frame.data[0] if frame.type == FrameType.ADAPTER and frame.data else 0
        if letter in _SLOTS or letter in _ADDRESSED_SLOTS:
            return self._sent_winmon(letter, frame.data[1:])
        request = adapter_request(frame)
        if request is None:
            if letter == ord("S"):
                # Any form: other programs send their own.
                self._wait_for(adapter.ConfigureAdapter())
                return Sort.REQUEST, f"S {words.panel_text(frame.data[1:])}"
            return Sort.UNKNOWN, f"{_frame_name(frame)}: not known in this form"
        if isinstance(request, adapter.TakeSnapshot):
            self._snapshot = request.ids
        if isinstance(request, adapter.Reset):
            self._address = None
        if request.has_reply:
            self._wait_for(request)
        name = f"{chr(letter)} " if letter else ""
        return Sort.REQUEST, name + words.request_text(request, self._book, self._address)

    def _wait_for(self, request: AdapterRequest[Any]) -> None:
        # Asked again is asked once: the first one was not answered.
        others = [
            (sent, asked)
            for sent, asked in self._pending
            if asked != request and self._now - sent <= _REPLY_LIMIT_S
        ]
        self._pending = [*others[1 - _MAX_PENDING :], (self._now, request)]

    def _sent_winmon(self, letter: int, payload: bytes) -> tuple[Sort, str]:
        address = self._address
        if letter in _ADDRESSED_SLOTS and payload:
            payload, address = payload[:-1], payload[-1]
        slot = ord(chr(letter).upper())
        name = f"{chr(letter)} {payload[:1].hex().upper()}{f' device {address}' if address else ''}".rstrip()
        self._slots.pop(slot, None)
        arms = armed_write(payload)
        if arms is not None:
            self._armed = arms
            setting, id = arms
            request: Winmon[Any] | None = winmon.WriteArmed(id, 0, setting)
            question = words.arm_text(setting, id)
        else:
            request = winmon_request(payload, self._armed)
            question = "" if request is None else words.request_text(request, self._book, address)
        if request is not None:
            self._slots[slot] = _Asked(request, question.rstrip("?"), address)
            return Sort.REQUEST, f"{name} {question}"
        if payload[:1] == bytes((winmon.WriteArmed.code,)):
            return Sort.REQUEST, f"{name} write what was armed before: {hex_bytes(payload[1:])}"
        return Sort.UNKNOWN, f"{name} not known in this form: {hex_bytes(payload[1:]) or 'no data'}"

    # --- received --------------------------------------------------------------------------------------

    def _received(self, frame: Frame) -> tuple[Sort, str]:
        letter = frame.data[0] if frame.type == FrameType.ADAPTER and frame.data else 0
        if letter in _SLOTS:
            return self._received_winmon(letter, frame.data[1:])
        name = f"{chr(letter)} " if letter else ""
        for sent, request in self._pending:
            if self._now - sent > _REPLY_LIMIT_S:
                continue
            answer = request.read(frame)
            if not isinstance(answer, More):
                self._pending.remove((sent, request))
                if isinstance(request, adapter.SetAddress | adapter.GetAddress):
                    self._address = answer
                return Sort.REPLY, name + words.answer_text(request, answer, self._book, self._address)
        return self._unasked(frame, name)

    def _unasked(self, frame: Frame, name: str) -> tuple[Sort, str]:
        version = adapter.read_version(frame)
        leds = adapter.read_leds(frame)
        panel = adapter.read_panel(frame)
        found = info.read_info(frame)
        if version is not None:
            return Sort.UNASKED, f"{name}{words.version_text(version)}, by itself"
        if leds is not None:
            return Sort.UNASKED, f"{name}{words.leds_text(leds)}, by itself"
        if panel is not None:
            return Sort.UNASKED, f"another panel is in control: mode {panel.mode}"
        if found is not None:
            return Sort.STRAY, f"{words.info_text(found, self._book)}, not asked for"
        reply = _letter_reply(frame)
        if reply is not None:
            return Sort.STRAY, f"{name}{reply}, not asked for"
        return Sort.UNKNOWN, f"{_frame_name(frame)}: not known in this form"

    def _received_winmon(self, letter: int, payload: bytes) -> tuple[Sort, str]:
        name = f"{chr(letter)} {payload[:1].hex().upper()}".rstrip()
        asked = self._slots.get(letter)
        if asked is None or not asked.request.is_reply(payload) or len(asked.parts) == _MAX_PARTS:
            sort, text = _without_request(payload)
            return sort, f"{name} {text}"
        if asked.address:
            name += f" device {asked.address}"
        asked.parts.append(payload)
        try:
            answer = asked.request.read(tuple(asked.parts))
        except Rejected as refusal:
            self._slots.pop(letter)
            return Sort.REPLY, f"{name} {asked.question}: {_refusal_text(refusal)}"
        if isinstance(answer, More):
            part = f"part {len(asked.parts)} of the answer to {asked.question}"
            return Sort.REPLY, f"{name} {part}: {hex_bytes(payload[1:]) or 'empty'}"
        self._slots.pop(letter)
        return Sort.REPLY, f"{name} {self._answer(asked, answer)}"

    def _answer(self, asked: _Asked, answer: Any) -> str:
        request, address = asked.request, asked.address
        self._book.learn(address, request, answer)
        if isinstance(request, winmon.ReadSnapshot):
            return words.snapshot_text(self._snapshot, answer, self._book, address)
        text = words.answer_text(request, answer, self._book, address)
        if isinstance(answer, winmon.Version) and not answer.complete:
            self._low_halves[address] = answer.value
        elif isinstance(request, winmon.GetVersionHigh) and address in self._low_halves:
            version = winmon.Version(answer << 16 | self._low_halves[address], complete=True)
            text += f": {words.device_version_text(version)}"
        elif isinstance(request, winmon.ReadRam) and len(request.ids) == 1:
            both = _words(asked.parts[-1][1:])
            if len(both) == 2:
                # A new device takes the word that the id is sent as for two ids, the second being 0.
                text += f"; {self._book.ram_text(address, 0, both[1])}"
        return text


def _frame_name(frame: Frame) -> str:
    if frame.type != FrameType.ADAPTER:
        return f"frame of type 0x{frame.type:02X}"
    letter = chr(frame.data[0]) if frame.data else ""
    return f"command {letter!r}" if letter.isprintable() else f"command 0x{frame.data[0]:02X}"


def _words(data: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data) - 1, 2))


def _refusal_text(refusal: Rejected) -> str:
    if isinstance(refusal, AccessRequired):
        return f"refused, access level {refusal.level} is required"
    if isinstance(refusal, NotSupported):
        return f"not supported{f' ({refusal.position})' if refusal.position else ''}"
    return "refused"


_LETTER_REQUESTS: tuple[AdapterRequest[Any], ...] = (
    adapter.GetAddress(),
    adapter.GetDetail(),
    adapter.Lines(),
    adapter.ConfigureAdapter(),
)
"""Their replies tell by themselves what they are."""


def _letter_reply(frame: Frame) -> str | None:
    for request in _LETTER_REQUESTS:
        answer = request.read(frame)
        if not isinstance(answer, More):
            return words.answer_text(request, answer, Book(), None)
    return None


_RAM_WORDS = 0x85

_NAMELESS: tuple[tuple[Winmon[Any], str], ...] = (
    (winmon.GetVersion(), ""),
    (winmon.GetVersionHigh(), ""),
    (winmon.GetState(), ""),
    (winmon.GetEnergyCounters(), ""),
    (winmon.GetSerial(), ""),
    (winmon.SendPassword(b""), ""),
    (winmon.ReadSnapshot(), "snapshot"),
    (winmon.ReadRam((0,)), "a RAM variable"),
    (winmon.ReadSetting(0), "a setting"),
    (winmon.GetSettingInfo(0), "info of a setting"),
    (winmon.GetRamInfo(0), "info of a RAM variable"),
    (winmon.WriteById(0, 0, setting=False), "a RAM variable"),
    (winmon.WriteById(0, 0, setting=True), "a setting"),
    (winmon.GetAccessLevels(0), "a setting"),
)
"""Requests that stand for those that were not seen, and what they are about where the id is not known."""


def _without_request(payload: bytes) -> tuple[Sort, str]:
    """A winmon reply whose request was not seen: as much as the reply tells by itself."""
    if not payload:
        return Sort.UNKNOWN, "empty reply"
    about = ""
    if payload[0] == NOT_SUPPORTED:
        position = f" ({payload[1]})" if payload[1:] else ""
        return Sort.STRAY, f"not supported{position}, request not seen"
    if payload[0] == _RAM_WORDS:
        return Sort.STRAY, f"RAM variables {words.words_text(_words(payload[1:]))}, request not seen"
    for request, subject in _NAMELESS:
        if payload[0] not in request.replies:
            continue
        about = about or subject
        try:
            answer = request.read((payload,))
        except Rejected as refusal:
            return Sort.STRAY, f"{subject}: {_refusal_text(refusal)}, request not seen"
        if not isinstance(answer, More):
            return Sort.STRAY, f"{_nameless_text(request, answer, subject)}, request not seen"
    if about:
        return Sort.STRAY, f"part of {about}: {hex_bytes(payload[1:])}, request not seen"
    return Sort.UNKNOWN, f"not known: {hex_bytes(payload[1:]) or 'no data'}"


def _nameless_text(request: Winmon[Any], answer: Any, subject: str) -> str:
    match answer:
        case winmon.Written():
            return f"{subject} written{', needs a reset' if answer.reset_needed else ''}"
        case winmon.SettingInfo():
            return f"{subject}: {words.setting_info_text(answer)}"
        case winmon.RamInfo():
            return f"{subject}: {words.ram_info_text(answer)}"
        case winmon.AccessLevels():
            return f"{subject}: {words.access_text(answer)}"
        case int() if subject:
            return f"{subject}: {hex_word(answer)}"
        case tuple() if subject:
            return f"{subject}: {words.words_text(answer) or 'empty'}"
        case _:
            return words.answer_text(request, answer, Book(), None)
