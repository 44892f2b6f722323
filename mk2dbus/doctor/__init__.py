"""Looks for what keeps an inverter from being on the bus, and says in plain words what to do.

``findings`` is what comes out; ``ports`` looks at the machine, ``line`` at the adapter behind a port that
nobody uses, ``services`` at the bus; ``examine`` asks them in order. It changes nothing, and opens no port
that a program uses or may use.
"""
