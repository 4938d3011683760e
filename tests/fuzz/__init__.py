"""Fuzzing: what any octets from the network may do, and what they may never do."""
