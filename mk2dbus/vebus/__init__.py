"""VE.Bus devices and the system they form: names, units, limits. No bytes on a wire, no D-Bus."""
