"""The list of paths, and that the documentation made of it is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from mk2dbus.cli import main
from mk2dbus.vebus.paths import declared_leaves
from mk2dbus.vebus.tables import rows

DOCUMENT = Path(__file__).parents[2] / "docs" / "paths.md"


def test_the_document_is_what_the_declarations_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["paths", "--markdown"]) == 0
    made = capsys.readouterr().out
    assert DOCUMENT.read_text(encoding="utf-8") == made, "run: mk2dbus paths --markdown > docs/paths.md"


def test_some_paths(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["paths", "/Hub4/L?/*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["PATH", "TYPE", "ACCESS", "UNIT", "MEANING"]
    paths = [f"/Hub4/L{phase}/AcPowerSetpoint" for phase in (1, 2, 3)]
    assert [line.split()[0] for line in lines[1:]] == paths
    assert main(["paths", "/Nothing"]) == 1
    assert capsys.readouterr().err == "mk2dbus: nothing fits '/Nothing'\n"
    assert main(["paths", "AcPowerSetpoint"]) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_every_modbus_register_is_there_or_has_a_reason() -> None:
    paths = {leaf.path.replace("<n>", "0") for leaf in declared_leaves()}
    for row in rows("modbus.csv"):
        assert (row["path"] in paths) != bool(row["why_not"]), row
