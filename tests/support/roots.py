"""The files of a system that nobody runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

ACCOUNTS = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "group": "root:x:0:\ndialout:x:20:\n",
    "shadow": "root:*:19000:0:99999:7:::\n",
    "gshadow": "root:*::\ndialout:*::\n",
}
BACKUPS = {f"etc/{table}-" for table in ACCOUNTS} | {"etc/.pwd.lock", "etc/.updated"}
"""What the tools for accounts leave behind themselves."""


def everything(root: Path) -> dict[str, str]:
    """All below a root: path → kind, mode and content."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name in BACKUPS:
            continue
        mode = f"{path.lstat().st_mode:o}"
        if path.is_symlink():
            found[name] = f"link {path.readlink()}"
        elif path.is_file():
            found[name] = f"{mode} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        else:
            found[name] = mode
    return found
