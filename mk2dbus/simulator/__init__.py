"""An adapter with inverters behind it, on a pseudo-terminal. Shares only the frame codec with ``mk2``."""
