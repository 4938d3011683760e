"""mtad: a test MTA that listens on port 25 as an ordinary user, with one capability."""

__version__ = "0.1.0"
