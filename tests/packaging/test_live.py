"""The installer on a machine as it runs: in a copy of this one, whose changes are thrown away.

The files are those of this machine with a layer above them that takes the writes, and the bus is that of the
distribution. systemd and udev cannot run there; in their places are stand-ins that do what the unit and the
rules say, so far as a test can: start the program as the user, give it the port.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.system_bus import why_not

from mk2dbus.install.errors import InstallError
from mk2dbus.install.program import interpreter
from mk2dbus.simulator import Simulator

PROJECT = Path(__file__).parents[2]
NAME = "com.victronenergy.vebus.ttyUSB7"
ITEM = "com.victronenergy.BusItem"
LIMIT_S = 40

SYSTEMCTL = r"""#!/bin/sh
echo "systemctl $*" >>/calls
for unit; do :; done
name=${unit#mk2dbus@} name=${name%.service} pids=/run/stand-in
mkdir -p $pids
case $1 in
    reload)
        daemon=org.freedesktop.DBus
        dbus-send --system --print-reply --dest=$daemon / $daemon.ReloadConfig >/dev/null ;;
    start)
        file='/etc/systemd/system/mk2dbus@.service'
        line=$(sed -n "s|%I|$name|; s|.OPTIONS||; s|^ExecStart=||p" "$file")
        setsid setpriv --reuid=mk2dbus --regid=mk2dbus --clear-groups -- $line >/service.log 2>&1 </dev/null &
        echo $! >"$pids/$name" ;;
    stop)
        for file in $pids/*; do
            [ -f "$file" ] || continue
            pid=$(cat "$file")
            kill "$pid"
            while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
            rm "$file"
        done ;;
    show)
        echo Result=success
        if [ -f "$pids/$name" ]; then echo ActiveState=active; echo "MainPID=$(cat "$pids/$name")"
        else echo ActiveState=inactive; echo MainPID=0; fi ;;
esac
"""

UDEVADM = """#!/bin/sh
echo "udevadm $*" >>/calls
case "$*" in
    trigger*MK2DBUS_ADAPTER*) chgrp -L tty /dev/ttyUSB7 ;;
    trigger*) chgrp -L mk2dbus /dev/ttyUSB7 && chmod 660 /dev/ttyUSB7 ;;
esac
"""

OUTSIDE = """set -e
mount -t tmpfs tmpfs {layer}
mkdir {layer}/up {layer}/work {layer}/root
mount -t overlay overlay -o lowerdir=/,upperdir={layer}/up,workdir={layer}/work {layer}/root
cd {layer}/root
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs dev
mount -t tmpfs tmpfs sys
mount -t proc proc proc
for device in null zero full urandom; do touch dev/$device; mount --bind /dev/$device dev/$device; done
mkdir dev/pts
mount --bind /dev/pts dev/pts
for path in {binds}; do mkdir -p ".$path"; mount --rbind "$path" ".$path"; done
mkdir -p run/dbus run/systemd/system run/udev sys/class/tty/ttyUSB7 sys/devices/ttyUSB7 usr/local/sbin
mkdir -p etc/dbus-1/system.d
ln -s ../../../devices/ttyUSB7 sys/class/tty/ttyUSB7/device
echo 0403 >sys/devices/ttyUSB7/idVendor
echo 6015 >sys/devices/ttyUSB7/idProduct
echo 'MK3-USB Interface' >sys/devices/ttyUSB7/product
echo HQ2132ABCDE >sys/devices/ttyUSB7/serial
ln -s {port} dev/ttyUSB7
cp {tools}/systemctl {tools}/udevadm usr/local/sbin/
touch calls service.log run/udev/control
# What the layer holds; a folder of this machine that something in it was written to counts for nothing.
listing() {{
    (
        cd {layer}/up
        find . -not -path '*/__pycache__*' -not -name '*-' | sort \
            | while read -r path; do [ -d "$path" ] && [ -d "/$path" ] || echo "$path"; done
        cat etc/passwd etc/group
    )
}}
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
# In the layer from the start, so that the listings compare their content.
for table in passwd group shadow gshadow subuid subgid .pwd.lock; do touch etc/$table; done
rm -rf var/lib/mk2dbus  # a service of this machine may have been there
listing >{tools}/before
chroot . sh {tools}/inside
listing >{tools}/after
"""

INSIDE = """
part() {{ title=$1; shift; echo "== $title"; "$@" 2>&1; echo "== code $?"; }}
reader() {{ setpriv --reuid=65534 --regid=65534 --clear-groups -- busctl "$@"; }}
mk2dbus() {{ (cd {project} && {python} -m mk2dbus "$@"); }}
dbus-daemon --system --nofork --nopidfile --nosyslog 2>/run/bus.log &
until [ -S /run/dbus/system_bus_socket ]; do sleep 0.02; done
part doctor-before mk2dbus doctor
part broken sh -c 'mv /usr/local/sbin/udevadm /udevadm; cd {project} && {python} -m mk2dbus install'
mv /udevadm /usr/local/sbin/udevadm
part unpolicied ls /etc/dbus-1/system.d/com.victronenergy.vebus.conf
part install mk2dbus install
part again mk2dbus install
part doctor-after mk2dbus doctor
tries=0
until [ $tries -gt 100 ] || busctl get-property {name} /State {item} Value 2>/dev/null | grep -q 'v i'; do
    sleep 0.05
    tries=$((tries + 1))
done
part user busctl call {daemon} / {daemon} GetConnectionUnixUser s {name}
part read reader get-property {name} /State {item} Value
part write reader set-property {name} /Mode {item} Value v i 1
part uninstall /usr/local/bin/mk2dbus uninstall --purge
part group stat -L -c %G /dev/ttyUSB7
part owner busctl call {daemon} / {daemon} GetNameOwner s {name}
part calls cat /calls
part log cat /service.log /run/bus.log
"""


def _why_not(folder: Path) -> str | None:
    for path in (sys.prefix, sys.base_prefix):
        if path.startswith("/usr") and Path(path).stat().st_dev != Path("/").stat().st_dev:
            return f"{path} is a file system of its own"
    try:
        interpreter()
    except InstallError as error:
        return str(error)
    tried = subprocess.run(
        (
            *("unshare", "--mount", "sh", "-c"),
            f"mount -t tmpfs tmpfs {folder} && cd {folder} && mkdir up work root && "
            "mount -t overlay overlay -o lowerdir=/,upperdir=$PWD/up,workdir=$PWD/work root",
        ),
        capture_output=True,
        text=True,
    )
    return f"no layer above the files here: {tried.stderr.strip()}" if tried.returncode else None


@pytest.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[Simulator]:
    async with Simulator("multiplus2", baudrate=0, latency_ms=2, link=tmp_path / "ttySim") as simulator:
        yield simulator


def _prepare(folder: Path, simulator: Simulator) -> Path:
    """Write the scripts; the one to run."""
    tools, layer = folder / "tools", folder / "layer"
    for path in (tools, layer):
        path.mkdir()
    reason = why_not() or _why_not(layer)
    if reason is not None:
        pytest.skip(reason)
    # What is on other file systems is not in the layer by itself.
    paths = {Path(path) for path in (PROJECT, sys.prefix, sys.base_prefix, tools)}
    binds = [str(path) for path in paths if path == tools or path.stat().st_dev != Path("/").stat().st_dev]
    words = {
        "layer": layer,
        "tools": tools,
        "project": PROJECT,
        "python": sys.executable,
        "port": Path(simulator.port).resolve(),
        "binds": " ".join(binds),
        "name": NAME,
        "item": ITEM,
        "daemon": "org.freedesktop.DBus",
    }
    for name, text in (("systemctl", SYSTEMCTL), ("udevadm", UDEVADM)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (tools / "inside").write_text(INSIDE.format(**words))
    (tools / "outside").write_text(OUTSIDE.format(**words))
    return tools / "outside"


async def test_in_and_out_of_a_running_machine(tmp_path: Path, simulator: Simulator) -> None:
    script = _prepare(tmp_path, simulator)
    assert shutil.which("userdel") is not None
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            # The shell is process 1 there and takes the exit codes of what systemd would have started.
            *("timeout", str(LIMIT_S), "unshare", "--mount", "--pid", "--fork", "--kill-child"),
            *("sh", str(script)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=asyncio.subprocess.STDOUT,
        )
        await process.wait()
    said = output.read_text()
    assert process.returncode == 0, said
    parts = {
        title: (int(code), text)
        for title, text, code in re.findall(
            r"^== (\S+)\n(.*?)^== code (\d+)$", said, re.DOTALL | re.MULTILINE
        )
    }

    code, text = parts["doctor-before"]
    assert code == 1
    assert "policy of mk2dbus is not installed" in text
    assert "mk2dbus@ttyUSB7.service does not run" in text

    # One of the tools is missing: nothing at all is done.
    code, text = parts["broken"]
    assert (code, text) == (1, "mk2dbus: udevadm is not there: it comes with systemd and udev\n")
    assert parts["unpolicied"][0] == 2

    code, text = parts["install"]
    assert code == 0, said
    assert "the bus has its policy" in text
    assert f"mk2dbus@ttyUSB7 runs and owns {NAME}" in text
    code, text = parts["again"]
    assert (code, text.count("\n")) == (0, 1)
    assert "installed already" in text

    code, text = parts["doctor-after"]
    assert code == 0, text
    assert "is used by the service on the bus" in text
    assert "com.victronenergy.vebus.conf is in force" in text

    assert re.fullmatch(r"u [1-9]\d*\n", parts["user"][1]), parts["user"]  # not root
    assert parts["read"][0] == 0
    code, text = parts["write"]
    assert code != 0
    assert "denied" in text.lower()

    code, text = parts["uninstall"]
    assert code == 0, text
    assert parts["owner"][0] != 0
    assert parts["group"][1] == "tty\n"  # a group that is deleted must not keep the port
    assert "Traceback" not in said
    # Users exist before the bus reads the policy, and the policy is there before the service starts.
    calls = parts["calls"][1].splitlines()
    assert calls.index("systemctl reload dbus.service") < calls.index(
        "systemctl start mk2dbus@ttyUSB7.service"
    )
    tools = tmp_path / "tools"
    assert (tools / "after").read_text() == (tools / "before").read_text()
