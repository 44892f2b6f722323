"""Puts the service on a machine with systemd, and takes it off again: all of it, or nothing.

``layout`` says what goes where; ``program`` copies mk2dbus itself; ``steps`` are done and undone; ``plan``
puts them in order for a ``machine``; ``checks`` looks afterwards whether it came to what it should.
"""
