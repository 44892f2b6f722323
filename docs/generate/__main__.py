"""Makes the manual page and the shell completions out of the parsers of the commands.

python docs/generate            write what is out of date, and say so
python docs/generate --check    only say so; exit code 1 when something is
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import bash  # noqa: E402
import fish  # noqa: E402
import manpage  # noqa: E402
import zsh  # noqa: E402
from parsers import Program, program  # noqa: E402

FILES: dict[str, Callable[[Program], str]] = {
    "docs/man/mk2dbus.1": manpage.make,
    "service/completion/mk2dbus.bash": bash.make,
    "service/completion/_mk2dbus": zsh.make,
    "service/completion/mk2dbus.fish": fish.make,
}


def main(check: bool) -> int:
    outdated = []
    described = program()
    for name, make in FILES.items():
        path = ROOT / name
        made = make(described)
        if not path.exists() or path.read_text(encoding="utf-8") != made:
            outdated.append(name)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(made, encoding="utf-8")
    for name in outdated:
        sys.stdout.write(f"{name} {'is out of date: run python docs/generate' if check else 'was written'}\n")
    return 1 if check and outdated else 0


sys.exit(main("--check" in sys.argv[1:]))
