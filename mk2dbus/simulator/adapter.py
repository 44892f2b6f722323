"""The adapter: MK2 or MK3, between the client's line and VE.Bus (mk2-protocol.md §3).

No input or output here, and no clock: frames come in through :meth:`Adapter.receive` with the time at which
their last byte arrived, and go out through :meth:`Adapter.poll`. What a real adapter would not answer stays
unanswered, and the event log says why.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mk2dbus.mk2.framing import Frame, FrameType, Leds, adapter_frame

from .events import EventLog, Kind
from .exchanges import WINMON_LETTERS, Exchanges
from .outbox import Outbox, Outgoing
from .speed import Speed
from .system import LEDS_UNKNOWN, Panel, System
from .winmon import Form, Groups

IDLE_VERSION_S = 1.0
"""Pause in sending after which the adapter sends a ``V`` by itself."""
RESET_S = 2.0
"""Time a reset takes (``R``)."""
BOOT_S = 0.5
"""Time from power to the first ``V``."""
ADAPTER_LATENCY_S = 0.001
"""Time to answer what needs no device."""

_LAST_ADDRESS = 31
_LINES_AT_POWER_ON = 0x05
_LINE_PANEL_DETECT = 0x01
_LINE_STANDBY = 0x02
_FLAG_REPEAT = 0x01
_FLAG_APPEND_LEDS = 0x02
_FLAG_NOTHING_TO_BUS = 0x10
_FLAG_FORWARD_PANELS = 0x40
_FLAG_AMPS = 0x80
_EXT0_COMPAT = 0x01
_W_REPLY_BYTES = 4
"""Most data bytes in one reply on `W`, codes not counted."""
_W_REQUEST_BYTES = 2
_WAKE = b"\x07\x00\x00\x00"
_SLEEP = b"\x04\x00\x00\x00"
_ALARM_BLOCKED = 0x80
_NOT_FOLLOWED = frozenset("NR")
"""Commands that have no reply of their own, or only after a reset."""


@dataclass(frozen=True, slots=True)
class AdapterType:
    """What adapters of one kind and firmware have in common.

    Attributes:
        version: 1170216: product 0x1170 (MK3), firmware 216.
        mk3: knows `H`; longer `A` and `L` replies.
        usb_powered: stays alive while VE.Bus sleeps.
        addressed: an MK3 that knows the addressed slots `x` `y` `z`.
        high_speed: an MK3 that knows `N`.
        takes: most requests that may be outstanding; what comes on top is lost. ``None``: any number.
    """

    version: int
    mk3: bool
    usb_powered: bool = False
    addressed: bool = True
    high_speed: bool = True
    takes: int | None = None


def _any_adapter(_kind: AdapterType) -> bool:
    return True


def _is_mk3(kind: AdapterType) -> bool:
    return kind.mk3


def _is_addressed(kind: AdapterType) -> bool:
    return kind.mk3 and kind.addressed


def _has_high_speed(kind: AdapterType) -> bool:
    return kind.mk3 and kind.high_speed


@dataclass(frozen=True, slots=True)
class _Command:
    """How the adapter takes a command letter: lengths of its data, what is done, which adapters know it."""

    lengths: Collection[int]
    handler: Callable[[bytes], None]
    known_to: Callable[[AdapterType], bool] = _any_adapter


class Adapter:
    """An MK2/MK3 adapter.

    Args:
        kind: the hardware.
        system: what is on VE.Bus.
        log: where everything unanswered goes.
        latency_s: time the inverter takes to answer winmon commands and info requests.
    """

    def __init__(self, kind: AdapterType, system: System, log: EventLog, latency_s: float = 0.015) -> None:
        self.kind = kind
        self.system = system
        self.log = log
        self.latency_s = latency_s
        self.silent = False
        """Fault: sends nothing at all, not even ``V``."""
        self.stuck = False
        """Fault: sends its ``V`` once a second and answers nothing."""
        self.foreign_configuration_every = 0
        """Fault: at high speed every n-th reply to `F 07` comes from another device; 0: none (§1)."""
        self.speed = Speed()
        """Speed of the line, and what goes wrong with it."""
        self.exchanges = Exchanges(log)
        """What was outstanding when."""
        self.now = 0.0
        self._written = 0.0
        """When the client wrote the frame that is being looked at."""
        self._configurations = 0
        self._outbox = Outbox()
        self._powered = True
        self._commands = self._command_table()
        self._power_on(0.0)

    # -- state ---------------------------------------------------------------------------------------------

    def _power_on(self, now: float) -> None:
        """State after power-on or reset."""
        self.address = 0
        """Address that winmon commands go to."""
        self.address_set = False
        self.flags = 0
        """Flags of the last ``S`` (§3.2)."""
        self.ext0 = _EXT0_COMPAT
        """ext0 of the last ``S`` that had one; compatibility at power-on (§4)."""
        self.lines = _LINES_AT_POWER_ON
        """Lines pulled to ground (``H``)."""
        self.speed.reset()
        self._outbox.clear()
        self.exchanges.end_all(now)
        self._boot_until = now
        self._last_sent = now
        self._apply_lines()

    def start(self, now: float) -> None:
        """Power comes at ``now``: where the clock stands when the simulation begins.

        A speed that was set before stays: the adapter has been on all the time.
        """
        baudrate = self.baudrate
        self._power_on(now)
        self.speed.set(baudrate)
        self.advance(now)

    def power_cycle(self) -> None:
        """Power is gone for a moment: everything is forgotten."""
        if self._powered:
            self._begin_again(BOOT_S, "adapter lost power for a moment")

    def _begin_again(self, seconds: float, reason: str) -> None:
        self._power_on(self.now)
        self._boot_until = self.now + seconds
        self.log.add(self.now, Kind.NOTE, reason)
        self._outbox.put(self._boot_until, self._version_frame())

    @property
    def baudrate(self) -> int:
        """Speed the adapter listens at. Set it to find the adapter there, as after a crash."""
        return self.speed.listening

    @baudrate.setter
    def baudrate(self, baudrate: int) -> None:
        self.speed.set(baudrate)

    @property
    def alive(self) -> bool:
        """Whether the adapter has power."""
        return self._powered

    @property
    def compat(self) -> bool:
        """Whether replies take the compatibility form (ext0 bit 0)."""
        return bool(self.ext0 & _EXT0_COMPAT)

    @property
    def outstanding(self) -> dict[str, int]:
        """Replies still due, by slot letter (``F`` for info frames)."""
        waiting = self._outbox.waiting
        return {letter: count for letter, count in waiting.items() if letter in WINMON_LETTERS | {"F"}}

    def _apply_lines(self) -> None:
        self.system.hold_awake(bool(self.lines & _LINE_STANDBY))
        self.system.panel_detected = bool(self.lines & _LINE_PANEL_DETECT)

    # -- time ----------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When :meth:`poll` should be called again, if nothing is received before."""
        times = [self.system.deadline, self._outbox.deadline]
        if self._powered:
            times.append(
                self._last_sent + IDLE_VERSION_S if self.now >= self._boot_until else self._boot_until
            )
            if self.speed.sync_missing:
                times.append(self.speed.sync_until)
        return min((time for time in times if time is not None), default=None)

    def advance(self, now: float) -> None:
        """Let the time come to ``now``: the system lives on, power comes and goes."""
        self.now = max(now, self.now)
        self.system.advance(self.now)
        powered = self.system.awake or self.kind.usb_powered
        if powered and not self._powered:
            self._powered = True
            self._power_on(self.now)
            self._boot_until = self.now + BOOT_S
            self._outbox.put(self._boot_until, self._version_frame())
        elif self._powered and not powered:
            self._powered = False
            self._power_on(self.now)
            self.log.add(self.now, Kind.NOTE, "adapter without power")
        if self.speed.give_up_sync(self.now):
            self.log.add(self.now, Kind.NOTE, "high speed given up: no bytes 0x55")

    def poll(self, now: float) -> list[Outgoing]:
        """Frames that leave now, in order."""
        if now > self.now:
            self.advance(now)
        leaving = list(self._outbox.take(self.now))
        idle = self.now >= self._last_sent + IDLE_VERSION_S and self.now >= self._boot_until
        if not leaving and idle and self._powered and not self.speed.sync_missing:
            leaving.append(Outgoing(self._version_frame()))
        if leaving or idle:
            self._last_sent = self.now
        quiet = "adapter is silent" if self.silent else "speed: nothing is said" if self.speed.mute else ""
        if quiet:
            for one in leaving:
                self.log.add(self.now, Kind.LOST, quiet, bytes(one.frame))
                self.exchanges.end(one.answers, self.now)
            return []
        leaving = [Outgoing(self._with_leds(one.frame), one.answers) for one in leaving]
        for one in leaving:
            self.log.add(self.now, Kind.SENT, data=bytes(one.frame))
        return leaving

    def _with_leds(self, frame: Frame) -> Frame:
        """LED status appended to a frame when the flag asks for it; `L` has it already."""
        if self.flags & _FLAG_APPEND_LEDS and frame.data[:1] != b"L" and frame.leds is None:
            return Frame(frame.type, frame.data, Leds(*self.system.leds()))
        return frame

    # -- receiving -----------------------------------------------------------------------------------------

    def sync(self, data: bytes, now: float) -> bytes:
        """Bytes received while the five 0x55 of a change of speed are due; what is left of them."""
        if not self.speed.sync_missing:
            return data
        self.advance(now)
        for index, byte in enumerate(data):
            if not self.speed.sync_missing:
                return data[index:]
            if not self.speed.take_sync(byte, self.now):
                self.garbage(bytes((byte,)), now)
            elif not self.speed.sync_missing:
                self.log.add(self.now, Kind.NOTE, "high speed")
        return b""

    def garbage(self, data: bytes, now: float) -> None:
        """Bytes that are no frame arrived."""
        self.log.add(now, Kind.GARBAGE, "no frame", data)

    def receive(self, frame: Frame, now: float, written: float | None = None) -> None:
        """A frame from the client, complete at ``now``; ``written``: when the client wrote it."""
        if now > self.now:
            self.advance(now)
        self._written = now if written is None else written
        raw = bytes(frame)
        if self.speed.misheard():
            self.garbage(raw, self.now)
            return
        self.log.add(self.now, Kind.RECEIVED, data=raw)
        reason = self._deaf_because(frame)
        if reason:
            self._unanswered(reason, raw)
        elif frame.type == FrameType.ADAPTER:
            self._adapter_command(frame, raw)
        elif frame.type == FrameType.COMMAND and frame.data in (_WAKE, _SLEEP):
            if frame.data == _WAKE:
                self.system.wake("wake frame")
            else:
                self.system.sleep()
            self.advance(self.now)
        elif frame.type == FrameType.QUERY:
            answer = self.system.query(frame.data)
            if answer is None:
                self._unanswered("query: no such device", raw)
            else:
                with self._followed("Q"):
                    self._outbox.put(self.now + self.latency_s, answer, "Q")
        else:
            self._unanswered("unknown frame type", raw)

    def _deaf_because(self, frame: Frame) -> str:
        """Why the adapter takes no notice of a frame; empty: it does."""
        if not self._powered:
            return "adapter has no power"
        if self.now < self._boot_until:
            return "adapter is starting"
        if not self.speed.settled(self.now):
            return "change of speed not finished"
        if self.stuck:
            return "adapter is stuck"
        if frame.leds is not None:
            return "LED status in a request"
        if frame.type == FrameType.ADAPTER and frame.data == b"R":
            return ""
        if self.speed.dead:
            return "speed: dead half-way"
        takes = self.kind.takes
        if takes is not None and self.exchanges.open_count(self._written) >= takes:
            return "too many outstanding for this adapter"
        return ""

    def panel_acts(self, panel: Panel, bit3: bool = False) -> None:
        """Another panel on the bus sends its frame. ``bit3``: in the form with bit 3 set (§3.2)."""
        self.system.panel(panel, by_dmc=True)
        if self._powered and self.flags & _FLAG_FORWARD_PANELS:
            mode = 0x08 | panel.mode - 1 if bit3 else panel.mode
            frame = Frame(FrameType.PANEL, struct.pack("<BHBB", mode, panel.limit, 1, _FLAG_AMPS))
            self._outbox.put(self.now, frame)

    def _adapter_command(self, frame: Frame, raw: bytes) -> None:
        letter = frame.data[:1].decode("latin-1")
        command = self._commands.get(letter)
        if command is None or not command.known_to(self.kind):
            self._unanswered("unknown command", raw)
        elif len(frame.data) - 1 not in command.lengths:
            self._unanswered("wrong length", raw)
        elif letter in _NOT_FOLLOWED:
            command.handler(frame.data[1:])
        else:
            with self._followed(letter.upper()):
                command.handler(frame.data[1:])

    @contextmanager
    def _followed(self, letter: str) -> Iterator[None]:
        """Follow a request until its reply is through; one that gets no reply is never outstanding."""
        exchange = self.exchanges.begin(letter, self._written, self.now)
        put_before = self._outbox.put_count
        yield
        if self._outbox.put_count == put_before:
            exchange.through = exchange.written

    def _command_table(self) -> dict[str, _Command]:
        """Adapter commands (§3)."""
        table = {
            "A": _Command((2,), self._on_address),
            "D": _Command((0,), self._on_state),
            "F": _Command(range(1, 8), self._on_info),
            "H": _Command((0, 1), self._on_lines, _is_mk3),
            "L": _Command((0,), self._on_leds),
            "N": _Command((0,), self._on_high_speed, _has_high_speed),
            "R": _Command((0,), self._on_reset),
            "S": _Command((5, 7, 8), self._on_switch),
            "V": _Command((0,), self._on_version),
            "W": _Command(range(1, 2 + _W_REQUEST_BYTES), self._winmon_on("W")),
        }
        for letter in "XYZ":
            table[letter] = _Command(range(1, 33), self._winmon_on(letter))
            table[letter.lower()] = _Command(range(2, 34), self._winmon_addressed_on(letter), _is_addressed)
        return table

    # -- adapter commands ----------------------------------------------------------------------------------

    def _on_address(self, data: bytes) -> None:
        action, address = data
        if action == 1 and address <= _LAST_ADDRESS:
            self.address = address
            self.address_set = True
        elif data != b"\x00\x00":
            self._unanswered("A: no such action or address", data)
            return
        self._reply_now("A", bytes((1, self.address)) + (b"\x00" if self.kind.mk3 else b""))

    def _on_state(self, _data: bytes) -> None:
        leader = self.system.leader
        mode = 0x01 * leader.charge_allowed | 0x02 * leader.invert_allowed if leader else 0
        self._reply_now("D", bytes((mode, 0xFF, 0xFF, self.address, self.flags, self.ext0)))

    def _on_version(self, _data: bytes) -> None:
        self._outbox.put(self.now + ADAPTER_LATENCY_S, self._version_frame(), "V")

    def _version_frame(self) -> Frame:
        """`V`: MK3 adapters keep saying `B`; the recorded MK2 says its address once one was set."""
        mode = self.address if self.address_set and not self.kind.mk3 else ord("B")
        return adapter_frame("V", struct.pack("<IB", self.kind.version, mode))

    def _on_reset(self, _data: bytes) -> None:
        self._begin_again(RESET_S, "adapter reset")

    def _on_lines(self, data: bytes) -> None:
        if data:
            self.lines = data[0]
            self._apply_lines()
            self.advance(self.now)
        self._reply_now("H", bytes((self.lines,)))

    def _on_leds(self, _data: bytes) -> None:
        on, blink = self.system.leds()
        known = on != LEDS_UNKNOWN or blink != LEDS_UNKNOWN
        alarms, error = (self.system.alarms(), self.system.error()) if known else (0, 0)
        # The two further bytes are what a recorded MK3 sends.
        tail = bytes((_ALARM_BLOCKED, 0)) if self.kind.mk3 else b""
        self._reply_now("L", bytes((on, blink, alarms, error)) + tail)

    def _on_high_speed(self, data: bytes) -> None:
        if not self.speed.ask_high(self.now):
            self._unanswered("N: ignored", data)

    def _on_switch(self, data: bytes) -> None:
        mode, limit, one, flags = struct.unpack_from("<BHBB", data)
        if one != 1:
            self._unanswered("S: fourth byte is not 1", data)
            return
        self._cancel_info("F reply lost to an S")
        self.flags = flags
        if len(data) > 5:
            self.ext0 = data[6]
        if flags & _FLAG_REPEAT:
            self.log.add(self.now, Kind.NOTE, "S with flag 0x01: repeats by itself", data)
        if not flags & _FLAG_NOTHING_TO_BUS:
            if flags & _FLAG_AMPS:
                self.system.panel(Panel(mode, limit))
            else:
                self.log.add(self.now, Kind.NOTE, "panel frame not sent: limit not in amps", data)
        self._reply_now("S", b"")

    def _on_info(self, data: bytes) -> None:
        kind, rest = data[0], data[1:]
        wanted = {6: range(1, 7), 7: (1,), 8: (4,)}.get(kind, (0,))
        if kind > 8 or len(rest) not in wanted:
            self._unanswered("F: unknown kind or wrong length", data)
            return
        self._cancel_info("F reply lost to another F")
        if kind == 6:
            self.system.snapshot(rest)
        elif kind == 8:
            # id2 id3 id0 id1 (§3.3)
            self.system.reset(int.from_bytes(rest[2:] + rest[:2], "little"))
            self.advance(self.now)
        else:
            frame = self._info_frame(kind, rest)
            if frame is None:
                self._unanswered("F: nobody to answer", data)
            else:
                self._outbox.put(self.now + self.latency_s, frame, "F")

    def _info_frame(self, kind: int, rest: bytes) -> Frame | None:
        if kind == 0:
            return self.system.dc_info()
        if kind <= 4:
            return self.system.ac_info(kind - 1)
        if kind == 5:
            return self.system.input_config()
        return self.system.configuration(self._who_answers(rest[0]))

    def _who_answers(self, address: int) -> int:
        """The device that answers `F 07`: at high speed not always the one asked (§1)."""
        self._configurations += 1
        every = self.foreign_configuration_every
        if not self.speed.high or not every or self._configurations % every:
            return address
        others = [other for other, device in self.system.devices.items() if device.reachable]
        self.log.add(self.now, Kind.NOTE, "F 07 answered by another device", bytes((address,)))
        return next((other for other in others if other > address), others[0] if others else address)

    def _cancel_info(self, reason: str) -> None:
        """The adapter remembers only the last requested kind (§3.3)."""
        for frame in self._outbox.cancel("F"):
            self.log.add(self.now, Kind.LOST, reason, bytes(frame))
            self.exchanges.end("F", self.now)

    # -- winmon --------------------------------------------------------------------------------------------

    def _winmon_on(self, slot: str) -> Callable[[bytes], None]:
        return lambda data: self._winmon(slot, data, self.address)

    def _winmon_addressed_on(self, slot: str) -> Callable[[bytes], None]:
        return lambda data: self._winmon(slot, data[:-1], data[-1])

    def _winmon(self, slot: str, data: bytes, address: int) -> None:
        command = data[0]
        raw = slot.encode() + data
        if slot in self._outbox.waiting:
            self._unanswered("slot has a command outstanding", raw)
            return
        device = self.system.device(address)
        if device is None:
            self._unanswered("winmon: no device with this address", raw)
            return
        form = Form.COMPAT if self.compat or not device.kind.new else Form.LONG
        groups = device.answer(command, data[1:], form)
        if groups is None:
            return
        frames = self._winmon_frames(slot, groups, form)
        if frames is None:
            self._unanswered("W: reply does not fit", raw)
            return
        for frame in frames:
            self._outbox.put(self.now + self.latency_s, frame, slot, last=frame is frames[-1])

    @staticmethod
    def _winmon_frames(slot: str, groups: Groups, form: Form) -> list[Frame] | None:
        """Frames for the groups of a reply: one, except on `W`, where four data bytes go into each.

        Access levels (9E, 9F) come one by one in the compatibility form.
        """
        if slot != "W":
            together = form is Form.LONG or groups[0][0] != 0x9E
            return [adapter_frame(slot, part) for part in ([b"".join(groups)] if together else groups)]
        frames = []
        part, size = b"", 0
        for group in groups:
            if len(group) - 1 > _W_REPLY_BYTES:
                return None
            if part and size + len(group) - 1 > _W_REPLY_BYTES:
                frames.append(adapter_frame(slot, part))
                part, size = b"", 0
            part += group
            size += len(group) - 1
        return [*frames, adapter_frame(slot, part)]

    # -- sending -------------------------------------------------------------------------------------------

    def _reply_now(self, letter: str, data: bytes) -> None:
        self._outbox.put(self.now + ADAPTER_LATENCY_S, adapter_frame(letter, data), letter)

    def _unanswered(self, reason: str, data: bytes) -> None:
        self.log.add(self.now, Kind.UNANSWERED, reason, data)
