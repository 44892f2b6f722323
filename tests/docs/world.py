"""What a page of the documentation is followed on: an adapter with an inverter, both buses, the service."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from support.bus import Daemon

from .markdown import FOLDER, Block, Command

PORT = "/dev/ttyUSB0"
"""The port in the documentation. Its simulator is somewhere else, under the same name."""

LIMIT_S = 30.0
"""More than anything here takes; only a hang reaches it."""

READ = "/Devices/0/Settings/ReadProgress"

_STAND_INS = {
    # Root would keep the state of the service where a real one keeps it.
    "mk2dbus": """case ${1-} in
    run) shift; set -- run --state-dir "$STATE" "$@" ;;
esac
exec "$PYTHON" -m mk2dbus "$@"
""",
    "python3": 'exec "$PYTHON" "$@"\n',
    # A broker is not ours to test: what it would get is.
    "mosquitto_pub": 'echo "mosquitto_pub $*"; cat\n',
}


class World:
    """Processes of a page. ``on`` is a profile of the simulator, perhaps with ``, no service``.

    Everything runs in a folder of its own that has docs/ in it; PATH has this mk2dbus first.
    """

    def __init__(self, folder: Path, on: str) -> None:
        profile, _, service = on.partition(", ")
        assert service in ("", "no service"), on
        self._folder = folder
        self.home = folder / "home"
        self.port = folder / "ports" / "ttyUSB0"
        self._buses = [Daemon(_made(folder / name)) for name in ("system", "session")]
        self._staying: list[tuple[int, subprocess.Popen[str]]] = []
        for path in (self.home, self.port.parent, folder / "bin"):
            path.mkdir()
        (self.home / "docs").symlink_to(FOLDER)
        for name, body in _STAND_INS.items():
            script = folder / "bin" / name
            script.write_text(f"#!/bin/sh\n{body}")
            script.chmod(0o755)
        try:
            for bus in self._buses:
                bus.start()
            self._start(0, f"mk2dbus simulate {profile} --baudrate 0 --latency 1 --link {self.port}")
            if not service:
                self._start(0, f"mk2dbus run --tty {self.port}")
                self._until_read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.end_section(None)
        for bus in self._buses:
            bus.kill()

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DBUS_")}
        system, session = (bus.address for bus in self._buses)
        return kept | {
            "PATH": f"{self._folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "STATE": str(self._folder / "state"),
            "PYTHON": sys.executable,
            "DBUS_SYSTEM_BUS_ADDRESS": system,
            "DBUS_SESSION_BUS_ADDRESS": session,
            "TERM": "dumb",
            "LC_ALL": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
        }

    def run(self, text: str) -> tuple[int, str]:
        """Run a shell command to its end: exit code, and what it said."""
        process = self._popen(text)
        try:
            said, _ = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            _end(process, signal.SIGKILL)
            raise
        return process.returncode, self._as_documented(said)

    def follow(self, block: Block, last: Command, stays: bool) -> None:
        """Run a command that does not end by itself until it has said what is shown; then end it, or not."""
        process = self._popen(last.text)
        try:
            said = self._read_until(process, last)
        except BaseException:
            _end(process, signal.SIGKILL)
            raise
        if stays:
            self._staying.append((block.section, process))
            return
        code = _end(process, signal.SIGINT)
        assert code in (0, 130, -signal.SIGINT), f"{block}: Ctrl-C ended it with {code} after:\n{said}"

    def end_section(self, now: int | None) -> None:
        """End what stays in other sections than this one; the service of the page is in section 0."""
        for kept in reversed(self._staying):
            section, process = kept
            if now is None or (section != now and section != 0):
                # The service of the page may take a while to end well; here that is nobody's wish.
                _end(process, signal.SIGTERM if section else signal.SIGKILL)
                self._staying.remove(kept)

    def _start(self, section: int, text: str) -> None:
        process = self._popen(f"exec {text}", errors=subprocess.DEVNULL)
        self._staying.append((section, process))
        assert process.stdout is not None
        assert process.stdout.readline(), f"did not start: {text}"

    def _until_read(self) -> None:
        name = f"com.victronenergy.vebus.{self.port.name}"
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            _, said = self.run(
                f"busctl get-property {name} {READ} com.victronenergy.BusItem Value 2>/dev/null || :"
            )
            if said.strip() == "v i 100":
                return
            # Not more often: each look is a process or two.
            time.sleep(0.25)
        raise AssertionError("the settings were not read")

    def _popen(self, text: str, errors: int = subprocess.STDOUT) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ("bash", "-c", text.replace(PORT, str(self.port))),
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )

    def _read_until(self, process: subprocess.Popen[str], command: Command) -> str:
        assert process.stdout is not None
        descriptor, received, until = process.stdout.fileno(), b"", time.monotonic() + LIMIT_S
        while True:
            said = self._as_documented(received.decode(errors="replace"))
            if command.begins(said):
                return said
            left = until - time.monotonic()
            ready = left > 0 and select.select([descriptor], [], [], left)[0]
            data = os.read(descriptor, 1 << 16) if ready else b""
            assert data, f"it said\n{said}\nand not\n" + "\n".join(command.output)
            received += data

    def _as_documented(self, said: str) -> str:
        return said.replace(str(self.port), PORT)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _end(process: subprocess.Popen[str], number: int) -> int:
    """End a process and all that it started; its exit code."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    try:
        code = process.wait(timeout=LIMIT_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
    return code
