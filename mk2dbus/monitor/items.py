"""What the service has told of its items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mk2dbus.bus.client import Shown

UNKNOWN = "---"
"""Text of a value that is not known."""


class Items:
    """Path → value and text, as last told. ``clean`` makes texts fit to be shown."""

    def __init__(self, clean: Callable[[str], str] = str) -> None:
        self._clean = clean
        self._values: dict[str, Shown] = {}
        self._texts: dict[str, str] = {}
        self.there = True
        """Whether the service is on the bus."""

    def update(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Take what ``ItemsChanged`` says."""
        for path, parts in changes.items():
            if "Value" in parts:
                self._values[path] = parts["Value"]
            if "Text" in parts:
                self._texts[path] = self._clean(str(parts["Text"]))

    def clear(self) -> None:
        self._values.clear()
        self._texts.clear()

    def __contains__(self, path: str) -> bool:
        return path in self._texts

    def below(self, folder: str) -> list[str]:
        """Paths of the leaves in a folder, as the service orders them."""
        return [path for path in self._texts if path.startswith(folder)]

    def text(self, path: str) -> str:
        return self._texts.get(path, UNKNOWN)

    def known(self, path: str) -> str:
        """The text; nothing where the value is not known."""
        return "" if self._values.get(path) is None else self.text(path)

    def is_text(self, path: str) -> bool:
        return isinstance(self._values.get(path), str)

    def number(self, path: str) -> float | None:
        value = self._values.get(path)
        return float(value) if isinstance(value, (int, float)) else None

    def whole(self, path: str) -> int | None:
        value = self._values.get(path)
        return value if isinstance(value, int) else None
