"""Fault rules as a file says them: their options, and from text to rule and back."""
