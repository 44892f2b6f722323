"""The layers show in the imports; this reads them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mk2dbus"
LAYERS = ("mk2", "vebus", "bus", "simulator")
LIBRARIES = ("dbus_next", "dbus_fast")


def imports(file: Path) -> set[str]:
    """Absolute names of all that a module imports, wherever in it; names from a module as module.name."""
    package = ("mk2dbus", *file.relative_to(PACKAGE).parent.parts)
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def modules(layer: str = "") -> list[Path]:
    found = sorted((PACKAGE / layer).rglob("*.py"))
    assert found
    return found


def reaches(file: Path, *packages: str) -> set[str]:
    """Which imports of a module lie in the packages."""
    return {name for name in imports(file) for package in packages if f"{name}.".startswith(f"{package}.")}


def name_of(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


def test_framing_is_bytes_alone() -> None:
    assert (
        reaches(PACKAGE / "mk2" / "framing.py", "asyncio", "socket", "serial", "mk2dbus.bus", *LIBRARIES)
        == set()
    )


@pytest.mark.parametrize("file", modules(), ids=name_of)
def test_one_module_knows_the_dbus_library(file: Path) -> None:
    if name_of(file) != "bus/library.py":
        assert reaches(file, *LIBRARIES) == set()
        # Nor by name, for importlib.
        words = {
            node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)
        }
        assert not words.intersection(LIBRARIES)


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_know_nothing_of_each_other(layer: str) -> None:
    allowed = {
        "mk2": (),
        # The inverter side is built on the protocol.
        "vebus": ("mk2dbus.mk2",),
        "bus": (),
        "simulator": ("mk2dbus.mk2.framing",),
    }[layer]
    others = [f"mk2dbus.{other}" for other in LAYERS if other != layer]
    for file in modules(layer):
        foreign = reaches(file, *others) - reaches(file, *allowed)
        assert not foreign, f"{name_of(file)} imports {foreign}"


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_know_nothing_of_what_joins_them(layer: str) -> None:
    for file in modules(layer):
        assert not reaches(file, "mk2dbus.service", "mk2dbus.cli"), name_of(file)


def test_the_ground_stands_on_nothing() -> None:
    assert reaches(PACKAGE / "items.py", "mk2dbus", "asyncio") == set()
