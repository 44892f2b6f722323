"""What systemd is told of the service: ready, status, stopping, and that it is alive (sd_notify(3)).

Without systemd (no ``NOTIFY_SOCKET``) nothing happens.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping

from mk2dbus.pulse import Pulse

log = logging.getLogger(__name__)

SEND_TIMEOUT_S = 1.0
"""systemd reads at once; one that does not must not hold up the service for long."""

STATUS_S = 1.0
"""How often it is looked whether the status has changed."""


class Notifier:
    """Sends notifications to the service manager that started this process.

    Args:
        address: path of a datagram socket; ``@`` first stands for the abstract namespace. ``None``: nobody
            wants to know.
    """

    def __init__(self, address: str | None) -> None:
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._status: str | None = None
        self._complained = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        """The one that systemd asks for. Kinds of addresses that are not known are left alone."""
        address = environment.get("NOTIFY_SOCKET", "")
        return cls(address if address.startswith(("/", "@")) and len(address) > 1 else None)

    @property
    def wanted(self) -> bool:
        """Whether somebody listens."""
        return self._address is not None

    def ready(self, status: str) -> None:
        """Clients can use the service from now on."""
        self._status = status
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        """One line for ``systemctl status``; sent when it is another than before."""
        if status != self._status:
            self._status = status
            self._send(f"STATUS={_line(status)}")

    def stopping(self) -> None:
        """The service is about to end because it was told to."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Reset the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(SEND_TIMEOUT_S)
                sender.sendto(text.encode(), self._address)
        except (OSError, ValueError) as error:
            if not self._complained:
                self._complained = True
                log.warning("the service manager cannot be told anything: %s", error)
        else:
            self._complained = False


def _line(text: str) -> str:
    return " ".join(text.split())


def watchdog_interval_s(environment: Mapping[str, str] = os.environ) -> float | None:
    """How often systemd wants to hear that this process is alive; ``None``: it does not."""
    try:
        interval_s = int(environment.get("WATCHDOG_USEC", "")) / 1e6
        process = int(environment.get("WATCHDOG_PID", os.getpid()))
    except ValueError:
        return None
    return interval_s if interval_s > 0 and process == os.getpid() else None


async def supervise(
    notifier: Notifier, pulse: Pulse, status: Callable[[], str], interval_s: float | None
) -> None:
    """Keep the service manager informed, for ever: the status, and that all is alive, as long as it is.

    A task of the same event loop as the rest: when that hangs nothing is sent, and when a task does neither.
    Pings go out twice an ``interval_s``; none without one.
    """
    hung: list[str] = []
    loop = asyncio.get_running_loop()
    next_ping = loop.time()
    while True:
        notifier.status(status())
        if interval_s is not None and loop.time() >= next_ping:
            next_ping = loop.time() + interval_s / 2
            late = pulse.late()
            if not late:
                if hung:
                    log.warning("there is progress again in: %s", ", ".join(hung))
                notifier.alive()
            elif late != hung:
                log.error(
                    "no progress in: %s; systemd is not told any more that all is well", ", ".join(late)
                )
            hung = late
        pause = STATUS_S if interval_s is None else min(STATUS_S, next_ping - loop.time())
        await asyncio.sleep(max(pause, 0.0))
