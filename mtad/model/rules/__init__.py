"""Fault rules: how a listener misbehaves on purpose. Pure: no I/O, no clock, no randomness."""
