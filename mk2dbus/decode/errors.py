"""What can go wrong with recordings; for people, with all the facts in the message."""

from __future__ import annotations


class CannotRecord(Exception):
    """The file of a recording cannot be made; the message says why."""


class NotARecording(Exception):
    """The file cannot be read as a recording; the message has file and line."""
