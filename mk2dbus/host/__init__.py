"""The machine that it runs on: adapters plugged in, processes. Only looks."""
