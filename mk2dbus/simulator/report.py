"""The simulator's state as lines of text, for people and tests: what the console answers questions with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from .core import Core
from .device import Device
from .events import Event, Kind
from .plant import Plant


def status(core: Core, port: str | None) -> Iterator[str]:
    """The present state; ``port``: where the cable is plugged in."""
    adapter, system = core.adapter, core.system
    yield f"profile {core.profile.name}, clock {adapter.now:.1f} s"
    yield f"cable {'unplugged' if port is None else port}"
    power = "alive" if adapter.alive else "without power"
    yield (
        f"adapter {adapter.kind.version} {power}, {adapter.speed.listening} baud, address {adapter.address}, "
        f"flags 0x{adapter.flags:02X}, ext0 0x{adapter.ext0:02X}, lines 0x{adapter.lines:02X}"
    )
    faults = [name for name in ("silent", "stuck") if getattr(adapter, name)]
    yield f"adapter faults {', '.join(faults) or 'none'}; speed fault {adapter.speed.fault}"
    yield f"line in {core.received_bytes} bytes, out {core.sent_bytes} bytes"
    yield f"system {'awake' if system.awake else 'asleep'}{', held awake' if system.held_awake else ''}"
    yield from _plant(core.plant)
    on, blink = system.leds()
    alarms, error = system.alarms(), system.error()
    yield f"leds on 0x{on:02X}, blinking 0x{blink:02X}; alarms 0x{alarms:02X}; error {error}"
    for device in core.devices.values():
        yield from _unit(device)
    seen = core.log.of(Kind.PANEL)
    yield f"panel frames {core.log.counts[Kind.PANEL]}{f', last {_panel(seen[-1])}' if seen else ''}"


def _plant(plant: Plant) -> Iterator[str]:
    for number, source in enumerate(plant.inputs, 1):
        volts = " ".join(f"L{phase} {volts:.1f} V" for phase, volts in enumerate(source.voltages_v, 1))
        active = ", connected" if plant.active_input == number - 1 else ""
        yield f"input {number} {volts}, {source.frequency_hz:.2f} Hz{active}"
    loads = " ".join(f"L{phase} {watts:.0f} W" for phase, watts in enumerate(plant.loads_w, 1))
    yield f"load {plant.load_w:.0f} W: {loads}"
    for number, generator in enumerate(plant.generators, 1):
        place = f"{generator.location.name.lower()} L{generator.phase + 1}"
        yield f"generator {number} {place} {generator.power_w:.0f} W"
    battery = plant.battery
    yield (
        f"battery {battery.voltage_v:.2f} V, {battery.current_a:.2f} A, {100 * battery.soc:.1f} % "
        f"of {battery.capacity_ah:.0f} Ah, {battery.temperature_c:.0f} °C"
    )
    yield f"charger {plant.charger.state.name.lower()}{'' if plant.charger.active else ', not running'}"


def _unit(device: Device) -> Iterator[str]:
    unit = device.unit
    there = "" if device.present else ", away"
    yield (
        f"unit {device.address} {device.kind.version} {device.serial} {unit.main_state.name.lower()}{there}, "
        f"in {unit.input_w:.0f} W, out {unit.output_w:.0f} W, inverter {unit.inverter_w:.0f} W, "
        f"charge {_yes(device.charge_allowed)}, invert {_yes(device.invert_allowed)}, "
        f"limits {' '.join(f'{amps:.1f} A' for amps in device.limits_a)}"
    )
    if unit.ess is not None:
        watts = "none" if unit.ess.feed_in_w is None else f"{unit.ess.feed_in_w:.0f} W"
        yield (
            f"  ess setpoint {watts}, charge disabled {_yes(unit.ess.charge_disabled)}, "
            f"feed-in disabled {_yes(unit.ess.feed_in_disabled)}"
        )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def store(devices: Sequence[Device], number: int | None) -> Iterator[str]:
    """Settings of devices, all or one: unit, id, stored, in effect, times written."""
    for device in devices:
        for identity, setting in device.settings.items():
            if number in (None, identity):
                yield (
                    f"{device.address} {identity} {setting.stored} {setting.ram} {setting.writes} "
                    f"{setting.info.name}"
                )


def writes(devices: Sequence[Device]) -> Iterator[str]:
    """Settings that were written to EEPROM: unit, id, times; the sum last."""
    total = 0
    for device in devices:
        for number, setting in device.settings.items():
            if setting.writes:
                total += setting.writes
                yield f"{device.address} {number} {setting.writes} {setting.info.name}"
    yield f"total {total}"


def _panel(event: Event) -> str:
    mode, limit = event.data[0], int.from_bytes(event.data[1:3], "little")
    return f"{event.time:.3f} {mode} {limit / 10:.1f} A"


def panels(core: Core, count: int) -> Iterator[str]:
    """The last panel frames: time, mode, limit; how many there were last."""
    yield from map(_panel, core.log.of(Kind.PANEL)[-count:])
    yield f"total {core.log.counts[Kind.PANEL]}"


def log(core: Core, count: int, kind: Kind | None) -> Iterable[str]:
    """The last events."""
    events = list(core.log.events) if kind is None else core.log.of(kind)
    return map(str, events[-count:])


def traffic(core: Core, count: int) -> Iterator[str]:
    """The last frames."""
    for event in list(core.log.traffic)[-count:]:
        arrow = "→" if event.kind is Kind.RECEIVED else "←"
        yield f"{event.time:.3f} {arrow} {event.data.hex(' ').upper()}"


def counts(core: Core) -> Iterator[str]:
    """How many events there were of each kind, and for which reasons."""
    for kind, count in core.log.counts.items():
        yield f"{count} {kind}"
        for (other, reason), number in core.log.reasons.items():
            if other is kind:
                yield f"  {number} {reason}"


def outstanding(core: Core) -> Iterator[str]:
    """How many requests were outstanding together."""
    exchanges = core.adapter.exchanges
    yield f"most {exchanges.most}"
    yield f"most winmon {exchanges.most_winmon}"
    yield f"violations {core.log.counts[Kind.VIOLATION]}"
    for level, count in sorted(exchanges.levels.items()):
        yield f"written as number {level}: {count}"
    for letter, count in sorted(exchanges.counts.items()):
        yield f"{letter} {count}"
