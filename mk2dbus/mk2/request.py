"""What a request is: one thing sent, the reply declared beside it.

Commands are frozen dataclasses (see :mod:`.adapter` and :mod:`.winmon`); a command knows its bytes, how to
read its reply and what both cost on the line, nothing of slots, time or order. ``await
link.request(command)`` returns the reply type named in the class declaration.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum, IntEnum, auto
from typing import ClassVar, Final, Generic, TypeVar

from mk2dbus.mk2.errors import NotSupported
from mk2dbus.mk2.framing import Frame, FrameType, hex_bytes

R = TypeVar("R")


class More(Enum):
    """The reply is not complete, or not for this request."""

    MORE = 0


MORE: Final = More.MORE

REPLY_TIMEOUT_S = 0.5
"""Recommended time to wait for a reply (§1)."""

WINMON_OVERHEAD = 4
"""Bytes of a winmon frame around its payload: length, type, letter, checksum."""


class Lane(IntEnum):
    """Which requests are in each other's way (:data:`CONFLICTS`)."""

    WINMON = auto()
    """Winmon commands, as many at a time as there are slots."""
    INFO = auto()
    """``F``: the adapter remembers only the last requested kind (§3.3)."""
    OWN = auto()
    """What the adapter answers out of its own knowledge: ``L``, ``V``, ``D``, ``H``."""
    ADDRESS = auto()
    """``A``: says which device the winmon commands go to."""
    PANEL = auto()
    """``S`` to the bus; it can lose the reply of an ``F`` (§3.2)."""
    ALONE = auto()
    """Changes how everything else is answered."""
    PASSING = auto()
    """Usually not answered, and its answer is like no other."""


CONFLICTS: Final = {
    Lane.WINMON: frozenset({Lane.ADDRESS, Lane.ALONE}),
    Lane.INFO: frozenset({Lane.INFO, Lane.PANEL, Lane.ALONE}),
    Lane.OWN: frozenset({Lane.OWN, Lane.ALONE}),
    Lane.ADDRESS: frozenset({Lane.WINMON, Lane.ADDRESS, Lane.ALONE}),
    Lane.PANEL: frozenset({Lane.INFO, Lane.PANEL, Lane.ALONE}),
    Lane.ALONE: frozenset(Lane) - {Lane.PASSING},
    Lane.PASSING: frozenset({Lane.ALONE}),
}
"""For each lane those of which nothing may be on the line together with it."""


class Request(ABC, Generic[R]):
    """Common to all requests."""

    section: ClassVar[str]
    """Section of mk2-protocol.md that describes the command."""
    lane: ClassVar[Lane]
    reply_timeout_s: ClassVar[float] = REPLY_TIMEOUT_S
    """Time for the reply besides that of its bytes and of those that come before it."""
    from_device: ClassVar[bool] = False
    """The reply proves that an inverter is there; the adapter alone could not give it."""
    attempts: ClassVar[int] = 3
    """How often it is sent before giving up; 1 for whatever must not happen twice."""
    has_reply: ClassVar[bool] = True
    silence_answers: ClassVar[bool] = False
    """No reply is an answer, too, and no fault of the line."""
    _reply_bytes: ClassVar[int]

    @property
    @abstractmethod
    def request_bytes(self) -> int:
        """Bytes on the line to ask: whole frames. One more each in the addressed form."""

    @property
    def reply_bytes(self) -> int:
        """Bytes on the line of a usual reply in its long form: whole frames; 0 without a reply."""
        return self._reply_bytes


class AdapterRequest(Request[R]):
    """A frame to the adapter (§3); the reply is recognised by its content."""

    lane: ClassVar[Lane] = Lane.OWN
    not_before_s: ClassVar[float] = 0.0
    """What comes sooner after it was sent is not its reply, whatever it looks like."""
    late_s: ClassVar[float] = 0.5
    """How long after its time a reply may still come. Until then nothing that it would answer as well is
    asked; 0 where such a reply does no harm."""

    @abstractmethod
    def frame(self) -> Frame:
        """The frame to send."""

    @abstractmethod
    def read(self, frame: Frame) -> R | More:
        """The reply in a received frame, ``MORE`` when the frame is not the reply to this request."""

    @property
    def request_bytes(self) -> int:
        return len(bytes(self.frame()))

    @property
    def reply_key(self) -> bytes:
        """Two requests of which one's key begins with the other's cannot tell their replies apart."""
        frame = self.frame()
        whole = self.lane is Lane.INFO or frame.type != FrameType.ADAPTER
        return frame.data if whole else frame.data[:1]


class Winmon(Request[R]):
    """A command to a device (§4), carried in slot X, Y or Z."""

    code: ClassVar[int]
    lane: ClassVar[Lane] = Lane.WINMON
    from_device: ClassVar[bool] = True
    replies: ClassVar[frozenset[int]]
    """Reply codes that belong to the command; 0x80, not supported, belongs to all."""

    def payloads(self) -> tuple[bytes, ...]:
        """What to send, one frame each; all but the last have no reply."""
        return (bytes((self.code,)) + self.arguments(),)

    def arguments(self) -> bytes:
        """The bytes after the command code."""
        return b""

    @abstractmethod
    def read(self, parts: tuple[bytes, ...]) -> R | More:
        """The reply in the payloads received so far (reply code first), ``MORE`` when it is not complete.

        Raises:
            Rejected: the device said no.
        """

    def is_reply(self, payload: bytes) -> bool:
        """Whether a received payload can belong to this command."""
        return bool(payload) and (payload[0] in self.replies or payload[0] == NOT_SUPPORTED)

    @property
    def request_bytes(self) -> int:
        return sum(WINMON_OVERHEAD + len(payload) for payload in self.payloads())


NOT_SUPPORTED = 0x80


def reject_unsupported(command: Winmon[R], parts: tuple[bytes, ...]) -> None:
    """Raise :exc:`NotSupported` when the last part says so (reply ``80 [n]``)."""
    last = parts[-1]
    if last[0] == NOT_SUPPORTED:
        position = last[1] if len(last) > 1 else 0
        raise NotSupported(f"{command} is not supported ({hex_bytes(last)})", position)
