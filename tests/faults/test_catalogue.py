"""The catalogue of faults says which test shows each of them; this looks whether there is one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CATALOGUE = ROOT / "docs" / "faults.md"
_QUOTED = re.compile(r"`([^`]+)`")
_VARIABLE = re.compile(
    r"…|[:;,] |[^\s(]*\d\S*|/dev/\w+|No space left on device|Read-only file system|inverter side|dialout"
)
_JOINT = re.compile(r'"\s*\n\s*f?"')
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")

FAULTS = (
    *("lost", "flipped", "inserted", "doubled", "delayed", "torn", "00", "FF", "endless", "slot", "length"),
    *("address", "stuck", "silent", "reset", "asleep", "replaced", "firmware", "unit", "unplugged", "name"),
    *("use", "permission", "closed", "daemon", "stopped", "killed", "floods", "reads", "dies", "full"),
    *("read-only", "vanishes", "broken", "clock", "SIGTERM", "SIGKILL", "hangs"),
)
"""A word of each fault that the catalogue must have."""


def _rows() -> list[list[str]]:
    lines = CATALOGUE.read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in rows if row[0] not in ("fault", "---") and not set(row[0]) <= {"-"}]


def _functions(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row[0])
def test_every_fault_has_a_test(row: list[str]) -> None:
    assert len(row) == 5, row
    assert all(row), row
    named = _TEST.findall(row[4])
    assert named, row
    for file, test in named:
        assert test in _functions(ROOT / file), f"{file}::{test}"


def _source() -> str:
    """All of the program, with what is written over several lines in one."""
    files = sorted((ROOT / "mk2dbus").rglob("*.py"))
    return _JOINT.sub("", "\n".join(file.read_text(encoding="utf-8") for file in files))


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row[0])
def test_every_line_of_the_log_is_one(row: list[str]) -> None:
    """What is constant in it is in the program."""
    source = _source()
    for line in _QUOTED.findall(row[2]):
        for part in _VARIABLE.split(line):
            assert part.strip(" ():") in source, f"{line}: {part}"


@pytest.mark.parametrize("word", FAULTS)
def test_every_fault_is_there(word: str) -> None:
    assert any(word in row[0] for row in _rows()), word
