"""``backup``, ``restore`` and ``diff``."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from support.bus import Daemon

from cli.conftest import House, Shell, Terminal, serving, setting
from mk2dbus.cli.archive import Archive, Saved, SavedDevice, load, save
from mk2dbus.items import AccessLevelRequired, Disconnected, NoReply, Refused

CHANGES: dict[str, Any] = {"Absorption": 57.0, "Float": 54.0, "DisableAes": 1, "Curve": 1}
WRITES = [
    (setting("Absorption"), 57.6),
    (setting("Curve"), 3),
    (setting("Float"), 55.2),
    (setting("DisableAes"), 0),
]


def read(file: Path) -> str:
    return file.read_text()


def write(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def beside(file: Path) -> list[str]:
    """What a backup may have left in its folder."""
    return [entry.name for entry in file.parent.iterdir() if "backup" in entry.name]


@pytest.fixture
async def saved(house: House, sh: Shell, file: Path) -> Path:
    """A backup, after which four values were changed."""
    assert (await sh("backup", str(file))).code == 0
    house.put(**CHANGES)
    return file


# --- backup --------------------------------------------------------------------------------------------


async def test_toml(house: House, sh: Shell, file: Path) -> None:
    done = await sh("backup", str(file))
    assert done.code == 0
    assert done.lines[0].endswith("HQ0000: 5 settings and 2 flags, 2 read-only values")
    assert done.err == "mk2dbus: device 0 has no value for NotApplicable\n"
    record = tomllib.loads(read(file))
    created = record.pop("created")
    assert created.tzinfo is not None
    (device,) = record.pop("device")
    assert record.keys() == {"format", "mk2dbus", "service"}
    assert record["format"] == 1
    product = device.pop("product")
    assert product.startswith("MultiPlus-II 48/3000")
    assert device == {
        "number": 0,
        "product_id": 0x2729,
        "firmware": 0x560,
        "serial": "HQ0000",
        "unknown": ["NotApplicable"],
        "settings": {
            "Absorption": {"value": 57.6, "unit": "V", "default": 57.6},
            "Curve": {"value": 3, "text": "Adaptive+BatterySafe", "default": 3},
            "Delay": {"value": 1 / 30, "unit": "min", "default": 1 / 30},
            "Float": {"value": 55.2, "unit": "V", "default": 55.2},
            "Low": {"value": 45.0, "unit": "V", "default": 45.0},
        },
        "flags": {
            "DisableAes": {"value": 0, "text": "no", "default": 0},
            "DisableCharger": {"value": 0, "text": "no", "default": 0},
        },
        "read_only": {
            "GridCode": {"value": 0, "text": "None", "default": 0},
            "Leader": {"value": 0, "text": "no", "default": 0},
        },
    }
    assert "product_id = 0x2729\n" in read(file)
    assert beside(file) == [file.name]
    umask = os.umask(0)
    os.umask(umask)
    assert mode(file) == 0o666 & ~umask


async def test_json_holds_the_same(house: House, sh: Shell, file: Path) -> None:
    other = file.with_suffix(".JSON")
    await sh("backup", str(file))
    await sh("backup", str(other))
    assert json.loads(read(other))["device"] == tomllib.loads(read(file))["device"]
    one, two = load(file), load(other)
    assert one.devices == two.devices
    assert (await sh("diff", str(file), str(other))).code == 0


@pytest.mark.parametrize("name", ["backup.toml", "backup.json"])
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    nasty = 'a "quoted" \\ back\nslash\t\x7f\x01 °C \U0001f600'
    device = SavedDevice(
        number=3,
        product_id=0x2729,
        product=nasty,
        firmware=None,
        serial="",
        settings={"A": Saved(1e-7, nasty, "", -5.0), "B": Saved(123456789), "C": Saved(1e9, text=nasty)},
        flags={"D": Saved(0)},
        unknown=("X", "Y"),
    )
    bare = SavedDevice(0, None, "", None, "")
    archive = Archive("2026-01-02T03:04:05+00:00", "0.1.0", nasty, (bare, device))
    save(archive, tmp_path / name)
    loaded = load(tmp_path / name)
    assert dataclasses.replace(loaded, created="") == dataclasses.replace(archive, created="")


async def test_an_existing_file_stays(house: House, sh: Shell, file: Path) -> None:
    write(file, b"mine")
    refused = await sh("backup", str(file))
    assert (refused.code, refused.out) == (1, "")
    assert "exists already; --force overwrites it" in refused.err
    assert read(file) == "mine"
    link = file.with_name("link.toml")
    link.symlink_to(file)
    assert (await sh("backup", "--force", str(link))).code == 0
    assert link.is_symlink()
    assert load(file).devices


@pytest.mark.parametrize(("name", "said"), [("nowhere/b.toml", "no folder"), ("", "is a folder")])
async def test_where_it_cannot_write(house: House, sh: Shell, tmp_path: Path, name: str, said: str) -> None:
    refused = await sh("backup", str(tmp_path / name))
    assert (refused.code, refused.out, refused.err.count("\n")) == (1, "", 1)
    assert said in refused.err


async def test_a_full_disk_leaves_nothing(
    house: House, sh: Shell, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    write(file, b"mine")
    monkeypatch.setattr("os.fsync", full)
    refused = await sh("backup", "--force", str(file))
    assert refused.code == 1
    assert "No space left" in refused.err
    assert read(file) == "mine"
    assert beside(file) == [file.name]


async def test_it_waits_for_the_settings(house: House, sh: Shell, file: Path) -> None:
    house.put(ReadProgress=45, Absorption=None)
    backup = asyncio.create_task(sh("backup", str(file)))
    await asyncio.sleep(0.4)
    assert not backup.done()
    house.put(Absorption=50.0)
    house.put(ReadProgress=100)
    assert (await backup).code == 0
    assert load(file).devices[0].settings["Absorption"].value == 50.0


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (setting("ReadProgress"), 45, "45% of the settings of device 0 are read so far"),
        (setting("ReadProgress"), None, "0% of the settings of device 0"),
        ("/Connected", 0, "the inverter is not connected"),
        ("/Devices/NumberOfMultis", 2, "1 of 2 devices are found so far"),
    ],
)
async def test_never_half_a_backup(
    house: House, sh: Shell, saved: Path, file: Path, path: str, value: Any, said: str
) -> None:
    house.tree.update({path: value})
    other = file.with_name("other.toml")
    for code, words in ((1, ["backup", str(other)]), (1, ["restore", str(saved)]), (2, ["diff", str(saved)])):
        failed = await sh(words[0], "--wait", "0.1", *words[1:])
        assert (failed.code, failed.out, failed.err.count("\n")) == (code, "", 1)
        assert said in failed.err
        assert "nothing happened for 0.1 s" in failed.err
    assert not other.exists()
    assert house.writes == []


# --- restore -------------------------------------------------------------------------------------------


async def test_restore(house: House, sh: Shell, saved: Path) -> None:
    done = await sh("restore", str(saved))
    assert (done.code, done.err) == (0, "")
    assert house.writes == WRITES
    assert [line.split() for line in done.lines[:1]] == [["NAME", "NOW", "FILE"]]
    table = [line.split() for line in done.lines[3:7]]
    assert table == [
        ["Absorption", "57.00V", "57.60V"],
        ["Curve", "Fixed", "Adaptive+BatterySafe"],
        ["Float", "54.00V", "55.20V"],
        ["DisableAes", "yes", "no"],
    ]
    assert done.lines[8:] == [
        f"{setting('Absorption')} 57.00V → 57.60V",
        f"{setting('Curve')} Fixed → Adaptive+BatterySafe",
        f"{setting('Float')} 54.00V → 55.20V",
        f"{setting('DisableAes')} yes → no",
        "4 values written and read back",
    ]
    again = await sh("restore", str(saved))
    assert (again.code, again.out, again.err) == (0, "nothing differs\n", "")
    assert len(house.writes) == 4
    assert (await sh("diff", str(saved))).code == 0


async def test_onto_a_factory_fresh_device(house: House, sh: Shell, file: Path) -> None:
    """Another serial number is told and no obstacle."""
    house.put(**CHANGES)
    await sh("backup", str(file))
    house.put(Absorption=57.6, Float=55.2, DisableAes=0, Curve=3)
    house.tree.update({"/Devices/0/SerialNumber": "HQ9999"})
    done = await sh("restore", str(file))
    assert done.code == 0
    assert done.err == "mk2dbus: device 0 is HQ9999; the file is of HQ0000\n"
    assert {name: house.setting(name) for name in CHANGES} == CHANGES


@pytest.mark.parametrize(("answer", "written"), [("y", True), ("n", False)])
async def test_it_asks_once(
    house: House, sh: Shell, saved: Path, terminal: Terminal, answer: str, written: bool
) -> None:
    terminal.answer(answer)
    done = await sh("restore", str(saved))
    assert done.out.count("Write 4 values? [y/N]") == 1
    assert (done.code, bool(house.writes)) == ((0, True) if written else (1, False))
    assert (await sh("restore", "--yes", str(saved))).code == 0


async def test_dry_run(house: House, sh: Shell, saved: Path) -> None:
    house.keep_below("Low", "Float")
    house.put(Low=57.0, Float=58.0)
    shown = await sh("restore", "--dry-run", str(saved))
    assert (shown.code, shown.err) == (0, "")
    assert f"    {setting('Absorption')} = 57.6" in shown.lines
    assert any("would be refused now" in line and "has to be above Low" in line for line in shown.lines)
    assert house.writes == []


async def test_a_dependency_is_no_failure(house: House, sh: Shell, saved: Path) -> None:
    """Float has to be above Low, both move below what Low is now."""
    house.keep_below("Low", "Float")
    house.put(Low=57.0, Float=58.0)
    done = await sh("restore", str(saved))
    assert (done.code, done.err) == (0, "")
    assert [path for path, _ in house.writes][-2:] == [setting("DisableAes"), setting("Float")]
    assert (house.setting("Low"), house.setting("Float")) == (45.0, 55.2)


async def test_a_dependency_that_cannot_be_met(house: House, sh: Shell, saved: Path) -> None:
    house.keep_below("Float", "Low")
    failed = await sh("restore", str(saved))
    assert failed.code == 1
    assert failed.err.splitlines() == [
        f"mk2dbus: {setting('Float')} has to be below Low",
        "done: Absorption, Curve, DisableAes",
        "failed (it is 54.00V now): Float",
        "not done: nothing",
    ]


@pytest.mark.parametrize("error", [Refused, NoReply, AccessLevelRequired, Disconnected])
async def test_it_stops_at_the_first_failure(
    house: House, sh: Shell, saved: Path, error: type[Exception]
) -> None:
    house.refuse("Float", error)  # type: ignore[arg-type]
    failed = await sh("restore", str(saved))
    assert failed.code == 1
    assert failed.err.splitlines() == [
        f"mk2dbus: {setting('Float')}: says the device",
        "done: Absorption, Curve",
        "failed (it is 54.00V now): Float",
        "not done: DisableAes",
    ]
    assert house.writes == WRITES[:2]


async def test_a_value_that_is_not_there_afterwards(house: House, sh: Shell, saved: Path) -> None:
    house.lies.add(setting("Curve"))
    failed = await sh("restore", str(saved))
    assert failed.code == 1
    assert f"{setting('Curve')} reads Fixed after Adaptive+BatterySafe was written" in failed.err
    assert "not done: Float, DisableAes" in failed.err


async def test_broken_off_it_says_how_far_it_came(
    house: House, sh: Shell, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task: asyncio.Task[Any] | None = None

    def stop(house: House, path: str, value: float) -> None:
        assert task is not None
        task.cancel()

    house.checks[setting("Float")] = stop
    task = asyncio.create_task(sh("restore", str(saved)))
    with pytest.raises(asyncio.CancelledError):
        await task
    errors = capsys.readouterr().err
    assert errors.splitlines() == ["done: Absorption, Curve", "not done: Float, DisableAes"]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("/Devices/0/ProductId", 0x2730, "the file is of a MultiPlus-II 48/3000"),
        ("/Devices/0/FirmwareVersion", 0x561, "firmware 561; the file is of"),
    ],
)
async def test_another_product_or_firmware(
    house: House, sh: Shell, saved: Path, path: str, value: int, said: str
) -> None:
    house.tree.update({path: value})
    for words in ([], ["--yes"], ["--dry-run"]):
        refused = await sh("restore", *words, str(saved))
        assert refused.code == 1
        assert said in refused.err
        assert "--force" in refused.err
    assert house.writes == []
    compared = await sh("diff", str(saved))
    assert compared.code == 1
    done = await sh("restore", "--force", str(saved))
    assert done.code == 0
    assert said in done.err
    assert house.writes == WRITES


def edited(saved: Path, old: str, new: str) -> str:
    text = saved.read_text()
    assert old in text
    other = saved.with_name("edited.toml")
    other.write_text(text.replace(old, new))
    return str(other)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "Low = { value = 45.0",
            "Low = { value = 99.0",
            "Low cannot be 99 V; it takes a number from 37 to 60 V",
        ),
        ("[device.flags]", "[device.flags]\nInvented = 1", "device 0 has no Invented"),
        ("[device.flags]", "[device.flags]\nNotApplicable = 1", "device 0 has no value for NotApplicable"),
        ("[device.read_only]", "Leader = 1\n[device.other]", "Leader is read-only"),
    ],
)
async def test_what_the_device_cannot_have_is_said_before_anything_is_written(
    house: House, sh: Shell, saved: Path, old: str, new: str, said: str
) -> None:
    file = edited(saved, old, new)
    refused = await sh("restore", file)
    assert refused.code == 1
    assert said in refused.err
    assert house.writes == []
    forced = await sh("restore", "--force", file)
    assert forced.code == 1
    assert "left out: " in forced.err
    assert said in forced.err
    assert house.writes == WRITES


async def test_read_only_values_are_never_written(house: House, sh: Shell, saved: Path) -> None:
    house.put(GridCode=2, Leader=1, FlagsWord0=1, Absorption=57.6)
    house.put(Float=55.2, DisableAes=0, Curve=3)
    assert (await sh("restore", str(saved))).out == "nothing differs\n"
    compared = await sh("diff", str(saved))
    assert (compared.code, compared.out) == (0, "")
    assert "read-only GridCode of device 0 differs too: None and 2" in compared.err


async def test_a_file_by_hand(house: House, sh: Shell, file: Path) -> None:
    write(
        file,
        b"format = 1\n[[device]]\nnumber = 0\nproduct_id = 0x2729\nfirmware = 0x560\n[device.settings]\n"
        b"Float = 54\nCurve = { value = 2, text = 'Fixed' }\n[device.flags]\nDisableAes = true\n",
    )
    compared = await sh("diff", str(file))
    assert compared.code == 1
    done = await sh("restore", str(file))
    assert (done.code, done.err) == (0, "")
    assert house.writes == [(setting("Float"), 54.0), (setting("Curve"), 2), (setting("DisableAes"), 1)]


async def test_a_reset_is_told(house: House, sh: Shell, saved: Path) -> None:
    house.put(ResetRequired=1)
    done = await sh("restore", str(saved))
    assert done.code == 0
    assert "after a reset only: mk2dbus set /SystemReset 1" in done.err


async def test_two_devices(dbus_daemon: Daemon, sh: Shell, file: Path) -> None:
    house = House(2)
    async with serving(house, dbus_daemon.address):
        await sh("backup", str(file))
        assert [device.serial for device in load(file).devices] == ["HQ0000", "HQ0001"]
        house.put(Float=54.0)
        house.tree.update({setting("Float", 1): 53.0, setting("Low", 1): 44.0})
        assert (await sh("diff", str(file))).out.count("Float") == 2
        house.checks[setting("Low", 1)] = lambda *_: (_ for _ in ()).throw(Refused("no"))
        failed = await sh("restore", str(file))
        assert "done: 0/Float, 1/Float" in failed.err
        house.checks.clear()
        # The devices have changed places.
        house.tree.update({"/Devices/0/SerialNumber": "HQ0001", "/Devices/1/SerialNumber": "HQ0000"})
        refused = await sh("restore", str(file))
        assert refused.code == 1
        assert "device 0 of the file, HQ0000, is device 1 now" in refused.err
        for path in [path for path in house.tree if path.startswith("/Devices/1/")]:
            house.tree.remove(path)
        house.tree.update({"/Devices/NumberOfMultis": 1, "/Devices/0/SerialNumber": "HQ0000"})
        refused = await sh("restore", str(file))
        assert refused.code == 1
        assert "there is no device 1" in refused.err
        assert "not in NOW" in (await sh("diff", str(file))).out


# --- files that are none, diff -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"", "no format number"),
        (b"\xff\xfe\x00", "no backup"),
        (b"not toml", "no backup"),
        (b"{not json", "no backup"),
        (b"[" * 100_000, "no backup"),
        (b'{"a":' * 100_000, "no backup"),
        (b"{}", "no format number"),
        (b"format = 2", "its format is 2"),
        (b"format = true", "format is not what it should be"),
        (b"format = '1'", "format is not what it should be"),
        (b"format = 1", "no device"),
        (b"format = 1\ndevice = 3", "device is not"),
        (b"format = 1\ndevice = [3]", "not a table"),
        (b"format = 1\n[[device]]\nserial = 'x'", "no number"),
        (b"format = 1\n[[device]]\nnumber = -1", "no number"),
        (b"format = 1\n[[device]]\nnumber = 0\n[[device]]\nnumber = 0", "the same number"),
        (b"format = 1\n[[device]]\nnumber = 0\nsettings = 3", "settings is not"),
        (b"format = 1\n[[device]]\nnumber = 0\n[device.settings]\nA = 'x'", "A is 'x' and no number"),
        (b"format = 1\n[[device]]\nnumber = 0\n[device.settings]\nA = nan", "A is nan and no number"),
        (b"format = 1\n[[device]]\nnumber = 0\n[device.settings]\nA = {}", "A is None and no number"),
        (b"format = 1\n[[device]]\nnumber = 0\n[device.settings]\nA = " + b"9" * 400, "A is something"),
        (b"format = 1\n[[device]]\nnumber = 0\n[device.settings]\n'../A' = 1", "'../A' is no name"),
        (
            b"format = 1\n[[device]]\nnumber = 0\n[device.settings]\nA = 1\n[device.flags]\nA = 1",
            "A is there twice",
        ),
        (b"#" * (5 << 20), "too large"),
    ],
)
async def test_files_that_are_no_backup(sh: Shell, file: Path, content: bytes | None, said: str) -> None:
    """Told before there is a need for a service."""
    if content is not None:
        write(file, content)
    for command in ("restore", "diff"):
        refused = await sh(command, str(file))
        assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
        assert said in refused.err
        assert len(refused.err) < 400


async def test_diff(house: House, sh: Shell, saved: Path) -> None:
    compared = await sh("diff", str(saved))
    assert (compared.code, compared.err) == (1, "")
    assert [line.split() for line in compared.lines if line] == [
        ["NAME", str(saved), "NOW"],
        compared.lines[2].split(),
        ["Absorption", "57.6V", "57V"],
        ["Curve", "Adaptive+BatterySafe", "Fixed"],
        ["Float", "55.2V", "54V"],
        ["DisableAes", "no", "yes"],
    ]
    other = saved.with_name("other.json")
    await sh("backup", str(other))
    of_files = await sh("diff", str(saved), str(other))
    assert (of_files.code, of_files.err) == (1, "")
    assert of_files.out.count("\n") == compared.out.count("\n")
    assert (await sh("diff", str(other), str(other))).code == 0
    assert (await sh("diff", str(other))).code == 0


async def test_diff_without_a_service(dbus_daemon: Daemon, sh: Shell, file: Path) -> None:
    save(Archive("2026-01-01T00:00:00Z", "", "", (SavedDevice(0, None, "", None, "A"),)), file)
    failed = await sh("diff", str(file))
    assert (failed.code, failed.out, failed.err.count("\n")) == (2, "", 1)
    other = file.with_name("other.toml")
    save(Archive("2026-01-01T00:00:00Z", "", "", (SavedDevice(0, None, "", None, "B"),)), other)
    same = await sh("diff", str(file), str(other))
    assert (same.code, same.out) == (0, "")
    assert same.err == "mk2dbus: device 0 is another one: A and B\n"
