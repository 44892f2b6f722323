"""The live display of ``mk2dbus monitor``.

Items of the bus (:mod:`.items`) become what there is to show (:mod:`.overview`, :mod:`.history`), that
becomes lines of text for a size (:mod:`.draw` and the pages), and :mod:`.screen` puts them on a terminal.
Only the last knows a terminal, and only :mod:`.controls` asks the service.
"""
