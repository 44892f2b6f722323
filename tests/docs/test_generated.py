"""The manual page and the completions: up to date, and good for the programs that read them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from mk2dbus.cli import build_parser

from .markdown import FOLDER

PROJECT = FOLDER.parent
COMPLETION = PROJECT / "service" / "completion"


def run(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, input=text, capture_output=True, text=True, timeout=30, cwd=PROJECT)


def test_up_to_date() -> None:
    outcome = run(sys.executable, "docs/generate", "--check")
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_it_says_what_is_out_of_date(tmp_path_factory: pytest.TempPathFactory) -> None:
    copy = tmp_path_factory.mktemp("project")
    for name in ("docs/generate", "mk2dbus"):
        shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    made = subprocess.run((sys.executable, "docs/generate"), cwd=copy, capture_output=True, text=True)
    assert (made.returncode, len(made.stdout.splitlines())) == (0, 4)
    page = copy / "docs/man/mk2dbus.1"
    assert page.read_text() == (FOLDER / "man/mk2dbus.1").read_text()
    page.write_text(page.read_text() + "by hand\n")
    check = (sys.executable, "docs/generate", "--check")
    checked = subprocess.run(check, cwd=copy, capture_output=True, text=True)
    assert checked.returncode == 1
    assert checked.stdout.splitlines() == ["docs/man/mk2dbus.1 is out of date: run python docs/generate"]
    assert page.read_text().endswith("by hand\n")


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_the_page_is_good_roff() -> None:
    outcome = run("groff", "-k", "-man", "-ww", "-Tutf8", "docs/man/mk2dbus.1")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    for word in ("NAME", "mk2dbus run", "--read-only", "EXIT STATUS", "busctl(1)"):
        assert word in re.sub(".\b", "", outcome.stdout), word


def complete(*words: str) -> list[str]:
    """What bash offers after ``words``, of which the last one is not finished."""
    script = """
        compopt() { :; }  # there is nothing to tell it outside of a completion
        source service/completion/mk2dbus.bash
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _mk2dbus
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    outcome = run("bash", "-uc", script, "bash", *words)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    return outcome.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("mk2dbus", "re"), ["restore", "read-ram", "replay"]),
        (("mk2dbus", "--v"), ["--version"]),
        (("mk2dbus", "set", "--r"), ["--ram-only"]),
        (("mk2dbus", "set", "AbsorptionV"), ["AbsorptionVoltage"]),
        (("mk2dbus", "get", "--bus", "s"), ["system", "session"]),
        (("mk2dbus", "get", "--bus", "session", "/Dc/0/Vol"), ["/Dc/0/Voltage"]),
        (("mk2dbus", "run", "--log-level", ""), ["debug", "info", "warning", "error"]),
        (("mk2dbus", "run", "--name", ""), []),
        (("mk2dbus", "run", "--simulate", "qu"), ["quattro", "quattro3"]),
        (("mk2dbus", "run", "--simulate", "--read"), ["--read-only"]),
        (("mk2dbus", "watch", "--j"), ["--json"]),
        (("mk2dbus", "simulate", "quattro"), ["quattro", "quattro3"]),
        (("mk2dbus", "backup", "CHANGE"), ["CHANGELOG.md"]),
        (("mk2dbus", "nonsense", ""), []),
    ],
    ids=" ".join,
)
def test_bash_offers(words: tuple[str, ...], offered: list[str]) -> None:
    assert complete(*words) == offered


def option_strings(command: str) -> list[str]:
    """As the parser's own help has them."""
    words = re.findall(r"^ +((?:-\w, )?--[\w-]+(?:, --[\w-]+)*)", help_of(command), re.MULTILINE)
    return [option for word in words for option in word.split(", ")]


def help_of(command: str) -> str:
    outcome = run(sys.executable, "-m", "mk2dbus", command, "--help")
    assert outcome.returncode == 0
    return outcome.stdout


def test_bash_offers_every_command_and_its_options() -> None:
    commands = complete("mk2dbus", "")
    assert "run" in commands
    helps = build_parser().format_help()
    for command in commands:
        assert command in helps
    # One of each kind; each call starts a shell.
    for command in ("run", "set", "capture"):
        described = option_strings(command)
        assert complete("mk2dbus", command, "--") == [
            option for option in described if option.startswith("--")
        ]


@pytest.mark.parametrize(
    ("shell", "file"), [("bash", "mk2dbus.bash"), ("zsh", "_mk2dbus"), ("fish", "mk2dbus.fish")]
)
def test_syntax(shell: str, file: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    outcome = run(shell, "-n", str(COMPLETION / file))
    assert (outcome.returncode, outcome.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_syntax_of_the_node_example() -> None:
    outcome = run("node", "--check", "docs/examples/client.js")
    assert (outcome.returncode, outcome.stderr) == (0, "")


@pytest.mark.parametrize(
    "script", sorted(path.name for path in (FOLDER / "examples").iterdir() if not path.suffix)
)
def test_syntax_of_the_scripts(script: str) -> None:
    path = FOLDER / "examples" / script
    if path.read_text().startswith("#!/bin/sh"):
        outcome = run("sh", "-n", str(path))
        assert (outcome.returncode, outcome.stderr) == (0, "")
    assert path.stat().st_mode & 0o111, f"{script} cannot be executed"
