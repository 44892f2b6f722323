"""The policy file for the system bus, in a daemon that denies the rest, with clients of two users."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mk2dbus.simulator import Simulator
from system.conftest import ITEM, Service, call, mk2dbus

POLICY = Path(__file__).parents[2] / "dbus-policy" / "com.victronenergy.vebus.conf"
NOBODY = "65534"
SETTING = "/Devices/0/Settings/AbsorptionVoltage"

# The rules of the system bus as dbus ships them, which the policy file adds to.
CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
  {include}
</busconfig>
"""

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="clients of two users need root"),
    pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed"),
]


async def _daemon(folder: Path, include: str) -> tuple[asyncio.subprocess.Process, str]:
    config = folder / "bus.conf"
    config.write_text(CONFIG.format(socket=folder / "bus", include=include))
    process = await asyncio.create_subprocess_exec(
        *("dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile", "--print-address=1"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    address = (await process.stdout.readline()).decode().strip()
    assert address, "dbus-daemon does not take the policy file"
    return process, address


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that other users can enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


async def _as_nobody(*command: str) -> tuple[int, str]:
    outcome = await call("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command)
    return outcome.code, outcome.out + outcome.err


async def test_root_owns_and_writes_everybody_reads(folder: Path, simulator: Simulator) -> None:
    process, address = await _daemon(folder, f"<include>{POLICY}</include>")
    service = Service(address, folder)
    try:
        await service.start("--tty", str(simulator.port))
        await service.until(SETTING, 57.6)
        bus = ("busctl", f"--address={address}")
        for read in (
            ("get-property", service.name, SETTING, ITEM, "Value"),
            ("call", service.name, SETTING, ITEM, "GetText"),
            ("call", service.name, "/", ITEM, "GetItems"),
            ("call", service.name, "/Devices", ITEM, "GetValue"),
            ("introspect", service.name, SETTING),
            ("call", service.name, "/Devices", "io.github.mk2dbus.Raw", "ReadRam", "iq", "0", "4"),
        ):
            code, text = await _as_nobody(*bus, *read)
            assert code == 0, text
        for write in (
            ("set-property", service.name, SETTING, ITEM, "Value", "v", "d", "56"),
            ("call", service.name, SETTING, ITEM, "SetValue", "v", "d", "56"),
            ("call", service.name, SETTING, ITEM, "SetDefault"),
            ("call", service.name, "/Devices", "io.github.mk2dbus.Raw", "WriteRam", "iqd", "0", "13", "1"),
        ):
            code, text = await _as_nobody(*bus, *write)
            assert code != 0, write
            assert "denied" in text.lower(), text
        assert await service.set_value(SETTING, "d", "56") == 0
        assert simulator.device.settings[2].writes == 1
        assert await service.stop() == 0
    finally:
        if service.name and service.process.returncode is None:
            await service.stop()
        process.terminate()
        await process.wait()


async def test_without_the_file_the_name_is_refused(folder: Path, simulator: Simulator) -> None:
    process, address = await _daemon(folder, "")
    try:
        port, state = str(simulator.port), str(folder)
        outcome = await mk2dbus("run", "--tty", port, "--bus", address, "--state-dir", state)
        assert outcome.code == 1
        assert "policy file" in outcome.err.strip().splitlines()[-1]
    finally:
        process.terminate()
        await process.wait()
