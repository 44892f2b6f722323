"""The write path against the simulator as model: writes of all kinds while replies and frames get lost, the
adapter is reset and the cable pulled, in any order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.clock import SimulatedLoop
from support.driven import MODES, Driven, Mode, driven

from mk2dbus.items import Disconnected, NoReply, ReadOnly, Refused, WriteFailed
from mk2dbus.simulator import Console, Kind, Override
from mk2dbus.vebus.options import Options

T = TypeVar("T")

ANSWER_S = 5.0
FOLDER = "/Devices/0/Settings"
NOT_DONE = ("nothing was written", "still has", "not connected")


class Writing(RuleBasedStateMachine):
    """Model: what the device has stored, and how often; it tells what a write may have done."""

    run: Driven

    @initialize(mode=st.sampled_from(MODES))
    def begin(self, mode: Mode) -> None:
        self.loop = SimulatedLoop()
        self.context = driven(mode=mode, options=Options(poll_interval_s=2.0))
        self.run = self._do(self.context.__aenter__())
        self._do(self.run.until_known(f"{FOLDER}/FloatVoltage"))
        self.stores = self._stores()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def _stores(self) -> int:
        return sum(setting.writes for setting in self.run.core.device.settings.values())

    def _write(self, path: str, value: float) -> WriteFailed | None:
        async def write() -> WriteFailed | None:
            start = self.run.now
            try:
                await self.run.write(path, value)
            except WriteFailed as failed:
                return failed
            finally:
                assert self.run.now - start <= ANSWER_S
            return None

        return self._do(write())

    def _store(self, path: str, value: float, id: int, word: int, mask: int) -> None:
        setting = self.run.core.device.settings[id]
        before, writes = setting.stored, setting.writes
        failed = self._write(path, value)
        after = setting.stored
        told = f"{path} = {value}: {failed or 'done'}; {before:#x} → {after:#x}"
        assert setting.writes - writes <= 1, told
        assert after & ~mask == before & ~mask, told
        if failed is None:
            assert after & mask == word & mask, told
            assert setting.writes - writes == int(before & mask != word & mask), told
        else:
            assert isinstance(failed, NoReply | Disconnected | Refused | ReadOnly), told
            if any(words in str(failed) for words in NOT_DONE) or isinstance(failed, ReadOnly):
                assert after == before, told
            elif not isinstance(failed, Refused):
                assert "not known" in str(failed), told
        self.stores = self._stores()

    @rule(volts=st.sampled_from([56.0, 56.5, 57.0]))
    def setting(self, volts: float) -> None:
        self._store(f"{FOLDER}/AbsorptionVoltage", volts, 2, round(100 * volts), 0xFFFF)

    @rule(on=st.integers(0, 1))
    def flag(self, on: int) -> None:
        self._store(f"{FOLDER}/DisableCharger", on, 0, on << 6, 1 << 6)

    @rule(amps=st.sampled_from([20.0, 30.0]))
    def in_ram(self, amps: float) -> None:
        path = "/Devices/0/RamOnly/ChargeCurrent"
        setting = self.run.core.device.settings[4]
        if path not in self.run.tree:
            return
        failed = self._write(path, amps)
        if failed is None:
            assert setting.value == amps
            # Or the device is gone again already.
            assert self.run.value(path) in (amps, None)

    @rule(mode=st.sampled_from([1, 3]))
    def mode(self, mode: int) -> None:
        device = self.run.core.device
        before = device.charge_allowed, device.invert_allowed
        failed = self._write("/Mode", mode)
        wanted = {1: (True, False), 3: (True, True)}[mode]
        now = device.charge_allowed, device.invert_allowed
        if failed is None:
            assert now == wanted
        elif "nothing was commanded" in str(failed) or isinstance(failed, ReadOnly):
            assert now == before

    @rule(
        command=st.sampled_from([0x37, 0x31]),
        execute=st.booleans(),
        times=st.integers(1, 5),
        refused=st.booleans(),
    )
    def replies_lost(self, command: int, execute: bool, times: int, refused: bool) -> None:
        reply = (b"\x80\x00",) if refused and command == 0x37 and not execute else None
        self.run.core.device.overrides[:] = [Override(command, execute=execute, reply=reply, times=times)]

    @rule(direction=st.sampled_from(["incoming", "outgoing"]), count=st.integers(1, 12))
    def frames_lost(self, direction: str, count: int) -> None:
        left = count

        def lose(data: bytes) -> bytes:
            nonlocal left
            left -= 1
            return data if left < 0 else b""

        setattr(self.run.core, direction, lose)

    @rule()
    def cable(self) -> None:
        async def pull() -> None:
            self.run.port.lose()

        self._do(pull())

    @rule(line=st.sampled_from(["adapter reset", "sleep", "wake", "unit reset all"]))
    def happens(self, line: str) -> None:
        Console(self.run.core).execute(line)

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0]))
    def wait(self, seconds: float) -> None:
        self._do(asyncio.sleep(seconds))

    @invariant()
    def nothing_is_stored_by_itself(self) -> None:
        if hasattr(self, "stores"):
            assert self._stores() == self.stores

    def teardown(self) -> None:
        if not hasattr(self, "stores"):
            return
        try:
            self.run.core.incoming = self.run.core.outgoing = None
            self.run.core.device.overrides.clear()
            Console(self.run.core).execute("wake")
            self._do(self.run.until(lambda: self.run.value("/Dc/0/Voltage") is not None, 60))
            self._do(self.run.until_known(f"{FOLDER}/AbsorptionVoltage", 120))
            shown, stored = self.run.value(f"{FOLDER}/AbsorptionVoltage"), self.run.core.device.settings[2]
            assert shown == stored.stored / 100
            assert self._stores() == self.stores
            assert not self.run.core.log.reasons[Kind.NOTE, "S with flag 0x01: repeats by itself"]
        finally:
            self._do(self.context.__aexit__(None, None, None))
            self.loop.close()


TestWriting = Writing.TestCase
TestWriting.settings = settings(
    max_examples=12, stateful_step_count=20, deadline=None, phases=(Phase.explicit, Phase.generate)
)
