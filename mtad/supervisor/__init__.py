"""The supervisor: the one process that may bind a reserved port, and reads no network."""
