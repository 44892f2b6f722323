"""What the adapter turns out to take: several commands at a time, an ``L`` beside an ``F``, addressed forms.

The protocol says it does (§3). Commands that stay unanswered while others are answered speak against it. On a
noisy line a few do so too, and a command that a device never answers does so always: it counts little.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from mk2dbus.mk2.exchange import Exchange
from mk2dbus.mk2.request import AdapterRequest, Lane

FIRST_PROBATION_S = 600.0
LAST_PROBATION_S = 86_400.0
"""How long one command at a time is sent before several are tried again: doubled each time."""


MOST_OF_A_KIND = 2
"""How often a command counts that stays unanswered again and again."""


class Doubt:
    """Weighs answers against missing ones."""

    LIMIT = 4.0
    """Points at which it is decided; an unanswered command counts one."""
    RELIEF = 0.2
    """What an answered one takes back."""

    def __init__(self) -> None:
        self._points = 0.0

    def answered(self) -> None:
        self._points = max(0.0, self._points - self.RELIEF)

    def unanswered(self) -> bool:
        """Whether that is enough. Then it begins anew."""
        self._points += 1
        if self._points < self.LIMIT:
            return False
        self._points = 0.0
        return True


class NeverAnswered:
    """Tells a reply that stayed out from one that always does: that is how it is with this command there."""

    def __init__(self) -> None:
        self._times: Counter[tuple[object, int | None]] = Counter()

    def counts(self, exchange: Exchange) -> bool:
        """An exchange had no reply; whether that says something of adapter and line."""
        kind = _kind(exchange)
        self._times[kind] += 1
        return self._times[kind] <= MOST_OF_A_KIND

    def answered(self, exchange: Exchange) -> None:
        """An exchange had its reply."""
        del self._times[_kind(exchange)]


class Abilities:
    """How the adapter is used; takes back what it does not bear.

    Args:
        pipeline: most winmon commands on the line at a time, 1 to 3; 1: one exchange of any kind at a time.
        beside_info: whether what the adapter answers itself (``L``) may be asked beside an ``F``.

    Attributes:
        addressed: winmon commands carry their address (``x`` ``y`` ``z``).
    """

    def __init__(self, pipeline: int, beside_info: bool) -> None:
        if not 1 <= pipeline <= 3:
            raise ValueError(f"a pipeline of {pipeline} is not possible, 1 to 3 is")
        self.pipeline = pipeline
        self.beside_info = beside_info
        self.addressed = False
        self._wanted = pipeline
        self._crowding: defaultdict[int, Doubt] = defaultdict(Doubt)
        """By how many others were under way together with a command."""
        self._besides = Doubt()
        self._addressing = Doubt()
        self._never_answered = NeverAnswered()
        self._last_answer = -1.0
        self._last_answers: dict[int | None, float] = {}
        """By address of the device."""
        self._last_blame = 0.0
        self._probation_s = FIRST_PROBATION_S
        self._alone_until = 0.0

    def answered(self, exchange: Exchange, now: float) -> str | None:
        """An exchange had its reply; what changes with that, in a sentence."""
        self._last_answer = self._last_answers[exchange.address] = now
        self._never_answered.answered(exchange)
        for others in range(1, exchange.together_with + 1):
            self._crowding[others].answered()
        if exchange.beside_info:
            self._besides.answered()
        if exchange.in_address_form:
            # One that takes addresses takes them all; a device that is away proves nothing.
            self._addressing = Doubt()
        if self.pipeline < self._wanted and now >= self._alone_until:
            self.pipeline = self._wanted
            return "trying again to send the adapter several commands at a time"
        return None

    def others_answered(self, exchange: Exchange) -> bool:
        """Whether its device, or anybody for a command to the adapter, answered something after an exchange
        was sent. A device that answers nothing is away: that says nothing of adapter and line."""
        answers = self._last_answer
        if exchange.address is not None:
            answers = self._last_answers.get(exchange.address, -1.0)
        return answers > exchange.sent_at

    def unanswered(self, exchange: Exchange, now: float) -> str | None:
        """An exchange had no reply; what changes with that, in a sentence."""
        if exchange.crowded and self.others_answered(exchange) and self.pipeline > 1:
            if not self._never_answered.counts(exchange):
                return None
            if exchange.beside_info and self.beside_info:
                if self._besides.unanswered():
                    self.beside_info = False
                    return "the adapter does not take an L beside an F; it gets them one after the other now"
            # One that was there first may be forgotten for the next.
            elif self._crowding[max(exchange.together_with, 1)].unanswered():
                self._crowding.clear()
                self.pipeline = 1
                self._alone_until = now + self._probation_s
                self._probation_s = min(2 * self._probation_s, LAST_PROBATION_S)
                return "the adapter does not take several commands at a time; it gets one at a time now"
        elif exchange.in_address_form and self.addressed and self._last_answer > self._last_blame:
            if not self._never_answered.counts(exchange):
                return None
            # In silence only the first counts: then it is not the form that is to blame.
            self._last_blame = now
            if self._addressing.unanswered():
                self.addressed = False
                self.pipeline = self._wanted
                return "the adapter does not take addresses in commands any more; it is told them before"
        return None


def _kind(exchange: Exchange) -> tuple[object, int | None]:
    """What may stay unanswered for a reason of its own: a command to a device, an info frame of a phase."""
    request = exchange.request
    what = request.reply_key[:2] if isinstance(request, AdapterRequest) else type(request)
    return what, exchange.address


def beside_info(one: Lane, other: Lane) -> bool:
    """Whether two lanes are an ``F`` and what the adapter answers itself."""
    return {one, other} == {Lane.INFO, Lane.OWN}
