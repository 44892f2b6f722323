"""What once made a parser fail, and some thousands of new inputs."""

from __future__ import annotations

import logging
from pathlib import Path
from random import Random

import pytest

from fuzz.mutate import INPUTS
from fuzz.targets import TARGETS

CORPUS = sorted(Path(__file__).with_name("corpus").glob("*.hex"))
COUNT = {"line": 1500, "decoder": 1500, "bus": 1500, "reader": 300, "files": 60}


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem)
def test_what_once_failed(file: Path) -> None:
    TARGETS[file.name.partition("-")[0]](bytes.fromhex(file.read_text(encoding="ascii")))


@pytest.mark.parametrize("name", TARGETS)
def test_mutated(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    random = Random(1)
    for _ in range(COUNT[name]):
        TARGETS[name](INPUTS[name](random))
