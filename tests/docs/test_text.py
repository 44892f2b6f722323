"""What the documentation says in passing: links, paths on the bus, names of settings, options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mk2dbus.vebus.paths import declared_leaves
from mk2dbus.vebus.tables import flags, ram_variables, settings

from .markdown import FOLDER, Page, pages

PAGES = pages()
GENERATED = "paths.md"
WRITTEN = [page for page in PAGES if page.name != GENERATED]

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"/(?:[A-Z][A-Za-z0-9]*|<[a-z]>|\d+)(?:/(?:[A-Za-z0-9]+|<[a-z]>))*")
PREFIXES = (
    "/Settings/Devices",
    "/Settings/SystemSetup",
    "/Ac/Control",
    "/Ac/State/AcIn",
    "/ExtraBatteryCurrent",
    "/Hub4/Sustain",
    "/Hub4/DoNotFeedInOvervoltage",
)
"""Of other services, or read by others and not there."""

FOREIGN = ("dbusmonitor.py", "mk3-HQ2132ABCDE.conf")
"""Files of others, or of a user."""


def name_of(page: Page) -> str:
    return page.name


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links(page: Page) -> None:
    for target in LINK.findall(page.text):
        if target.startswith(("https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        path = (page.path.parent / file).resolve() if file else page.path
        assert path.exists(), f"docs/{page.name}: {target}"
        if anchor:
            assert anchor in anchors(path.read_text()), f"docs/{page.name}: {target}"


def test_the_index_has_every_page() -> None:
    index = (FOLDER / "README.md").read_text()
    for page in PAGES:
        if page.path.parent == FOLDER and page.name != "README.md":
            assert f"({page.name})" in index, f"docs/README.md has no {page.name}"


def known_paths() -> set[str]:
    names = [setting.name for setting in settings().values()]
    names += [flag.name for flag in flags().values() if flag.name]
    known = {leaf.path for leaf in declared_leaves()}
    known |= {f"/Devices/<n>/{folder}/{name}" for folder in ("Settings", "RamOnly") for name in names}
    known |= {f"/Devices/<n>/RamVars/{row.name}" for row in ram_variables().values() if row.name}
    known |= {"/Devices/<n>/RamVars/<number>"}
    for path in tuple(known):
        parts = path.split("/")
        known |= {"/".join(parts[:depth]) for depth in range(2, len(parts))}
    return known


KNOWN = known_paths()


def is_known(path: str) -> bool:
    general = re.sub(r"^/Devices/\d+", "/Devices/<n>", path)
    general = re.sub(r"^/AcSensor/\d+", "/AcSensor/<k>", general)
    general = re.sub(r"/RamVars/\d+$", "/RamVars/<number>", general)
    return general in KNOWN


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_paths_exist(page: Page) -> None:
    spans = CODE.findall(re.sub(r"```.*?```", "", page.text, flags=re.DOTALL))
    spans += [block.text for block in page.blocks]
    for span in spans:
        for found in re.finditer(rf"(?<![\w./…*~}}]){PATH.pattern}", span):
            path = found[0].rstrip("/")
            if not path.startswith(PREFIXES) and not span[found.end() :].startswith(
                ("…", "*", "/…", "/*", "?")
            ):
                assert is_known(path), f"docs/{page.name}: there is no {path}"


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_files_exist(page: Page) -> None:
    """What is named as a file of the project is one."""
    root = FOLDER.parent
    for span in CODE.findall(page.text):
        if re.fullmatch(r"[\w.-]+(?:/[\w.@-]+)*\.(?:py|csv|conf)", span):
            places = (
                root,
                root / "mk2dbus",
                root / "mk2dbus/data",
                root / "dbus-policy",
                root / "tests/benchmarks",
            )
            assert any((place / span).exists() for place in places) or span in FOREIGN, f"{page.name}: {span}"


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_nothing_of_a_developers_machine(page: Page) -> None:
    for word in (str(FOLDER.parent), "/root", "/home/", "/tmp/"):
        assert word not in page.text, f"docs/{page.name}: {word}"


def test_settings_are_named_right() -> None:
    """Every name in the tables of settings.md is one of a setting or flag."""
    names = {setting.name for setting in settings().values()} | {flag.name for flag in flags().values()}
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", (FOLDER / "settings.md").read_text(), re.MULTILINE)
    assert len(rows) > 20
    for row in rows:
        for name in CODE.findall(row):
            assert name in names | {"UpsFunction"}, name


def test_no_example_names_a_developers_machine() -> None:
    for path in (FOLDER / "examples").iterdir():
        assert str(FOLDER.parent) not in Path(path).read_text()
