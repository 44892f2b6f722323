"""The documentation followed word by word: every block is run, says why not, or shows a file."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mk2dbus.cli import build_parser

from .markdown import FOLDER, Block, Page, pages
from .world import World

PAGES = pages()
RUN_LANGUAGES = ("sh", "console")
OTHER_LANGUAGES = ("python", "javascript")
"""Shown from a file."""
TEXT = "text"
"""Neither to be typed nor a program."""

DEFAULT_ON = "multiplus2"


def runs(block: Block) -> bool:
    return block.language in RUN_LANGUAGES and "not run" not in block.marks


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    page: Page = request.getfixturevalue("page")
    # Not tmp_path: the path of a socket has an end.
    with tempfile.TemporaryDirectory(prefix="mk2dbus-docs-") as folder:
        world = World(Path(folder), page.on or DEFAULT_ON)
        yield world
        world.close()


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(map(runs, page.blocks))], ids=lambda page: page.name
)
def test_page(page: Page, world: World) -> None:
    for block in page.blocks:
        world.end_section(block.section)
        if not runs(block):
            continue
        if block.language == "sh":
            code, said = world.run(f"set -eu\n{block.text}")
            assert code == 0, f"{block} ends with {code}:\n{said}"
        else:
            follow_console(world, block)


def follow_console(world: World, block: Block) -> None:
    commands = block.commands
    for command in commands:
        last = command is commands[-1]
        if last and block.marks.keys() & {"until Ctrl-C", "stays"}:
            world.follow(block, command, "stays" in block.marks)
            continue
        code, said = world.run(command.text)
        place = f"docs/{block.page}:{command.line}"
        expected = int(block.marks.get("exit", "0")) if last else 0
        assert code == expected, f"{place} ends with {code}:\n{said}"
        if command.output:
            shown = "\n".join(command.output)
            assert command.fits(said), f"{place} says\n{said}\nand not\n{shown}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_run_or_says_why_not(page: Page) -> None:
    typed = "\n".join(block.text for block in page.blocks if runs(block))
    for block in page.blocks:
        assert block.language in (*RUN_LANGUAGES, *OTHER_LANGUAGES, TEXT), f"{block}: {block.language!r}"
        if block.language in OTHER_LANGUAGES:
            file = block.marks.get("file")
            assert file, f"{block}: no file is named"
            assert block.text == (FOLDER / file).read_text().rstrip("\n"), f"{block}: docs/{file} differs"
            assert file in typed or any(
                file in other.text for other in page.blocks if "not run" in other.marks
            ), f"{block}: nothing runs docs/{file}"
        if "not run" in block.marks:
            assert block.marks["not run"], f"{block}: no reason is given"


COMMAND = re.compile(r"(?:^|[\s/(])mk2dbus ((?!\s)(?:[^|;&#>\n]|\\\n)+)")


def takes(words: list[str]) -> bool:
    """Whether mk2dbus takes the arguments."""
    try:
        build_parser(words[0]).parse_args(words)
    except SystemExit as end:
        return end.code == 0
    return True


def test_commands_that_are_not_run_exist() -> None:
    """What cannot be run is at least what the command line takes."""
    for page in PAGES:
        for block in page.blocks:
            if "not run" not in block.marks:
                continue
            for found in COMMAND.finditer(block.text.replace("\\\n", " ")):
                words = shlex.split(found[1])
                assert takes(words), f"{block}: mk2dbus {found[1]}"


def test_every_example_is_in_a_page() -> None:
    typed = "\n".join(block.text for page in PAGES for block in page.blocks)
    for example in sorted((FOLDER / "examples").iterdir()):
        if example.is_file():
            assert example.name in typed, f"no page uses docs/examples/{example.name}"
