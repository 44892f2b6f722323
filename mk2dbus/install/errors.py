"""Why nothing was installed."""

from __future__ import annotations


class InstallError(Exception):
    """Why it cannot be done, or was undone: one line for the person."""
