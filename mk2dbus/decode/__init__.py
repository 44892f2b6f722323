"""Traffic of a port in words: recordings, the log of the wire, reports of devices that are not understood.

Above the protocol and the inverter side, whose declarations it reads; below the commands. No input or output
but the files of :mod:`.recording`.
"""
