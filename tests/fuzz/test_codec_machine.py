"""The frame cutter against a model: whatever comes, good frames on a quiet line get through."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mk2dbus.mk2.framing import MAX_LENGTH, Frame, FrameCutter, FrameType, Leds

frames = st.builds(
    Frame,
    st.sampled_from(sorted(FrameType)),
    st.binary(max_size=30),
    st.none() | st.builds(Leds, st.integers(0, 255), st.integers(0, 255)),
)


class Cutting(RuleBasedStateMachine):
    """Model: how many bytes went in, and what must come out while nothing is incomplete."""

    def __init__(self) -> None:
        super().__init__()
        self.cutter = FrameCutter()
        self.fed = 0
        self.passed = 0

    def _feed(self, data: bytes) -> list[Frame]:
        self.fed += len(data)
        found = self.cutter.feed(data)
        self.passed += sum(len(bytes(frame)) for frame in found)
        return found

    @rule(data=st.binary(max_size=60))
    def noise(self, data: bytes) -> None:
        self._feed(data)

    @rule(frame=frames, cut=st.integers(0, 40))
    def broken_off(self, frame: Frame, cut: int) -> None:
        self._feed(bytes(frame)[:cut])

    @rule(frame=frames, sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8))
    def after_a_pause(self, frame: Frame, sizes: list[int]) -> None:
        """When what is incomplete was given up, the next frame comes whole and alone."""
        while self.cutter.pending:
            found = self.cutter.give_up()
            self.passed += sum(len(bytes(one)) for one in found)
        data, found = bytes(frame), []
        for size in sizes:
            found += self._feed(data[:size])
            data = data[size:]
        found += self._feed(data)
        assert found == [frame]
        assert not self.cutter.pending

    @rule(count=st.integers(1, 200), byte=st.sampled_from((0x00, 0xFF, 0x28, 0x05, 0x20)))
    def run(self, count: int, byte: int) -> None:
        self._feed(bytes((byte,)) * count)

    @rule()
    def cleared(self) -> None:
        self.cutter.clear()
        assert not self.cutter.pending

    @invariant()
    def bounded(self) -> None:
        assert self.cutter.begun_bytes <= MAX_LENGTH + 1
        assert 1 <= self.cutter.missing_bytes <= MAX_LENGTH + 1

    @invariant()
    def every_byte_is_accounted_for(self) -> None:
        assert self.cutter.position + self.cutter.begun_bytes == self.fed
        assert self.passed + self.cutter.dropped_bytes + self.cutter.begun_bytes == self.fed


TestCutting = Cutting.TestCase
TestCutting.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
