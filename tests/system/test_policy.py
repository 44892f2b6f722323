"""The policy files, each on a real system bus, with clients of four users: who owns, reads, writes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.system_bus import (
    MEMBER,
    ROOT,
    SERVICE_USER,
    STRANGER,
    SystemBus,
    as_user,
    own,
    python_as_user,
    why_not,
)

from mk2dbus.simulator import Simulator
from system.conftest import ITEM, START_LIMIT_S, Outcome, call

FOLDER = Path(__file__).parents[2] / "dbus-policy"
POLICY = FOLDER / "com.victronenergy.vebus.conf"
VENUS_POLICY = FOLDER / "com.victronenergy.vebus-venus.conf"
NAME = "com.victronenergy.vebus.ttySim"
SETTING = "/Devices/0/Settings/AbsorptionVoltage"
RAW = "io.github.mk2dbus.Raw"

# What Venus OS has: everybody may own and call everything.
VENUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
  <includedir>/etc/dbus-1/system.d</includedir>
</busconfig>
"""

READS = (
    ("get-property", NAME, SETTING, ITEM, "Value"),
    ("call", NAME, SETTING, ITEM, "GetValue"),
    ("call", NAME, SETTING, ITEM, "GetText"),
    ("call", NAME, SETTING, ITEM, "GetMin"),
    ("call", NAME, SETTING, ITEM, "GetMax"),
    ("call", NAME, SETTING, ITEM, "GetDefault"),
    ("call", NAME, SETTING, ITEM, "GetDescription", "si", "en", "0"),
    ("call", NAME, "/", ITEM, "GetItems"),
    ("call", NAME, "/Devices", ITEM, "GetValue"),
    ("call", NAME, "/Devices", ITEM, "GetText"),
    ("call", NAME, SETTING, "org.freedesktop.DBus.Properties", "GetAll", "s", ITEM),
    ("call", NAME, SETTING, "org.freedesktop.DBus.Peer", "Ping"),
    ("introspect", NAME, SETTING),
    ("tree", NAME),
    ("call", NAME, "/Devices", RAW, "Choices", "s", "/Mode"),
)
WRITES = (
    ("set-property", NAME, SETTING, ITEM, "Value", "v", "d", "56"),
    ("call", NAME, SETTING, ITEM, "SetValue", "v", "d", "56.5"),
    ("call", NAME, SETTING, ITEM, "SetDefault"),
    ("call", NAME, "/Devices", RAW, "WriteRam", "iqd", "0", "13", "1"),
    # No writes, but they can put requests on the line, one for each call.
    ("call", NAME, "/Devices", RAW, "ReadRam", "iq", "0", "4"),
    ("call", NAME, "/Devices", RAW, "Preview", "sv", SETTING, "d", "57"),
)

_reason = why_not()
pytestmark = pytest.mark.skipif(_reason is not None, reason=_reason or "")


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that other users can enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@contextmanager
def started(bus: SystemBus) -> Iterator[SystemBus]:
    bus.start()
    try:
        yield bus
    finally:
        bus.stop()


def _device(simulator: Simulator) -> Path:
    """The device itself: what belongs to somebody is not the link to it."""
    return Path(simulator.port).resolve()


@asynccontextmanager
async def served(bus: SystemBus, user: str, simulator: Simulator) -> AsyncIterator[None]:
    """The service, run by a user, with its name owned."""
    port = _device(simulator)
    state = bus.folder / "state"
    state.mkdir()
    if user != ROOT:
        own(user, port)
        own(user, state)
    run = ("run", "--tty", str(port), "--name", "ttySim", "--bus", bus.address, "--state-dir", str(state))
    log = (bus.folder / "service.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        *python_as_user(user, "-m", "mk2dbus", *run), stdout=asyncio.subprocess.PIPE, stderr=log
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_LIMIT_S):
            line = await process.stdout.readline()
            assert line.startswith(NAME.encode()), (bus.folder / "service.log").read_text()
            while True:
                if (await ask(bus, ROOT, *READS[0])).out == "v d 57.6\n":
                    break
                await asyncio.sleep(0.05)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        log.close()


async def ask(bus: SystemBus, user: str, *arguments: str) -> Outcome:
    return await call(*as_user(user, "busctl", f"--address={bus.address}", *arguments))


async def may_own(bus: SystemBus, user: str, name: str) -> bool:
    """Whether the bus gives a user a name."""
    code = (
        "import asyncio, sys\n"
        "from mk2dbus.bus.connection import Connection\n"
        "from mk2dbus.bus.errors import NameRefused\n"
        "async def own():\n"
        "    connection = await Connection.open(sys.argv[1])\n"
        "    try:\n"
        "        await connection.request_name(sys.argv[2])\n"
        "    except NameRefused:\n"
        "        return 3\n"
        "    finally:\n"
        "        connection.close()\n"
        "    return 0\n"
        "sys.exit(asyncio.run(own()))\n"
    )
    outcome = await call(*python_as_user(user, "-c", code, bus.address, name))
    assert outcome.code in (0, 3), outcome.err
    return outcome.code == 0


async def assert_reads(bus: SystemBus, *users: str) -> None:
    for user in users:
        for read, outcome in zip(
            READS, await asyncio.gather(*(ask(bus, user, *read) for read in READS)), strict=True
        ):
            assert outcome.code == 0, (user, read, outcome.err)


async def assert_no_writes(bus: SystemBus, *users: str) -> None:
    for user in users:
        for write in WRITES:
            outcome = await ask(bus, user, *write)
            assert outcome.code != 0, (user, write)
            assert "denied" in outcome.err.lower(), (user, write, outcome.err)


async def test_who_reads_and_who_writes(folder: Path, simulator: Simulator) -> None:
    setting = simulator.device.settings[2]
    with started(SystemBus(folder, {POLICY.name: POLICY})) as bus:
        async with served(bus, SERVICE_USER, simulator):
            await assert_reads(bus, ROOT, MEMBER, STRANGER)
            await assert_no_writes(bus, STRANGER)
            assert setting.writes == 0
            for user in (MEMBER, ROOT):
                before = setting.writes
                for write in WRITES:
                    outcome = await ask(bus, user, *write)
                    assert outcome.code == 0, (user, write, outcome.err)
                assert setting.writes == before + 3, user
        assert "Unknown" not in bus.log


async def test_everybody_hears_of_changes(folder: Path, simulator: Simulator) -> None:
    with started(SystemBus(folder, {POLICY.name: POLICY})) as bus:
        async with served(bus, SERVICE_USER, simulator):
            gdbus = shutil.which("gdbus")
            if gdbus is None:
                pytest.skip("gdbus is not installed")
            listener = await asyncio.create_subprocess_exec(
                *as_user(STRANGER, gdbus, "monitor", "--address", bus.address, "--dest", NAME),
                stdout=asyncio.subprocess.PIPE,
            )
            assert listener.stdout is not None
            try:
                async with asyncio.timeout(START_LIMIT_S):
                    while b"is owned by" not in await listener.stdout.readline():
                        pass
                    assert (await ask(bus, MEMBER, *WRITES[0])).code == 0
                    while SETTING.encode() not in (line := await listener.stdout.readline()):
                        assert line
            finally:
                listener.terminate()
                await listener.wait()
            assert b"ItemsChanged" in line


async def test_who_owns_the_names(folder: Path) -> None:
    with started(SystemBus(folder, {POLICY.name: POLICY})) as bus:
        owns = {user: await may_own(bus, user, NAME) for user in (ROOT, SERVICE_USER, MEMBER, STRANGER)}
        assert owns == {ROOT: True, SERVICE_USER: True, MEMBER: False, STRANGER: False}
        assert not await may_own(bus, SERVICE_USER, "com.victronenergy.vebusx")
        assert not await may_own(bus, SERVICE_USER, "com.victronenergy.settings")


async def test_nothing_else_is_opened(folder: Path) -> None:
    """Another program's objects stay closed, with the same interfaces and from the same users."""
    other = folder / "other.conf"
    other.write_text(
        '<busconfig><policy user="root"><allow own="com.victronenergy.vebusx"/></policy></busconfig>'
    )
    with started(SystemBus(folder, {POLICY.name: POLICY, other.name: other})) as bus:
        code = (
            "import asyncio, sys\n"
            "from mk2dbus.bus.connection import Connection\n"
            "async def own():\n"
            "    connection = await Connection.open(sys.argv[1])\n"
            "    await connection.request_name('com.victronenergy.vebusx')\n"
            "    print(flush=True)\n"
            "    await connection.lost\n"
            "asyncio.run(own())\n"
        )
        process = await asyncio.create_subprocess_exec(
            *python_as_user(ROOT, "-c", code, bus.address), stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            assert await process.stdout.readline()
            for user in (MEMBER, STRANGER, SERVICE_USER):
                for member in ("GetValue", "SetValue"):
                    outcome = await ask(bus, user, "call", "com.victronenergy.vebusx", "/", ITEM, member)
                    assert "denied" in outcome.err.lower(), (user, member, outcome.err)
        finally:
            process.kill()
            await process.wait()


async def test_without_user_and_group_the_rest_applies(folder: Path, simulator: Simulator) -> None:
    with started(SystemBus(folder, {POLICY.name: POLICY}, accounts=False)) as bus:
        async with served(bus, ROOT, simulator):
            await assert_reads(bus, MEMBER, STRANGER)
            await assert_no_writes(bus, MEMBER, STRANGER)
            assert (await ask(bus, ROOT, *WRITES[0])).code == 0
        assert not await may_own(bus, STRANGER, NAME)


async def test_without_the_file_the_name_is_refused(folder: Path) -> None:
    with started(SystemBus(folder)) as bus:
        for user in (ROOT, SERVICE_USER):
            assert not await may_own(bus, user, NAME)


async def test_venus_os(folder: Path, simulator: Simulator) -> None:
    """On a bus that lets everybody do everything, only root takes our names; the rest is as it was."""
    bus = SystemBus(folder, {VENUS_POLICY.name: VENUS_POLICY}, accounts=False, configuration=VENUS)
    with started(bus):
        async with served(bus, ROOT, simulator):
            await assert_reads(bus, ROOT, STRANGER)
            assert (await ask(bus, ROOT, *WRITES[0])).code == 0
        assert await may_own(bus, STRANGER, "com.victronenergy.battery.mine")
        assert not await may_own(bus, STRANGER, NAME)
        assert await may_own(bus, ROOT, NAME)


async def test_the_venus_file_is_enough_for_root(folder: Path, simulator: Simulator) -> None:
    with started(SystemBus(folder, {VENUS_POLICY.name: VENUS_POLICY})) as bus:
        async with served(bus, ROOT, simulator):
            await assert_reads(bus, ROOT)
            for write in WRITES:
                outcome = await ask(bus, ROOT, *write)
                assert outcome.code == 0, outcome.err
            await assert_no_writes(bus, STRANGER)


def test_the_venus_file_is_for_old_daemons() -> None:
    """Its rules are among those that dbus 1.6 knows."""
    attributes = {name for rule in ElementTree.parse(VENUS_POLICY).iter() for name in rule.attrib}
    assert attributes <= {
        "context",
        "user",
        "own_prefix",
        "send_interface",
        "send_member",
        "send_destination",
    }
