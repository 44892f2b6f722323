"""The recordings of real adapters, replayed: the simulator answers each request in the same form.

``exact`` frames must come byte for byte. Of the others the values are those of another moment or another
unit: type, letter, reply code and length must be the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mk2dbus.mk2.framing import adapter_frame
from mk2dbus.simulator.assistants import Assistant

RECORDINGS = Path(__file__).parents[1] / "captures" / "recordings.txt"
APPEND_LEDS = adapter_frame("S", bytes((3, 0, 0, 1, 0x92, 0, 4)))


@dataclass(frozen=True)
class Exchange:
    """One or no request of the recording and the replies recorded after it.

    ``asked`` is what the test sends where the recording lacks the request, or where by its own comment the
    reply belongs to another one; ``why`` says which.
    """

    request: str | None
    replies: tuple[str, ...] = ()
    exact: bool = True
    asked: tuple[str, ...] = ()
    why: str = ""
    wait_s: float = 0.2


def form(*request_and_replies: str, **more: Any) -> Exchange:
    request, *replies = request_and_replies
    return Exchange(request, tuple(replies), exact=False, **more)


def exact(*request_and_replies: str, **more: Any) -> Exchange:
    request, *replies = request_and_replies
    return Exchange(request, tuple(replies), **more)


def old(talk: Callable[..., Any]) -> Any:
    """The recorded moment: absorption, which an hour brings the simulated battery to."""
    return talk("multiplus-old", long=False, settle_s=3600)


def gx(talk: Callable[..., Any]) -> Any:
    return talk("multiplus2-ess")


def recorded_version(talk: Callable[..., Any], long: bool = True) -> Any:
    """A new device with the recorded firmware, 304: too old for access levels and the byte after 88."""
    conversation = talk("multiplus2", long=long)
    device = conversation.core.device
    device.kind = replace(device.kind, version=2648304)
    return conversation


def compat(talk: Callable[..., Any]) -> Any:
    return recorded_version(talk, long=False)


def with_leds(talk: Callable[..., Any]) -> Any:
    conversation = talk("multiplus2")
    conversation.core.device.settings[63].stored = 0x8134
    conversation.ask(APPEND_LEDS)
    return conversation


def one_assistant(talk: Callable[..., Any]) -> Any:
    conversation = talk("multiplus2")
    conversation.core.device.assistants = [Assistant(0, [0])]
    return conversation


SECTIONS: dict[str, tuple[Callable[..., Any], tuple[Exchange, ...]]] = {
    "12 V MultiPlus, old-style winmon on W": (
        old,
        (
            exact(
                "04 FF 41 01 00 BB",
                "04 FF 41 01 00 BB",
                "07 FF 56 96 3E 11 00 00 BF",
                wait_s=1.2,
                why="the V comes by itself",
            ),
            exact("05 FF 57 36 00 00 6F", "08 FF 57 8E 9C 7F 8F 00 00 6A"),
            exact("05 FF 57 36 01 00 6E", "08 FF 57 8E 64 80 8F 00 00 A1"),
            exact("05 FF 57 36 07 00 68", "08 FF 57 8E 57 78 8F 00 01 B5"),
            exact("05 FF 57 36 08 00 67", "08 FF 57 8E 2F 7C 8F 00 00 DA"),
            exact("05 FF 57 36 0A 00 65", "08 FF 57 8E 04 00 8F 00 80 01"),
            exact("05 FF 57 36 0D 00 62", "08 FF 57 8E 38 7F 8F 00 00 CE"),
            form("03 FF 46 00 B8", "0F 20 F3 00 C8 02 0C A1 05 00 00 00 28 00 00 88 B2"),
            form("03 FF 46 01 B7", "0F 20 01 01 CA 09 08 AA 58 AB 00 AA 58 9A 00 C3 E8"),
            exact("02 FF 4C B3", "06 FF 4C 03 00 00 00 AC"),
            exact("05 FF 57 30 0D 00 68", "05 FF 57 85 C8 00 58"),
        ),
    ),
    "MultiPlus-II 48, GX device's own traffic": (
        gx,
        (
            form("02 FF 56 A9", "07 FF 56 24 DB 11 00 42 52"),
            form("02 FF 4C B3", "08 FF 4C 01 0C 00 00 80 00 20"),
            exact("06 FF 46 06 0E 10 0F 82"),
            form("03 FF 46 01 B7", "0F 20 01 01 01 09 08 EC 5A 5F FF EC 5A 08 00 C3 08"),
            form("03 FF 58 38 6E", "09 FF 58 99 89 FE 05 00 72 01 08"),
            exact("07 FF 5A 37 00 83 72 01 73", "03 FF 5A 87 1D"),
            form(
                "05 FF 59 30 86 00 ED",
                "07 FF 58 85 90 00 61 59 D3",
                asked=("05 FF 58 30 80 00 F4",),
                why="the reply belongs to a read of RAM 128 on slot X",
            ),
        ),
    ),
    "new device, replies in one frame": (
        recorded_version,
        (
            exact("03 FF 58 05 A1", "09 FF 58 82 F0 68 28 00 07 01 96"),
            exact(
                "05 FF 59 36 00 00 6D",
                "07 FF 59 8E 9C 7F 00 00 F8",
                "03 FF 5A 8E 16",
                asked=("05 FF 59 36 00 00 6D", str(adapter_frame("Z", b"\x36\x14\x00"))),
                why="the second line: a RAM variable that is not supported, request not recorded",
            ),
            Exchange(
                None,
                ("0D FF 5A 89 01 00 00 00 03 00 01 00 03 00 09", "03 FF 59 89 1C"),
                asked=(str(adapter_frame("Z", b"\x35\x0a\x00")), str(adapter_frame("Y", b"\x35\x0d\x00"))),
                why="infos of settings 10 and 13, requests not recorded",
            ),
            exact("07 FF 59 37 01 40 D0 07 52", "03 FF 59 88 1D"),
        ),
    ),
    "old device, replies in parts": (
        compat,
        (
            exact("03 FF 58 05 A1", "05 FF 58 82 F0 68 CA"),
            exact("03 FF 59 06 9F", "05 FF 59 83 28 00 F8"),
        ),
    ),
    "LED status appended to a winmon reply, LEDs not known": (
        with_leds,
        (
            Exchange(
                None,
                ("87 FF 58 86 34 81 1F 1F A9",),
                exact=False,
                asked=(str(adapter_frame("X", b"\x31\x3f\x00")),),
                why="request not recorded; LEDs are known here, since a device answers",
            ),
        ),
    ),
    "old MultiPlus, info in the middle of version frames": (
        old,
        (
            Exchange(
                None,
                ("08 FF 57 8E 64 80 8F 00 00 A1", "07 FF 56 98 3E 11 00 00 BD"),
                exact=False,
                asked=("05 FF 57 36 01 00 6E",),
                wait_s=1.2,
                why="request not recorded; the V of another firmware comes by itself",
            ),
        ),
    ),
    "assistants and a RAM variable write in two frames, as a user saw them": (
        one_assistant,
        (
            form("05 FF 57 30 80 00 F5", "07 FF 57 85 01 00 23 5B 9F"),
            exact(
                "05 FF 57 32 81 00 F2",
                "04 FF 57 80 00 26",
                "05 FF 57 87 00 00 1E",
                asked=(
                    "05 FF 57 32 81 00 F2",
                    str(adapter_frame("R")),
                    "05 FF 57 32 81 00 F2",
                    str(adapter_frame("W", b"\x34\x01\x00")),
                ),
                why="the second line comes after a restart of the adapter, and answers the 34 after 32",
            ),
        ),
    ),
}


def lines() -> dict[str, list[tuple[str, str]]]:
    """The recording file: section → lines as (direction, hex)."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for line in RECORDINGS.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), [])
        elif line[:2] in ("> ", "< "):
            current.append((line[0], line[2:].strip()))
    return sections


def shape(raw: str) -> tuple[int, int, bytes]:
    """What must be the same in frames of the same form: length byte, type, letter and reply code."""
    message = bytes.fromhex(raw)
    winmon = message[1] == 0xFF and message[2:3] in (b"W", b"X", b"Y", b"Z")
    letters = message[2 : 4 if winmon else 3] if message[1] == 0xFF else message[6:7]
    return message[0], message[1], letters


def test_every_recorded_line_is_replayed() -> None:
    assert lines() == {
        name: [
            line
            for exchange in exchanges
            for line in (
                *([(">", exchange.request)] if exchange.request else []),
                *(("<", reply) for reply in exchange.replies),
            )
        ]
        for name, (_, exchanges) in SECTIONS.items()
    }


@pytest.mark.parametrize("name", SECTIONS)
def test_answers_as_recorded(name: str, talk: Callable[..., Any]) -> None:
    begin, exchanges = SECTIONS[name]
    conversation = begin(talk)
    for exchange in exchanges:
        requests = exchange.asked or (exchange.request,)
        answers: list[str] = []
        for request in requests:
            raw = bytes.fromhex(request)
            is_reset = raw[2:3] == b"R"
            frames = conversation.listen(2.5 if is_reset else exchange.wait_s, raw)
            # Of the frames that come unasked only those count that the recording has too.
            unasked = raw[2:3] != b"V" and exchange.wait_s < 1
            answers += [str(frame) for frame in frames if not (unasked and frame.data[:1] == b"V")]
        if exchange.exact:
            assert answers == list(exchange.replies)
        else:
            assert list(map(shape, answers)) == list(map(shape, exchange.replies))


def test_recorded_currents_and_voltages_scale_back() -> None:
    """The values the comments of the recording give follow from the info words the simulator serves."""
    from mk2dbus.simulator.tables import load_ram

    ram = load_ram()
    assert ram[4].to_value(0x05A1) == pytest.approx(14.41)
    assert ram[5].to_value(0x28) == pytest.approx(0.40)
    assert 10 / ram[7].to_value(0x88) == pytest.approx(50.0255, abs=1e-4)
    assert 10 / ram[8].to_value(0xC3) == pytest.approx(50.1026, abs=1e-4)
    assert ram[0].to_value(0x58AA) == pytest.approx(226.98)
    assert ram[1].to_value(0xFF5F) == pytest.approx(-1.61)
    assert ram[14].to_value(0xFE89) == -375
