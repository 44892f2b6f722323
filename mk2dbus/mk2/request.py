"""What a request is: one thing sent, the reply declared beside it.

Commands are frozen dataclasses (see :mod:`.adapter` and :mod:`.winmon`); a command knows its bytes and how
to read its reply, nothing of slots, time or order. ``await link.request(command)`` returns the reply type
named in the class declaration.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import ClassVar, Final, Generic, TypeVar

from mk2dbus.mk2.errors import NotSupported
from mk2dbus.mk2.framing import Frame, hex_bytes

R = TypeVar("R")


class More(Enum):
    """The reply is not complete, or not for this request."""

    MORE = 0


MORE: Final = More.MORE

REPLY_TIMEOUT_S = 0.5
"""Recommended time to wait for a reply (§1)."""


class Request(ABC, Generic[R]):
    """Common to all requests."""

    section: ClassVar[str]
    """Section of mk2-protocol.md that describes the command."""
    reply_timeout_s: ClassVar[float] = REPLY_TIMEOUT_S
    from_device: ClassVar[bool] = False
    """The reply proves that an inverter is there; the adapter alone could not give it."""
    attempts: ClassVar[int] = 3
    """How often it is sent before giving up; 1 for whatever must not happen twice."""


class AdapterRequest(Request[R]):
    """A frame to the adapter (§3); the reply is recognised by its content."""

    has_reply: ClassVar[bool] = True
    excludes_others: ClassVar[bool] = False
    """Must be the only exchange on the line, because it changes how others are answered."""
    in_passing: ClassVar[bool] = False
    """Usually not answered, and its answer is like no other: nothing waits for it."""

    not_before_s: ClassVar[float] = 0.0
    """What comes sooner after it was sent is not its reply, whatever it looks like."""

    @abstractmethod
    def frame(self) -> Frame:
        """The frame to send."""

    @abstractmethod
    def read(self, frame: Frame) -> R | More:
        """The reply in a received frame, ``MORE`` when the frame is not the reply to this request."""


class Winmon(Request[R]):
    """A command to the device at the current address (§4), carried in slot X, Y or Z."""

    code: ClassVar[int]
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


NOT_SUPPORTED = 0x80


def reject_unsupported(command: Winmon[R], parts: tuple[bytes, ...]) -> None:
    """Raise :exc:`NotSupported` when the last part says so (reply ``80 [n]``)."""
    last = parts[-1]
    if last[0] == NOT_SUPPORTED:
        position = last[1] if len(last) > 1 else 0
        raise NotSupported(f"{command} is not supported ({hex_bytes(last)})", position)
