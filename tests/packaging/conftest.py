"""Roots of other systems."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support.roots import ACCOUNTS


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system with accounts and nothing else."""
    for tool in ("systemd-sysusers", "systemd-tmpfiles", "userdel", "groupdel"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if os.geteuid() != 0:
        pytest.skip("making accounts and giving folders away needs root")
    root = tmp_path / "root"
    for folder in ("etc", "usr/local/bin", "usr/lib", "var/lib"):
        (root / folder).mkdir(parents=True)
    (root / "usr/lib/os-release").touch()
    for table, text in ACCOUNTS.items():
        (root / "etc" / table).write_text(text)
    return root
