"""What the console's commands do; each gives lines to print, or nothing. :mod:`.console` declares them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from . import report
from .bench import Bench
from .charger import ChargeState
from .damage import RandomDamage
from .device import FrontSwitch
from .events import Kind
from .plant import Level, SensorAlarm
from .products import PRODUCTS
from .speed import SpeedFault
from .syntax import CommandError
from .winmon import Override


def set_mains(bench: Bench, volts: float, phase: int | None = None, number: int = 1) -> None:
    source = bench.core.plant.inputs[bench.input_index(number)]
    for index in bench.phases(phase):
        source.voltages_v[index] = volts


def set_frequency(bench: Bench, hertz: float, number: int = 1) -> None:
    bench.core.plant.inputs[bench.input_index(number)].frequency_hz = hertz


def set_load(bench: Bench, watts: float, phase: int | None = None) -> None:
    if phase is None:
        bench.core.plant.load_w = watts
        return
    for index in bench.phases(phase):
        bench.core.plant.loads_w[index] = watts


def set_generator(bench: Bench, number: int, watts: float) -> None:
    generators = bench.core.plant.generators
    if number > len(generators):
        raise CommandError(f"no generator {number}; the system has {len(generators)}")
    generators[number - 1].power_w = watts


def set_soc(bench: Bench, percent: float) -> None:
    plant = bench.core.plant
    plant.battery.soc = plant.monitor.soc = percent / 100


def set_capacity(bench: Bench, ah: float) -> None:
    bench.core.plant.battery.capacity_ah = ah


def set_battery(bench: Bench, volts: float | None) -> None:
    bench.core.plant.battery.forced_v = volts


def set_dc_current(bench: Bench, amps: float) -> None:
    bench.core.plant.external_a = amps


def set_temperature(bench: Bench, celsius: float) -> None:
    bench.core.plant.battery.temperature_c = celsius


def set_bms(bench: Bench, what: str, allowed: bool) -> None:
    setattr(bench.core.plant, what, not allowed)


def set_alarm(bench: Bench, attribute: str, level: Level) -> None:
    setattr(bench.core.plant, attribute, level)


def set_sensor_alarm(bench: Bench, alarm: SensorAlarm) -> None:
    bench.core.plant.sensor_alarm = alarm


def set_error(bench: Bench, code: int, address: int | None = None) -> None:
    for device in bench.some(address):
        device.error = code


def set_charge(bench: Bench, state: ChargeState) -> None:
    charger = bench.core.plant.charger
    if not charger.active:
        raise CommandError("the charger is not running")
    charger.force(state)


def set_noise(bench: Bench, factor: float) -> None:
    bench.core.plant.noise = factor


def set_latency(bench: Bench, milliseconds: float) -> None:
    bench.core.adapter.latency_s = milliseconds / 1000


def set_setting(bench: Bench, address: int, number: int, raw: int) -> None:
    device = bench.device(address)
    setting = device.settings.get(number)
    if setting is None:
        raise CommandError(f"unit {address} has no setting {number}")
    setting.stored = setting.ram = raw
    device.load_limits()


def switch(bench: Bench, position: FrontSwitch) -> None:
    bench.core.turn_front_switch(position)


def press(bench: Bench, mode: int, amps: float, bit3: bool = False) -> Iterator[str]:
    bench.core.press_panel(mode, amps, bit3)
    if bench.core.system.bms_version is not None:
        yield "a BMS is in control: the units take no notice"


def plug(bench: Bench) -> Iterator[str]:
    if bench.cable.plugged:
        raise CommandError("it is plugged in")
    try:
        bench.cable.plug()
    except OSError as error:
        raise CommandError(f"cannot make a port: {error.strerror}") from error
    yield bench.cable.port


def unplug(bench: Bench) -> None:
    if not bench.cable.plugged:
        raise CommandError("it is not plugged in")
    bench.cable.unplug()


def sleep(bench: Bench) -> None:
    if bench.core.system.held_awake:
        raise CommandError("the adapter's standby line holds the units awake")
    bench.core.system.sleep("control")


def wake(bench: Bench) -> None:
    bench.core.system.wake("control")


def adapter_fault(bench: Bench, fault: str) -> None:
    adapter = bench.core.adapter
    adapter.silent, adapter.stuck = fault == "silent", fault == "stuck"


def adapter_reset(bench: Bench) -> None:
    bench.core.adapter.power_cycle()


def adapter_speed(bench: Bench, baudrate: int) -> None:
    bench.core.adapter.baudrate = baudrate


def adapter_speed_fault(bench: Bench, fault: SpeedFault, percent: float | None = None) -> None:
    speed = bench.core.adapter.speed
    speed.fault = fault
    if percent is not None:
        speed.bad_share = percent / 100


def adapter_foreign(bench: Bench, every: int) -> None:
    bench.core.adapter.foreign_configuration_every = every


def adapter_takes(bench: Bench, most: int | None) -> None:
    adapter = bench.core.adapter
    adapter.kind = replace(adapter.kind, takes=most)


def adapter_knows(bench: Bench, what: str, known: bool) -> None:
    adapter = bench.core.adapter
    if known and not adapter.kind.mk3:
        raise CommandError("an MK2 cannot know that")
    adapter.kind = replace(adapter.kind, **{what: known})


def unit_leave(bench: Bench, address: int) -> None:
    device = bench.device(address)
    if not device.present:
        raise CommandError(f"unit {address} is away")
    device.leave()


def unit_join(bench: Bench, address: int) -> None:
    device = bench.device(address)
    if device.present:
        raise CommandError(f"unit {address} is there")
    device.join(bench.core.system.awake)


def unit_reset(bench: Bench, address: int | None) -> None:
    bench.core.system.reset(0 if address is None else bench.device(address).unique)


def unit_replace(bench: Bench, address: int, product: str) -> None:
    bench.device(address)
    bench.core.system.replace(address, PRODUCTS[product]())


def unit_firmware(bench: Bench, address: int, firmware: int) -> None:
    kind = bench.device(address).kind
    bench.core.system.replace(address, replace(kind, version=kind.version // 1000 * 1000 + firmware))


def unit_answer(
    bench: Bench, address: int, command: int, how: dict[str, Any] | None, times: int | None = 1
) -> None:
    overrides = bench.device(address).overrides
    overrides[:] = [override for override in overrides if override.command != command]
    if how is not None:
        overrides.append(Override(command, times=times, **how))


def damage(
    bench: Bench, direction: str, what: str, percent: float, milliseconds: float | None = None
) -> None:
    if milliseconds is not None and what != "delay":
        raise CommandError("only delay takes a time")
    damage = getattr(bench.core, direction)
    if not isinstance(damage, RandomDamage):
        damage = RandomDamage()
    setattr(damage, what, percent / 100)
    if milliseconds is not None:
        damage.delay_s = milliseconds / 1000
    setattr(bench.core, direction, None if damage.harmless else damage)


def damage_none(bench: Bench) -> None:
    bench.core.incoming = bench.core.outgoing = None


def status(bench: Bench) -> Iterable[str]:
    return report.status(bench.core, bench.port)


def store(bench: Bench, address: int | None = None, number: int | None = None) -> Iterable[str]:
    devices = bench.some(address)
    if number is not None and any(number not in device.settings for device in devices):
        raise CommandError(f"no setting {number}")
    return report.store(devices, number)


def writes(bench: Bench, address: int | None = None) -> Iterable[str]:
    return report.writes(bench.some(address))


def ram(bench: Bench, address: int, number: int) -> Iterable[str]:
    raw = bench.device(address).read_ram(number)
    if raw is None:
        raise CommandError(f"unit {address} has no RAM variable {number}")
    return [str(raw)]


def panels(bench: Bench, count: int = 10) -> Iterable[str]:
    return report.panels(bench.core, count)


def log(bench: Bench, count: int = 10, kind: Kind | None = None) -> Iterable[str]:
    return report.log(bench.core, count, kind)


def traffic(bench: Bench, count: int = 10) -> Iterable[str]:
    return report.traffic(bench.core, count)


def counts(bench: Bench) -> Iterable[str]:
    return report.counts(bench.core)


def outstanding(bench: Bench) -> Iterable[str]:
    return report.outstanding(bench.core)


def forget(bench: Bench) -> None:
    bench.core.log.clear()
    bench.core.adapter.exchanges.clear()


def products(_bench: Bench) -> Iterable[str]:
    return [f"{name}  {product().version}" for name, product in PRODUCTS.items()]
