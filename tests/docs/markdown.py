"""Reads the documentation: its code blocks, and what is said to the test about each.

A comment right before a block says how it is run; readers of the rendered page do not see it:

    <!-- not run: why -->      it needs hardware, root, a network
    <!-- until Ctrl-C -->      its last command runs until somebody ends it
    <!-- stays -->             so does it, and goes on until the next heading ``##``: another terminal
    <!-- exit: 1 -->           its last command fails like that
    <!-- file: examples/x -->  the block shows a file, which other blocks run

One at the top of a page says what it is followed on, see :class:`docs.world.World`:

    <!-- on: multiplus2-ess, no service -->
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs"
README = FOLDER.parent / "README.md"

_FENCE = re.compile(r"^( *)(```+)\s*(\S*)\s*$")
_COMMENT = re.compile(r"^ *<!-- ([a-zC-]+(?: [a-zC-]+)?)(?:: (.+?))? -->$")
_MARKS = frozenset({"not run", "until Ctrl-C", "stays", "exit", "file"})
_PAGE_MARK = "on"

ELLIPSIS = "…"
"""Stands for any text in a line of shown output; alone in a line, for any lines."""


@dataclass(frozen=True)
class Command:
    """A command of a console block and the output shown for it, which may be none."""

    line: int
    text: str
    output: tuple[str, ...] = ()

    def fits(self, said: str) -> bool:
        """Whether something said is what is shown."""
        return re.fullmatch(self._pattern(), _lines(said)) is not None

    def begins(self, said: str) -> bool:
        """Whether something said begins with what is shown."""
        return re.match(self._pattern(), _lines(said)) is not None

    def _pattern(self) -> str:
        return "".join(
            r"(?:[^\n]*\n)*?"
            if line.strip() == ELLIPSIS
            else r"[^\n]*?".join(map(re.escape, line.rstrip().split(ELLIPSIS))) + r"\n"
            for line in self.output
        )


def _lines(said: str) -> str:
    """Without the spaces at the end of lines, each line with its end."""
    return "".join(f"{line.rstrip()}\n" for line in said.rstrip().splitlines())


@dataclass(frozen=True)
class Block:
    """A fenced code block. ``section`` counts the headings before it."""

    page: str
    line: int
    section: int
    language: str
    text: str
    marks: dict[str, str]

    def __str__(self) -> str:
        return f"docs/{self.page}:{self.line}"

    @property
    def commands(self) -> tuple[Command, ...]:
        """Of a console block: ``$ `` begins a command, a backslash or ``> `` continues it."""
        found: list[tuple[int, str, list[str]]] = []
        going_on = False
        for number, line in enumerate(self.text.splitlines(), self.line + 1):
            if going_on or line.startswith("> "):
                at, text, output = found.pop()
                found.append((at, f"{text}\n{line.removeprefix('> ')}", output))
                going_on = line.endswith("\\")
            elif line.startswith("$ "):
                found.append((number, line[2:], []))
                going_on = line.endswith("\\")
            else:
                assert found, f"docs/{self.page}:{number}: output before the first command"
                found[-1][2].append(line)
        return tuple(Command(line, text, tuple(output)) for line, text, output in found)


@dataclass(frozen=True)
class Page:
    """A page of the documentation; ``name`` is its place as seen from docs/."""

    name: str
    path: Path
    text: str
    blocks: tuple[Block, ...]
    on: str
    """What it is followed on; empty: not said."""


def pages() -> list[Page]:
    """All pages, and the README of the project."""
    return [read(path) for path in (*sorted(FOLDER.glob("*.md")), README)]


def read(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")
    name = path.name if path.parent == FOLDER else f"../{path.name}"
    blocks = tuple(_blocks(name, text))
    first = next((found[2] for found in _comments(text) if found[1] == _PAGE_MARK), "")
    return Page(name, path, text, blocks, first)


def _comments(text: str) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(text.splitlines()):
        if found := _COMMENT.match(line):
            yield number, found[1], found[2] or ""


def _blocks(page: str, text: str) -> Iterator[Block]:
    comments = {number: (name, value) for number, name, value in _comments(text)}
    unused = {number for number, (name, _) in comments.items() if name != _PAGE_MARK}
    section, opened, content = 0, None, []
    for number, line in enumerate(text.splitlines()):
        fence = _FENCE.match(line)
        if opened is None:
            if fence:
                opened, content = (number, fence), []
            elif line.startswith("## "):
                section += 1
        elif fence and fence[2] == opened[1][2] and not fence[3]:
            start, fence = opened
            marks, above = {}, start - 1
            while above in comments:
                marks[comments[above][0]] = comments[above][1]
                unused.discard(above)
                above -= 1
            assert marks.keys() <= _MARKS, f"docs/{page}:{start}: {marks}"
            indent = len(fence[1])
            yield Block(page, start + 1, section, fence[3], "\n".join(c[indent:] for c in content), marks)
            opened = None
        else:
            content.append(line)
    assert opened is None, f"docs/{page}: a block has no end"
    assert not unused, f"docs/{page}: comments for no block in lines {sorted(n + 1 for n in unused)}"
