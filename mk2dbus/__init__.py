"""Victron VE.Bus inverter/chargers on D-Bus, over an MK2 or MK3-USB adapter."""

__version__ = "0.1.0"
