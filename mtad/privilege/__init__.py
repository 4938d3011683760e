"""Privilege on Linux: capability sets, the drop, and the report of what is really held."""
