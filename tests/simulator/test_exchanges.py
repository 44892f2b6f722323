"""What was outstanding when, and what must not be outstanding together (mk2-protocol.md §3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mk2dbus.mk2.framing import Frame, adapter_frame
from mk2dbus.simulator import Kind

F0, F1 = adapter_frame("F", b"\x00"), adapter_frame("F", b"\x01")
SNAPSHOT = adapter_frame("F", b"\x06\x0e\x0f\x10")
LEDS = adapter_frame("L")
QUIET = adapter_frame("S", bytes((3, 0, 0, 1, 0x90, 0, 4)))
X, Y, Z, W = (adapter_frame(letter, b"\x05") for letter in "XYZW")


def together(*frames: Frame) -> bytes:
    return b"".join(map(bytes, frames))


@pytest.mark.parametrize(
    ("frames", "breaches"),
    [
        ((X, Y, Z), {}),
        ((F0, X, Y, Z, LEDS), {}),
        ((SNAPSHOT, X, Y, Z), {}),
        ((SNAPSHOT, F0), {}),
        ((QUIET, F0), {}),
        ((F0, F1), {"two F outstanding": 1}),
        ((F0, SNAPSHOT), {"two F outstanding": 1}),
        ((F0, QUIET), {"S while an F is outstanding": 1}),
        ((X, X), {"slot used again while outstanding": 1}),
        ((X, adapter_frame("x", b"\x05\x00")), {"slot used again while outstanding": 1}),
        ((X, Y, Z, W), {"more than three winmon outstanding": 1}),
    ],
)
def test_violations(frames: tuple[Frame, ...], breaches: dict[str, int], talk: Callable[..., Any]) -> None:
    """Written together they are outstanding together, whether or not the slow line saves them from harm."""
    conversation = talk()
    conversation.ask(together(*frames), wait_s=1)
    log = conversation.core.log
    assert {reason: n for (kind, reason), n in log.reasons.items() if kind is Kind.VIOLATION} == breaches
    assert log.counts[Kind.VIOLATION] == sum(breaches.values())


def test_one_after_the_other_is_no_violation(talk: Callable[..., Any]) -> None:
    conversation = talk()
    for frame in (F0, F1, QUIET, X, X, X, F0):
        conversation.ask(frame)
    exchanges = conversation.core.exchanges
    assert conversation.core.log.counts[Kind.VIOLATION] == 0
    assert (exchanges.most, exchanges.most_winmon) == (1, 1)


def test_what_is_counted(talk: Callable[..., Any]) -> None:
    conversation = talk()
    exchanges = conversation.core.exchanges
    exchanges.clear()
    begin = conversation.now
    conversation.ask(together(X, Y, Z, F0), wait_s=1)
    conversation.ask(LEDS)
    assert (exchanges.most, exchanges.most_winmon) == (4, 3)
    assert exchanges.levels == {1: 2, 2: 1, 3: 1, 4: 1}
    assert exchanges.counts == {"X": 1, "Y": 1, "Z": 1, "F": 1, "L": 1}
    first = exchanges.kept[0]
    assert (first.letter, first.written, first.beside) == ("X", begin, "")
    # Five bytes there, the inverter's time, eleven bytes back.
    assert first.through - begin == pytest.approx(5 / 240 + 0.015 + 11 / 240, abs=0.002)
    assert exchanges.outstanding_at(begin + 0.01) == "XYZF"
    assert exchanges.outstanding_at(first.through + 0.001) == "YZF"
    assert exchanges.outstanding_at(begin + 0.9) == ""


def test_what_gets_no_reply_is_not_outstanding(talk: Callable[..., Any]) -> None:
    conversation = talk()
    for request in (adapter_frame("F", b"\x07\x05"), adapter_frame("x", b"\x05\x07"), SNAPSHOT):
        conversation.ask(together(request, request))
    assert conversation.core.log.counts[Kind.VIOLATION] == 0
    conversation.core.adapter.silent = True
    conversation.ask(F0)
    conversation.ask(F1)
    assert conversation.core.log.counts[Kind.VIOLATION] == 0


def test_each_reply_ends_its_own_request(talk: Callable[..., Any]) -> None:
    conversation = talk()
    conversation.ask(together(LEDS, LEDS, LEDS), wait_s=0.5)
    throughs = [one.through for one in conversation.core.exchanges.kept if one.letter == "L"]
    assert throughs == sorted(throughs)
    assert throughs[-1] <= conversation.now
    assert conversation.core.exchanges.outstanding_at(conversation.now) == ""


def test_reply_in_several_frames_is_through_with_the_last(talk: Callable[..., Any]) -> None:
    conversation = talk("multiplus-old")
    begin = conversation.now
    assert len(conversation.ask(adapter_frame("W", b"\x35\x02\x00"), wait_s=0.5)) == 3
    last = conversation.core.exchanges.kept[-1]
    assert last.through - begin == pytest.approx((6 + 3 * 5 + 15) / 240 + 0.015, abs=0.03)
    assert last.through > begin + 0.13


def test_a_flood_is_bounded(talk: Callable[..., Any]) -> None:
    conversation = talk()
    conversation.core.adapter.latency_s = 100
    for _ in range(300):
        conversation.core.feed(bytes(adapter_frame("F", b"\x00")) * 10, conversation.now)
    conversation.listen(60)
    assert conversation.core.exchanges.most <= 33


def test_reset_ends_what_is_outstanding(talk: Callable[..., Any]) -> None:
    conversation = talk()
    conversation.core.adapter.latency_s = 1.0
    conversation.ask(together(X, adapter_frame("R")), wait_s=2.5)
    conversation.ask(X, wait_s=2)
    assert conversation.core.log.counts[Kind.VIOLATION] == 0


@pytest.mark.parametrize(("takes", "answered"), [(None, "XYZ"), (3, "XYZ"), (2, "XY"), (1, "X")])
def test_adapter_that_takes_so_many_at_once(
    takes: int | None, answered: str, talk: Callable[..., Any]
) -> None:
    conversation = talk()
    adapter = conversation.core.adapter
    adapter.kind = replace(adapter.kind, takes=takes)
    replies = conversation.ask(together(X, Y, Z), wait_s=0.5)
    assert "".join(bytes.fromhex(reply)[2:3].decode() for reply in replies) == answered
    lost = conversation.core.log.reasons[Kind.UNANSWERED, "too many outstanding for this adapter"]
    assert lost == 3 - len(answered)
    assert conversation.ask(X), "one alone is always taken"
