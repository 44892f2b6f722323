"""Replies of the adapter that stayed out and may still come: what must not be asked meanwhile.

They carry nothing that tells which request they answer, so nothing that such a reply would answer as well is
asked as long as it may come; a further attempt of the same request excepted, which it answers rightly. For
winmon commands see :mod:`.slots`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mk2dbus.mk2.exchange import Exchange
from mk2dbus.mk2.framing import Frame
from mk2dbus.mk2.request import AdapterRequest, More


@dataclass(frozen=True, slots=True)
class _Missing:
    exchange: Exchange
    request: AdapterRequest[Any]
    until: float


class LateReplies:
    """What may still come, and until when. Times are those of the event loop."""

    def __init__(self) -> None:
        self._missing: list[_Missing] = []

    def miss(self, exchange: Exchange, now: float) -> None:
        """An exchange with the adapter had no reply."""
        request = exchange.request
        if isinstance(request, AdapterRequest) and request.late_s:
            self._missing.append(_Missing(exchange, request, now + request.late_s))

    def take(self, frame: Frame) -> bool:
        """Whether a frame that nobody waits for is one of those; then it is no longer missing."""
        for missing in self._missing:
            if not isinstance(missing.request.read(frame), More):
                self._missing.remove(missing)
                return True
        return False

    def stand_against(self, exchange: Exchange) -> bool:
        """Whether one of those would answer an exchange that is to be sent."""
        request = exchange.request
        if not self._missing or not isinstance(request, AdapterRequest):
            return False
        key = request.reply_key
        return any(
            missing.exchange is not exchange
            and (missing.request.reply_key.startswith(key) or key.startswith(missing.request.reply_key))
            for missing in self._missing
        )

    def expire(self, now: float) -> None:
        """Forget what cannot come any more."""
        if self._missing:
            self._missing = [missing for missing in self._missing if now < missing.until]

    def deadlines(self) -> Iterator[float]:
        """When that is so."""
        for missing in self._missing:
            yield missing.until
