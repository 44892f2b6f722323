"""The udev rules: what they do for adapters and for other devices.

udev itself can only be tried on a machine with the device, so a small reading of its language stands in for
it, as udev(7) has it; where udevadm can check a file, it does.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from mk2dbus.host.adapters import KINDS
from mk2dbus.install.layout import RULES

VENUS_RULES = Path(__file__).parents[2] / "service" / "venus" / "zz-mk2dbus.rules"
TOKEN = re.compile(r'([A-Z_]+)(?:\{([^}]*)\})?\s*(==|!=|\+=|:=|=)\s*"([^"]*)"')
MATCHES = {"ACTION", "SUBSYSTEM", "KERNEL", "ENV", "ATTR", "TEST"}

MK3 = {
    "ACTION": "add",
    "SUBSYSTEM": "tty",
    "KERNEL": "ttyUSB3",
    "ID_BUS": "usb",
    "ID_VENDOR_ID": "0403",
    "ID_MODEL_ID": "6015",
    "ID_MODEL": "MK3-USB_Interface",
    "ID_SERIAL_SHORT": "HQ2132ABCDE",
}
MK2 = MK3 | {"ID_MODEL_ID": "6001", "ID_MODEL": "MK2USB_COM_Interface", "ID_SERIAL_SHORT": "FTABCDEF"}
CABLE = MK3 | {"ID_MODEL": "FT230X_Basic_UART", "ID_SERIAL_SHORT": "DO00KDGR"}


def tokens(line: str) -> list[tuple[str, str, str, str]]:
    found = [match.groups() for match in TOKEN.finditer(line)]
    # Nothing between them but commas: a typing mistake is no token.
    assert TOKEN.sub("", line).strip(" ,") == "", line
    return found


def apply(text: str, event: dict[str, str], files: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """What the rules assign for an event: key → values; properties as ``ENV{NAME}``."""
    properties = dict(event)
    assigned: dict[str, list[str]] = {}
    skip_to = ""
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        rule = tokens(line)
        if skip_to:
            if ("LABEL", None, "=", skip_to) in rule:
                skip_to = ""
            continue
        if not all(_fits(token, properties, files) for token in rule if _is_match(token)):
            continue
        for key, name, operator, value in rule:
            if operator in ("==", "!="):
                continue
            value = re.sub(r"\$env\{([^}]*)\}", lambda found: properties.get(found[1], ""), value)
            value = value.replace("%k", properties["KERNEL"])
            if key == "GOTO":
                skip_to = value
            elif key == "ENV":
                properties[name] = value
                assigned.setdefault(f"ENV{{{name}}}", []).append(value)
            else:
                assigned.setdefault(key, []).append(value)
    assert not skip_to, f"there is no label {skip_to}"
    return assigned


def _is_match(token: tuple[str, str, str, str]) -> bool:
    return token[0] in MATCHES and token[2] in ("==", "!=")


def _fits(token: tuple[str, str, str, str], properties: dict[str, str], files: tuple[str, ...]) -> bool:
    key, name, operator, wanted = token
    if key == "TEST":
        path = re.sub(r"\$env\{([^}]*)\}", lambda found: properties.get(found[1], ""), wanted)
        return (path in files) == (operator == "==")
    has = properties.get(name if key in ("ENV", "ATTR") else key, "")
    fits = any(fnmatchcase(has, pattern) for pattern in wanted.split("|"))
    return fits == (operator == "==")


@pytest.fixture(scope="module")
def rules() -> str:
    return RULES.content().decode()


def test_an_mk3_starts_the_service(rules: str) -> None:
    done = apply(rules, MK3)
    assert done["ENV{SYSTEMD_WANTS}"] == ["mk2dbus@ttyUSB3.service"]
    assert done["TAG"] == ["systemd"]
    assert done["SYMLINK"] == ["mk3/HQ2132ABCDE"]
    assert (done["GROUP"], done["MODE"]) == (["mk2dbus"], ["0660"])
    assert done["ENV{ID_MM_PORT_IGNORE}"] == ["1"]


def test_with_options_for_its_serial_number_it_runs_under_that(rules: str) -> None:
    done = apply(rules, MK3, ("/etc/mk2dbus/mk3-HQ2132ABCDE.conf",))
    assert done["ENV{SYSTEMD_WANTS}"] == ["mk2dbus@mk3-HQ2132ABCDE.service"]
    other = apply(rules, MK3, ("/etc/mk2dbus/mk3-HQ9999XXXXX.conf", "/etc/mk2dbus/ttyUSB3.conf"))
    assert other["ENV{SYSTEMD_WANTS}"] == ["mk2dbus@ttyUSB3.service"]


def test_an_mk2_usb(rules: str) -> None:
    done = apply(rules, MK2)
    assert done["ENV{SYSTEMD_WANTS}"] == ["mk2dbus@ttyUSB3.service"]
    assert done["SYMLINK"] == ["mk2/FTABCDEF"]


def test_without_a_serial_number_there_is_no_stable_name(rules: str) -> None:
    nameless = {key: value for key, value in MK3.items() if key != "ID_SERIAL_SHORT"}
    done = apply(rules, nameless)
    assert done["ENV{SYSTEMD_WANTS}"] == ["mk2dbus@ttyUSB3.service"]
    assert "SYMLINK" not in done


@pytest.mark.parametrize(
    "event",
    [
        CABLE,
        MK3 | {"ID_VENDOR_ID": "10c4"},
        MK3 | {"ID_MODEL_ID": "6001"},
        MK3 | {"ACTION": "remove"},
        MK3 | {"SUBSYSTEM": "net"},
    ],
)
def test_nothing_else_is_touched(rules: str, event: dict[str, str]) -> None:
    assert apply(rules, event).keys() <= {"GOTO"}


def test_modem_manager_leaves_the_device_alone(rules: str) -> None:
    device = {
        "ACTION": "add",
        "SUBSYSTEM": "usb",
        "KERNEL": "1-1",
        "DEVTYPE": "usb_device",
        "idVendor": "0403",
        "product": "MK3-USB Interface",
    }
    assert apply(rules, device)["ENV{ID_MM_DEVICE_IGNORE}"] == ["1"]
    assert not apply(rules, device | {"product": "FT230X Basic UART"})


def test_rules_and_program_know_the_same_adapters(rules: str) -> None:
    named = set(re.findall(r'ENV\{ID_MODEL\}=="([^"]*)"', rules))
    assert named == KINDS.keys()
    (venus,) = re.findall(r'ENV\{ID_MODEL\}=="([^"]*)"', VENUS_RULES.read_text())
    assert set(venus.split("|")) == KINDS.keys()


def test_venus_os() -> None:
    rules = VENUS_RULES.read_text()
    assert apply(rules, MK3)["ENV{VE_SERVICE}"] == ["mk2dbus"]
    assert apply(rules, MK2)["ENV{VE_SERVICE}"] == ["mk2dbus"]
    assert not apply(rules, CABLE)


def test_udev_takes_them(tmp_path: Path) -> None:
    udevadm = shutil.which("udevadm")
    if udevadm is None:
        pytest.skip("udevadm is not installed")
    if "verify" not in subprocess.run((udevadm, "--help"), capture_output=True, text=True).stdout:
        pytest.skip("udevadm cannot check rules: it needs systemd 254")
    for content in (RULES.content(), VENUS_RULES.read_bytes()):
        file = tmp_path / "70-test.rules"
        file.write_bytes(content)
        outcome = subprocess.run(
            (udevadm, "verify", "--resolve-names=never", "--no-style", str(file)),
            capture_output=True,
            text=True,
        )
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr
