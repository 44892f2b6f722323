"""What can go wrong between here and the device, grouped by who can do something about it.

Mk2Error
├── PortUnusable     the port cannot be opened: missing, busy, no permission, not a serial port
├── PortLost         the port was there and is gone: cable pulled, adapter reset by the kernel
├── LinkClosed       this program closed the link
├── NoReply          nothing (that fits) came back in time; also a TimeoutError
└── Rejected         the device answered, and said no
    ├── NotSupported     it does not know the command or the id
    └── AccessRequired   it wants a password for an access level first
"""

from __future__ import annotations


class Mk2Error(Exception):
    """Base of everything that this package raises on purpose."""


class PortUnusable(Mk2Error):
    """The port cannot be opened. The message says why and what to do."""


class PortLost(Mk2Error):
    """The port has gone while in use. Every waiting request gets this at once."""


class LinkClosed(Mk2Error):
    """The link was closed by its owner; the request was not sent, or its reply not waited for."""


class NoReply(Mk2Error, TimeoutError):
    """No reply in time, after all attempts. Whether the device did what was asked is not known."""


class Rejected(Mk2Error):
    """The device answered and did not do what was asked."""


class NotSupported(Rejected):
    """Reply 80, 90 or 91: command or id not known.

    Attributes:
        position: what followed the code: 0 the command itself, else which byte or id was wrong (1-based).
    """

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.position = position


class AccessRequired(Rejected):
    """Reply 9B: a password for an access level is needed first.

    Attributes:
        level: the level as the device said it.
    """

    def __init__(self, message: str, level: int) -> None:
        super().__init__(message)
        self.level = level
