"""Captured mail on disk."""
