"""What the service itself has to remember: one small JSON file for each adapter, written atomically."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mk2dbus.files import write_atomically

log = logging.getLogger(__name__)

SYSTEM_STATE_DIR = Path("/var/lib/mk2dbus")
_FORMAT = 1


def default_state_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """``/var/lib/mk2dbus`` for root, else below the user's state directory."""
    if os.geteuid() == 0:
        return SYSTEM_STATE_DIR
    home = environment.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "mk2dbus"


class StateUnwritable(Exception):
    """The state cannot be saved; what was to be kept is kept in memory only."""


def _read(path: Path) -> dict[str, str]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["format"] != _FORMAT:
        raise ValueError(f"format {content['format']}")
    texts = content["texts"]
    if not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("not texts")
    return dict(texts)


class StateFile:
    """Texts by name, kept in ``<directory>/<adapter>.json``.

    A file that is missing, broken or of another format counts as empty, and is said in the log.
    """

    def __init__(self, directory: Path, adapter: str) -> None:
        self.path = directory / f"{adapter}.json"
        self._texts = self._load()

    def get(self, name: str, default: str) -> str:
        return self._texts.get(name, default)

    def set(self, name: str, text: str) -> None:
        """Keep a text; raises as :meth:`update`."""
        self.update({name: text})

    def update(self, changes: Mapping[str, str | None]) -> None:
        """Keep texts, and forget those that are ``None``, all at once; writes nothing when all is so already.

        Raises:
            StateUnwritable: it was not saved; everything is as it was.
        """
        texts = {name: text for name, text in {**self._texts, **changes}.items() if text is not None}
        if texts == self._texts:
            return
        try:
            self._save(texts)
        except OSError as error:
            raise StateUnwritable(f"cannot save to {self.path}: {error.strerror}") from error
        self._texts = texts

    def others(self, name: str) -> list[str]:
        """Texts of that name of the other adapters in the directory."""
        found = []
        for path in self.path.parent.glob("*.json"):
            if path != self.path:
                try:
                    found.append(_read(path)[name])
                except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    continue  # other files live here, too
        return found

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep the services of other adapters from doing the same at this moment, where that is possible."""
        try:
            lock = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            yield
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _load(self) -> dict[str, str]:
        try:
            return _read(self.path)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            log.warning("ignoring %s: %s", self.path, error)
            return {}

    def _save(self, texts: Mapping[str, str]) -> None:
        content = {"format": _FORMAT, "texts": dict(texts)}
        write_atomically(self.path, json.dumps(content, ensure_ascii=False))
