"""TLS of a profile: its files, and the contexts they make. No octet of a network comes here."""
