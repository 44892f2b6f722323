"""The MK2/MK3 serial protocol: bytes, frames, one request and its reply. No units, no D-Bus."""
