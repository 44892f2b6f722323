"""What goes wrong on the bus side. ``str()`` of each is one line fit for a person.

::

    BusError
      BusUnreachable    no daemon at the address, or it does not let us in
      ConnectionLost    the daemon went, or we closed: whoever waits gets it at once
      NameTaken         somebody else owns the name
      NameRefused       the bus's policy does not let us own the name, or it is no bus name
      CallFailed        the other side answered with an error
        NotOffered      it does not know the method: another service, or an older one
      CallTimedOut      the other side did not answer in time (also a TimeoutError)
      ServiceNotFound   no service to talk to, or several
    ErrorReply          what a handler raises to answer a call with an error
    Malformed           a message that cannot be read
"""

from __future__ import annotations


class BusError(Exception):
    """Base of all errors that a user of this side has to handle."""


class BusUnreachable(BusError):
    """Nothing listens at the address, it is no address, or the daemon does not let us in."""


class ConnectionLost(BusError):
    """The connection is gone; what was sent last may or may not have arrived."""


class NameTaken(BusError):
    """The name has another owner. Nothing was queued."""


class NameRefused(BusError):
    """The daemon does not let us own the name."""


class CallFailed(BusError):
    """The other side answered with the error ``name``; the message is its text."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text or name)
        self.name = name


class NotOffered(CallFailed):
    """The other side has no such method."""


class CallTimedOut(BusError, TimeoutError):
    """No answer in time; whether the call was carried out is not known."""


class ServiceNotFound(BusError):
    """No service with a fitting name on the bus, or several and none was chosen."""


class ErrorReply(Exception):
    """Raised while handling a call: answer it with the error ``name`` and this text."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class Malformed(Exception):
    """A message, or its body, is not what the D-Bus specification says."""
